package files_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"secretsd/sinks/files"
)

// bundleModel is what should be in the directory of a bundle.
type bundleModel struct {
	shown     set  // nil: nothing was published
	backup    set  // nil: none
	anyBackup bool // what was kept after a restart may be what somebody changed
	drift     files.Change
	tampered  bool // so that what is there is no backup
	leftovers int
	foreign   map[string]bool
	now       time.Duration
	restarted bool // and nothing was looked at since
}

var modelPaths = []string{"a", "b", "c/x", "c/y/z", "d"}

func drawSet(t *rapid.T, full bool) set {
	s := set{}
	for _, path := range rapid.SliceOfDistinct(rapid.SampledFrom(modelPaths), rapid.ID).Draw(t, "paths") {
		s[path] = rapid.SampledFrom([]string{"", "1", "2", "a longer one"}).Draw(t, "content")
		if full {
			s[path] += strings.Repeat("x", rapid.SampledFrom([]int{0, 10_000, 50_000}).Draw(t, "bytes"))
		}
	}
	return s
}

func firstElements(s set) map[string]bool {
	names := map[string]bool{}
	for path := range s {
		name, _, _ := strings.Cut(path, "/")
		names[name] = true
	}
	return names
}

func (m *bundleModel) blocked(s set) bool {
	for name := range firstElements(s) {
		if m.foreign[name] {
			return true
		}
	}
	return false
}

// change returns what a Publish of s has to say.
func (m *bundleModel) change(s set) files.Change {
	if m.shown == nil || !maps.Equal(m.shown, s) {
		return files.Content
	}
	return m.drift
}

// published takes over a Publish that went well.
func (m *bundleModel) published(s set, change files.Change, backup bool) {
	switch {
	case !backup || m.shown == nil:
	case m.tampered && m.restarted:
		m.anyBackup = true
	case !m.tampered && !maps.Equal(m.shown, s):
		m.backup, m.anyBackup = m.shown, false
	}
	m.shown, m.drift, m.tampered, m.restarted = s, files.None, false, false
}

// Any sequence of publishes, crashes, restarts and things that others do leaves
// what the model says: whole generations, and nothing of anybody else touched.
func TestAnySequenceOfABundleAgainstAModel(t *testing.T) {
	checkBundles(t, memoryDir(t), false)
}

// So does one on a file system that is full now and then.
func TestAnySequenceOfABundleOnAFullDisk(t *testing.T) {
	onSmallTmpfs(t, "size=120k,mode=755", func(dir string) {
		if failed := checkBundles(t, dir, true); failed == 0 {
			t.Error("it was never full: the test shows nothing")
		}
	})
}

// checkBundles returns how many publishes there was no room for.
func checkBundles(t *testing.T, top string, full bool) (failed int) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(top, "")
		check(t, err)
		defer func() { check(t, os.RemoveAll(dir)) }()
		r := &bundleRun{dir: dir, full: full, spec: bundleSpec(dir), m: bundleModel{foreign: map[string]bool{}}}
		r.spec.Backup = rapid.Bool().Draw(t, "backup")
		r.open(t)
		defer func() { check(t, r.b.Close()) }()
		t.Repeat(r.actions())
		failed += r.failed
	})
	return failed
}

type bundleRun struct {
	dir  string
	full bool
	spec files.BundleSpec
	b    *files.Bundle
	m    bundleModel
	// failed counts the publishes that there was no room for.
	failed int
}

func (r *bundleRun) open(t *rapid.T) {
	b, err := files.New().OpenBundle(r.spec)
	check(t, err)
	r.b = b
}

func (r *bundleRun) path(elements ...string) string {
	return filepath.Join(append([]string{r.dir}, elements...)...)
}

func (r *bundleRun) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"publish":                    r.publish,
		"inspect":                    r.inspect,
		"collect":                    r.collect,
		"agent killed":               r.crash,
		"agent restarted":            r.restart,
		"others write":               r.write,
		"others change a mode":       r.chmod,
		"others remove a link":       r.unlink,
		"others remove all":          r.removeData,
		"others take a name":         r.take,
		"others give names back":     r.giveBack,
		"directory made anew":        r.makeAnew,
		"removed from configuration": r.remove,
		"":                           r.holds,
	}
}

func (r *bundleRun) publish(t *rapid.T) {
	s := drawSet(t, r.full)
	if rapid.Bool().Draw(t, "again") && r.m.shown != nil {
		s = r.m.shown
	}
	got, err := r.b.Publish(s.entries(), r.m.now)
	if r.m.blocked(s) {
		if err == nil || got != files.None || !strings.Contains(err.Error(), "somebody else's") {
			t.Fatalf("Publish over names of others did %v, %v", got, err)
		}
		return
	}
	if r.full && errors.Is(err, syscall.ENOSPC) && got == files.None {
		r.failed++
		return
	}
	check(t, err)
	if want := r.m.change(s); got != want {
		t.Fatalf("Publish did %v, want %v", got, want)
	}
	if got != files.None {
		r.m.published(s, got, r.spec.Backup)
	}
	if err := sameFiles(r.path("..data"), s); err != nil {
		t.Fatal(err)
	}
}

func (r *bundleRun) inspect(t *rapid.T) {
	s := drawSet(t, r.full)
	if r.m.blocked(s) {
		t.Skip()
	}
	got, err := r.b.Inspect(s.entries())
	check(t, err)
	if want := r.m.change(s); got != want {
		t.Fatalf("Inspect says %v, want %v", got, want)
	}
	if maps.Equal(r.m.shown, s) && r.m.shown != nil && !r.m.tampered {
		r.m.restarted = false // it was found right
	}
}

func (r *bundleRun) collect(t *rapid.T) {
	r.m.now += time.Duration(rapid.IntRange(0, 20).Draw(t, "seconds")) * time.Second
	_, _, err := r.b.Collect(r.m.now)
	check(t, err)
}

func (r *bundleRun) crash(t *rapid.T) {
	lay := map[string]func(string) error{
		"unfinished": func(p string) error { return errors.Join(os.Mkdir(p, 0o700), os.WriteFile(p+"/a", []byte("half"), 0)) },
		"generation": func(p string) error { return os.MkdirAll(p+"/c/y", 0o700) },
		"link":       func(p string) error { return os.Symlink("..data/a", p) },
	}
	key := rapid.SampledFrom(slices.Sorted(maps.Keys(lay))).Draw(t, "what")
	path := r.path(files.TempName(key))
	if err := lay[key](path); err != nil {
		_ = os.RemoveAll(path)
		return // full
	}
	if key == "generation" {
		return // its grace may not have ended
	}
	r.m.leftovers++
}

func (r *bundleRun) restart(t *rapid.T) {
	check(t, r.b.Close())
	r.open(t)
	n, err := r.b.Sweep(r.m.now)
	check(t, err)
	if n < r.m.leftovers {
		t.Fatalf("swept %d, want %d at least", n, r.m.leftovers)
	}
	r.m.now += time.Minute
	_, more, err := r.b.Collect(r.m.now)
	check(t, err)
	if more {
		t.Fatal("something is left to collect")
	}
	r.m.leftovers, r.m.restarted = 0, true
	entries, err := os.ReadDir(r.dir)
	check(t, err)
	dirs := 0
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), "..") {
			dirs++
		}
	}
	if dirs > 2 || dirs > 1 && !r.spec.Backup {
		t.Fatalf("%d generations after a restart", dirs)
	}
}

// file draws a published file that is still there.
func (r *bundleRun) file(t *rapid.T) (path, name string) {
	if len(r.m.shown) == 0 || r.m.tampered && r.m.drift == files.Content {
		t.Skip()
	}
	name = rapid.SampledFrom(slices.Sorted(maps.Keys(r.m.shown))).Draw(t, "file")
	return r.path("..data", name), name
}

func (r *bundleRun) write(t *rapid.T) {
	path, name := r.file(t)
	st, err := os.Stat(path)
	check(t, err)
	check(t, os.Chmod(path, 0o600))
	_ = os.WriteFile(path, []byte("theirs"+r.m.shown[name]), 0) // some of it, where there is no room
	check(t, os.Chmod(path, st.Mode()))
	if got, err := os.ReadFile(path); err == nil && string(got) == r.m.shown[name] {
		t.Skip() // an empty file, and no room for a byte more
	}
	r.m.drift, r.m.tampered = files.Content, true
}

func (r *bundleRun) chmod(t *rapid.T) {
	path, _ := r.file(t)
	check(t, os.Chmod(path, 0o444))
	r.m.drift, r.m.tampered = max(r.m.drift, files.Attributes), true
}

func (r *bundleRun) unlink(t *rapid.T) {
	names := slices.Sorted(maps.Keys(firstElements(r.m.shown)))
	names = slices.DeleteFunc(names, func(name string) bool { return r.m.foreign[name] })
	if len(names) == 0 {
		t.Skip()
	}
	name := rapid.SampledFrom(names).Draw(t, "name")
	if os.Remove(r.path(name)) != nil {
		t.Skip() // gone already
	}
	r.m.drift = files.Content
}

func (r *bundleRun) removeData(t *rapid.T) {
	generation := current(r.dir)
	if generation == "" {
		t.Skip()
	}
	check(t, os.RemoveAll(r.path(generation)))
	r.m.drift, r.m.tampered = files.Content, true
}

func (r *bundleRun) take(t *rapid.T) {
	name := rapid.SampledFrom([]string{"a", "c", "d"}).Draw(t, "name")
	if firstElements(r.m.shown)[name] {
		_ = os.Remove(r.path(name))
		r.m.drift = files.Content
	}
	if f, err := os.OpenFile(r.path(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err == nil {
		_ = f.Close()
		r.m.foreign[name] = true
	}
}

func (r *bundleRun) giveBack(t *rapid.T) {
	for name := range r.m.foreign {
		check(t, os.Remove(r.path(name)))
	}
	r.m.foreign = map[string]bool{}
}

func (r *bundleRun) makeAnew(t *rapid.T) {
	if r.full {
		t.Skip() // maybe in a user namespace, where / belongs to nobody it knows, and is not trusted
	}
	check(t, os.RemoveAll(r.dir))
	check(t, os.Mkdir(r.dir, 0o755))
	r.m = bundleModel{foreign: map[string]bool{}, now: r.m.now}
}

func (r *bundleRun) remove(t *rapid.T) {
	_, err := os.Lstat(r.path("..data"))
	kept, err2 := r.b.RemoveOurs("")
	check(t, err2)
	if kept {
		if err != nil {
			t.Fatal("nothing was kept")
		}
		if r.m.shown != nil && r.m.drift != files.Content && !r.m.restarted {
			t.Fatal("kept what is ours")
		}
		return
	}
	r.m = bundleModel{foreign: r.m.foreign, now: r.m.now}
	for _, name := range []string{"a", "b", "c", "d"} {
		if _, err := os.Lstat(r.path(name)); (err == nil) != r.m.foreign[name] {
			t.Fatalf("%s after all was removed: %v", name, err)
		}
	}
	if names, _ := filepath.Glob(r.path("..?*")); len(names) > 0 {
		t.Fatalf("%v after all was removed", names)
	}
}

// holds is what is true at any time.
func (r *bundleRun) holds(t *rapid.T) {
	for name := range r.m.foreign {
		if st, err := os.Lstat(r.path(name)); err != nil || !st.Mode().IsRegular() {
			t.Fatalf("%s of somebody else is gone: %v", name, err)
		}
	}
	if r.m.shown == nil {
		return
	}
	if r.m.drift != files.Content {
		for path, content := range r.m.shown {
			got, err := os.ReadFile(r.path(path))
			if err != nil || string(got) != content {
				t.Fatalf("%s is not what was published: %v", path, err)
			}
		}
		if err := sameFiles(r.path("..data"), r.m.shown); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.backedUp(); err != nil {
		t.Fatal(err)
	}
}

func (r *bundleRun) backedUp() error {
	if r.m.anyBackup {
		return nil
	}
	if r.m.backup != nil {
		return sameFiles(r.path("..backup"), r.m.backup)
	}
	if _, err := os.Lstat(r.path("..backup")); err == nil {
		return fmt.Errorf("there is a backup")
	}
	return nil
}
