package notify_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/notify"
)

// unconfirmed returns what is owed over a restart to app, which has not confirmed.
func unconfirmed(t *testing.T, app notify.Target) []notify.Debt {
	t.Helper()
	w := &world{confirm: sick}
	n, stop := w.start(t, nil, app)
	n.Notify("app", change("/a"))
	pass(time.Minute)
	stop()
	debts := overRestart(t, n)
	if len(debts) != 1 || !debts[0].Unconfirmed {
		t.Fatalf("owed over the restart: %v", debts)
	}
	return debts
}

func TestAnUnconfirmedTargetIsAskedOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		debts := unconfirmed(t, trusting(1))
		var well atomic.Bool
		w := &world{confirm: func(context.Context, int) error {
			if well.Load() {
				return nil
			}
			return errSick
		}}
		n, _ := w.start(t, nil, trusting(1))
		n.Notify(debts[0].Target, debts[0].Change)
		pass(62 * time.Second)
		if diff := cmp.Diff([]time.Duration{time.Second, 31 * time.Second, 61 * time.Second}, w.questions()); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
		if st := n.Status()[0]; st.State != notify.StateUnconfirmed || !st.Unconfirmed || st.Error != "sick" {
			t.Errorf("status: %+v", st)
		}
		if diff := cmp.Diff(debts, overRestart(t, n)); diff != "" {
			t.Errorf("owed over a further restart (-want +got):\n%s", diff)
		}
		well.Store(true)
		pass(30 * time.Second)
		wantKinds(t, w, notify.Confirmed)
		if late := w.outcomes(notify.Confirmed)[0]; !slices.Equal(late.Change.Paths, []string{"/a"}) {
			t.Errorf("confirmed: %+v", late)
		}
		if st := n.Status()[0]; st.Unconfirmed || len(n.Owed()) != 0 || len(w.attempts()) != 0 {
			t.Errorf("afterwards: %+v, owed %v", st, n.Owed())
		}

		trusted := &world{}
		fourth, _ := trusted.start(t, nil, command("app"))
		fourth.Notify("app", debts[0].Change)
		fourth.Notify("gone", debts[0].Change)
		pass(time.Minute)
		if got := trusted.attempts(); len(got) != 0 || len(fourth.Owed()) != 0 {
			t.Errorf("a target that need not confirm any more: told %v, owes %v", got, fourth.Owed())
		}
	})
}

// A rollback may not have been done when the agent was killed.
func TestARollbackIsAskedForAgainAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := trusting(1)
		app.Rollback = true
		debts := unconfirmed(t, app)
		w := &world{confirm: sick}
		n, stop := w.start(t, nil, app)
		n.Notify("app", debts[0].Change)
		pass(5 * time.Second)
		if st := n.Status()[0]; st.State != notify.StateConfirming || !st.Unconfirmed {
			t.Errorf("status while it is asked once more: %+v", st)
		}
		if again := overRestart(t, n); len(again) != 2 || !again[0].Unconfirmed || again[1].Told != 2 {
			t.Errorf("owed over a further restart: %v", again)
		}
		pass(6 * time.Second)
		wantKinds(t, w, notify.Unconfirmed)
		o := w.outcomes(notify.Unconfirmed)[0]
		if !o.Rollback || !slices.Equal(o.Change.Paths, []string{"/a"}) || len(w.attempts()) != 0 {
			t.Errorf("reported: %+v", o)
		}

		// What was rolled back is not, after a further restart.
		c := change("/a")
		c.Rollback = true
		n.Notify("app", c)
		pass(time.Second)
		stop()
		debts = overRestart(t, n)
		if len(debts) != 2 || !debts[0].Unconfirmed || !debts[0].Rollback {
			t.Fatalf("owed over a restart after the rollback: %v", debts)
		}
		after := &world{confirm: sick}
		next, _ := after.start(t, nil, app)
		for _, d := range debts {
			next.Notify(d.Target, d.Change)
		}
		pass(time.Hour)
		wantKinds(t, after, notify.Unconfirmed)
		if after.outcomes(notify.Unconfirmed)[0].Rollback {
			t.Error("what was rolled back is to be rolled back again")
		}
	})
}

// What a target confirmed before a restart is in doubt no more.
func TestATargetThatConfirmsAfterARestartIsNotRolledBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := trusting(0)
		app.Rollback = true
		debts := unconfirmed(t, app)
		w := &world{}
		n, _ := w.start(t, nil, app)
		n.Notify("app", debts[0].Change)
		pass(time.Minute)
		wantKinds(t, w, notify.Confirmed)
		if len(n.Owed()) != 0 || n.Status()[0].Unconfirmed {
			t.Errorf("owed %v, %+v", n.Owed(), n.Status()[0])
		}
	})
}
