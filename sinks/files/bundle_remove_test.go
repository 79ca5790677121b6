package files_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"secretsd/sinks/files"
)

func TestBackupOfABundle(t *testing.T) {
	dir := memoryDir(t)
	s := bundleSpec(dir)
	s.Backup = true
	b := openBundle(t, s)
	backup := filepath.Join(dir, "..backup")
	var now time.Duration
	put := func(c set, want files.Change) {
		t.Helper()
		inspectEntries(t, b, c.entries(), want)
		got, err := b.Publish(c.entries(), now)
		must(t, err)
		if got != want {
			t.Fatalf("Publish did %v, want %v", got, want)
		}
		now += time.Minute
		collect(t, b, now)
		if err := shows(dir, c); err != nil {
			t.Fatal(err)
		}
	}
	first, second, third := pair, set{"tls.crt": "2", "tls.key": "2"}, set{"tls.crt": "3"}
	backed := func(want set) {
		t.Helper()
		if err := sameFiles(backup, want); err != nil {
			t.Error(err)
		}
		if got := generations(t, dir); len(got) != 2 {
			t.Errorf("%v is there", got)
		}
	}
	put(first, files.Content)
	if _, err := os.Lstat(backup); !os.IsNotExist(err) {
		t.Errorf("a backup of nothing: %v", err)
	}
	generation := current(dir)
	put(second, files.Content)
	backed(first)
	if target, _ := os.Readlink(backup); target != generation {
		t.Error("the backup is a copy")
	}

	key := filepath.Join(dir, "..data", "tls.key")
	must(t, os.Chmod(key, 0o444))
	put(second, files.Attributes)
	must(t, os.Chmod(key, 0o600))
	must(t, os.WriteFile(key, []byte("theirs"), 0))
	put(second, files.Content)
	must(t, os.Remove(filepath.Join(dir, "tls.key")))
	put(second, files.Content)
	must(t, os.RemoveAll(filepath.Join(dir, current(dir))))
	put(second, files.Content)
	backed(first)

	must(t, os.Chmod(key, 0o600))
	must(t, os.WriteFile(key, []byte("theirs"), 0))
	must(t, os.Chmod(key, 0o400))
	put(third, files.Content)
	backed(first)
	put(second, files.Content)
	backed(third)
	b = openBundleAfter(t, b, s) // after a restart
	if n, err := b.Sweep(now); n != 0 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	put(first, files.Content)
	backed(second)

	// The option goes.
	s.Backup, s.Grace = false, 0
	b = openBundleAfter(t, b, s)
	if n, err := b.Sweep(now); n != 2 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	put(first, files.None)
	if got := generations(t, dir); len(got) != 1 || dotted(t, dir) != 2 {
		t.Errorf("%v is there", got)
	}
}

func TestRemovingABundle(t *testing.T) {
	s := set{"tls.crt": "certificate", "tls.key": canary, "sub/x": "x"}
	key := func(dir string) string { return filepath.Join(dir, "..data", "tls.key") }
	rows := map[string]struct {
		before    func(dir string) error
		kept      bool // by the process that published
		keptLater bool // by the next, that has the mark
	}{
		"as it was": {before: func(string) error { return nil }},
		"link gone": {before: func(dir string) error { return os.Remove(filepath.Join(dir, "tls.key")) }},
		"data gone": {before: func(dir string) error { return os.Remove(filepath.Join(dir, "..data")) }},
		"emptied":   {before: func(dir string) error { return os.RemoveAll(filepath.Join(dir, current(dir))) }},
		"mode":      {before: func(dir string) error { return os.Chmod(key(dir), 0o444) }, keptLater: true},
		"content": {before: func(dir string) error {
			_ = os.Chmod(key(dir), 0o600)
			return os.WriteFile(key(dir), []byte("other-hunter2!"), 0)
		}, kept: true, keptLater: true},
		"file gone":  {before: func(dir string) error { return os.Remove(key(dir)) }, kept: true, keptLater: true},
		"file added": {before: func(dir string) error { return os.WriteFile(filepath.Join(dir, "sub", "y"), nil, 0o600) }, kept: true, keptLater: true},
		"link added": {before: func(dir string) error { return os.Symlink("x", filepath.Join(dir, "sub", "y")) }, kept: true, keptLater: true},
	}
	for name, row := range rows {
		for _, restarted := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				dir := memoryDir(t)
				theirs := layBundleBystanders(t, dir)
				spec := bundleSpec(dir)
				spec.Backup = true
				b := openBundle(t, spec)
				if b.Mark() != "" {
					t.Error("a mark of nothing")
				}
				for _, s := range []set{{"old": "1"}, {"old": "2"}, s} {
					_, err := b.Publish(s.entries(), 0)
					must(t, err)
				}
				mark := b.Mark()
				must(t, row.before(dir))
				want := row.kept
				if restarted {
					b = openBundleAfter(t, b, spec)
					want = row.keptLater
				} else {
					mark = ""
				}
				names := dotted(t, dir)
				kept, err := b.RemoveOurs(mark)
				must(t, err)
				if kept != want {
					t.Fatalf("kept: %v, want %v", kept, want)
				}
				if kept {
					if got := dotted(t, dir); got != names {
						t.Errorf("%d names, want %d", got, names)
					}
					must(t, b.Remove())
				}
				contains(t, dir, theirs...)
				must(t, b.Remove())
				publishEntriesAgain(t, b, s)
			})
		}
	}
}

func publishEntriesAgain(t *testing.T, b *files.Bundle, s set) {
	t.Helper()
	if change, err := b.Publish(s.entries(), 0); change != files.Content || err != nil {
		t.Errorf("Publish after Remove did %v, %v", change, err)
	}
}

func TestAMarkSurvivesARestart(t *testing.T) {
	dir := memoryDir(t)
	b := openBundle(t, bundleSpec(dir))
	publishSet(t, b, pair, files.Content)
	mark := b.Mark()
	b = openBundleAfter(t, b, bundleSpec(dir))
	if b.Mark() != "" {
		t.Error("a mark before anything was looked at")
	}
	inspectEntries(t, b, pair.entries(), files.None)
	if b.Mark() != mark {
		t.Error("the mark of what was found right is another")
	}
	publishSet(t, b, set{"a": "a"}, files.Content)
	if kept, err := b.RemoveOurs(mark); kept || err != nil {
		t.Errorf("kept what this process published: %v, %v", kept, err)
	}
}
