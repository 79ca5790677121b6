package agent

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"secretsd/agent/secret"
)

// awaits takes the next verdict and lets a pass act on it.
func (b *bench) awaits() {
	b.t.Helper()
	select {
	case v := <-b.a.checker.done:
		b.a.judge(v)
	case <-time.After(10 * time.Second):
		b.t.Fatal("no check has ended")
	}
	b.pass(false)
}

func (b *bench) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o700); err != nil {
		b.t.Fatal(err)
	}
}

const optionalGate = `
source: {local: {}}
secrets:
  - {name: db, id: db}
  - {name: extra, id: extra, required: false}
files:
  - path: DIR/f
    contents: '{{ secret "db" }}{{ if has "extra" }} {{ secret "extra" }}{{ end }}'
    check: {command: [/bin/sh, -c, '! grep -q bad "$0"', "{}"]}
`

// The healing of what is published must not publish what a check refused.
func TestHealDoesNotPublishWhatIsHeld(t *testing.T) {
	b := newBench(t, optionalGate)
	b.read(now("db", "v1", "good"), failing("extra", secret.NotFound))
	b.pass(false)
	b.awaits()
	b.want("f", "good")
	b.read(now("extra", "v1", "bad"))
	b.pass(false)
	b.awaits()
	b.want("f", "good")
	b.pass(true)
	b.want("f", "good")
	if b.a.outputs[0].gate.held == nil {
		t.Error("nothing is held")
	}
	// What somebody else spoilt is put right as it was.
	b.write("f", "spoilt")
	b.pass(true)
	b.want("f", "good")
}

// A reload clears what a crash left, and not what a check is looking at; a check
// whose turn has not come looks at the new place.
func TestAReloadLeavesACheckUnderWayItsFile(t *testing.T) {
	conf := "source: {local: {}}\nsecrets: [{name: db, id: db}]\nbundles:\n"
	for i := range 3 {
		conf += fmt.Sprintf("  - {dir: DIR/b%d, create_dirs: true, files: [{path: f, contents: '{{ secret \"db\" }}'}], check: {command: [/bin/sh, DIR/check, '{}']}}\n", i)
	}
	conf += "files:\n"
	for i := range 3 {
		conf += fmt.Sprintf("  - {path: DIR/f%d, contents: '{{ secret \"db\" }}', check: {command: [/bin/sh, DIR/check, '{}']}}\n", i)
	}
	b := newBench(t, conf)
	if err := syscall.Mkfifo(filepath.Join(b.dir, "running"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.write("check", "echo >> "+b.dir+"/running; until test -e "+b.dir+"/go; do sleep 0.01; done; test -f $1 -o -f $1/f")
	running, err := os.OpenFile(filepath.Join(b.dir, "running"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	b.read(now("db", "v1", "good"))
	b.pass(false)
	if _, err := io.ReadFull(running, make([]byte, maxChecks)); err != nil {
		t.Fatal(err)
	}
	b.reload(conf)
	b.write("go", "")
	for b.a.checking() {
		b.awaits()
	}
	for _, o := range b.a.outputs {
		if h := o.gate.held; h != nil {
			t.Errorf("%s is held: %v", o.path, h.reason)
		}
	}
	for i := range 3 {
		b.want(fmt.Sprintf("f%d", i), "good")
		b.want(fmt.Sprintf("b%d/f", i), "good")
	}
}

// The command of a check may have been the fault.
func TestAReloadChecksWhatIsHeldAgain(t *testing.T) {
	const conf = `
source: {local: {}}
secrets: [{name: db, id: db}]
files:
  - path: DIR/f
    contents: '{{ secret "db" }}'
    check: {command: [/bin/sh, -c, 'test -e DIR/fixed']}
`
	b := newBench(t, conf)
	var noted []heldState
	b.a.remember = func(held []heldState) { noted = held }
	b.read(now("db", "v1", "good"))
	b.pass(false)
	b.awaits()
	b.want("f", "(absent)")
	b.configure(conf)
	b.pass(false)
	b.now += time.Minute // what is refused one by one is written down together
	b.awaits()
	if b.a.outputs[0].gate.held == nil || len(noted) != 1 {
		t.Errorf("what failed again is not held: %v", noted)
	}
	b.pass(true)
	b.write("fixed", "")
	b.configure(conf)
	b.pass(false)
	b.awaits()
	b.want("f", "good")
	if len(noted) != 0 {
		t.Errorf("still written down as held: %v", noted)
	}
}

// What came back while newer content was being checked is not held.
func TestAVerdictOnWhatIsNotWantedAnyMoreCountsForNothing(t *testing.T) {
	b := newBench(t, optionalGate)
	b.read(now("db", "v1", "good"), failing("extra", secret.NotFound))
	b.pass(false)
	b.awaits()
	b.read(now("db", "v2", "bad"))
	b.pass(false)
	b.read(now("db", "v1", "good"))
	b.pass(false)
	b.a.checker.running.Wait()
	if h := b.a.outputs[0].gate.held; h != nil {
		t.Errorf("held: %v, of versions %v", h.reason, h.versions)
	}
	if b.a.checking() {
		t.Error("still waiting for a verdict")
	}
}

// An error of before says nothing of what is held.
func TestWhatIsHeldIsNotDegradedAnyMore(t *testing.T) {
	b := newBench(t, `
source: {local: {}}
secrets: [{name: db, id: db}]
files:
  - path: DIR/f
    contents: '{{ (secret "db").user }}'
    check: {command: [/bin/false]}
`)
	b.read(now("db", "v1", `{}`))
	b.pass(false)
	if b.a.outputs[0].err == nil {
		t.Fatal("it was rendered")
	}
	b.read(now("db", "v2", `{"user": "u"}`))
	b.pass(false)
	b.awaits()
	if o := b.a.outputs[0]; o.err != nil || o.gate.held == nil || o.gate.held.unrendered {
		t.Errorf("error %v, held %v", o.err, o.gate.held)
	}
}

// Directories, files and bundles may take each other's places in a reload.
func TestAReloadTurnsOneKindOfOutputIntoTheOther(t *testing.T) {
	const head = "source: {local: {}}\nsecrets: [{name: db, id: db}]\n"
	bundle := head + `bundles: [{dir: DIR/x, create_dirs: true, files: [{path: f, contents: 'bundle {{ secret "db" }}'}]}]`
	inside := head + `files: [{path: DIR/x/g, create_dirs: true, contents: 'inside {{ secret "db" }}'}]`
	same := head + `files: [{path: DIR/x/f, create_dirs: true, contents: 'same {{ secret "db" }}'}]`
	swapped := func(bundle, file string) string {
		return head + `
bundles: [{dir: DIR/` + bundle + `, create_dirs: true, files: [{path: f, contents: 'bundle {{ secret "db" }}'}]}]
files: [{path: DIR/` + file + `/f, create_dirs: true, contents: 'file {{ secret "db" }}'}]
`
	}
	steps := []struct{ name, conf, path, want string }{
		{"bundle", bundle, "x/f", "bundle s"},
		{"a file in its place", inside, "x/g", "inside s"},
		{"the bundle again", bundle, "x/f", "bundle s"},
		{"a file of the same name", same, "x/f", "same s"},
		{"a bundle and a file", swapped("x", "y"), "x/f", "bundle s"},
		{"swapped", swapped("y", "x"), "x/f", "file s"},
		{"swapped back", swapped("x", "y"), "y/f", "file s"},
	}
	b := newBench(t, head)
	b.read(now("db", "v1", "s"))
	for _, s := range steps {
		b.reload(s.conf)
		if got := b.content(s.path); got != s.want {
			t.Errorf("%s: %q, want %q", s.name, got, s.want)
		}
		for _, o := range b.a.outputs {
			if o.err != nil || !o.inPlace {
				t.Errorf("%s: %s is not in place: %v", s.name, o.path, o.err)
			}
		}
	}
}

// reload does what an agent does in a reload.
func (b *bench) reload(conf string) {
	b.t.Helper()
	before, next := b.plan, b.parsed(conf)
	b.a.retire(next)
	b.use(next)
	before.close()
	(&Agent{log: discard, clock: b.a.clock}).sweep(&build{plan: b.plan})
	b.pass(false)
}

// Content that changes again and again, with a check that hangs, takes one of the
// turns and not all.
func TestACheckOfWhatIsNotWantedAnyMoreEnds(t *testing.T) {
	b := newBench(t, `
source: {local: {}}
secrets: [{name: db, id: db}, {name: other, id: other}]
files:
  - path: DIR/hangs
    contents: '{{ secret "db" }}'
    check: {command: [/bin/sleep, "30"], timeout: 30s}
  - path: DIR/f
    contents: '{{ secret "other" }}'
    check: {command: [/bin/true]}
`)
	for i := range 2 * maxChecks {
		b.read(now("db", fmt.Sprint("v", i), fmt.Sprint(i)))
		b.pass(false)
	}
	b.read(now("other", "v1", "good"))
	b.pass(false)
	b.awaits()
	b.want("f", "good")
	b.configure("source: {local: {}}\nsecrets: [{name: db, id: db}]\n")
	b.a.checker.running.Wait()
}

// A backup does not outlive the output that it is of.
func TestTheBackupOfARemovedFileGoesWithTheOutput(t *testing.T) {
	const head = "source: {local: {}}\nsecrets: [{name: db, id: db}]\n"
	b := newBench(t, head+`
files: [{path: DIR/out/f, create_dirs: true, backup: true, contents: '{{ secret "db" }}'}]
bundles: [{dir: DIR/b, create_dirs: true, backup: true, files: [{path: f, contents: '{{ secret "db" }}'}]}]
`)
	for i := range 2 {
		b.read(now("db", fmt.Sprint("v", i), fmt.Sprint(i)))
		b.pass(false)
	}
	for _, name := range []string{"out/f", "b/..data"} {
		if err := os.Remove(filepath.Join(b.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	b.reload(head)
	for _, dir := range []string{"out", "b"} {
		entries, err := os.ReadDir(filepath.Join(b.dir, dir))
		if err != nil || len(entries) > 0 {
			t.Errorf("left in %s: %v, %v", dir, entries, err)
		}
	}
}

// Trouble with the directory passes, whatever is held.
func TestAHeldFileRecoversFromTrouble(t *testing.T) {
	b := newBench(t, optionalGate)
	b.read(now("db", "v1", "good"), failing("extra", secret.NotFound))
	b.pass(false)
	b.awaits()
	b.read(now("db", "v2", "bad"))
	b.pass(false)
	b.awaits()
	f := filepath.Join(b.dir, "f")
	if err := errors.Join(os.Remove(f), os.Mkdir(f, 0o700)); err != nil {
		t.Fatal(err)
	}
	b.pass(true)
	o := b.a.outputs[0]
	if o.err == nil {
		t.Fatal("a directory in the way is no trouble")
	}
	if err := os.Remove(f); err != nil {
		t.Fatal(err)
	}
	b.now += time.Minute
	b.pass(false)
	b.pass(true)
	b.want("f", "good")
	if o.err != nil || o.gate.held == nil {
		t.Errorf("error %v, held %v", o.err, o.gate.held)
	}
}

// What many checks refuse is written down a few times and whole, not once for each.
func TestRefusalsAreWrittenDownTogether(t *testing.T) {
	const many = 20
	conf := "source: {local: {}}\nsecrets: [{name: db, id: db}]\nfiles:\n"
	for i := range many {
		conf += fmt.Sprintf("  - {path: DIR/f%d, contents: '{{ secret \"db\" }}', check: {command: [/bin/false]}}\n", i)
	}
	b := newBench(t, conf)
	var noted [][]heldState
	b.a.remember = func(held []heldState) { noted = append(noted, held) }
	b.read(now("db", "v1", "x"))
	b.pass(false)
	for range many {
		b.awaits()
	}
	if at, ok := b.a.nextTry(); !ok || at > b.now+holdDelay {
		t.Errorf("the rest is not written down in time: %v %v", at, ok)
	}
	b.now += holdDelay
	b.pass(false)
	if len(noted) != 2 || len(noted[1]) != many {
		t.Errorf("written %d times, at last %d", len(noted), len(noted[len(noted)-1]))
	}
	if _, ok := b.a.nextTry(); ok {
		t.Error("still something to do")
	}
	// What is not held any more is written down at once.
	b.read(now("db", "v2", "y"))
	b.pass(false)
	if len(noted) != 3 || len(noted[2]) != 0 {
		t.Errorf("written %d times", len(noted))
	}
}

// An agent that ends has everything written down that its checks have refused.
func TestTheEndWritesDownWhatIsHeld(t *testing.T) {
	var dir string
	conf := `
refresh: {interval: 100ms}
secrets: [{name: a, id: a}, {name: b, id: b}]
files:
  - {path: DIR/one, contents: '{{ secret "a" }}', check: {command: [/bin/false]}}
  - {path: DIR/two, contents: '{{ secret "b" }}', check: {command: [/bin/false]}}
`
	runAgent(t, conf, func(r *running) { must(t, r.svc.Put("a", "x")) }, func(r *running) {
		dir = r.dir
		r.after(50 * time.Millisecond) // the first is written down
		must(t, r.svc.Put("b", "x"))
		for n := 0; strings.Count(r.log.String(), "check refused new content") < 2; n++ {
			r.after(10 * time.Millisecond)
			if n > 100 {
				t.Fatal("the second check has refused nothing")
			}
		}
	})
	data, err := os.ReadFile(filepath.Join(dir, "state", stateFile))
	must(t, err)
	for _, name := range []string{"/one", "/two"} {
		if !strings.Contains(string(data), dir+name) {
			t.Errorf("%s is not written down as held: %s", name, data)
		}
	}
}

// What a check has printed is logged if it is asked for, without the content that it
// looked at, whatever else is known by then.
func TestTheOutputOfACheckIsLoggedWithoutSecrets(t *testing.T) {
	b := newBench(t, `
source: {local: {}}
secrets: [{name: db, id: db}]
files:
  - path: DIR/f
    contents: 'password {{ secret "db" }}'
    check: {command: [/bin/sh, -c, 'echo "it says: $(cat "$0")"; exit 1', "{}"], output: log}
`)
	log := &lockedLog{}
	b.a.log = slog.New(slog.NewTextHandler(log, nil))
	b.read(now("db", "v1", "canary-of-the-check"))
	b.pass(false)
	b.awaits()
	if got := log.String(); !strings.Contains(got, `output="it says: password [redacted]"`) || strings.Contains(got, "canary") {
		t.Errorf("logged:\n%s", got)
	}
	if held := b.a.outputs[0].gate.held; held == nil || strings.Contains(held.reason.Error(), "says") {
		t.Errorf("held: %v", held)
	}
}
