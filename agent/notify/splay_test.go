package notify_test

import (
	"testing"
	"testing/synctest"
	"time"

	"secretsd/agent/notify"
)

func TestASplaySpreadsTheFirstChangeOfAFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		var fleet []notify.Target
		for i := range 100 {
			app := command(string(rune('a'+i%26)) + string(rune('a'+i/26)))
			app.Splay = time.Minute
			fleet = append(fleet, app)
		}
		n, _ := w.start(t, nil, fleet...)
		for _, app := range fleet {
			n.Notify(app.Name, change("/a"))
		}
		if got := n.Owed(); len(got) != 100 {
			t.Fatalf("%d of 100 are owed while they wait", len(got))
		}
		for _, app := range fleet {
			n.Notify(app.Name, change("/b"))
		}
		pass(time.Hour)
		got := w.attempts()
		if len(got) != 100 {
			t.Fatalf("told %d times, want 100: what comes while a target waits is told with it", len(got))
		}
		early, latest := 0, time.Duration(0)
		for _, a := range got {
			if len(a.change.Paths) == 2 {
				latest = max(latest, a.after)
			}
			if a.after < 30*time.Second {
				early++
			}
		}
		if early < 20 || early > 80 || latest > time.Minute {
			t.Errorf("%d of 100 within half of the splay, the last after %v", early, latest)
		}
	})
}

func TestWhatSomebodyAskedForDoesNotWaitForTheSplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		app := command("app")
		app.Splay = time.Hour
		n, _ := w.start(t, nil, app)
		manual := change("/a")
		manual.Reason = notify.ReasonManual
		n.Notify("app", manual)
		if got := w.attempts(); len(got) != 1 {
			t.Fatalf("told %d times at once", len(got))
		}
		pass(time.Minute)
		n.Notify("app", change("/b"))
		pass(time.Second)
		n.Notify("app", manual)
		if got := w.attempts(); len(got) != 2 || len(got[1].change.Paths) != 2 {
			t.Errorf("told %v", got)
		}
	})
}

// A reload, or a further change, does not bring the whole fleet forward.
func TestAReloadDoesNotCutTheSplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		app := command("app")
		app.Splay = 10 * time.Hour
		n, _ := w.start(t, nil, app)
		n.Notify("app", change("/a"))
		due := n.Status()[0].NextAttempt
		app.OnFirst = true
		n.Reconfigure([]notify.Target{app})
		n.Notify("app", change("/b"))
		if st := n.Status()[0]; !st.NextAttempt.Equal(due) || st.State != notify.StateDue {
			t.Errorf("due at %v, before at %v", st.NextAttempt, due)
		}
		pass(11 * time.Hour)
		if got := w.attempts(); len(got) != 1 {
			t.Errorf("told %d times", len(got))
		}
	})
}
