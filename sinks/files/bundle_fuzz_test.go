package files_test

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"secretsd/sinks/files"
)

// Whatever paths there are, either all are refused without a trace, or each leads
// to its own content and nothing leads out of the directory.
func FuzzEntryPaths(f *testing.F) {
	for _, paths := range []string{
		"tls.crt|tls.key", "a|a/b", "a/b|a", "A|a", "../a", "a/../b", "..data", "a/..b", "/a", "", ".", "a//b", "a/", "a\x00", "a\xff", "é|É",
		"ſ|s|S", "K|k", "a/b/c|A/b/d", strings.Repeat("x", 256), strings.Repeat("a/", 300) + "a", "a\nb", " |\t", "...|....", ".a|.a/b", "ß|SS|ss",
		"..generation.0123456789abcdef.secretsd", "a-b/x|a/y|a.b", "\u0130|i\u0307",
	} {
		f.Add(paths)
	}
	top, err := os.MkdirTemp("/dev/shm", "secretsd-files-")
	if err != nil {
		top = f.TempDir()
	}
	f.Cleanup(func() { _ = os.RemoveAll(top) })
	f.Fuzz(func(t *testing.T, joined string) {
		outer, err := os.MkdirTemp(top, "")
		must(t, err)
		defer func() { _ = os.RemoveAll(outer) }()
		dir := filepath.Join(outer, "dir")
		must(t, os.Mkdir(dir, 0o700))
		s := bundleSpec(dir)
		s.AllowDisk = !strings.HasPrefix(top, "/dev/shm")
		b := openBundle(t, s)
		want, entries := set{}, []files.Entry{}
		for n, p := range strings.Split(joined, "|") {
			content := strings.Repeat("x", n)
			want[p] = content
			entries = append(entries, files.Entry{Path: p, Content: []byte(content), Mode: 0o400, UID: -1, GID: -1})
		}
		checked := files.CheckEntries(entries)
		change, err := b.Publish(entries, 0)
		contains(t, outer, "dir")
		if checked != nil {
			if err == nil || change != files.None {
				t.Fatalf("CheckEntries says %v, Publish did %v", checked, change)
			}
			contains(t, dir)
			return
		}
		for p := range want {
			if path.IsAbs(p) || strings.Contains("/"+p, "/..") || len(want) != len(entries) {
				t.Fatalf("%q was not refused", joined)
			}
		}
		if err != nil { // longer than a path may be
			refuses(t, err, "name too long", "")
			contains(t, dir)
			return
		}
		if err := shows(dir, want); err != nil {
			t.Fatal(err)
		}
		inspectEntries(t, b, entries, files.None)
		must(t, b.Remove())
		contains(t, dir)
	})
}
