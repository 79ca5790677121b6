package agent

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"secretsd/agent/store"
	"secretsd/sinks/files"
)

const placedConf = `
secrets: [{name: db, id: db}, {name: ex, id: ex, expect: {json: true}}]
files:
  - {path: DIR/checked, contents: '{{ secret "db" }}', check: {command: [/bin/sh, -c, '! grep -q bad "$0"', "{}"]}}
  - {path: DIR/failing, contents: '{{ if eq (secret "db") "bad" }}{{ fail "it is bad" }}{{ end }}{{ secret "db" }}'}
  - {path: DIR/expecting, contents: '{{ secret "ex" }}'}
bundles: [{dir: DIR/b, create_dirs: true, mode: "0440", files: [{path: x, contents: '{{ (secret "ex").a }}'}], explode: ex}]
`

// keeper is a bench whose agent writes down what it holds, as a state directory does.
type keeper struct {
	*bench
	log  *lockedLog
	held []heldState
	// placed is given with what is held.
	next, placed []placedState
}

func newKeeper(t *testing.T, dir, conf string) *keeper {
	k := &keeper{bench: newBenchIn(t, dir, conf), log: &lockedLog{}}
	k.a.log = slog.New(slog.NewTextHandler(k.log, nil))
	k.a.keepPlaced = func(list []placedState) { k.next = list }
	k.a.remember = func(list []heldState) { k.held, k.placed = list, k.next }
	return k
}

// killed starts another agent, which knows what was written down and nothing more.
func (k *keeper) killed(conf string) *keeper {
	k.t.Helper()
	k.plan.close()
	next := newKeeper(k.t.(*testing.T), k.dir, conf)
	next.a.recall(k.held)
	next.a.recallPlaced(k.placed)
	return next
}

func (k *keeper) states() string {
	var list []string
	for _, o := range k.a.outputs {
		s := "unknown"
		if o.inPlace {
			s = "in place"
		}
		for _, v := range o.named {
			s += " " + v.VersionID
		}
		list = append(list, s)
	}
	return strings.Join(list, ", ")
}

// unexpectedly is a version that is held at the source.
func unexpectedly(name, id string) store.Update {
	return store.Update{Name: name, Held: &store.Held{VersionID: id, Err: errors.New("it is not what is expected")}}
}

// heldAll has everything hold a bad version.
func heldAll(t *testing.T) *keeper {
	k := newKeeper(t, memoryDir(t), placedConf)
	k.read(now("db", "d1", "good"), now("ex", "e1", `{"a": "one"}`))
	k.pass(false)
	k.awaits()
	k.read(now("db", "d2", "bad"), unexpectedly("ex", "e2"))
	k.pass(false)
	k.awaits()
	k.now += holdDelay
	k.pass(false)
	// What is repaired meanwhile is another file, and known as such.
	for _, name := range []string{"checked", "b/a"} {
		if err := os.Chmod(filepath.Join(k.dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k.now += holdDelay
	k.pass(true)
	return k
}

// What is held leaves what was published in place, also after a restart that makes
// nothing of it anew; mode and owner are kept right without the value.
func TestARestartKnowsWhatIsInPlaceOfWhatIsHeld(t *testing.T) {
	k := heldAll(t)
	next := k.killed(placedConf)
	bad := []store.Update{now("db", "d2", "bad"), unexpectedly("ex", "e2")}
	// Before the source has answered nothing is known of what is right.
	next.pass(false)
	if got := next.states(); strings.Contains(got, "in place") {
		t.Errorf("before any read the outputs are %s", got)
	}
	next.read(bad...)
	if err := os.Chmod(filepath.Join(k.dir, "failing"), 0o444); err != nil {
		t.Fatal(err)
	}
	next.pass(false)
	const all = "in place d1, in place d1, in place e1, in place e1"
	if got := next.states(); got != all {
		t.Errorf("the outputs are %s", got)
	}
	if !next.plan.isKept("ex") {
		t.Error("the secret that is held keeps the agent waiting")
	}
	line := `msg="new content is held since before the start, keeping what is published" path=` + filepath.Join(k.dir, "checked") + ` versions="[{Name:db VersionID:d2}]"`
	next.a.outputs[0].dirty = true
	next.pass(true)
	if n := strings.Count(next.log.String(), line); n != 1 {
		t.Errorf("%d lines %s", n, line)
	}
	for _, name := range []string{"checked", "expecting", "b/x", "b/a"} {
		if err := os.Chmod(filepath.Join(k.dir, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	next.pass(true)
	for name, mode := range map[string]os.FileMode{"checked": 0o400, "failing": 0o400, "expecting": 0o400, "b/x": 0o440, "b/a": 0o440} {
		if info, err := os.Stat(filepath.Join(k.dir, name)); err != nil || info.Mode() != mode {
			t.Errorf("the mode of %s is %v, %v", name, info.Mode(), err)
		}
	}
	next.want("checked", "good")
	next.want("b/x", "one")
	// The marks of what was repaired are known to the next agent too.
	next.now += time.Hour
	next.pass(false)
	next = next.killed(placedConf)
	next.read(bad...)
	next.pass(false)
	if got := next.states(); got != all {
		t.Errorf("after another restart the outputs are %s", got)
	}
	// It is not what an agent that starts anew tells its targets, but a change.
	next.read(now("db", "d3", "fine"), now("ex", "e3", `{"a": "three"}`))
	next.pass(false)
	next.awaits()
	next.want("checked", "fine")
	next.want("failing", "fine")
	next.want("b/a", "three")
	next.now += time.Hour
	next.pass(false)
	if len(next.placed) != 0 || len(next.held) != 0 {
		t.Errorf("it is still written down that %v is in place of %v", next.placed, next.held)
	}
}

// What somebody else has put there is no earlier output.
func TestARestartTakesNothingElseForWhatWasPublished(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"removed": os.Remove,
		"written to": func(path string) error {
			return errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("odd!"), 0))
		},
		"replaced": func(path string) error {
			return errors.Join(os.Remove(path), os.WriteFile(path, []byte("good"), 0o400))
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := heldAll(t)
			for _, name := range []string{"checked", "failing", "expecting", "b/..data/x"} {
				if err := change(filepath.Join(k.dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			next := k.killed(placedConf)
			next.read(now("db", "d2", "bad"), unexpectedly("ex", "e2"))
			next.pass(false)
			next.pass(true)
			if got := next.states(); got != "unknown, unknown, unknown, unknown" {
				t.Errorf("the outputs are %s", got)
			}
			if next.plan.isKept("ex") {
				t.Error("the agent does not wait for the secret")
			}
			if n := strings.Count(next.log.String(), "not as it was published before the start"); n != 4 {
				t.Errorf("the log says so %d times", n)
			}
			if st := next.a.outputs[0].status(next.now, time.Now()); st.State != FileHeld {
				t.Errorf("the status is %+v", st)
			}
		})
	}
}

// An agent that ends leaves word of everything, for what the next one will have to hold
// is not known yet.
func TestTheEndWritesDownWhatIsInPlace(t *testing.T) {
	k := newKeeper(t, memoryDir(t), placedConf)
	k.read(now("db", "d1", "good"), now("ex", "e1", `{"a": "one"}`))
	k.pass(false)
	k.awaits()
	k.now += time.Hour
	k.pass(false)
	if len(k.placed) != 0 {
		t.Errorf("%v is written down while nothing is held", k.placed)
	}
	k.a.noteAll()
	next := k.killed(placedConf)
	next.read(now("db", "d2", "bad"), unexpectedly("ex", "e2"))
	next.pass(false)
	next.awaits()
	if got := next.states(); got != "in place d1, in place d1, in place e1, in place e1" {
		t.Errorf("the outputs are %s", got)
	}
}

// A mark that fits nothing is no ground to believe anything.
func TestAStateWithoutAMarkIsNotBelieved(t *testing.T) {
	k := heldAll(t)
	for i := range k.placed {
		k.placed[i].Mark = files.Mark("")
	}
	next := k.killed(placedConf)
	next.read(now("db", "d2", "bad"), unexpectedly("ex", "e2"))
	next.pass(false)
	if got := next.states(); strings.Contains(got, "in place") {
		t.Errorf("the outputs are %s", got)
	}
}
