package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"secretsd/agent/config"
)

func TestIncludedFilesLieInTheTemplateDirectory(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	write := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(filepath.Base(path)), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(outside, "secret"), 0o644)
	write(filepath.Join(dir, "a.tmpl"), 0o644)
	write(filepath.Join(dir, "sub/b.tmpl"), 0o644)
	write(filepath.Join(dir, "..2026/c.tmpl"), 0o644)
	write(filepath.Join(dir, "open.tmpl"), 0o666)
	link("..2026", "..data") // as a ConfigMap's files are linked
	link("..data/c.tmpl", "c.tmpl")
	link(filepath.Join(outside, "secret"), "absolute")
	link("../"+filepath.Base(outside)+"/secret", "climbing")
	link(outside, "dir")
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a.tmpl": "a.tmpl", "sub/b.tmpl": "b.tmpl", "c.tmpl": "c.tmpl"} {
		if got, err := config.ReadIncluded(dir, name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, want := range map[string]string{
		"none": "no such file", "absolute": "path escapes", "climbing": "path escapes", "dir/secret": "path escapes", "../" + filepath.Base(outside) + "/secret": "path escapes",
		"/etc/passwd": "path escapes", "fifo": "not a regular file", "sub": "not a regular file", "open.tmpl": "can write it",
	} {
		if got, err := config.ReadIncluded(dir, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := config.ReadIncluded(filepath.Join(dir, "none"), "a.tmpl"); err == nil || !strings.Contains(err.Error(), "open template directory: no such file") {
		t.Errorf("a directory that is not there: %v", err)
	}
}
