package files_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"secretsd/sinks/files"
)

const (
	canary  = "CANARY-hunter2"
	roleVar = "FILES_TEST_ROLE"
)

// TestMain is also the program that the kill test starts and kills.
func TestMain(m *testing.M) {
	switch os.Getenv(roleVar) {
	case "writer":
		writeUntilKilled()
	case "bundle writer":
		publishUntilKilled()
	case "holder":
		holdBundle()
	}
	os.Exit(m.Run())
}

// memoryDir returns a fresh directory on tmpfs; where there is no tmpfs check,
// any directory does.
func memoryDir(t testing.TB) string {
	t.Helper()
	base := "/dev/shm"
	if !files.ChecksMemory {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "secretsd-files-")
	if err != nil {
		missing(t, "a writable /dev/shm", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// missing skips for want of something the machine should have, which CI must.
func missing(t testing.TB, what string, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI has to have %s: %v", what, err)
	}
	t.Skipf("needs %s: %v", what, err)
}

func isRoot() bool { return os.Geteuid() == 0 }

func needRoot(t testing.TB) {
	t.Helper()
	if !isRoot() {
		t.Skip("needs root: only root can give files to others and mount for all to see")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func spec(path string) files.Spec { return files.Spec{Path: path, Mode: 0o400, UID: -1, GID: -1} }

func open(t testing.TB, s files.Spec) *files.File {
	t.Helper()
	return openIn(t, files.New(), s)
}

func openIn(t testing.TB, d *files.Dirs, s files.Spec) *files.File {
	t.Helper()
	f, err := d.Open(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func publish(t testing.TB, f *files.File, content string, want files.Change) {
	t.Helper()
	inspect(t, f, content, want)
	got, err := f.Publish([]byte(content))
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("Publish did %v, want %v", got, want)
	}
}

func inspect(t testing.TB, f *files.File, content string, want files.Change) {
	t.Helper()
	got, err := f.Inspect([]byte(content))
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("Inspect says %v, want %v", got, want)
	}
}

// refuses checks the error's words and hint, and that no content is in either.
func refuses(t testing.TB, err error, words, hint string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", words)
	}
	var hinted interface{ Hint() string }
	got := ""
	if errors.As(err, &hinted) {
		got = hinted.Hint()
	}
	if !strings.Contains(err.Error(), words) || !strings.Contains(got, hint) {
		t.Fatalf("got %q (hint %q), want %q (hint %q)", err, got, words, hint)
	}
	if strings.Contains(err.Error()+got, canary) {
		t.Fatalf("content in an error: %q (hint %q)", err, got)
	}
}

func stat(t testing.TB, path string) *syscall.Stat_t {
	t.Helper()
	st, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Sys().(*syscall.Stat_t)
}

// holds checks content, mode and owner of a regular file; ids of -1 mean the
// test's own.
func holds(t testing.TB, path, content string, mode fs.FileMode, uid, gid int) {
	t.Helper()
	st, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != mode {
		t.Errorf("%s has mode %v, want %v", path, st.Mode(), mode)
	}
	if uid == -1 {
		uid = os.Geteuid()
	}
	if gid == -1 {
		gid = int(stat(t, filepath.Dir(path)).Gid)
		if runtime.GOOS == "linux" {
			gid = os.Getegid()
		}
	}
	if sys := st.Sys().(*syscall.Stat_t); int(sys.Uid) != uid || int(sys.Gid) != gid {
		t.Errorf("%s belongs to %d:%d, want %d:%d", path, sys.Uid, sys.Gid, uid, gid)
	}
	if mode&0o400 == 0 && !isRoot() {
		return // nobody to read it
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != content {
		t.Errorf("%s does not hold what was published", path)
	}
}

// contains checks the names in a directory.
func contains(t testing.TB, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	want = append([]string{}, want...)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", dir, diff)
	}
}

// inChild runs the test again in a process of its own with attr, and reports
// whether this is that process. The parent returns when the child is done.
func inChild(t *testing.T, what string, attr *syscall.SysProcAttr) bool {
	t.Helper()
	if os.Getenv(roleVar) == t.Name() {
		return true
	}
	// A copy, because go test's own directory is closed to other users.
	self, err := os.Executable()
	must(t, err)
	program, err := os.ReadFile(self)
	must(t, err)
	dir, err := os.MkdirTemp("", "secretsd-files-program-")
	must(t, err)
	defer func() { _ = os.RemoveAll(dir) }()
	must(t, os.Chmod(dir, 0o755))
	copied := filepath.Join(dir, "files.test")
	must(t, os.WriteFile(copied, program, 0o755))
	must(t, os.Chmod(copied, 0o755))
	cmd := exec.Command(copied, "-test.run=^"+t.Name()+"$", "-test.v", "-rapid.nofailfile")
	for _, arg := range os.Args[1:] {
		if strings.HasPrefix(arg, "-rapid.") {
			cmd.Args = append(cmd.Args, arg) // so that the seed of a failure brings it again
		}
	}
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), roleVar+"="+t.Name(), "TMPDIR=/tmp")
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
		missing(t, what, err)
	}
	if err == nil && strings.Contains(string(out), "\n--- SKIP: "+t.Name()+" ") {
		_, reason, _ := strings.Cut(string(out), "_test.go:")
		reason, _, _ = strings.Cut(reason, "\n")
		t.Skip(reason)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a process with %s: %v\n%s", what, err, out)
	}
	return false
}
