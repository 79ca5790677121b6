package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"secretsd/agent/notify"
	"secretsd/agent/secret"
	"secretsd/agent/source/local"
	"secretsd/agent/store"
	"secretsd/sinks/files"
)

const killedConf = `
refresh: {interval: 5s}
secrets: [{name: db, id: prod/db}]
files:
  - {path: DIR/one, contents: '{{ secret "db" }}', notify: [app]}
  - {path: DIR/two, contents: '{{ secret "db" }}', notify: [app]}
targets:
  - name: app
    command: [/bin/sh, -c, 'echo "${SECRETSD_ROLLBACK:-0} $(cat DIR/one) $(cat DIR/two)" >> DIR/told']
    debounce: 0s
    confirm: {command: [/bin/sh, -c, '! grep -q bad DIR/one'], timeout: 20s, delay: 0s}
    ladder: [{command: [/bin/sh, -c, 'echo "step $(cat DIR/one)" >> DIR/told']}]
    rollback: true
`

// moment is what an agent that is killed at it leaves behind.
type moment struct {
	what, dir string
	left      map[string]string
}

func (r *running) moment(what string) moment {
	m := moment{what: what, dir: r.dir, left: map[string]string{}}
	for _, name := range []string{"one", "two", "told", "state/state.json"} {
		if data, err := os.ReadFile(filepath.Join(r.dir, name)); err == nil {
			m.left[name] = string(data)
		}
	}
	return m
}

// restore has r's directory be as it was at m.
func (r *running) restore(m moment) {
	must(r.t, os.Mkdir(filepath.Join(r.dir, "state"), 0o700))
	for name, text := range m.left {
		mode := os.FileMode(0o400)
		if name == "state/state.json" {
			mode, text = 0o600, strings.ReplaceAll(text, m.dir, r.dir)
		} else if name == "told" {
			mode = 0o600
		}
		must(r.t, os.WriteFile(filepath.Join(r.dir, name), []byte(text), mode))
	}
}

// noted is a sink that has somebody know of each publication.
type noted struct {
	sink
	after func()
}

func (n noted) publish(pieces []piece) (change files.Change, err error) {
	defer n.after()
	return n.sink.publish(pieces)
}

// versions has the service hold these values, the last of them as the current one.
func (r *running) versions(texts ...string) {
	for i, text := range texts {
		id := strings.Repeat(fmt.Sprint(i), 36)
		if i == 0 {
			r.call("CreateSecret", map[string]any{"Name": "prod/db", "SecretString": text, "ClientRequestToken": id})
			continue
		}
		r.call("PutSecretValue", map[string]any{"SecretId": "prod/db", "SecretString": text, "ClientRequestToken": id})
	}
}

// momentsOfARollback has a target not confirm bad-2, and returns what a kill would have
// left behind after every write of the state and of a file since then.
func momentsOfARollback(t *testing.T) (moments []moment) {
	var mu sync.Mutex
	add := func(r *running, what string) {
		mu.Lock()
		defer mu.Unlock()
		moments = append(moments, r.moment(what))
	}
	runAgent(t, killedConf, func(r *running) {
		r.versions("good-1")
		r.made = func(a *Agent) {
			note := func(what string) { add(r, what) }
			owe, remember := a.apply.owe, a.apply.remember
			a.apply.owe = func(d []notify.Debt) { note("before owed"); owe(d); note("owed") }
			a.apply.remember = func(h []heldState) { remember(h); note("held") }
			for _, o := range a.build.outputs {
				o.sink = noted{o.sink, func() { note("published " + filepath.Base(o.path)) }}
			}
		}
	}, func(r *running) {
		r.after(5 * time.Second)
		mu.Lock()
		moments = nil
		mu.Unlock()
		r.call("PutSecretValue", map[string]any{"SecretId": "prod/db", "SecretString": "bad-2", "ClientRequestToken": strings.Repeat("1", 36)})
		for i := range 8 { // told, on the ladder, and not rolled back yet
			r.after(5 * time.Second)
			if i < 7 {
				add(r, fmt.Sprint("second ", 5*(i+1)))
			}
		}
		r.after(time.Minute)
		if got := r.file("one") + r.file("two"); got != "good-1good-1" {
			t.Errorf("without a kill the files hold %q", got)
		}
		add(r, "the end")
	})
	return moments
}

// TestARollbackIsDoneWhateverMomentTheAgentIsKilledAt begins again with what a kill
// leaves behind at each moment of telling, asking, climbing and rolling back.
func TestARollbackIsDoneWhateverMomentTheAgentIsKilledAt(t *testing.T) {
	// The target looks at the first file only, which a kill may leave as the only one
	// that went back: asked before the secret was read it would confirm that.
	for _, delay := range []time.Duration{0, 2 * time.Second} {
		t.Run("source answers after "+delay.String(), func(t *testing.T) {
			killAtEachMoment(t, func(r *running) {
				r.svc.SetFault(func(string, string) *local.Fault { return &local.Fault{Delay: delay} })
			})
		})
	}
	t.Run("source answers before the first pass", func(t *testing.T) {
		killAtEachMoment(t, func(r *running) {
			r.made = func(a *Agent) {
				ref := secret.Current("prod/db")
				res := a.refresh.fetcher().Fetch(context.Background(), []secret.Ref{ref})[0]
				must(t, res.Err)
				a.store.Put([]store.Update{{Name: "db", Ref: ref, Version: res.Version}})
			}
		})
	})
}

// killAtEachMoment is given what the agent after the kill is prepared by.
func killAtEachMoment(t *testing.T, prepare func(*running)) {
	moments := momentsOfARollback(t)
	mixed := 0
	for _, m := range moments {
		if m.left["one"] != m.left["two"] {
			mixed++
		}
		runAgent(t, killedConf, func(r *running) {
			time.Sleep(time.Hour)
			r.versions("good-1", "bad-2")
			r.restore(m)
			prepare(r)
		}, func(r *running) {
			r.after(3 * time.Minute)
			if got := r.file("one") + " " + r.file("two"); got != "good-1 good-1" {
				t.Errorf("killed at %q: the files hold %q", m.what, got)
			}
			lines := strings.Split(strings.TrimSpace(r.file("told")), "\n")
			// Where the first pass has put a file in place it may be told of both at once,
			// which is no rollback to it.
			if last := lines[len(lines)-1]; last != "1 good-1 good-1" && last != "0 good-1 good-1" {
				t.Errorf("killed at %q: told last %q", m.what, lines)
			}
			for _, line := range lines {
				// Amid a rollback that is done again its target may be reading.
				begun := strings.Contains(m.left["state/state.json"], `"rollback":true`)
				if f := strings.Fields(line); !begun && len(f) == 3 && f[1] != f[2] {
					t.Errorf("killed at %q: told of files of two versions: %q", m.what, lines)
				}
				if strings.HasPrefix(line, "1 ") && line != "1 good-1 good-1" {
					t.Errorf("killed at %q: told of a rollback that was not done: %q", m.what, lines)
				}
			}
			if st := r.agent.notifier.Status()[0]; st.Unconfirmed || st.State != notify.StateIdle {
				t.Errorf("killed at %q: status %+v", m.what, st)
			}
			r.after(2 * time.Minute)
			if got := strings.TrimSpace(r.file("told")); got != strings.Join(lines, "\n") {
				t.Errorf("killed at %q: told again: %q", m.what, got)
			}
		})
		if t.Failed() {
			return
		}
	}
	if mixed == 0 || len(moments) < 15 {
		t.Errorf("of %d moments %d were between two files", len(moments), mixed)
	}
}

// unconfirmedMoment is one at which the target is unconfirmed and nothing rolled back.
func unconfirmedMoment(t *testing.T) moment {
	for _, m := range momentsOfARollback(t) {
		if m.left["one"] == "bad-2" && strings.Contains(m.left["state/state.json"], `"unconfirmed":true`) {
			return m
		}
	}
	t.Fatal("there was no such moment")
	return moment{}
}

// TestWhatCannotBeRolledBackAfterAKillGoesOnBeingAsked has the former version be gone.
func TestWhatCannotBeRolledBackAfterAKillGoesOnBeingAsked(t *testing.T) {
	m := unconfirmedMoment(t)
	runAgent(t, killedConf, func(r *running) {
		time.Sleep(time.Hour)
		id := strings.Repeat("1", 36)
		r.call("CreateSecret", map[string]any{"Name": "prod/db", "SecretString": "bad-2", "ClientRequestToken": id})
		r.restore(m)
	}, func(r *running) {
		r.after(time.Second)
		if st := r.agent.notifier.Status()[0]; !st.Unconfirmed {
			t.Errorf("status at once: %+v", st)
		}
		r.after(2 * time.Minute)
		if st := r.agent.notifier.Status()[0]; st.State != notify.StateUnconfirmed {
			t.Errorf("status: %+v", st)
		}
		for _, want := range []string{"target is unconfirmed since before the start", "cannot read what a file held before", "cannot roll back what a target did not confirm"} {
			if n := strings.Count(r.log.String(), want); n != 1 {
				t.Errorf("%q is said %d times", want, n)
			}
		}
		must(t, os.WriteFile(filepath.Join(r.dir, "told"), nil, 0o600))
		r.call("PutSecretValue", map[string]any{"SecretId": "prod/db", "SecretString": "good-3", "ClientRequestToken": strings.Repeat("3", 36)})
		r.after(time.Minute)
		if got := r.file("told"); got != "0 good-3 good-3\n" {
			t.Errorf("told %q", got)
		}
		if st := r.agent.notifier.Status()[0]; st.Unconfirmed {
			t.Errorf("status in the end: %+v", st)
		}
	})
}

// TestARollbackAfterAKillWaitsForTheSource has the source be away since before the
// start, and from when the current version was read, but not the former.
func TestARollbackAfterAKillWaitsForTheSource(t *testing.T) {
	m := unconfirmedMoment(t)
	for _, from := range []time.Duration{0, 10 * time.Second} {
		t.Run(from.String(), func(t *testing.T) {
			runAgent(t, killedConf, func(r *running) {
				time.Sleep(time.Hour)
				r.versions("good-1", "bad-2")
				r.restore(m)
				start := time.Now()
				r.svc.SetFault(func(string, string) *local.Fault {
					if d := time.Since(start); d >= from && d < 10*time.Minute {
						return &local.Fault{Code: "InternalServiceError"}
					}
					return nil
				})
			}, func(r *running) {
				r.after(9 * time.Minute)
				if st := r.agent.notifier.Status()[0]; !st.Unconfirmed || r.file("one") != "bad-2" {
					t.Errorf("while the source is away: %+v, the file holds %q", st, r.file("one"))
				}
				r.after(5 * time.Minute)
				if got := r.file("one") + " " + r.file("two"); got != "good-1 good-1" {
					t.Errorf("the files hold %q", got)
				}
				if got := r.file("told"); !strings.HasSuffix(got, "\n1 good-1 good-1\n") {
					t.Errorf("told %q", got)
				}
				if st := r.agent.notifier.Status()[0]; st.Unconfirmed {
					t.Errorf("status: %+v", st)
				}
			})
		})
	}
}

// TestAConfirmationOfFilesLeftHalfwayCountsForNothing has it come when the files are
// known by now, but were not when the target was asked.
func TestAConfirmationOfFilesLeftHalfwayCountsForNothing(t *testing.T) {
	r := newRolling(t, strings.Replace(rolledFiles, "name: b, id: b, required: false", "name: b, id: b", 1))
	var state []outputState
	r.a.keep = func(list []outputState) { state = list }
	r.read(now("a", "a1", "1"), now("b", "b1", "1"))
	r.pass(false)
	r.confirms("app")
	r.read(now("a", "a2", "2"), now("b", "b2", "2"))
	r.pass(false)
	c := r.last["app"]
	c.Unconfirmed = true
	begun := notify.Debt{Target: "app", Change: notify.Change{Rollback: true, Paths: c.Paths}}

	r.plan.close()
	next := newRollingIn(t, r.dir, strings.Replace(rolledFiles, "name: b, id: b, required: false", "name: b, id: b", 1))
	next.a.reread = func(again reply, needed []notify.SecretVersion) {
		again.read = values{}
		for _, v := range needed {
			again.read[v] = newVersion(secret.Current(v.Name), v.VersionID, "1")
		}
		next.a.heed([]reply{again})
	}
	must(t, os.WriteFile(filepath.Join(r.dir, "one"), []byte("one 1"), 0o400)) // which went back
	debts := next.a.cutOff([]notify.Debt{{Target: "app", Change: c}, begun})
	for _, d := range debts {
		next.a.doubted(d)
	}
	next.a.recallNamed(state)
	if len(debts) != 1 || len(next.a.late) != 1 {
		t.Fatalf("taken over: %v, late %v", debts, next.a.late)
	}
	next.read(now("a", "a2", "2"), now("b", "b2", "2"))
	next.pass(false)
	next.a.heed([]reply{{target: "app", told: debts[0].Change}})
	next.a.heedLate()
	for name, want := range map[string]string{"one": "one 1", "two": "two 1", "pair/crt": "crt 1", "pair/key": "key 1"} {
		next.want(name, want)
	}
}

// TestWhatWasRolledBackBeforeAKillIsGoneBackToAgain has the target be owed the news of
// the rollback, beside other news, when the agent is killed.
func TestWhatWasRolledBackBeforeAKillIsGoneBackToAgain(t *testing.T) {
	r := newRolling(t, rolledFiles)
	var state []outputState
	var held []heldState
	r.a.keep, r.a.remember = func(list []outputState) { state = list }, func(list []heldState) { held = list }
	r.read(now("a", "a1", "1"), now("b", "b1", "1"))
	r.pass(false)
	r.confirms("app")
	r.read(now("a", "a2", "2"))
	r.pass(false)
	r.rejects("app")
	owed := r.last["app"]
	owed.Rollback = false // as merged with other news
	r.plan.close()

	next := newRollingIn(t, r.dir, rolledFiles)
	next.a.reread = func(again reply, needed []notify.SecretVersion) {
		again.read = values{}
		for _, v := range needed {
			again.read[v] = newVersion(secret.Current(v.Name), v.VersionID, "1")
		}
		next.a.heed([]reply{again})
	}
	next.a.recall(held)
	next.a.doubted(notify.Debt{Target: "app", Change: owed})
	next.a.recallNamed(state)
	next.read(now("a", "a2", "2"), now("b", "b1", "1"))
	next.pass(false)
	next.read(now("a", "a3", "3"))
	next.pass(false)
	next.want("one", "one 3")
	next.rejects("app")
	next.want("one", "one 1")
	next.want("pair/key", "key 1")
}
