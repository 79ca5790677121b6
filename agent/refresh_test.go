package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"secretsd/agent/config"
	"secretsd/agent/secret"
	"secretsd/agent/source"
	"secretsd/agent/store"
)

// refreshing runs a refresher over src until the test's function returns.
func refreshing(t *testing.T, src *fakeSource, secrets []*schedule, body func(r *refresher, st *store.Store)) {
	refreshingTo(t, discard, src, secrets, body)
}

func refreshingTo(t *testing.T, log *slog.Logger, src *fakeSource, secrets []*schedule, body func(r *refresher, st *store.Store)) {
	synctest.Test(t, func(t *testing.T) {
		src.start = time.Now()
		start := time.Now()
		st := store.New(nil)
		r := newRefresher(st, src, secrets, func() time.Duration { return time.Since(start) }, log)
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
				if err := r.readNow(context.Background(), "s", time.Time{}); err != nil {
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
		if err := r.readNow(context.Background(), "nobody", time.Time{}); err == nil {
			t.Error("an unknown secret was read")
		}
	})
}

// TestAReadThatEndedMeanwhileIsShared asks for reads of which another one has ended
// between the question whether one is needed and the answer.
func TestAReadThatEndedMeanwhileIsShared(t *testing.T) {
	src := newFakeSource()
	s := every("s", time.Hour)
	src.set(s.ref, "v1", "x")
	refreshing(t, src, []*schedule{s}, func(r *refresher, _ *store.Store) {
		time.Sleep(time.Minute)
		began, before := time.Now(), src.count()
		for i, since := range []time.Time{began.Add(-time.Second), began, began.Add(-time.Second), {}, began.Add(time.Second)} {
			must(t, r.readNow(context.Background(), "s", since))
			if n, want := src.count()-before, []int{1, 1, 1, 2, 3}[i]; n != want {
				t.Errorf("after question %d: %d reads, want %d", i, n, want)
			}
		}
	})
}

func TestReconfiguringKeepsWhatStays(t *testing.T) {
	src := newFakeSource()
	for _, n := range []string{"stays", "changes", "comes"} {
		src.set(secret.Current(n), "v1", n)
	}
	// Long enough to see what a new configuration leaves before it is read.
	slow := func(context.Context, []secret.Ref) { time.Sleep(100 * time.Millisecond) }
	src.hook(slow)
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
		other.hook(slow)
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

// late is a source whose answers are under way for some time.
type late struct {
	*fakeSource
	by time.Duration
}

func (l *late) Fetch(ctx context.Context, refs []secret.Ref) []source.Result {
	by, results := l.by, l.fakeSource.Fetch(ctx, refs)
	time.Sleep(by)
	return results
}

// A read that a reload has overtaken must not bring back the version of before.
func TestALateAnswerOfBeforeAReloadIsDropped(t *testing.T) {
	src := &late{newFakeSource(), 10 * time.Second}
	s := every("s", time.Hour)
	src.set(s.ref, "v1", "x")
	refreshing(t, newFakeSource(), nil, func(r *refresher, st *store.Store) {
		r.configure(src, []*schedule{s})
		time.Sleep(time.Second)
		synctest.Wait()
		src.set(s.ref, "v2", "y")
		src.by = 0
		r.configure(src, []*schedule{every("s", time.Hour)})
		synctest.Wait()
		if got := held(st, "s"); got != "v2" {
			t.Fatalf("the store holds the version %q", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := held(st, "s"); got != "v2" {
			t.Errorf("a late answer has brought back %q", got)
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
