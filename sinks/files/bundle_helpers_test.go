package files_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"secretsd/sinks/files"
)

// set is the content of a bundle: what its files hold, by their paths.
type set map[string]string

func (s set) entries() []files.Entry {
	var all []files.Entry
	for _, path := range slices.Sorted(maps.Keys(s)) {
		all = append(all, files.Entry{Path: path, Content: []byte(s[path]), Mode: 0o400, UID: -1, GID: -1})
	}
	return all
}

func bundleSpec(dir string) files.BundleSpec {
	return files.BundleSpec{Dir: dir, Mode: 0o700, UID: -1, GID: -1, Grace: 10 * time.Second}
}

func openBundle(t testing.TB, s files.BundleSpec) *files.Bundle {
	t.Helper()
	b, err := files.New().OpenBundle(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func publishSet(t testing.TB, b *files.Bundle, s set, want files.Change) {
	t.Helper()
	publishEntries(t, b, s.entries(), want)
	if err := shows(b.Dir(), s); err != nil {
		t.Fatal(err)
	}
}

func publishEntries(t testing.TB, b *files.Bundle, entries []files.Entry, want files.Change) {
	t.Helper()
	inspectEntries(t, b, entries, want)
	got, err := b.Publish(entries, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("Publish did %v, want %v", got, want)
	}
	inspectEntries(t, b, entries, files.None)
}

func inspectEntries(t testing.TB, b *files.Bundle, entries []files.Entry, want files.Change) {
	t.Helper()
	got, err := b.Inspect(entries)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("Inspect says %v, want %v", got, want)
	}
}

// shows checks that dir shows the files of s, each through a link, and leads to
// no others.
func shows(dir string, s set) error {
	want := map[string]bool{}
	for path, content := range s {
		name, _, _ := strings.Cut(path, "/")
		want[name] = true
		got, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			return err
		}
		if string(got) != content {
			return fmt.Errorf("%s does not hold what was published", path)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil || strings.HasPrefix(e.Name(), "..") {
			continue
		}
		if target != "..data/"+e.Name() || !want[e.Name()] {
			return fmt.Errorf("there is a link %s to %s", e.Name(), target)
		}
		delete(want, e.Name())
	}
	if len(want) > 0 {
		return fmt.Errorf("no links for %v", want)
	}
	return sameFiles(filepath.Join(dir, "..data"), s)
}

// sameFiles checks that below dir there are the files of s and no others.
func sameFiles(dir string, s set) error {
	found, err := readSet(dir)
	if err != nil {
		return err
	}
	if diff := cmp.Diff(s, found); diff != "" {
		return fmt.Errorf("%s (-want +got):\n%s", dir, diff)
	}
	return nil
}

// readSet reads all that is below dir, resolved once.
func readSet(dir string) (set, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	found := set{}
	err = fs.WalkDir(root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := root.ReadFile(path)
		found[path] = string(content)
		return err
	})
	return found, err
}

// generations returns the names of the directories in dir that begin with "..",
// the current one first.
func generations(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	current, _ := os.Readlink(filepath.Join(dir, "..data"))
	all := []string{}
	for _, e := range entries {
		switch {
		case !strings.HasPrefix(e.Name(), "..") || !e.IsDir():
		case e.Name() == current:
			all = slices.Insert(all, 0, e.Name())
		default:
			all = append(all, e.Name())
		}
	}
	return all
}

// dotted returns how many names in dir begin with "..".
func dotted(t testing.TB, dir string) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "..?*"))
	must(t, err)
	return len(names)
}

func collect(t testing.TB, b *files.Bundle, now time.Duration) (time.Duration, bool) {
	t.Helper()
	next, more, err := b.Collect(now)
	must(t, err)
	return next, more
}

// openBundleAfter closes b, as a reload or restart does, and opens the directory
// anew.
func openBundleAfter(t testing.TB, b *files.Bundle, s files.BundleSpec) *files.Bundle {
	t.Helper()
	must(t, b.Close())
	return openBundle(t, s)
}
