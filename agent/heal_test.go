package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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
