package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"secretsd/agent/secret"
)

// healed has somebody spoil the file f, and wants it put right as it was.
func (b *bench) healed(want string) {
	b.t.Helper()
	if err := os.Remove(filepath.Join(b.dir, "f")); err != nil {
		b.t.Fatal(err)
	}
	b.pass(true)
	b.want("f", want)
}

// A template that was changed for the worse has the last good content kept right,
// whichever way it has changed.
func TestAChangedTemplateThatFailsLeavesTheFileToHealing(t *testing.T) {
	const conf = `
source: {local: {}}
secrets: [{name: a, id: a}, {name: b, id: b}]
files: [{path: DIR/f, template: DIR/tmpl, notify: [app]}]
targets: [{name: app, process: {pid_file: DIR/pid}}]
`
	for name, change := range map[string]func(b *bench, text string){
		"alone":       func(b *bench, _ string) { b.a.retemplate() },
		"by a reload": func(b *bench, _ string) { b.configure(conf) },
		"with its text in the configuration": func(b *bench, text string) {
			b.configure(strings.ReplaceAll(conf, "template: DIR/tmpl", "contents: '"+text+"'"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newTemplated(t, conf)
			for _, broken := range []string{`{{ (secret "a").missing }}`, `{{ secret "b" }}`} {
				b.write("tmpl", broken)
				change(b, broken)
				b.wantTold(b.pass(false))
				b.want("f", "one")
				b.healed("one")
			}
			b.read(now("b", "b1", "two"))
			b.pass(false)
			b.want("f", "two")
			b.healed("two")
		})
	}
}

// newTemplated is a bench whose file was rendered by the template in tmpl.
func newTemplated(t *testing.T, conf string) *bench {
	dir := memoryDir(t)
	if err := os.WriteFile(filepath.Join(dir, "tmpl"), []byte(`{{ (secret "a").key }}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBenchIn(t, dir, conf)
	b.read(now("a", "a1", `{"key": "one"}`))
	b.pass(false)
	b.want("f", "one")
	return b
}

// A file that waits for a secret of it again is kept as it was meanwhile.
func TestAFileThatWaitsAgainIsHealed(t *testing.T) {
	b := newBench(t, `
source: {local: {}}
secrets: [{name: a, id: a}, {name: b, id: b}]
files: [{path: DIR/f, contents: '{{ secret "a" }} {{ secret "b" }}'}]
`)
	b.read(now("a", "a1", "1"), now("b", "b1", "1"))
	b.pass(false)
	gone := failing("b", secret.Denied)
	gone.Drop = true
	b.read(now("a", "a2", "2"), gone)
	b.pass(false)
	if b.a.outputs[0].waiting != "b" {
		t.Fatal("it does not wait")
	}
	b.healed("1 1")
}

// An output that could not be published, and whose secret has gone since, waits for
// the secret and not for a time that has passed, for which the agent would never rest.
func TestWhatWaitsForASecretIsNotTriedByTheClock(t *testing.T) {
	b := newBench(t, `
source: {local: {}}
secrets: [{name: a, id: a}]
files: [{path: DIR/f, contents: '{{ secret "a" }}'}]
`)
	b.read(now("a", "a1", "1"))
	b.pass(false)
	f := filepath.Join(b.dir, "f")
	if err := errors.Join(os.Remove(f), os.Mkdir(f, 0o700)); err != nil {
		t.Fatal(err)
	}
	b.read(now("a", "a2", "2"))
	b.pass(false)
	if b.a.outputs[0].err == nil {
		t.Fatal("a directory in the way is no trouble")
	}
	gone := failing("a", secret.Denied)
	gone.Drop = true
	b.read(gone)
	b.now += time.Minute
	b.pass(false)
	if at, ok := b.a.nextTry(); ok && at <= b.now {
		t.Errorf("it is to be tried %s ago", b.now-at)
	}
	if err := os.Remove(f); err != nil {
		t.Fatal(err)
	}
	b.read(now("a", "a3", "3"))
	b.pass(false)
	b.want("f", "3")
	if b.a.outputs[0].err != nil {
		t.Error("it is still degraded")
	}
}

// A secret that has lost all its keys takes no file away.
func TestAnEmptyObjectEmptiesNoBundle(t *testing.T) {
	b := newBench(t, `
source: {local: {}}
secrets: [{name: a, id: a}]
bundles: [{dir: DIR/x, create_dirs: true, explode: a}]
`)
	b.read(now("a", "a1", `{"user": "1", "pw": "2"}`))
	b.pass(false)
	b.read(now("a", "a2", `{}`))
	b.pass(false)
	b.want("x/user", "1")
	if o := b.a.outputs[0]; o.err == nil || hintOf(o.err) == "" {
		t.Errorf("the error is %v", o.err)
	}
	b.read(now("a", "a3", `{"user": "3"}`))
	b.pass(false)
	b.want("x/user", "3")
	b.want("x/pw", "(absent)")
}

// A child is not restarted for a file that is put right, though its template has become
// another one since; but for the content of the new template it is.
func TestHealingConcernsNoChild(t *testing.T) {
	const conf = `
source: {local: {}}
secrets: [{name: a, id: a}]
files: [{path: DIR/f, template: DIR/tmpl}]
`
	b := newTemplated(t, conf)
	c := newSupervised(discard, ChildOptions{})
	b.a.published = c.published
	b.write("tmpl", `{{ (secret "a").missing }}`)
	b.configure(conf)
	b.pass(false)
	b.healed("one")
	if len(c.touched) > 0 {
		t.Error("a repair concerns the child")
	}
	b.write("tmpl", `new {{ (secret "a").key }}`)
	b.configure(conf)
	b.pass(false)
	b.want("f", "new one")
	if len(c.touched) == 0 {
		t.Error("another template does not concern the child")
	}
}
