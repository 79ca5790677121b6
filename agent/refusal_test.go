package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"secretsd/agent/secret"
)

// refusedFiles are rolled back from a2 to a1: one has its secret alone, two another
// one beside it.
const refusedFiles = `
source: {local: {}}
secrets: [{name: a, id: a}, {name: b, id: b}]
files:
  - {path: DIR/one, contents: 'one {{ secret "a" }}', notify: [app]}
  - {path: DIR/two, contents: 'two {{ secret "a" }} {{ secret "b" }}', notify: [app]}
targets: [{name: app, process: {pid_file: DIR/pid}, confirm: {tcp: "127.0.0.1:1"}, rollback: true}]
`

func newRefused(t *testing.T) (r *rolling, noted *[]heldState) {
	r, noted = newRolling(t, refusedFiles), new([]heldState)
	r.a.remember = func(held []heldState) { *noted = held }
	r.read(now("a", "a1", "1"), now("b", "b1", "1"))
	r.pass(false)
	r.confirms("app")
	r.read(now("a", "a2", "2"))
	r.pass(false)
	r.rejects("app")
	r.wantFiles("one 1", "two 1 1")
	return r, noted
}

func (r *rolling) wantFiles(one, two string) {
	r.t.Helper()
	r.want("one", one)
	r.want("two", two)
}

// states returns those that status shows of the files.
func (r *rolling) states() string {
	var list []string
	for _, o := range r.a.outputs {
		list = append(list, o.status(r.now, time.Now()).State)
	}
	return strings.Join(list, " ")
}

// What was rolled back is not used in any content, and what else there is goes on
// changing.
func TestOtherSecretsGoOnAfterARollback(t *testing.T) {
	r, noted := newRefused(t)
	r.read(now("b", "b2", "2"))
	r.wantTold(r.pass(false), "app change two of a1,b2")
	r.wantFiles("one 1", "two 1 2")
	if got := r.states(); got != "held held" || len(*noted) != 2 {
		t.Errorf("the files are %s, and written down as held %v", got, *noted)
	}
	r.wantTold(r.rejects("app"), "app rollback two of a1,b1") // b2 was not confirmed either
	r.wantFiles("one 1", "two 1 1")
	r.reload(refusedFiles)
	r.pass(true)
	r.wantFiles("one 1", "two 1 1")
	r.read(now("a", "a3", "3"))
	r.wantTold(r.pass(false), "app change one,two of a3,b1")
	r.wantFiles("one 3", "two 3 1")
	r.read(now("b", "b3", "3"))
	r.pass(false)
	r.wantFiles("one 3", "two 3 3")
	if got := r.states(); got != "in_place in_place" || len(*noted) != 0 {
		t.Errorf("the files are %s, and written down as held %v", got, *noted)
	}
}

// A template that was changed for what was refused has it tried again, in all files:
// one of them alone would be a mixture.
func TestAChangedTemplateForgivesAllFiles(t *testing.T) {
	r, _ := newRefused(t)
	r.reload(strings.ReplaceAll(refusedFiles, "'one {{", "'new {{"))
	r.wantFiles("new 2", "two 2 1")
	if got := r.states(); got != "in_place in_place" {
		t.Errorf("the files are %s", got)
	}
	r.wantTold(r.rejects("app"), "app rollback one,two of a1,b1")
	r.wantFiles("one 1", "two 1 1")
}

func TestATemplateFileForgivesAllFiles(t *testing.T) {
	conf := strings.ReplaceAll(refusedFiles, `contents: 'one {{ secret "a" }}'`, "template: DIR/tmpl")
	dir := memoryDir(t)
	must(t, os.WriteFile(filepath.Join(dir, "tmpl"), []byte(`one {{ secret "a" }}`), 0o600))
	r := newRollingIn(t, dir, conf)
	r.read(now("a", "a1", "1"), now("b", "b1", "1"))
	r.pass(false)
	r.confirms("app")
	r.read(now("a", "a2", "2"))
	r.pass(false)
	r.rejects("app")
	r.wantFiles("one 1", "two 1 1")
	r.write("tmpl", `new {{ secret "a" }}`)
	r.a.retemplate()
	r.pass(false)
	r.wantFiles("new 2", "two 2 1")
}

// restarted is an agent that finds what r has left.
func (r *rolling) restarted(t *testing.T, conf string, noted []heldState) *rolling {
	next := &rolling{bench: newBenchIn(t, r.dir, conf), last: r.last, log: r.log}
	next.a.recall(noted)
	next.read(now("a", "a2", "2"), now("b", "b1", "1"))
	next.pass(false)
	return next
}

func TestARestartKeepsWhatWasRolledBack(t *testing.T) {
	r, noted := newRefused(t)
	next := r.restarted(t, refusedFiles, *noted)
	next.wantFiles("one 1", "two 1 1")
	if got := next.states(); got != "held held" {
		t.Errorf("the files are %s", got)
	}
	// The value to go on with is forgotten, so that what was refused is tried again, in
	// all files, rather than that another secret is not followed.
	next.read(now("b", "b2", "2"))
	next.pass(false)
	next.wantFiles("one 2", "two 2 2")
	// Other templates have it tried again, in all files.
	r, noted = newRefused(t)
	next = r.restarted(t, strings.ReplaceAll(refusedFiles, "'one {{", "'new {{"), *noted)
	next.wantFiles("new 2", "two 2 1")
}

// A rollback of what came because a secret was gone has no version to refuse, and is
// not undone by the next pass either.
func TestARollbackToASecretThatIsGone(t *testing.T) {
	const conf = `
source: {local: {}}
secrets: [{name: a, id: a}, {name: more, id: more, required: false}]
files: [{path: DIR/one, contents: '{{ secret "a" }}{{ if has "more" }} {{ secret "more" }}{{ end }}', notify: [app]}]
targets: [{name: app, process: {pid_file: DIR/pid}, confirm: {tcp: "127.0.0.1:1"}, rollback: true}]
`
	r := newRolling(t, conf)
	r.read(now("a", "a1", "1"), now("more", "m1", "more"))
	r.pass(false)
	r.confirms("app")
	gone := failing("more", secret.NotFound)
	gone.Drop = true
	r.read(gone)
	r.pass(false)
	r.want("one", "1")
	r.wantTold(r.rejects("app"), "app rollback one of a1,m1")
	for range 3 {
		r.reload(conf)
		r.wantTold(r.pass(true))
	}
	r.want("one", "1 more")
	r.read(now("a", "a2", "2"))
	r.wantTold(r.pass(false), "app change one of a2")
}
