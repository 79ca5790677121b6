package agent

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"secretsd/agent/secret"
	"secretsd/agent/store"
)

func TestPairsComeFromOneRotation(t *testing.T) {
	whole := arnOf("cur")
	partial := strings.TrimSuffix(whole, "-AbCdEf")
	for _, ids := range [][2]string{{"cur", "cur"}, {"cur", whole}, {whole, "cur"}, {"cur", partial}, {partial, "cur"}, {partial, whole}} {
		t.Run(fmt.Sprint(ids), func(t *testing.T) { comesFromOneRotation(t, ids[0], ids[1]) })
	}
}

func comesFromOneRotation(t *testing.T, currentID, previousID string) {
	src := newFakeSource()
	current, previous := every("cur", time.Minute), every("prev", time.Minute)
	current.ref.ID = currentID
	previous.ref = secret.Ref{ID: previousID, Stage: secret.StagePrevious}
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

// One answer with the past, which does not count, drops nothing.
func TestAnEarlierAnswerDropsNoPair(t *testing.T) {
	pair(t, func(src *fakeSource, st *store.Store, current, previous secret.Ref) {
		src.set(current, "v3", "three")
		src.set(previous, "v2", "two")
		time.Sleep(2 * time.Minute)
		src.fail(previous, secret.Throttled)
		src.set(current, "v2", "two")
		before := len(src.of(current))
		for range 120 {
			time.Sleep(time.Second)
			synctest.Wait()
			if len(src.of(current)) > before {
				src.set(current, "v3", "three")
			}
			if c, p := held(st, "cur"), held(st, "prev"); c+p != "v3v2" {
				t.Fatalf("the pair is %q and %q", c, p)
			}
		}
		if len(src.of(current)) == before {
			t.Fatal("it was not read")
		}
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

// One label under two names has one version, and its pair is one step from both.
func TestOneLabelUnderTwoNamesHasOneVersion(t *testing.T) {
	src := newFakeSource()
	var secrets []*schedule
	current, previous := secret.Current("s"), secret.Ref{ID: "s", Stage: secret.StagePrevious}
	for name, ref := range map[string]secret.Ref{"cur": current, "again": current, "prev": previous, "prev again": previous} {
		s := every(name, time.Minute)
		if name == "again" {
			s.interval = 25 * time.Minute
		}
		s.ref = ref
		secrets = append(secrets, s)
	}
	var version atomic.Int64
	rotate := func() {
		n := version.Add(1)
		src.set(current, fmt.Sprint("v", n+1), "x")
		src.set(previous, fmt.Sprint("v", n), "x")
	}
	rotate()
	src.hook(func(_ context.Context, refs []secret.Ref) {
		if len(refs) == 1 && version.Load()%3 == 0 {
			rotate() // once more, while the pair is being settled
		}
	})
	refreshing(t, src, secrets, func(r *refresher, st *store.Store) {
		for n := range 200 {
			if n%7 == 3 {
				rotate()
			}
			if n == 100 { // one more name joins
				late := every("late", time.Minute)
				late.ref = previous
				secrets = append(secrets, late)
				r.configure(src, fresh(secrets))
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			c, p := held(st, "cur"), held(st, "prev")
			if again := held(st, "again"); again != c {
				t.Errorf("one name has %s, the other %s", c, again)
			}
			if again := held(st, "prev again"); again != p || n >= 100 && held(st, "late") != p {
				t.Errorf("one name has %s, the others %s and %s", p, again, held(st, "late"))
			}
			var cn, pn int
			if _, err := fmt.Sscanf(c+" "+p, "v%d v%d", &cn, &pn); err != nil || cn != pn+1 {
				t.Errorf("the pair is %s and %s", c, p)
			}
		}
	})
}

// fresh returns schedules of the same secrets, as a reload makes them.
func fresh(secrets []*schedule) []*schedule {
	var list []*schedule
	for _, s := range secrets {
		list = append(list, &schedule{name: s.name, ref: s.ref, interval: s.interval, required: s.required})
	}
	return list
}

// Many pairs are read together, and what is wrong with one concerns no other.
func TestManyPairsCostNoMoreReadsThanOne(t *testing.T) {
	const many = 50
	src := newFakeSource()
	var secrets []*schedule
	name := func(i int) (current, previous string) { return fmt.Sprint("cur", i), fmt.Sprint("prev", i) }
	for i := range many {
		c, p := name(i)
		current, previous := every(c, time.Minute), every(p, time.Minute)
		previous.ref = secret.Ref{ID: c, Stage: secret.StagePrevious}
		secrets = append(secrets, current, previous)
		src.set(current.ref, "v2", "two")
		src.set(previous.ref, "v1", "one")
	}
	denied, moves := secrets[1].ref, secrets[2].ref
	src.fail(denied, secret.Denied)
	once := false
	src.hook(func(_ context.Context, refs []secret.Ref) {
		if refs[0].Stage == secret.StagePrevious && !once {
			once = true
			src.set(moves, "v3", "three")
			src.set(secrets[3].ref, "v2", "two")
		}
	})
	refreshing(t, src, secrets, func(_ *refresher, st *store.Store) {
		time.Sleep(500 * time.Millisecond) // before what was denied is tried again
		synctest.Wait()
		for i := range many {
			c, p := name(i)
			want := map[int]string{0: "v2 ", 1: "v3 v2"}[i]
			if want == "" {
				want = "v2 v1"
			}
			if got := held(st, c) + " " + held(st, p); got != want {
				t.Errorf("the pair of %s is %q, want %q", c, got, want)
			}
		}
		if n := src.count(); n > 5 {
			t.Errorf("%d pairs cost %d reads", many, n)
		}
	})
}
