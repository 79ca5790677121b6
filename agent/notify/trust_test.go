package notify_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"secretsd/agent/notify"
)

// hookFile makes an executable file below a new directory.
func hookFile(t *testing.T, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCommandFilesThatOthersCanChangeAreRefused(t *testing.T) {
	inDir := func(mode os.FileMode) string {
		path := hookFile(t, 0o755)
		if err := os.Chmod(filepath.Dir(path), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	linked := func() string {
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(hookFile(t, 0o777), link); err != nil {
			t.Fatal(err)
		}
		return link
	}
	for _, tc := range []struct {
		name, argv0 string
		part        string // of the error; empty if it is accepted
	}{
		{"plain", hookFile(t, 0o755), ""},
		{"in a sticky directory", inDir(0o777 | os.ModeSticky), ""},
		{"from PATH", "sh", ""},
		{"everybody writes the file", hookFile(t, 0o757), "can be written by others"},
		{"a group writes the file", hookFile(t, 0o775), "can be written by others"},
		{"everybody writes the directory", inDir(0o777), "can be written by others"},
		{"behind a link", linked(), "can be written by others"},
		{"not executable", hookFile(t, 0o644), "permission denied"},
		{"missing", filepath.Join(t.TempDir(), "none"), "no such file"},
		{"not in PATH", "no-such-command-here", "not found in $PATH"},
		{"relative", "./hook", "is a relative path"},
		{"empty", "", "is empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := notify.CheckCommand(tc.argv0)
			switch {
			case tc.part == "" && err != nil:
				t.Error(err)
			case tc.part != "" && (err == nil || !strings.Contains(err.Error(), tc.part)):
				t.Errorf("got %v, want %q", err, tc.part)
			}
		})
	}
}

func TestCommandFilesOfOthersAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give files away")
	}
	foreign := hookFile(t, 0o755)
	if err := os.Chown(foreign, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(hookFile(t, 0o755), link); err != nil {
		t.Fatal(err)
	}
	if err := notify.CheckCommand(link); err != nil {
		t.Errorf("a link of root: %v", err)
	}
	if err := os.Lchown(link, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{foreign, link} {
		if err := notify.CheckCommand(path); err == nil || !strings.Contains(err.Error(), "belongs to neither root nor the agent's user") {
			t.Errorf("%s: %v", path, err)
		}
		// It is checked again when it is run.
		if err := notify.Attempt(hook(path), change("/a")); err == nil {
			t.Errorf("%s was run", path)
		}
	}
}
