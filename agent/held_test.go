package agent

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"secretsd/templates"
)

// A version that can be rendered, and not be published, is what the output is about by
// then, and not one before it that was held.
func TestWhatCannotBePublishedTakesThePlaceOfWhatWasHeld(t *testing.T) {
	b := newBench(t, `
secrets: [{name: db, id: db}]
bundles: [{dir: DIR/b, create_dirs: true, explode: db}]
`)
	o := b.a.outputs[0]
	b.read(now("db", "v1", `{"a": "one"}`))
	b.pass(false)
	b.read(now("db", "v2", `{"a/b": "two"}`))
	b.pass(false)
	if st := o.status(b.now, time.Now()); st.State != FileHeld || len(st.Held) != 1 || st.Held[0].VersionID != "v2" {
		t.Fatalf("the status is %+v", st)
	}
	data := filepath.Join(b.dir, "b", "..data")
	if err := errors.Join(os.Remove(data), os.Symlink("elsewhere", data)); err != nil {
		t.Fatal(err)
	}
	// What keeps the old from being put right says nothing of what is held.
	b.pass(true)
	if st := o.status(b.now, time.Now()); st.State != FileHeld {
		t.Errorf("after a repair that failed the status is %+v", st)
	}
	b.read(now("db", "v3", `{"a": "three"}`))
	b.now += time.Minute
	b.pass(false)
	if st := o.status(b.now, time.Now()); st.State != FileDegraded || len(st.Held) != 0 || !strings.Contains(st.Error, "no generation of ours") {
		t.Errorf("the status is %+v", st)
	}
}

// Keys that cannot be the names of the bundle's files are a fault of the version, which
// no other try mends.
func TestNamesThatCannotBeAreHeld(t *testing.T) {
	const conf = `
secrets: [{name: db, id: db}]
bundles: [{dir: DIR/b, create_dirs: true, files: [{path: own, contents: x}], explode: db}]
`
	for name, row := range map[string]struct{ value, reason string }{
		"differ in case":        {`{"Token": "1", "token": "2"}`, `it collides with "Token"`},
		"control character":     {`{"new\nline": "1"}`, `use path "new\nline": it has control characters`},
		"file of the bundle":    {`{"own": "1"}`, `it collides with "own"`},
		"slash":                 {`{"a/b": "1"}`, `its key "a/b" cannot be a file name`},
		"parent":                {`{"..": "1"}`, `its key ".." cannot be a file name`},
		"empty":                 {`{"": "1"}`, `its key "" cannot be a file name`},
		"file but for the case": {`{"OWN": "1"}`, `it collides with "own"`},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, conf)
			o := b.a.outputs[0]
			b.read(now("db", "v1", `{"a": "one"}`))
			b.pass(false)
			b.read(now("db", "v2", row.value))
			b.pass(false)
			b.want("b/a", "one")
			st := o.status(b.now, time.Now())
			if st.State != FileHeld || len(st.Held) != 1 || st.Held[0].VersionID != "v2" || !strings.Contains(st.Error, row.reason) {
				t.Errorf("the status is %+v", st)
			}
			if at, ok := b.a.nextTry(); ok {
				t.Errorf("the same is tried again at %v", at)
			}
			var p Preview
			f := p.preview(o, rendering{templates.NewPass(lookup(b.st.Snapshot())), lookup(b.st.Snapshot())}, b.st.Snapshot(), nil, false)
			if f.Outcome != "failed" || !strings.Contains(f.Error, row.reason) {
				t.Errorf("the preview is %+v", f)
			}
			b.read(now("db", "v3", `{"a": "three"}`))
			b.pass(false)
			b.want("b/a", "three")
		})
	}
}

// The log names the version that is held, whatever holds it, and says so of each version
// once.
func TestTheLogNamesTheVersionThatIsHeld(t *testing.T) {
	b := newBench(t, `
secrets: [{name: db, id: db}]
files:
  - {path: DIR/fail, contents: '{{ if ne (secret "db").kind "good" }}{{ fail "bad kind" }}{{ end }}'}
  - {path: DIR/key, contents: '{{ (secret "db").key }}'}
bundles: [{dir: DIR/b, create_dirs: true, explode: db}]
`)
	log := &lockedLog{}
	b.a.log = slog.New(slog.NewTextHandler(log, nil))
	b.read(now("db", "v1", `{"kind": "good", "key": "k"}`))
	b.pass(false)
	for _, id := range []string{"v2", "v3"} {
		b.read(now("db", id, `{"kind": "bad", "a/b": "x"}`))
		b.pass(false)
		b.a.outputs[0].dirty, b.a.outputs[1].dirty, b.a.outputs[2].dirty = true, true, true
		b.now += time.Hour
		b.pass(false)
		for _, name := range []string{"fail", "key", "b"} {
			line := `msg="cannot render new content, keeping what is published" path=` + filepath.Join(b.dir, name) + ` versions="[{Name:db VersionID:` + id + `}]" error=`
			if n := strings.Count(log.String(), line); n != 1 {
				t.Errorf("%d lines %s", n, line)
			}
		}
	}
	if t.Failed() {
		t.Log(log.String())
	}
}
