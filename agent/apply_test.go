package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"secretsd/agent/config"
	"secretsd/agent/notify"
	"secretsd/agent/secret"
	"secretsd/agent/store"
)

// bench is an applier on real files, with a store that the test fills and a
// clock that it sets.
type bench struct {
	t    testing.TB
	dir  string
	st   *store.Store
	a    *applier
	plan *plan
	now  time.Duration
	told []string
	owed []string // what was owed, with the state of the files at that time
}

func newBench(t testing.TB, conf string) *bench {
	t.Helper()
	return newBenchIn(t, memoryDir(t), conf)
}

func newBenchIn(t testing.TB, dir, conf string) *bench {
	t.Helper()
	b := &bench{t: t, dir: dir, now: time.Hour}
	b.st = store.New(nil)
	b.a = newApplier(discard, func() time.Duration { return b.now })
	b.a.tell = func(target string, c notify.Change) {
		b.told = append(b.told, fmt.Sprintf("%s %s first=%v %s", target, c.Reason, c.First, b.short(c.Paths)))
	}
	b.a.owe = func(debts []notify.Debt) {
		for _, d := range debts {
			b.owed = append(b.owed, d.Target+" "+b.content(filepath.Base(d.Paths[0])))
		}
	}
	b.configure(conf)
	return b
}

func memoryDir(t testing.TB) string {
	t.Helper()
	parent := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		parent = "/dev/shm"
	}
	dir, err := os.MkdirTemp(parent, "secretsd-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (b *bench) configure(conf string) {
	b.t.Helper()
	b.use(b.parsed(conf))
}

func (b *bench) parsed(conf string) *plan {
	b.t.Helper()
	cfg, err := config.Parse(filepath.Join(b.dir, "agent.yaml"), []byte(strings.ReplaceAll(conf, "DIR", b.dir)))
	if err != nil {
		b.t.Fatal(err)
	}
	p, err := newPlan(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(p.close)
	return p
}

// use puts p in the place of what was configured.
func (b *bench) use(p *plan) {
	refs := map[string]secret.Ref{}
	for _, s := range p.secrets {
		refs[s.name] = s.ref
	}
	b.st.Configure(refs, func(string, store.Entry) bool { return true })
	b.plan = p
	b.a.configure(p)
}

// read enters secrets as one round; an empty version id is a failure.
func (b *bench) read(updates ...store.Update) {
	for i := range updates {
		e, _ := b.st.Snapshot().Get(updates[i].Name)
		updates[i].Ref = e.Ref
	}
	b.st.Put(updates)
}

func now(name, versionID, text string) store.Update {
	return store.Update{Name: name, Version: newVersion(secret.Current(name), versionID, text)}
}

func failing(name string, kind secret.Kind) store.Update {
	return store.Update{Name: name, Err: &secret.Error{Kind: kind, ID: name}}
}

// pass runs one pass and returns what was told.
func (b *bench) pass(heal bool) []string {
	b.told, b.owed = nil, nil
	b.a.pass(context.Background(), b.st.Snapshot(), heal)
	return b.told
}

func (b *bench) short(paths []string) string {
	var names []string
	for _, p := range paths {
		names = append(names, filepath.Base(p))
	}
	return strings.Join(names, ",")
}

func (b *bench) content(name string) string {
	data, err := os.ReadFile(filepath.Join(b.dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return "(absent)"
	}
	if errors.Is(err, syscall.EISDIR) {
		return "(directory)"
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return string(data)
}

func (b *bench) want(name, content string) {
	b.t.Helper()
	if got := b.content(name); got != content {
		b.t.Errorf("%s holds %q, want %q", name, got, content)
	}
}

func (b *bench) wantTold(got []string, want ...string) {
	b.t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		b.t.Errorf("told (-want +got):\n%s", diff)
	}
}

const twoFiles = `
secrets: [{name: a, id: a}, {name: b, id: b}]
files:
  - {path: DIR/one, contents: 'a={{ secret "a" }}', notify: [app]}
  - {path: DIR/two, contents: 'a={{ secret "a" }} b={{ secret "b" }}', notify: [app, hook]}
targets: [{name: app, process: {pid_file: DIR/pid}}, {name: hook, command: [/bin/true]}]
`

func TestOnePassTellsEachTargetOnce(t *testing.T) {
	b := newBench(t, twoFiles)
	b.read(now("a", "a1", "x"), now("b", "b1", "y"))
	b.wantTold(b.pass(false), "app start first=true one,two", "hook start first=true two")
	b.want("one", "a=x")
	b.want("two", "a=x b=y")
	b.wantTold(b.pass(false))
	b.read(now("a", "a2", "z"), now("b", "b1", "y"))
	b.wantTold(b.pass(false), "app change first=false one,two", "hook change first=false two")
	// What is owed is written down while the old files are still in place.
	if diff := cmp.Diff([]string{"app a=x", "hook a=x b=y"}, b.owed); diff != "" {
		t.Errorf("owed (-want +got):\n%s", diff)
	}
}

func TestUnchangedContentIsLeftAlone(t *testing.T) {
	b := newBench(t, twoFiles)
	b.read(now("a", "a1", "x"), now("b", "b1", "y"))
	b.pass(false)
	before, err := os.Stat(filepath.Join(b.dir, "one"))
	if err != nil {
		t.Fatal(err)
	}
	b.read(now("a", "a2", "x"), now("b", "b1", "y")) // another version, the same bytes
	b.wantTold(b.pass(false))
	after, err := os.Stat(filepath.Join(b.dir, "one"))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		t.Error("a file was rewritten though its content is the same")
	}
	// A restart finds the files right and tells nobody.
	again := newApplier(discard, func() time.Duration { return b.now })
	again.tell = b.a.tell
	b.a = again
	b.a.configure(b.plan)
	b.wantTold(b.pass(false))
}

func TestOnlyConcernedTemplatesRun(t *testing.T) {
	var conf strings.Builder
	conf.WriteString("secrets: [{name: hot, id: hot}, {name: cold, id: cold}]\nfiles:\n")
	for i := range 1000 {
		name := "cold"
		if i%100 == 0 {
			name = "hot"
		}
		fmt.Fprintf(&conf, "  - {path: DIR/f%d, contents: '%d {{ secret %q }}'}\n", i, i, name)
	}
	b := newBench(t, conf.String())
	b.read(now("hot", "h1", "x"), now("cold", "c1", "y"))
	b.pass(false)
	if b.a.counted.executions != 1000 {
		t.Fatalf("%d executions at the start", b.a.counted.executions)
	}
	b.read(now("hot", "h2", "z"))
	b.pass(false)
	if got := b.a.counted.executions - 1000; got != 10 {
		t.Errorf("%d executions for a secret that 10 templates use", got)
	}
	b.want("f100", "100 z")
	b.want("f101", "101 y")
}

func TestANameComputedAtRunTimeIsFollowed(t *testing.T) {
	b := newBench(t, `
secrets: [{name: which, id: which}, {name: a, id: a}, {name: b, id: b}]
files: [{path: DIR/f, contents: '{{ secret (secret "which") }}'}]
`)
	b.read(now("which", "w1", "a"), now("a", "a1", "x"), now("b", "b1", "y"))
	b.pass(false)
	b.want("f", "x")
	b.read(now("a", "a2", "xx"))
	b.pass(false)
	b.want("f", "xx")
	b.read(now("which", "w2", "b"))
	b.pass(false)
	b.want("f", "y")
	before := b.a.counted.executions
	b.read(now("a", "a3", "unused"))
	b.pass(false)
	if b.a.counted.executions != before {
		t.Error("the template ran for a secret it uses no more")
	}
	b.read(now("b", "b2", "yy"))
	b.pass(false)
	b.want("f", "yy")
}

func TestOneBadTemplateStopsNoOther(t *testing.T) {
	b := newBench(t, `
secrets: [{name: a, id: a}]
files:
  - {path: DIR/bad, contents: '{{ (secret "a").key }}', notify: [app]}
  - {path: DIR/good, contents: '{{ secret "a" }}', notify: [app]}
targets: [{name: app, process: {pid_file: DIR/pid}}]
`)
	b.read(now("a", "a1", `{"key":"one"}`))
	b.pass(false)
	b.want("bad", "one")
	b.read(now("a", "a2", `{"other":"two"}`))
	b.wantTold(b.pass(false), "app change first=false good")
	b.want("bad", "one")
	b.want("good", `{"other":"two"}`)
	if err := b.plan.outputs[0].err; err == nil || !strings.Contains(err.Error(), "key") || strings.Contains(err.Error(), "two") {
		t.Errorf("the bad file's error is %v", err)
	}
	// While it is degraded the last good content is kept right all the same.
	if err := os.Remove(filepath.Join(b.dir, "bad")); err != nil {
		t.Fatal(err)
	}
	b.wantTold(b.pass(true), "app heal first=false bad")
	b.want("bad", "one")
	b.read(now("a", "a3", `{"key":"three"}`))
	b.pass(false)
	b.want("bad", "three")
	if b.plan.outputs[0].err != nil {
		t.Error("the file is still degraded")
	}
}

func TestAFileWaitsForItsSecrets(t *testing.T) {
	b := newBench(t, twoFiles)
	if err := os.WriteFile(filepath.Join(b.dir, "two"), []byte("as found"), 0o400); err != nil {
		t.Fatal(err)
	}
	b.read(now("a", "a1", "x"), failing("b", secret.Denied))
	b.wantTold(b.pass(false), "app start first=true one")
	b.want("two", "as found")
	if b.a.counted.executions != 1 {
		t.Errorf("%d executions: a template whose secret was not read must not run", b.a.counted.executions)
	}
	b.read(now("b", "b1", "y"))
	b.wantTold(b.pass(false), "app start first=false two", "hook start first=false two")
	b.want("two", "a=x b=y")
}

func TestAnOptionalSecretMayBeAbsent(t *testing.T) {
	b := newBench(t, `
secrets: [{name: a, id: a}, {name: maybe, id: maybe, required: false}]
files:
  - {path: DIR/one, contents: '{{ secret "a" }}'}
  - {path: DIR/two, contents: '{{ secret "maybe" }}'}
`)
	b.read(now("a", "a1", "x"), failing("maybe", secret.Denied))
	b.pass(false)
	if b.plan.outputs[1].skipped {
		t.Error("a secret that is denied does not count as absent")
	}
	b.read(failing("maybe", secret.NotFound))
	b.pass(false)
	if !b.plan.outputs[1].skipped {
		t.Error("a secret that does not exist counts as absent")
	}
	b.read(now("maybe", "m1", "here"))
	b.pass(false)
	b.want("two", "here")
	if b.plan.outputs[1].skipped {
		t.Error("the file is there and counts as skipped")
	}
}

func TestHealing(t *testing.T) {
	b := newBench(t, twoFiles)
	b.read(now("a", "a1", "x"), now("b", "b1", "y"))
	b.pass(false)
	one := filepath.Join(b.dir, "one")
	b.wantTold(b.pass(true))

	if err := os.Chmod(one, 0o444); err != nil {
		t.Fatal(err)
	}
	b.wantTold(b.pass(true)) // mode is repaired and told to nobody
	if info, err := os.Stat(one); err != nil || info.Mode() != 0o400 {
		t.Errorf("the mode is %v", info.Mode())
	}
	spoil := func() {
		t.Helper()
		b.now += time.Second
		if err := errors.Join(os.Remove(one), os.WriteFile(one, []byte("spoilt"), 0o400)); err != nil {
			t.Fatal(err)
		}
	}
	spoil()
	b.wantTold(b.pass(true), "app heal first=false one")
	b.want("one", "a=x")
	spoil()
	b.wantTold(b.pass(true), "app heal first=false one")
	spoil()
	b.wantTold(b.pass(true)) // three repairs within ten minutes: left alone
	b.want("one", "spoilt")
	b.read(now("a", "a2", "z"), now("b", "b1", "y"))
	b.pass(false)
	b.want("one", "a=z") // a new version is published all the same
	spoil()
	b.now += 11 * time.Minute
	b.wantTold(b.pass(true), "app heal first=false one")
	b.want("one", "a=z")
}

func TestAFailedPublishIsTriedAgain(t *testing.T) {
	b := newBench(t, `
secrets: [{name: a, id: a}]
files: [{path: DIR/sub/f, contents: '{{ secret "a" }}', create_dirs: true, notify: [app]}]
targets: [{name: app, process: {pid_file: DIR/pid}}]
`)
	blocker := filepath.Join(b.dir, "sub")
	if err := os.WriteFile(blocker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.read(now("a", "a1", "x"))
	b.wantTold(b.pass(false))
	if b.plan.outputs[0].err == nil {
		t.Fatal("a directory that cannot be made is no error")
	}
	if at, ok := b.a.nextTry(); !ok || at <= b.now {
		t.Errorf("it is not tried again: %v %v", at, ok)
	}
	if err := os.Remove(blocker); err != nil {
		t.Fatal(err)
	}
	b.wantTold(b.pass(false)) // not before its time
	b.now += 2 * time.Second
	b.wantTold(b.pass(false), "app start first=true f")
	b.want("sub/f", "x")
}

func TestARecreatedFileIsNoFirstPublication(t *testing.T) {
	b := newBench(t, twoFiles)
	b.read(now("a", "a1", "x"), now("b", "b1", "y"))
	b.pass(false)
	if err := os.Remove(filepath.Join(b.dir, "one")); err != nil {
		t.Fatal(err)
	}
	b.read(now("a", "a2", "z"), now("b", "b1", "y"))
	b.wantTold(b.pass(false), "app change first=false one,two", "hook change first=false two")
}

func TestADegradedFileIsHealedAfterAReload(t *testing.T) {
	conf := `
secrets: [{name: a, id: a}]
files: [{path: DIR/f, contents: '{{ (secret "a").key }}'}]
`
	b := newBench(t, conf)
	b.read(now("a", "a1", `{"key":"one"}`))
	b.pass(false)
	b.read(now("a", "a2", `{"other":"two"}`))
	b.pass(false)
	b.configure(conf)
	b.pass(false)
	if err := os.Remove(filepath.Join(b.dir, "f")); err != nil {
		t.Fatal(err)
	}
	b.pass(true)
	b.want("f", "one")
}

func TestAComputedNameWaitsForItsSecret(t *testing.T) {
	b := newBench(t, `
secrets: [{name: a, id: a}, {name: maybe, id: maybe, required: false}]
files: [{path: DIR/f, contents: '{{ range list "a" "maybe" }}{{ secret . }}{{ end }}'}]
`)
	b.read(now("a", "a1", "x"), failing("maybe", secret.NotFound))
	b.pass(false)
	if o := b.plan.outputs[0]; !o.skipped || o.err != nil || o.waiting != "maybe" {
		t.Errorf("the file is %+v", o)
	}
	b.read(now("maybe", "m1", "y"))
	b.pass(false)
	b.want("f", "xy")
}

func TestAReloadTellsOfChangedTemplates(t *testing.T) {
	b := newBench(t, twoFiles)
	b.read(now("a", "a1", "x"), now("b", "b1", "y"))
	b.pass(false)
	b.configure(strings.ReplaceAll(twoFiles, "a={{", "A={{"))
	b.wantTold(b.pass(false), "app change first=false one,two", "hook change first=false two")
	b.want("one", "A=x")
}

// BenchmarkOneOfThousand is the cost of one changed secret among 1,000
// templates, ten of which use it, from the version in the store to the renamed
// files and the targets told.
func BenchmarkOneOfThousand(b *testing.B) {
	var conf strings.Builder
	conf.WriteString("secrets: [{name: hot, id: hot}, {name: cold, id: cold}]\nfiles:\n")
	for i := range 1000 {
		name := "cold"
		if i%100 == 0 {
			name = "hot"
		}
		fmt.Fprintf(&conf, "  - {path: DIR/f%d, contents: '%d {{ secret %q }}', notify: [app]}\n", i, i, name)
	}
	conf.WriteString("targets: [{name: app, process: {pid_file: DIR/pid}}]\n")
	x := newBench(b, conf.String())
	x.read(now("hot", "h", "x"), now("cold", "c", "y"))
	x.pass(false)
	before := x.a.counted.executions
	n := 0
	for b.Loop() {
		n++
		x.read(now("hot", fmt.Sprint(n), fmt.Sprint(n)))
		x.pass(false)
	}
	b.ReportMetric(float64(x.a.counted.executions-before)/float64(n), "executions/op")
}
