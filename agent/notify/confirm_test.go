package notify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/notify"
)

var errSick = errors.New("sick")

// sick never confirms.
func sick(context.Context, int) error { return errSick }

// hanging never answers.
func hanging(ctx context.Context, _ int) error {
	<-ctx.Done()
	return ctx.Err()
}

// trusting returns a target that has ten seconds to confirm, and steps for when it
// does not.
func trusting(steps int) notify.Target {
	t := command("app")
	t.Confirm = &notify.Probe{TCP: "127.0.0.1:1", Delay: time.Second, Timeout: 10 * time.Second}
	for range steps {
		t.Ladder = append(t.Ladder, notify.Step{Command: []string{"true"}})
	}
	return t
}

// taken returns which steps were taken, and when.
func (w *world) taken() []string {
	var steps []string
	for _, a := range w.attempts() {
		steps = append(steps, fmt.Sprintf("%d after %v", a.step, a.after))
	}
	return steps
}

// questions returns when the target was asked.
func (w *world) questions() []time.Duration {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var after []time.Duration
	for _, a := range w.asked {
		after = append(after, a.after)
	}
	return after
}

// outcomes returns the outcomes of one kind.
func (w *world) outcomes(kind notify.OutcomeKind) []notify.Outcome {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var os []notify.Outcome
	for _, e := range w.ended {
		if e.Kind == kind {
			os = append(os, e.Outcome)
		}
	}
	return os
}

// awaited returns what is owed to those that are not unconfirmed.
func awaited(n *notify.Notifier) []notify.Debt {
	return slices.DeleteFunc(n.Owed(), func(d notify.Debt) bool { return d.Unconfirmed })
}

// overRestart returns what n owes, as the next agent reads it.
func overRestart(t *testing.T, n *notify.Notifier) []notify.Debt {
	t.Helper()
	b, err := json.Marshal(n.Owed())
	if err != nil {
		t.Fatal(err)
	}
	var debts []notify.Debt
	if err := json.Unmarshal(b, &debts); err != nil {
		t.Fatal(err)
	}
	return debts
}

func wantKinds(t *testing.T, w *world, want ...notify.OutcomeKind) {
	t.Helper()
	if diff := cmp.Diff(want, w.kinds()); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

func TestATargetIsAskedUntilItConfirms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{confirm: func(_ context.Context, nth int) error {
			if nth < 4 {
				return errSick
			}
			return nil
		}}
		n, _ := w.start(t, nil, trusting(1))
		n.Notify("app", change("/a"))
		pass(1500 * time.Millisecond)
		w.attempts()
		st := n.Status()[0]
		if st.State != notify.StateConfirming || st.Error != "sick" || st.LadderStep != 0 || st.LastOutcome != "delivered" || st.OwedSince.IsZero() {
			t.Errorf("status while it is asked: %+v", st)
		}
		if owed := n.Owed(); len(owed) != 1 || owed[0].Told != 1 {
			t.Errorf("owed while it is asked: %+v", owed)
		}
		pass(time.Hour)
		want := []time.Duration{1000 * time.Millisecond, 1100 * time.Millisecond, 1300 * time.Millisecond, 1700 * time.Millisecond}
		if diff := cmp.Diff(want, w.questions()); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
		wantKinds(t, w, notify.Delivered, notify.Confirmed)
		if c := w.outcomes(notify.Confirmed)[0]; c.Took != 1700*time.Millisecond || !slices.Equal(c.Change.Paths, []string{"/a"}) {
			t.Errorf("confirmed: %+v", c)
		}
		if st := n.Status()[0]; st.State != notify.StateIdle || st.Error != "" || st.LastOutcome != "confirmed" || len(n.Owed()) != 0 {
			t.Errorf("status when it has confirmed: %+v", st)
		}
	})
}

func TestATargetThatDoesNotConfirmGoesUpItsLadder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var well atomic.Bool
		w := &world{confirm: func(context.Context, int) error {
			if well.Load() {
				return nil
			}
			return errSick
		}}
		log := &logs{}
		n, _ := w.start(t, log, trusting(2))
		n.Notify("app", change("/a"))
		pass(15 * time.Second)
		w.attempts()
		if st := n.Status()[0]; st.State != notify.StateConfirming || st.LadderStep != 1 || st.Unconfirmed {
			t.Errorf("status on the ladder: %+v", st)
		}
		pass(16 * time.Second)
		want := []string{"0 after 0s", "1 after 10s", "2 after 20s"}
		if diff := cmp.Diff(want, w.taken()); diff != "" {
			t.Errorf("steps taken (-want +got):\n%s", diff)
		}
		wantKinds(t, w, notify.Delivered, notify.Escalated, notify.Escalated, notify.Unconfirmed)
		o := w.outcomes(notify.Unconfirmed)[0]
		if !errors.Is(o.Err, errSick) || o.Step != 2 || o.Rollback || !slices.Equal(o.Change.Paths, []string{"/a"}) {
			t.Errorf("unconfirmed: %+v", o)
		}
		st := n.Status()[0]
		if st.State != notify.StateUnconfirmed || !st.Unconfirmed || st.Error != "sick" || len(awaited(n)) != 0 {
			t.Errorf("status when it is unconfirmed: %+v", st)
		}
		if said := log.at(slog.LevelError); len(said) != 1 || !strings.Contains(said[0], "error=sick") {
			t.Errorf("errors logged: %q", said)
		}
		if warned := log.at(slog.LevelWarn); len(warned) != 2 || !strings.Contains(warned[0], "step=1 kind=command error=sick") {
			t.Errorf("warnings logged: %q", warned)
		}
		pass(10 * time.Minute)
		if len(w.attempts()) != 3 || len(log.at(slog.LevelError)) != 1 {
			t.Error("what is unconfirmed was told, or complained about, again")
		}
		well.Store(true)
		pass(31 * time.Second)
		w.attempts()
		if st := n.Status()[0]; st.State != notify.StateIdle || st.Unconfirmed || st.Error != "" {
			t.Errorf("status when it has confirmed after all: %+v", st)
		}
		if late := w.outcomes(notify.Confirmed); len(late) != 1 || !slices.Equal(late[0].Change.Paths, []string{"/a"}) {
			t.Errorf("confirmed late: %+v", late)
		}
	})
}

func TestAStepThatFailsLeadsToTheNextAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			confirm: sick,
			answer: func(_ notify.Target, _ notify.Change, nth int) error {
				if nth == 2 {
					return notify.ErrAbsent
				}
				return nil
			},
		}
		n, _ := w.start(t, nil, trusting(2))
		n.Notify("app", change("/a"))
		pass(time.Minute)
		if diff := cmp.Diff([]string{"0 after 0s", "1 after 10s", "2 after 10s"}, w.taken()); diff != "" {
			t.Errorf("steps taken (-want +got):\n%s", diff)
		}
		wantKinds(t, w, notify.Delivered, notify.Failed, notify.Escalated, notify.Unconfirmed)
		if o := w.outcomes(notify.Failed)[0]; o.Step != 1 {
			t.Errorf("failed: %+v", o)
		}
	})
}

func TestAQuestionThatIsNeverAnsweredIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{confirm: hanging}
		n, _ := w.start(t, nil, trusting(1))
		n.Notify("app", change("/a"))
		pass(time.Minute)
		if diff := cmp.Diff([]string{"0 after 0s", "1 after 10s"}, w.taken()); diff != "" {
			t.Errorf("steps taken (-want +got):\n%s", diff)
		}
		// One question may not use up all the time there is.
		want := []time.Duration{time.Second, 6100 * time.Millisecond, 11 * time.Second, 16100 * time.Millisecond}
		if diff := cmp.Diff(want, w.questions()[:4]); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
		wantKinds(t, w, notify.Delivered, notify.Escalated, notify.Unconfirmed)
	})
}

func TestANewerChangeIsToldWhileAnOlderOneIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{confirm: hanging}
		n, _ := w.start(t, nil, trusting(1))
		n.Notify("app", change("/a"))
		pass(7 * time.Second)
		w.attempts()
		n.Notify("app", change("/b"))
		pass(5 * time.Second)
		if diff := cmp.Diff([]string{"0 after 0s", "0 after 7s"}, w.taken()); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		if got := w.attempts()[1].change.Paths; !slices.Equal(got, []string{"/b"}) {
			t.Errorf("told again of %v", got)
		}
		// The question about the older change was cut, or it would last until 10 s.
		if asked := w.questions(); asked[2] != 8*time.Second {
			t.Errorf("asked after %v", asked)
		}
		if owed := n.Owed()[0]; !slices.Equal(owed.Paths, []string{"/a", "/b"}) || owed.Told != 1 {
			t.Errorf("owed: %+v", owed)
		}
		pass(time.Minute)
		if diff := cmp.Diff([]string{"0 after 0s", "0 after 7s", "1 after 17s"}, w.taken()); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		if o := w.outcomes(notify.Unconfirmed); len(o) != 1 || !slices.Equal(o[0].Change.Paths, []string{"/a", "/b"}) {
			t.Errorf("unconfirmed: %+v", o)
		}
	})
}

// A change that waits for its debounce makes the ladder of the one before it
// pointless; one that cannot be told does not.
func TestTheLadderWaitsForAChangeThatIsAboutToBeTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := trusting(1)
		app.Debounce = 20 * time.Second
		w := &world{confirm: sick}
		n, _ := w.start(t, nil, app)
		n.Notify("app", change("/a"))
		pass(5 * time.Second)
		n.Notify("app", change("/b"))
		pass(20 * time.Second)
		if diff := cmp.Diff([]string{"0 after 0s", "0 after 20s"}, w.taken()); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := &world{confirm: sick, answer: func(_ notify.Target, _ notify.Change, nth int) error {
			if nth == 2 {
				return notify.ErrFailed
			}
			return nil
		}}
		app := trusting(1)
		app.Retry = notify.Retry{Initial: time.Minute, Max: time.Minute}
		n, _ := w.start(t, nil, app)
		n.Notify("app", change("/a"))
		pass(5 * time.Second)
		n.Notify("app", change("/b"))
		pass(20 * time.Second)
		if diff := cmp.Diff([]string{"0 after 0s", "0 after 5s", "1 after 10s"}, w.taken()); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}

func TestWhatWasToldBeforeARestartIsAskedAndNotToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := &world{confirm: sick}
		n, stop := before.start(t, nil, trusting(2))
		n.Notify("app", change("/a"))
		pass(12 * time.Second)
		before.attempts()
		stop()
		debts := overRestart(t, n)
		if len(debts) != 1 || debts[0].Told != 2 {
			t.Fatalf("owed over the restart: %v", debts)
		}

		after := &world{confirm: sick}
		again, _ := after.start(t, nil, trusting(2))
		again.Notify(debts[0].Target, debts[0].Change)
		pass(time.Minute)
		if diff := cmp.Diff([]string{"2 after 10s"}, after.taken()); diff != "" {
			t.Errorf("steps taken after the restart (-want +got):\n%s", diff)
		}
		wantKinds(t, after, notify.Escalated, notify.Unconfirmed)

		shorter := &world{confirm: sick}
		third, _ := shorter.start(t, nil, trusting(0))
		third.Notify(debts[0].Target, debts[0].Change)
		pass(time.Minute)
		if diff := cmp.Diff([]string(nil), shorter.taken()); diff != "" {
			t.Errorf("steps taken without a ladder (-want +got):\n%s", diff)
		}

		trusted := &world{}
		fourth, _ := trusted.start(t, nil, command("app"))
		fourth.Notify(debts[0].Target, debts[0].Change)
		pass(time.Minute)
		if got := trusted.attempts(); len(got) != 0 || len(fourth.Owed()) != 0 {
			t.Errorf("a target that need not confirm any more: told %v, owes %v", got, fourth.Owed())
		}
	})
}

func TestARollbackIsReportedAndToldOnceWithoutALadder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{confirm: sick}
		app := trusting(1)
		app.Rollback = true
		n, _ := w.start(t, nil, app)
		c := change("/a", "/b")
		c.Secrets = []notify.SecretVersion{{Name: "db", VersionID: "v2"}}
		n.Notify("app", c)
		pass(25 * time.Second)
		wantKinds(t, w, notify.Delivered, notify.Escalated, notify.Unconfirmed)
		o := w.outcomes(notify.Unconfirmed)[0]
		if !o.Rollback || !slices.Equal(o.Change.Paths, c.Paths) || !slices.Equal(o.Change.Secrets, c.Secrets) {
			t.Fatalf("reported: %+v", o)
		}
		c.Rollback = true
		n.Notify("app", c)
		pass(time.Hour)
		if diff := cmp.Diff([]string{"0 after 0s", "1 after 10s", "0 after 25s"}, w.taken()); diff != "" {
			t.Errorf("steps taken (-want +got):\n%s", diff)
		}
		wantKinds(t, w, notify.Delivered, notify.Escalated, notify.Unconfirmed, notify.Delivered, notify.Unconfirmed)
		if again := w.outcomes(notify.Unconfirmed)[1]; again.Rollback {
			t.Error("what was rolled back is to be rolled back again")
		}
		// A change that comes with it is news, and has a ladder again.
		n.Notify("app", c)
		n.Notify("app", change("/c"))
		pass(time.Hour)
		if o := w.outcomes(notify.Unconfirmed)[2]; !o.Rollback || o.Step != 1 {
			t.Errorf("a change beside a rollback: %+v", o)
		}
	})
}

func TestOnlyWhatWasToldIsConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{confirm: sick, answer: func(notify.Target, notify.Change, int) error { return notify.ErrUnneeded }}
		n, _ := w.start(t, nil, trusting(1))
		first := change("/a")
		first.First = true
		n.Notify("app", first)
		n.Notify("app", change("/a"))
		pass(time.Hour)
		if len(w.questions()) != 0 || len(n.Owed()) != 0 {
			t.Errorf("asked after %v", w.questions())
		}
	})
}

func TestReloadWhileATargetIsAsked(t *testing.T) {
	for name, tc := range map[string]struct {
		reload []notify.Target
		steps  []string
		kinds  []notify.OutcomeKind
	}{
		"longer":       {[]notify.Target{trusting(3)}, []string{"0 after 0s", "1 after 10s", "2 after 22s", "3 after 32s"}, []notify.OutcomeKind{0, notify.Escalated, notify.Escalated, notify.Escalated, notify.Unconfirmed}},
		"shorter":      {[]notify.Target{trusting(0)}, []string{"0 after 0s", "1 after 10s"}, []notify.OutcomeKind{0, notify.Escalated, notify.Unconfirmed}},
		"unquestioned": {[]notify.Target{command("app")}, []string{"0 after 0s", "1 after 10s"}, []notify.OutcomeKind{0, notify.Escalated}},
		"gone":         {nil, []string{"0 after 0s", "1 after 10s"}, []notify.OutcomeKind{0, notify.Escalated, notify.Dropped}},
		"same":         {[]notify.Target{trusting(2)}, []string{"0 after 0s", "1 after 10s", "2 after 20s"}, []notify.OutcomeKind{0, notify.Escalated, notify.Escalated, notify.Unconfirmed}},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{confirm: sick}
			n, _ := w.start(t, nil, trusting(2))
			n.Notify("app", change("/a"))
			pass(12 * time.Second)
			w.attempts()
			n.Reconfigure(tc.reload)
			pass(time.Hour)
			if diff := cmp.Diff(tc.steps, w.taken()); diff != "" {
				t.Errorf("%s: steps taken (-want +got):\n%s", name, diff)
			}
			if diff := cmp.Diff(tc.kinds, w.kinds()); diff != "" {
				t.Errorf("%s: outcomes (-want +got):\n%s", name, diff)
			}
			if owed := awaited(n); len(owed) != 0 {
				t.Errorf("%s: still owed: %v", name, owed)
			}
		})
	}
}
