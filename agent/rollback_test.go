package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"secretsd/agent/notify"
	"secretsd/agent/secret"
)

// rolling is a bench whose targets say what they think of what they were told last.
type rolling struct {
	*bench
	last map[string]notify.Change
	log  *lockedLog
}

func newRolling(t *testing.T, conf string) *rolling { return newRollingIn(t, memoryDir(t), conf) }

func newRollingIn(t *testing.T, dir, conf string) *rolling {
	r := &rolling{bench: newBenchIn(t, dir, conf), last: map[string]notify.Change{}, log: &lockedLog{}}
	r.a.log = slog.New(slog.NewTextHandler(r.log, nil))
	r.a.tell = func(target string, c notify.Change) {
		r.last[target] = c
		what := c.Reason.String()
		if c.Rollback {
			what = "rollback"
		}
		var versions []string
		for _, v := range c.Secrets {
			versions = append(versions, v.VersionID)
		}
		r.told = append(r.told, fmt.Sprintf("%s %s %s of %s", target, what, r.short(c.Paths), strings.Join(versions, ",")))
	}
	return r
}

// rejects has target not confirm what it was told last, and a pass follow.
func (r *rolling) rejects(target string) []string {
	r.told, r.owed = nil, nil
	r.a.heed([]reply{{target: target, told: r.last[target], rollback: true}})
	r.a.pass(context.Background(), r.st.Snapshot(), false)
	return r.told
}

func (r *rolling) confirms(target string) {
	r.a.heed([]reply{{target: target, told: r.last[target]}})
}

func (r *rolling) wantSaid(text string) {
	r.t.Helper()
	if got := strings.Count(r.log.String(), text); got != 1 {
		r.t.Errorf("%q is said %d times in:\n%s", text, got, r.log)
	}
}

const rolledFiles = `
source: {local: {}}
secrets: [{name: a, id: a}, {name: b, id: b, required: false}]
files:
  - {path: DIR/one, contents: 'one {{ secret "a" }}', notify: [app]}
  - {path: DIR/two, contents: 'two {{ secret "b" }}', notify: [app]}
bundles:
  - dir: DIR/pair
    create_dirs: true
    files: [{path: crt, contents: 'crt {{ secret "a" }}'}, {path: key, contents: 'key {{ secret "a" }}'}]
    notify: [app]
targets: [{name: app, process: {pid_file: DIR/pid}, confirm: {tcp: "127.0.0.1:1"}, rollback: true}]
`

func TestARollbackTakesAllFilesBack(t *testing.T) {
	r := newRolling(t, rolledFiles)
	var noted [][]heldState
	r.a.remember = func(held []heldState) { noted = append(noted, held) }
	tell, notedBefore := r.a.tell, 0
	r.a.tell = func(target string, c notify.Change) {
		notedBefore = len(noted)
		tell(target, c)
	}
	r.read(now("a", "a1", "1"), now("b", "b1", "1"))
	r.pass(false)
	r.confirms("app")
	r.read(now("a", "a2", "2"), now("b", "b2", "2"))
	r.pass(false)
	r.wantTold(r.rejects("app"), "app rollback one,two,pair of a1,b1")
	for name, want := range map[string]string{"one": "one 1", "two": "two 1", "pair/crt": "crt 1", "pair/key": "key 1"} {
		r.want(name, want)
	}
	// The debt is written down before the first file changes, and what is refused
	// in one step.
	if diff := cmp.Diff([]string{"app one 2"}, r.owed); diff != "" {
		t.Errorf("owed (-want +got):\n%s", diff)
	}
	if len(noted) != 1 || len(noted[0]) != 3 {
		t.Errorf("written down as held: %v", noted)
	}
	if notedBefore != 1 {
		t.Error("told before what is refused was written down")
	}
	r.wantTold(r.pass(true))
	r.read(now("a", "a3", "3"))
	r.wantTold(r.pass(false), "app change one,pair of a3")
}

func TestARollbackIsOfAllFilesOrNone(t *testing.T) {
	r := newRolling(t, rolledFiles)
	r.read(now("a", "a1", "1"), failing("b", secret.NotFound))
	r.pass(false)
	r.confirms("app")
	r.read(now("a", "a2", "2"), now("b", "b1", "1")) // of two there is nothing to go back to
	r.pass(false)
	r.wantTold(r.rejects("app"))
	r.want("one", "one 2")
	r.want("two", "two 1")
	r.want("pair/crt", "crt 2")
	r.wantSaid("cannot roll back")
	r.wantSaid("put a right value into the secret")
}

func TestARollbackThatFailsHalfwayLeavesNoMixture(t *testing.T) {
	r := newRolling(t, rolledFiles)
	r.read(now("a", "a1", "1"), now("b", "b1", "1"))
	r.pass(false)
	r.confirms("app")
	r.read(now("a", "a2", "2"), now("b", "b2", "2"))
	r.pass(false)
	two := filepath.Join(r.dir, "two")
	if err := errors.Join(os.Remove(two), os.Mkdir(two, 0o700)); err != nil {
		t.Fatal(err)
	}
	r.wantTold(r.rejects("app"))
	r.want("one", "one 2")
	r.want("pair/key", "key 2")
	r.wantSaid("cannot roll back")
	if r.a.outputs[1].err == nil {
		t.Error("the directory in the way is no trouble")
	}
	if err := os.Remove(two); err != nil {
		t.Fatal(err)
	}
	r.now += time.Minute
	r.pass(false)
	r.want("two", "two 2")
}

func TestNothingIsRolledBackToTheSameBytes(t *testing.T) {
	r := newRolling(t, rolledFiles)
	for i, text := range []string{"1", "2", "1"} {
		r.read(now("a", fmt.Sprint("a", i), text), now("b", "b1", "1"))
		r.pass(false)
		if i == 0 {
			r.confirms("app")
		}
	}
	r.wantTold(r.rejects("app"))
	r.wantSaid("its files hold what they held before")
	if strings.Contains(r.log.String(), "rolled back") {
		t.Errorf("said to be rolled back:\n%s", r.log)
	}
}

// What was replaced before the target had confirmed it is nothing to go back to.
func TestARollbackLeadsToWhatWasConfirmed(t *testing.T) {
	r := newRolling(t, rolledFiles)
	for i := 1; i <= 3; i++ {
		r.read(now("a", fmt.Sprint("a", i), fmt.Sprint(i)), now("b", "b1", "1"))
		r.pass(false)
		if i == 1 {
			r.confirms("app")
		}
	}
	r.rejects("app")
	r.want("one", "one 1")
}

// A target that stops working later, when somebody has removed a file of it, is not
// given an older secret.
func TestWhatWasConfirmedIsNotRolledBack(t *testing.T) {
	r := newRolling(t, rolledFiles)
	for i := 1; i <= 2; i++ {
		r.read(now("a", fmt.Sprint("a", i), fmt.Sprint(i)), now("b", "b1", "1"))
		r.pass(false)
		r.confirms("app")
	}
	if err := os.Remove(filepath.Join(r.dir, "one")); err != nil {
		t.Fatal(err)
	}
	r.wantTold(r.pass(true), "app heal one of a2")
	r.wantTold(r.rejects("app"))
	r.want("one", "one 2")
	r.wantSaid("not rolling back")
	for _, o := range r.a.outputs {
		if o.previous != nil {
			t.Errorf("%s keeps content that nobody will ask for", o.path)
		}
	}
}

func TestAReloadKeepsWhatARollbackLeadsTo(t *testing.T) {
	r := newRolling(t, rolledFiles)
	r.read(now("a", "a1", "1"), now("b", "b1", "1"))
	r.pass(false)
	r.confirms("app")
	r.read(now("a", "a2", "2"))
	r.pass(false)
	r.reload(rolledFiles)
	r.wantTold(r.rejects("app"), "app rollback one,pair of a1")
	r.want("one", "one 1")
	r.reload(rolledFiles)
	r.want("one", "one 1")
	// Without rollback nobody is asked any more.
	r.read(now("a", "a3", "3"))
	r.pass(false)
	r.reload(strings.ReplaceAll(rolledFiles, "rollback: true", "rollback: false"))
	if o := r.a.outputs[0]; o.previous != nil || len(o.doubts) > 0 {
		t.Error("it is still in doubt")
	}
}

// A template may be as wrong as a secret.
func TestARollbackTakesATemplateBack(t *testing.T) {
	r := newRolling(t, rolledFiles)
	r.read(now("a", "a1", "1"), now("b", "b1", "1"))
	r.pass(false)
	r.confirms("app")
	r.reload(strings.ReplaceAll(rolledFiles, "'one {{", "'wrong {{"))
	r.want("one", "wrong 1")
	r.wantTold(r.rejects("app"), "app rollback one of a1")
	r.want("one", "one 1")
	r.pass(true)
	r.want("one", "one 1")
	r.reload(strings.ReplaceAll(rolledFiles, "'one {{", "'right {{"))
	r.want("one", "right 1")
}

// Content that is newer than what is rolled back waits for its check, or for a
// better disk, all the same.
func TestARollbackDoesNotLoseWhatIsNewer(t *testing.T) {
	conf := strings.ReplaceAll(rolledFiles, "{path: DIR/one,", "{path: DIR/one, check: {command: [/bin/sh, -c, 'test ! -e DIR/slow || sleep 0.2']},")
	r := newRolling(t, conf)
	r.read(now("a", "a1", "1"), now("b", "b1", "1"))
	r.pass(false)
	r.awaits()
	r.confirms("app")
	r.read(now("a", "a2", "2"))
	r.pass(false)
	r.awaits()
	r.want("one", "one 2")
	r.write("slow", "")
	refused := r.last["app"]
	r.read(now("a", "a3", "3"))
	r.pass(false)
	r.want("one", "one 2")
	r.last["app"] = refused
	r.rejects("app")
	r.want("one", "one 1")
	r.awaits()
	r.want("one", "one 3")
}

const sharedFile = `
source: {local: {}}
secrets: [{name: a, id: a}]
files:
  - {path: DIR/shared, contents: '{{ (secret "a").pw }}', notify: [app, web]}
  - {path: DIR/other, contents: '{{ (secret "a").OTHER }}', notify: [web]}
targets:
  - {name: app, process: {pid_file: DIR/pid}, confirm: {tcp: "127.0.0.1:1"}, rollback: true}
  - {name: web, process: {pid_file: DIR/pid}}
`

// Two targets share a file, and one of them has a further one. Rolled back it is
// only if the other target gets no mixture by it.
func TestARollbackOfASharedFile(t *testing.T) {
	tests := []struct {
		name, other, shared string
		told                []string
	}{
		{"the further one is of what changed", "pw", "2", nil},
		{"of what did not", "user", "1", []string{"app rollback shared of v1", "web rollback shared of v1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRolling(t, strings.ReplaceAll(sharedFile, "OTHER", tt.other))
			for i := 1; i <= 2; i++ {
				r.read(now("a", fmt.Sprint("v", i), fmt.Sprintf(`{"user": "u", "pw": "%d"}`, i)))
				r.pass(false)
				if i == 1 {
					r.confirms("app")
				}
			}
			told := r.rejects("app")
			slices.Sort(told)
			if diff := cmp.Diff(tt.told, told, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
			r.want("shared", tt.shared)
			if tt.told == nil {
				r.wantSaid("target web would have")
			}
		})
	}
}

// What came after what a target did not confirm is not refused with it.
func TestARollbackLeavesNewerContent(t *testing.T) {
	r := newRolling(t, rolledFiles)
	r.read(now("a", "a1", "1"), now("b", "b1", "1"))
	r.pass(false)
	r.confirms("app")
	r.read(now("a", "a2", "2"), now("b", "b2", "2"))
	r.pass(false)
	refused := r.last["app"]
	r.read(now("b", "b3", "3"))
	r.pass(false)
	r.last["app"] = refused
	r.wantTold(r.rejects("app"), "app rollback one,pair of a1")
	r.want("one", "one 1")
	r.want("two", "two 3")
	if r.a.outputs[1].refused != nil {
		t.Error("the newer content is held")
	}
}

// What an agent finds in place may be what the target has not confirmed yet.
func TestARollbackNeverLeadsToWhatIsInDoubtSinceBeforeTheStart(t *testing.T) {
	r := newRolling(t, `
source: {local: {}}
secrets: [{name: a, id: a}]
files: [{path: DIR/one, contents: 'one {{ secret "a" }}', notify: [app]}]
targets: [{name: app, process: {pid_file: DIR/pid}, confirm: {tcp: "127.0.0.1:1"}, rollback: true}]
`)
	r.a.doubted(notify.Debt{Target: "app", Change: notify.Change{Paths: []string{filepath.Join(r.dir, "one")}}})
	r.write("one", "one 1")
	r.read(now("a", "a1", "1"))
	r.pass(false)
	r.read(now("a", "a2", "2"))
	r.pass(false)
	r.wantTold(r.rejects("app"))
	r.want("one", "one 2")
	r.wantSaid("no earlier content")
}

// TestRollbackOfAWholeAgent has a target that cannot use what begins with bad.
func TestRollbackOfAWholeAgent(t *testing.T) {
	conf := `
refresh: {interval: 1s}
secrets: [{name: db, id: db}]
files:
  - {path: DIR/one, contents: '{{ secret "db" }}', notify: [app]}
  - {path: DIR/two, contents: '{{ secret "db" }}', notify: [app]}
targets:
  - name: app
    command: [/bin/sh, -c, 'echo "${SECRETSD_ROLLBACK:-0} $(cat DIR/one DIR/two)" >> DIR/told']
    debounce: 0s
    confirm: {command: [/bin/sh, -c, '! grep -q bad DIR/one'], timeout: 20s, delay: 0s}
    rollback: true
`
	conf = strings.ReplaceAll(conf, "$(cat DIR/one DIR/two)", `$(cat DIR/one) $(cat DIR/two)`)
	put := func(r *running, value string) { must(t, r.svc.Put("db", value)) }
	runAgent(t, conf, func(r *running) { put(r, "good-1") }, func(r *running) {
		r.after(5 * time.Second)
		put(r, "bad-2")
		r.after(10 * time.Second)
		if got := r.file("one"); got != "bad-2" {
			t.Errorf("while it is asked the file holds %q", got)
		}
		put(r, "bad-3") // which gives it its time anew
		r.after(15 * time.Second)
		if got := r.file("two"); got != "bad-3" {
			t.Errorf("while it is asked again the file holds %q", got)
		}
		r.after(30 * time.Second)
		if got := r.file("told"); got != "0 bad-2 bad-2\n0 bad-3 bad-3\n1 good-1 good-1\n" {
			t.Errorf("told %q", got)
		}
		if got := r.log.String(); strings.Count(got, "rolled back what a target did not confirm") != 2 {
			t.Error("the log does not say of both files that they were rolled back")
		}
		put(r, "good-4")
		r.after(5 * time.Second)
		if got := r.file("one") + " " + r.file("two"); got != "good-4 good-4" {
			t.Errorf("the files hold %q", got)
		}
	})
}
