package agent

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"secretsd/agent/notify"
	"secretsd/sinks/files"
)

// afterwards runs an agent after k, with a configuration, in which the same is held.
func (k *keeper) afterwards(conf string) *keeper {
	next := k.killed(conf)
	for _, heal := range []bool{false, true} {
		next.read(now("db", "d2", "bad"), unexpectedly("ex", "e2"))
		next.pass(heal)
	}
	return next
}

// TestABundleThatIsNotFoundByItsNamesIsNotInPlace after a restart, though its generation
// is what it was.
func TestABundleThatIsNotFoundByItsNamesIsNotInPlace(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"none":         func(string) error { return nil },
		"a file":       func(path string) error { return os.WriteFile(path, []byte("evil"), 0o600) },
		"another link": func(path string) error { return os.Symlink("/dev/null", path) },
	} {
		t.Run(name, func(t *testing.T) {
			k := heldAll(t)
			link := filepath.Join(k.dir, "b/x")
			must(t, os.Remove(link))
			must(t, change(link))
			next := k.afterwards(placedConf)
			if next.a.outputs[3].inPlace || next.plan.isKept("ex") {
				t.Errorf("the bundle is in place: %s", next.states())
			}
		})
	}
	k := heldAll(t)
	next := k.afterwards(strings.Replace(placedConf, "files: [{path: x,", "files: [{path: fresh, contents: 'a'}, {path: x,", 1))
	if next.a.outputs[3].inPlace {
		t.Errorf("a bundle without one of its files is in place: %s", next.states())
	}
}

// TestAFileOfAnotherSecretIsNotWhatIsKept, nor one that was written to with its time put
// back.
func TestAFileOfAnotherSecretIsNotWhatIsKept(t *testing.T) {
	k := heldAll(t)
	next := k.afterwards(strings.Replace(placedConf, `checked, contents: '{{ secret "db" }}', check: {command: [/bin/sh, -c, '! grep -q bad "$0"', "{}"]}`, `checked, contents: '{{ secret "ex" }}'`, 1))
	if o := next.a.outputs[0]; o.inPlace {
		t.Errorf("a file of another secret is in place: %s", next.states())
	}

	k = heldAll(t)
	next = k.afterwards(strings.Replace(placedConf, "{name: ex, id: ex,", "{name: ex, id: another,", 1))
	if next.a.outputs[2].inPlace || next.a.outputs[3].inPlace || next.plan.isKept("ex") {
		t.Errorf("files of what the name meant before are in place: %s", next.states())
	}

	k = heldAll(t)
	path := filepath.Join(k.dir, "checked")
	st, err := os.Stat(path)
	must(t, err)
	must(t, os.Chmod(path, 0o600))
	must(t, os.WriteFile(path, []byte("evil and longer"), 0))
	must(t, os.Chtimes(path, st.ModTime(), st.ModTime()))
	if next := k.afterwards(placedConf); next.a.outputs[0].inPlace {
		t.Errorf("a file that was written to is in place: %s", next.states())
	}
}

// TestAForeignFileIsNotWhatARollbackLeft.
func TestAForeignFileIsNotWhatARollbackLeft(t *testing.T) {
	conf := "secrets: [{name: db, id: db}]\nfiles: [{path: DIR/f, contents: '{{ secret \"db\" }}'}]\n"
	for name, foreign := range map[string]bool{"ours": false, "foreign": true} {
		t.Run(name, func(t *testing.T) {
			k := newKeeper(t, memoryDir(t), conf)
			k.read(now("db", "d1", "good"))
			k.pass(false)
			k.a.noteAll()
			o, back := k.a.outputs[0], []notify.SecretVersion{{Name: "db", VersionID: "d2"}}
			k.held = append(k.held, heldState{Path: o.path, Versions: back, Taken: back, Source: hex.EncodeToString(o.source[:]), Reason: "r", RolledBack: true})
			if foreign {
				must(t, os.Remove(o.path))
				must(t, os.WriteFile(o.path, []byte("evil"), 0o600))
			}
			next := k.killed(conf)
			for i := range 3 {
				next.read(now("db", "d2", "bad"))
				next.pass(i > 0)
				if got := next.a.outputs[0].inPlace; got == foreign {
					t.Errorf("pass %d: in place: %t", i, got)
				}
			}
		})
	}
}

// blinkered is a file that cannot be looked at the first time.
type blinkered struct {
	outputTrace
	looked bool
}

func (b *blinkered) recollect(m files.Mark) ([]piece, bool, error) {
	if !b.looked {
		b.looked = true
		return nil, false, errors.New("too many open files")
	}
	return b.outputTrace.recollect(m)
}

// TestWhatCannotBeSeenIsLookedAtAgain.
func TestWhatCannotBeSeenIsLookedAtAgain(t *testing.T) {
	k := heldAll(t)
	next := k.killed(placedConf)
	o := next.a.outputs[2]
	o.trace = &blinkered{outputTrace: o.trace}
	for i := range 4 {
		next.read(now("db", "d2", "bad"), unexpectedly("ex", "e2"))
		next.now += time.Minute
		next.pass(i%2 == 1)
	}
	if !o.inPlace || !next.plan.isKept("ex") {
		t.Errorf("the states are %s", next.states())
	}
}
