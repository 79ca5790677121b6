package notify_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/notify"
)

// world stands in for everything that can be told. Answer decides what an
// attempt returns; it is called with no lock held.
type world struct {
	answer func(t notify.Target, c notify.Change, nth int) error

	// confirm decides what the nth question is answered; nil always confirms.
	confirm func(ctx context.Context, nth int) error

	mu           sync.Mutex
	tried, asked []attempt
	ended        []event
}

type attempt struct {
	after  time.Duration // since the test began
	target string
	change notify.Change
	step   int
}

// start returns a running Notifier in w and what drains it.
func (w *world) start(t *testing.T, log *logs, targets ...notify.Target) (*notify.Notifier, func()) {
	t.Helper()
	began := time.Now()
	opts := notify.Options{Settled: func(target string, o notify.Outcome) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended = append(w.ended, event{target, o})
	}}
	if log != nil {
		opts.Logger = log.logger()
	}
	n := notify.NewFake(targets, opts, notify.FakeWorld{
		Tell: func(_ context.Context, tg notify.Target, step int, c notify.Change) error {
			w.mu.Lock()
			w.tried = append(w.tried, attempt{time.Since(began), tg.Name, c, step})
			nth := len(w.tried)
			w.mu.Unlock()
			if w.answer == nil {
				return nil
			}
			return w.answer(tg, c, nth)
		},
		Probe: func(ctx context.Context, _ notify.Target, c notify.Change) error {
			w.mu.Lock()
			w.asked = append(w.asked, attempt{after: time.Since(began), change: c})
			nth := len(w.asked)
			w.mu.Unlock()
			if w.confirm == nil {
				return nil
			}
			return w.confirm(ctx, nth)
		},
	})
	return n, runNotifier(t, n)
}

func (w *world) attempts() []attempt {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.tried)
}

// kinds returns the outcomes so far.
func (w *world) kinds() []notify.OutcomeKind {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var ks []notify.OutcomeKind
	for _, e := range w.ended {
		ks = append(ks, e.Kind)
	}
	return ks
}

func command(name string) notify.Target {
	return notify.Target{Name: name, Step: notify.Step{Command: []string{"true"}}, Debounce: time.Second}
}

func change(paths ...string) notify.Change {
	return notify.Change{Reason: notify.ReasonChange, Paths: paths}
}

func TestTheFirstChangeIsToldAtOnceAndThoseWithinTheDebounceTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		n, _ := w.start(t, nil, command("app"))
		for i := range 10 {
			n.Notify("app", change("/run/"+string(rune('a'+i))))
			if i == 0 {
				w.attempts()
			}
			pass(50 * time.Millisecond)
		}
		pass(time.Minute)
		got := w.attempts()
		if len(got) != 2 {
			t.Fatalf("told %d times, want 2: %v", len(got), got)
		}
		if got[0].after != 0 || got[1].after != time.Second {
			t.Errorf("told after %v and %v, want at once and after a second", got[0].after, got[1].after)
		}
		want := []string{"/run/b", "/run/c", "/run/d", "/run/e", "/run/f", "/run/g", "/run/h", "/run/i", "/run/j"}
		if diff := cmp.Diff(want, got[1].change.Paths); diff != "" {
			t.Errorf("second notification (-want +got):\n%s", diff)
		}
		if owed := n.Owed(); len(owed) != 0 {
			t.Errorf("still owed: %v", owed)
		}
	})
}

func TestASlowTargetDelaysNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		w := &world{answer: func(tg notify.Target, _ notify.Change, _ int) error {
			if tg.Name == "slow" {
				<-release
			}
			return nil
		}}
		n, _ := w.start(t, nil, command("slow"), command("fast"))
		n.Notify("slow", change("/a"))
		w.attempts()
		n.Notify("slow", change("/b"))
		n.Notify("fast", change("/a"))
		got := w.attempts()
		if len(got) != 2 || got[1].target != "fast" || got[1].after != 0 {
			t.Fatalf("attempts while one hangs: %v", got)
		}
		owed := n.Owed()
		if len(owed) != 1 || !slices.Equal(owed[0].Paths, []string{"/a", "/b"}) {
			t.Errorf("owed while the attempt is under way: %v", owed)
		}
		if st := n.Status()[0]; st.State != notify.StateTelling || st.OwedSince.IsZero() {
			t.Errorf("status: %+v", st)
		}
		close(release)
		pass(time.Minute)
		if got := w.attempts(); len(got) != 3 || !slices.Equal(got[2].change.Paths, []string{"/b"}) {
			t.Errorf("what came during the attempt was not told once more: %v", got)
		}
	})
}

func TestAFailedTargetIsTriedAgainWithBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{answer: func(_ notify.Target, _ notify.Change, nth int) error {
			if nth < 12 {
				return notify.ErrFailed
			}
			return nil
		}}
		log := &logs{}
		n, _ := w.start(t, log, command("app"))
		n.Notify("app", change("/a"))
		pass(time.Hour)
		got := w.attempts()
		if len(got) != 12 {
			t.Fatalf("%d attempts, want 12", len(got))
		}
		for i, most := 1, time.Second; i < len(got); i++ {
			wait := got[i].after - got[i-1].after
			if wait < most/2 || wait > most {
				t.Errorf("wait %d was %v, want %v to %v", i, wait, most/2, most)
			}
			most = min(2*most, time.Minute)
		}
		if warned := log.at(slog.LevelWarn); len(warned) != 1 {
			t.Errorf("warned %d times within ten minutes, want once: %q", len(warned), warned)
		}
		if st := n.Status()[0]; st.State != notify.StateIdle || st.Attempts != 0 || st.Error != "" || st.LastTold.IsZero() {
			t.Errorf("status after the delivery: %+v", st)
		}
		ks := w.kinds()
		if len(ks) != 12 || ks[0] != notify.Failed || ks[11] != notify.Delivered {
			t.Errorf("outcomes: %v", ks)
		}
	})
}

func TestANewerChangeSupersedesTheOwedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{answer: func(_ notify.Target, _ notify.Change, nth int) error {
			if nth == 1 {
				return notify.ErrFailed
			}
			return nil
		}}
		app := command("app")
		app.Retry = notify.Retry{Initial: time.Hour, Max: time.Hour}
		n, _ := w.start(t, nil, app)
		n.Notify("app", notify.Change{
			Reason:  notify.ReasonHeal,
			Secrets: []notify.SecretVersion{{Name: "db", VersionID: "v1"}, {Name: "tls", VersionID: "t1"}},
			Paths:   []string{"/b", "/a"},
		})
		pass(10 * time.Minute)
		w.attempts()
		if st := n.Status()[0]; st.State != notify.StateFailing || st.Attempts != 1 || st.Error != "failed" || !st.NextAttempt.After(time.Now()) {
			t.Fatalf("status %+v", st)
		}
		n.Notify("app", notify.Change{
			Reason:  notify.ReasonChange,
			Secrets: []notify.SecretVersion{{Name: "db", VersionID: "v2"}},
			Paths:   []string{"/a"},
		})
		got := w.attempts()
		if len(got) != 2 || got[1].after != 10*time.Minute {
			t.Fatalf("a newer change waited for the back-off: %v", got[1:])
		}
		c := got[1].change
		c.At, c.Boottime = time.Time{}, 0
		want := notify.Change{
			Reason:  notify.ReasonChange,
			Secrets: []notify.SecretVersion{{Name: "db", VersionID: "v2"}, {Name: "tls", VersionID: "t1"}},
			Paths:   []string{"/a", "/b"},
		}
		if diff := cmp.Diff(want, c); diff != "" {
			t.Errorf("merged change (-want +got):\n%s", diff)
		}
		pass(2 * time.Hour)
		if got := w.attempts(); len(got) != 2 {
			t.Errorf("told %d times, want twice", len(got))
		}
	})
}

func TestAFailingTargetIsNotTriedMoreOftenThanItsDebounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{answer: func(notify.Target, notify.Change, int) error { return notify.ErrFailed }}
		n, _ := w.start(t, nil, command("app"))
		for range 100 {
			n.Notify("app", change("/a"))
			pass(100 * time.Millisecond)
		}
		got := w.attempts()
		for i := 1; i < len(got); i++ {
			if wait := got[i].after - got[i-1].after; wait < time.Second/2 {
				t.Errorf("attempts %v apart", wait)
			}
		}
		if len(got) < 5 || len(got) > 20 {
			t.Errorf("%d attempts in ten seconds", len(got))
		}
	})
}

func TestAnAbsentProcessIsNoErrorAndAnUnreadyOneOnlyAfterAWhile(t *testing.T) {
	for _, tc := range []struct {
		err              error
		state            notify.State
		warned, informed int
	}{
		{notify.ErrAbsent, notify.StateAbsent, 0, 1},
		{notify.ErrUnready, notify.StateUnready, 1, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{answer: func(notify.Target, notify.Change, int) error { return tc.err }}
			log := &logs{}
			n, _ := w.start(t, log, command("app"))
			n.Notify("app", change("/a"))
			pass(9 * time.Second)
			w.attempts()
			if got := log.at(slog.LevelWarn); len(got) != 0 {
				t.Errorf("%v: warned at once: %q", tc.err, got)
			}
			pass(time.Minute)
			got := w.attempts()
			if got[1].after > 100*time.Millisecond || len(got) < 14 {
				t.Errorf("%v: %d attempts, the second after %v", tc.err, len(got), got[1].after)
			}
			if st := n.Status()[0]; st.State != tc.state {
				t.Errorf("%v: state %v", tc.err, st.State)
			}
			if got := log.at(slog.LevelWarn); len(got) != tc.warned {
				t.Errorf("%v: warned %q", tc.err, got)
			}
			if got := log.at(slog.LevelInfo); len(got) != tc.informed {
				t.Errorf("%v: said %q", tc.err, got)
			}
			if ks := w.kinds(); len(ks) != 0 {
				t.Errorf("%v: outcomes %v, want none while it is only awaited", tc.err, ks)
			}
		})
	}
}

func TestCommandsHearOfFirstPublicationsOnlyIfAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		asked := command("asked")
		asked.OnFirst = true
		process := notify.Target{Name: "process", Step: notify.Step{Process: &notify.Process{PidFile: "/run/app.pid"}, Signal: 1}, Debounce: time.Second}
		n, _ := w.start(t, nil, command("app"), asked, process)
		first := change("/a")
		first.First = true
		for _, name := range []string{"app", "asked", "process"} {
			n.Notify(name, first)
		}
		w.attempts()
		n.Notify("app", change("/b"))
		var told []string
		for _, a := range w.attempts() {
			told = append(told, a.target)
			if a.target == "app" && (a.after != 0 || a.change.First || !slices.Equal(a.change.Paths, []string{"/b"})) {
				t.Errorf("app was told after %v of %+v", a.after, a.change)
			}
		}
		slices.Sort(told)
		if diff := cmp.Diff([]string{"app", "asked", "process"}, told); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		ks := w.kinds()
		slices.Sort(ks)
		if diff := cmp.Diff([]notify.OutcomeKind{notify.Delivered, notify.Delivered, notify.Delivered, notify.Unneeded}, ks); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
		if owed := n.Owed(); len(owed) != 0 {
			t.Errorf("owed: %v", owed)
		}
	})
}

func TestAChangeIsToldWithoutTheFirstPublicationsThatNobodyAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		asked := command("asked")
		asked.OnFirst = true
		n, _ := w.start(t, nil, command("app"), asked)
		first := notify.Change{Reason: notify.ReasonStart, Paths: []string{"/first"}, First: true}
		for _, name := range []string{"app", "asked"} {
			n.Notify(name, change("/a"))
			w.attempts()
			n.Notify(name, change("/b")) // waits for the debounce
			n.Notify(name, first)
		}
		pass(time.Minute)
		got := map[string][]string{}
		for _, a := range w.attempts() {
			if a.change.First || a.change.Reason != notify.ReasonChange {
				t.Errorf("%s was told %+v", a.target, a.change)
			}
			got[a.target] = append(got[a.target], a.change.Paths...)
		}
		want := map[string][]string{"app": {"/a", "/b"}, "asked": {"/a", "/b", "/first"}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}

func TestDrainLetsAnAttemptEndAndKeepsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{answer: func(notify.Target, notify.Change, int) error {
			pass(10 * time.Second)
			return nil
		}}
		n, stop := w.start(t, nil, command("app"), command("other"))
		n.Notify("app", change("/a"))
		w.attempts()
		n.Notify("app", change("/b"))
		began := time.Now()
		stop()
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("Run returned after %v, want when the attempt ended", d)
		}
		if ks := w.kinds(); len(ks) != 1 || ks[0] != notify.Delivered {
			t.Errorf("outcomes: %v", ks)
		}
		n.Notify("other", change("/a"))
		owed := n.Owed()
		if len(owed) != 2 || !slices.Equal(owed[0].Paths, []string{"/b"}) || owed[1].Target != "other" {
			t.Errorf("owed after the drain: %+v", owed)
		}
	})
}

func TestDebtsSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead := &world{answer: func(notify.Target, notify.Change, int) error { return notify.ErrFailed }}
		n, stop := dead.start(t, nil, command("app"), command("gone"))
		n.Notify("app", notify.Change{
			Reason:  notify.ReasonManual,
			Secrets: []notify.SecretVersion{{Name: "db", VersionID: "v1"}},
			Paths:   []string{"/a"},
		})
		n.Notify("gone", change("/a"))
		dead.attempts()
		stop()
		b, err := json.Marshal(n.Owed())
		if err != nil {
			t.Fatal(err)
		}
		var debts []notify.Debt
		if err := json.Unmarshal(b, &debts); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(n.Owed(), debts); diff != "" {
			t.Fatalf("debts through JSON (-want +got):\n%s", diff)
		}

		w, log := &world{}, &logs{}
		again, _ := w.start(t, log, command("app"))
		for _, d := range debts {
			again.Notify(d.Target, d.Change)
		}
		pass(time.Minute)
		got := w.attempts()
		if len(got) != 1 {
			t.Fatalf("told %d times after the restart, want once", len(got))
		}
		if diff := cmp.Diff(debts[0].Change, got[0].change); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		if warned := log.at(slog.LevelWarn); len(warned) != 1 {
			t.Errorf("a debt to nobody: warned %q", warned)
		}
		if ks := w.kinds(); !slices.Contains(ks, notify.Dropped) {
			t.Errorf("outcomes: %v", ks)
		}
	})
}

func TestReloadKeepsDebtsByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := map[string]bool{"false": true}
		w := &world{answer: func(tg notify.Target, _ notify.Change, _ int) error {
			if broken[tg.Command[0]] {
				return notify.ErrFailed
			}
			return nil
		}}
		bad := func(name string) notify.Target {
			tg := command(name)
			tg.Command = []string{"false"}
			tg.Debounce = 0
			return tg
		}
		log := &logs{}
		n, _ := w.start(t, log, bad("kept"), bad("mended"), bad("removed"))
		for _, name := range []string{"kept", "mended", "removed"} {
			n.Notify(name, change("/a"))
		}
		pass(40 * time.Second)
		w.attempts()
		n.Reconfigure([]notify.Target{command("added"), command("mended"), bad("kept")})
		synctest.Wait()
		var owed []string
		for _, d := range n.Owed() {
			owed = append(owed, d.Target)
		}
		if diff := cmp.Diff([]string{"kept"}, owed); diff != "" {
			t.Errorf("owed after the reload (-want +got):\n%s", diff)
		}
		ks := w.kinds()
		if tail := ks[len(ks)-2:]; !slices.Contains(tail, notify.Dropped) || !slices.Contains(tail, notify.Delivered) {
			t.Errorf("outcomes of the reload: %v", tail)
		}
		n.Notify("added", change("/a"))
		got := w.attempts()
		if last := got[len(got)-1]; last.target != "added" {
			t.Errorf("a target of the new configuration was not told: %v", last)
		}
		count := len(got)
		n.Notify("removed", change("/b"))
		if got := w.attempts(); len(got) != count {
			t.Errorf("a removed target was told: %v", got[count:])
		}
		dropped := 0
		for _, text := range log.at(slog.LevelWarn) {
			if slices.Contains([]string{
				"owed notification dropped, its target is no longer configured target=removed reason=change",
				"notification dropped, its target is not configured target=removed",
			}, text) {
				dropped++
			}
		}
		if dropped != 2 {
			t.Errorf("%d warnings of dropped notifications, want 2", dropped)
		}
	})
}

func TestATargetRemovedWhileItIsToldOwesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{answer: func(notify.Target, notify.Change, int) error {
			pass(10 * time.Second)
			return notify.ErrFailed
		}}
		n, _ := w.start(t, nil, command("app"))
		n.Notify("app", change("/a"))
		w.attempts()
		n.Reconfigure(nil)
		pass(time.Hour)
		if got := w.attempts(); len(got) != 1 {
			t.Errorf("%d attempts", len(got))
		}
		if ks := w.kinds(); len(ks) != 1 || ks[0] != notify.Dropped {
			t.Errorf("outcomes: %v", ks)
		}
	})
}

func TestADebtIsGoneWhenItsOutcomeIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n *notify.Notifier
		var owed [][]notify.Debt
		opts := notify.Options{Settled: func(string, notify.Outcome) { owed = append(owed, n.Owed()) }}
		nth := 0
		n = notify.NewFake([]notify.Target{command("app")}, opts, notify.FakeWorld{
			Tell: func(context.Context, notify.Target, int, notify.Change) error {
				if nth++; nth == 1 {
					return notify.ErrFailed
				}
				return nil
			},
		})
		runNotifier(t, n)
		n.Notify("app", change("/a"))
		pass(time.Minute)
		synctest.Wait()
		if len(owed) != 2 || len(owed[0]) != 1 || len(owed[1]) != 0 {
			t.Errorf("owed after each outcome: %v, want one debt, then none", owed)
		}
	})
}
