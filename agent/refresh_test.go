package agent

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"secretsd/agent/config"
	"secretsd/agent/secret"
	"secretsd/agent/store"
)

// refreshing runs a refresher over src until the test's function returns.
func refreshing(t *testing.T, src *fakeSource, secrets []*schedule, body func(r *refresher, st *store.Store)) {
	synctest.Test(t, func(t *testing.T) {
		src.start = time.Now()
		start := time.Now()
		st := store.New(nil)
		r := newRefresher(st, src, secrets, func() time.Duration { return time.Since(start) }, discard)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { r.run(ctx); close(done) }()
		body(r, st)
		cancel()
		<-done
	})
}

func every(name string, interval time.Duration) *schedule {
	return &schedule{name: name, ref: secret.Current(name), interval: interval, required: true}
}

func held(st *store.Store, name string) string {
	e, _ := st.Snapshot().Get(name)
	if e.Version == nil {
		return ""
	}
	return e.Version.VersionID
}

func TestSecretsOfOneIntervalAreReadTogether(t *testing.T) {
	src := newFakeSource()
	var secrets []*schedule
	for i := range 10 {
		s := every(fmt.Sprintf("s%d", i), 5*time.Minute)
		src.set(s.ref, "v1", "x")
		secrets = append(secrets, s)
	}
	refreshing(t, src, secrets, func(*refresher, *store.Store) {
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		// 120 rounds of five minutes, a tenth more or less.
		if n := src.count(); n < 108 || n > 135 {
			t.Errorf("%d rounds in ten hours", n)
		}
		for _, c := range src.calls {
			if len(c.refs) != len(secrets) {
				t.Errorf("at %s only %d secrets were read together", c.at, len(c.refs))
			}
		}
		at := src.of(secrets[0].ref)
		gaps := map[time.Duration]bool{}
		for i := 2; i < len(at); i++ {
			gap := at[i] - at[i-1]
			gaps[gap] = true
			if gap < 4*time.Minute || gap > 330*time.Second {
				t.Errorf("a gap of %s", gap)
			}
		}
		if len(gaps) < len(at)/2 {
			t.Error("the rounds are not spread")
		}
	})
}

func TestAFailingSecretBacksOffAlone(t *testing.T) {
	src := newFakeSource()
	good, bad := every("good", time.Minute), every("bad", time.Minute)
	src.set(good.ref, "v1", "x")
	src.set(bad.ref, "v1", "x")
	refreshing(t, src, []*schedule{good, bad}, func(_ *refresher, st *store.Store) {
		time.Sleep(2 * time.Minute)
		src.fail(bad.ref, secret.Transient)
		read := len(src.of(bad.ref))
		time.Sleep(2 * time.Minute)
		before := len(src.of(bad.ref))
		at := src.of(bad.ref)[read:] // later ones come near to the interval
		if first, second := at[1]-at[0], at[2]-at[1]; second < first {
			t.Errorf("the back-off does not grow: %s then %s", first, second)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(src.of(good.ref)); n < 55 || n > 80 {
			t.Errorf("the good secret was read %d times in an hour", n)
		}
		if n := len(src.of(bad.ref)) - before; n < 50 || n > 130 {
			t.Errorf("the failing secret was asked for %d times in an hour", n)
		}
		if held(st, "bad") != "v1" {
			t.Error("the failing secret lost its version")
		}
		if e, _ := st.Snapshot().Get("bad"); e.Err == nil {
			t.Error("the failing secret is not marked")
		}
		src.set(bad.ref, "v2", "y")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if held(st, "bad") != "v2" {
			t.Error("the secret did not recover")
		}
	})
}

func TestAThrottledSecretIsAskedForLessOften(t *testing.T) {
	src := newFakeSource()
	s := every("s", time.Minute)
	src.set(s.ref, "v1", "x")
	refreshing(t, src, []*schedule{s}, func(*refresher, *store.Store) {
		time.Sleep(2 * time.Minute)
		src.fail(s.ref, secret.Throttled)
		time.Sleep(time.Hour)
		before := len(src.of(s.ref))
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if n := len(src.of(s.ref)) - before; n < 11 || n > 26 {
			t.Errorf("%d calls in three hours of throttling; a quarter of an hour apart they are 12 to 24", n)
		}
	})
}

func TestASecretThatNeverWasReadIsTriedTwiceAMinute(t *testing.T) {
	src := newFakeSource()
	s := every("late", 24*time.Hour)
	refreshing(t, src, []*schedule{s}, func(_ *refresher, st *store.Store) {
		time.Sleep(time.Hour)
		src.set(s.ref, "v1", "x")
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if held(st, "late") != "v1" {
			t.Error("a secret that appeared was not read within half a minute")
		}
	})
}

func TestAStepBackNeedsASecondRead(t *testing.T) {
	src := newFakeSource()
	s := every("s", time.Minute)
	src.set(s.ref, "v1", "old")
	refreshing(t, src, []*schedule{s}, func(_ *refresher, st *store.Store) {
		time.Sleep(time.Second)
		src.set(s.ref, "v2", "new")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if held(st, "s") != "v2" {
			t.Fatal("the rotation was not seen")
		}
		// One answer out of the past, then the present again.
		stale := true
		src.hook(func(context.Context, []secret.Ref) {
			if stale {
				src.set(s.ref, "v1", "old")
			} else {
				src.set(s.ref, "v2", "new")
			}
			stale = false
		})
		for range 120 {
			time.Sleep(time.Second)
			synctest.Wait()
			if held(st, "s") != "v2" {
				t.Fatal("one stale answer stepped the secret back")
			}
		}
		if stale {
			t.Fatal("the test made no stale answer")
		}
		// A rollback by the operator stays, and counts.
		src.hook(nil)
		src.set(s.ref, "v1", "old")
		time.Sleep(70 * time.Second)
		synctest.Wait()
		if held(st, "s") != "v1" {
			t.Error("a real rollback was not taken over")
		}
	})
}

func TestAHangingRegionDelaysOnlyItsOwn(t *testing.T) {
	src := newFakeSource()
	here, there := every("here", time.Minute), every("there", time.Minute)
	there.ref.Region, there.region = "eu-west-1", "eu-west-1"
	src.set(here.ref, "v1", "x")
	src.hook(func(_ context.Context, refs []secret.Ref) {
		if refs[0] == there.ref {
			time.Sleep(15 * time.Second) // the source's own limit
		}
	})
	refreshing(t, src, []*schedule{here, there}, func(_ *refresher, st *store.Store) {
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if held(st, "here") != "v1" {
			t.Error("a secret waits for another Region")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if e, _ := st.Snapshot().Get("there"); e.Err == nil {
			t.Error("a read that ended without an answer left no error")
		}
	})
}

func TestReadNowIsSingleFlight(t *testing.T) {
	src := newFakeSource()
	s := every("s", time.Hour)
	src.set(s.ref, "v1", "x")
	refreshing(t, src, []*schedule{s}, func(r *refresher, st *store.Store) {
		time.Sleep(time.Minute)
		src.set(s.ref, "v2", "y")
		src.hook(func(context.Context, []secret.Ref) { time.Sleep(time.Second) })
		before := src.count()
		done := make(chan string)
		for range 50 {
			go func() {
				if err := r.readNow(context.Background(), "s"); err != nil {
					t.Error(err)
				}
				done <- held(st, "s")
			}()
		}
		for range 50 {
			if got := <-done; got != "v2" {
				t.Errorf("a reader was let go with %q", got)
			}
		}
		if n := src.count() - before; n != 1 {
			t.Errorf("50 readers cost %d reads", n)
		}
		if err := r.readNow(context.Background(), "nobody"); err == nil {
			t.Error("an unknown secret was read")
		}
	})
}

func TestPairsComeFromOneRotation(t *testing.T) {
	src := newFakeSource()
	current, previous := every("cur", time.Minute), every("prev", time.Minute)
	previous.ref = secret.Ref{ID: "cur", Stage: secret.StagePrevious}
	src.set(current.ref, "v2", "two")
	src.set(previous.ref, "v1", "one")
	refreshing(t, src, []*schedule{current, previous}, func(_ *refresher, st *store.Store) {
		time.Sleep(time.Second)
		synctest.Wait()
		// A rotation comes between the answers of each round, on either side.
		for n, first := range []secret.Ref{current.ref, previous.ref} {
			v := func(step int) (string, string) { return fmt.Sprint("v", n+step), fmt.Sprint("value ", n+step) }
			rotate := map[secret.Ref]func(){
				current.ref:  func() { id, text := v(3); src.set(current.ref, id, text) },
				previous.ref: func() { id, text := v(2); src.set(previous.ref, id, text) },
			}
			second := previous.ref
			if first == second {
				second = current.ref
			}
			var rounds, alone int
			src.hook(func(_ context.Context, refs []secret.Ref) {
				switch {
				case len(refs) == 2 && rounds == 0:
					// The one read first is answered as it was, the other as it is now.
					rounds++
					rotate[second]()
				case rounds == 1:
					alone++
					rotate[first]()
				}
			})
			time.Sleep(70 * time.Second)
			synctest.Wait()
			if alone == 0 {
				t.Fatal("the pair was not read again")
			}
			wantCurrent, _ := v(3)
			wantPrevious, _ := v(2)
			if c, p := held(st, "cur"), held(st, "prev"); c != wantCurrent || p != wantPrevious {
				t.Errorf("%s first: the pair is %s and %s, want %s and %s", first.Stage, c, p, wantCurrent, wantPrevious)
			}
		}
		src.hook(nil)
		settled := src.count()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := src.count() - settled; n > 12 {
			t.Errorf("an unchanged pair costs %d calls in ten minutes", n)
		}
	})
}

// pair starts with AWSCURRENT at v2 and AWSPREVIOUS at v1.
func pair(t *testing.T, body func(src *fakeSource, st *store.Store, current, previous secret.Ref)) {
	src := newFakeSource()
	current, previous := every("cur", time.Minute), every("prev", time.Minute)
	previous.ref = secret.Ref{ID: "cur", Stage: secret.StagePrevious}
	src.set(current.ref, "v2", "two")
	src.set(previous.ref, "v1", "one")
	refreshing(t, src, []*schedule{current, previous}, func(_ *refresher, st *store.Store) {
		time.Sleep(time.Second)
		synctest.Wait()
		body(src, st, current.ref, previous.ref)
	})
}

func TestARolledBackPairMovesAsOne(t *testing.T) {
	pair(t, func(src *fakeSource, st *store.Store, current, previous secret.Ref) {
		src.set(current, "v3", "three")
		src.set(previous, "v2", "two")
		time.Sleep(2 * time.Minute)
		src.set(current, "v2", "two")
		src.set(previous, "v3", "three")
		for range 120 {
			time.Sleep(time.Second)
			synctest.Wait()
			if c, p := held(st, "cur"), held(st, "prev"); c+p != "v3v2" && c+p != "v2v3" {
				t.Fatalf("the pair is %s and %s", c, p)
			}
		}
		if held(st, "cur") != "v2" {
			t.Error("the rollback was not taken over")
		}
	})
}

func TestAPairWhoseHalfFailsIsNeverMixed(t *testing.T) {
	t.Run("AWSCURRENT", func(t *testing.T) {
		pair(t, func(src *fakeSource, st *store.Store, current, previous secret.Ref) {
			src.fail(current, secret.Throttled)
			src.set(previous, "v2", "two")
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if c, p := held(st, "cur"), held(st, "prev"); c != "v2" || p != "v1" {
				t.Errorf("the pair is %q and %q, want what it was", c, p)
			}
		})
	})
	t.Run("AWSPREVIOUS", func(t *testing.T) {
		pair(t, func(src *fakeSource, st *store.Store, current, previous secret.Ref) {
			src.fail(previous, secret.Denied)
			src.set(current, "v3", "three")
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if c, p := held(st, "cur"), held(st, "prev"); c != "v3" || p != "" {
				t.Errorf("the pair is %q and %q, want the current one alone", c, p)
			}
		})
	})
}

func TestAnUnlabelledPreviousIsEmpty(t *testing.T) {
	src := newFakeSource()
	previous := &schedule{name: "prev", ref: secret.Ref{ID: "s", Stage: secret.StagePrevious}, interval: time.Minute}
	res := src.answer[previous.ref]
	res.Err = &secret.Error{Kind: secret.NotFound, Message: "Secrets Manager can't find the specified secret value for staging label: AWSPREVIOUS"}
	src.answer[previous.ref] = res
	refreshing(t, src, []*schedule{previous}, func(_ *refresher, st *store.Store) {
		time.Sleep(time.Second)
		synctest.Wait()
		e, _ := st.Snapshot().Get("prev")
		if e.Version == nil || e.Version.Text.IsZero() || e.Version.Text.Reveal() != "" {
			t.Errorf("the entry is %+v", e)
		}
	})
}

func TestReconfiguringKeepsWhatStays(t *testing.T) {
	src := newFakeSource()
	for _, n := range []string{"stays", "changes", "comes"} {
		src.set(secret.Current(n), "v1", n)
	}
	refreshing(t, src, []*schedule{every("stays", time.Hour), every("changes", time.Hour), every("goes", time.Hour)}, func(r *refresher, st *store.Store) {
		time.Sleep(time.Minute)
		synctest.Wait()
		changed := every("changes", time.Hour)
		changed.ref.Stage = secret.StagePending
		src.set(changed.ref, "v9", "pending")
		r.configure(src, []*schedule{every("stays", time.Hour), changed, every("comes", time.Hour)})
		if held(st, "stays") != "v1" || held(st, "changes") != "" {
			t.Error("only what has the same ref keeps its version")
		}
		before := len(src.of(secret.Current("stays")))
		time.Sleep(time.Second)
		synctest.Wait()
		if held(st, "comes") != "v1" || held(st, "changes") != "v9" {
			t.Error("what is new was not read")
		}
		if len(src.of(secret.Current("stays"))) != before {
			t.Error("what stays was read again")
		}
		if _, ok := st.Snapshot().Get("goes"); ok {
			t.Error("what is gone is still there")
		}
		// Another source: nothing is known of it.
		other := newFakeSource()
		other.set(secret.Current("stays"), "other", "x")
		r.configure(other, []*schedule{every("stays", time.Hour)})
		if held(st, "stays") != "" {
			t.Error("a value survived its source")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if held(st, "stays") != "other" {
			t.Error("the new source was not asked")
		}
	})
}

func TestALateAnswerOfAFormerSourceIsDropped(t *testing.T) {
	src, other := newFakeSource(), newFakeSource()
	s := every("s", time.Hour)
	src.set(s.ref, "former", "x")
	src.hook(func(context.Context, []secret.Ref) { time.Sleep(10 * time.Second) })
	other.set(s.ref, "latter", "y")
	refreshing(t, src, []*schedule{s}, func(r *refresher, st *store.Store) {
		time.Sleep(time.Second)
		r.configure(other, []*schedule{every("s", time.Hour)})
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := held(st, "s"); got != "latter" {
			t.Errorf("the store holds the version %q", got)
		}
	})
}

func TestPinnedVersionsCostNoSteadyCalls(t *testing.T) {
	src := newFakeSource()
	s := newSchedule(&config.Secret{Name: "s", ID: "s", VersionID: "v1", Interval: config.Duration(time.Minute)}, 24*time.Hour)
	src.set(s.ref, "v1", "x")
	refreshing(t, src, []*schedule{s}, func(*refresher, *store.Store) {
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if n := src.count(); n > 30 {
			t.Errorf("a pinned version cost %d calls in a day", n)
		}
	})
}

func TestShutdownRecordsNoFailure(t *testing.T) {
	src := newFakeSource()
	s := every("s", time.Minute)
	src.hook(func(ctx context.Context, _ []secret.Ref) { <-ctx.Done() })
	var st *store.Store
	refreshing(t, src, []*schedule{s}, func(_ *refresher, s *store.Store) {
		st = s
		time.Sleep(time.Second)
	})
	if e, _ := st.Snapshot().Get("s"); e.Err != nil {
		t.Errorf("a read that the shutdown cut off counts as failed: %v", e.Err)
	}
	if !slices.Equal(src.of(s.ref), []time.Duration{0}) {
		t.Error("reads began after the shutdown")
	}
}
