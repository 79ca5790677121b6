package notify_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/notify"
)

// self returns a copy of the test binary in a directory that passes as
// trusted, wherever go test has put the original.
func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func script(text string) notify.Target {
	return hook("/bin/sh", "-c", text)
}

// described runs the target's command, which is this binary, and returns what
// it found.
func described(t *testing.T, c notify.Change, args ...string) description {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	target := hook(append([]string{self(t), "notify-child", "describe", out}, args...)...)
	if err := notify.Attempt(target, c); err != nil {
		t.Fatal(err)
	}
	return readDescription(t, out)
}

func readDescription(t *testing.T, out string) description {
	t.Helper()
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var d description
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestACommandIsToldNamesAndNothingElse(t *testing.T) {
	for _, key := range []string{"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "SECRETSD_TOKEN", "TOKEN", "LD_PRELOAD_"} {
		t.Setenv(key, "CANARY")
	}
	t.Setenv("HOME", "/root")
	t.Setenv("LANG", "C.UTF-8")
	got := described(t, notify.Change{
		Reason:  notify.ReasonHeal,
		Secrets: []notify.SecretVersion{{Name: "db", VersionID: "v1"}, {Name: "tls", VersionID: ""}, {Name: "x", VersionID: "v3"}},
		Paths:   []string{"/run/a b", "/run/c:d"},
	}, "{}", "x{}", "$HOME")
	slices.Sort(got.Env)
	want := description{
		Args: []string{"/run/a b", "/run/c:d", "x{}", "$HOME"},
		Env: []string{
			"HOME=/root", "LANG=C.UTF-8", "PATH=" + os.Getenv("PATH"),
			"SECRETSD_PATHS=/run/a b\n/run/c:d", "SECRETSD_REASON=heal", "SECRETSD_SECRETS=db,tls,x",
			"SECRETSD_TARGET=hook", "SECRETSD_VERSION_IDS=v1,,v3",
		},
		Dir:   "/",
		Group: true,
		IDs:   got.IDs,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what a command finds (-want +got):\n%s", diff)
	}
}

func TestMorePathsThanFitAreCut(t *testing.T) {
	c := notify.Change{}
	for i := range 5000 {
		c.Paths = append(c.Paths, fmt.Sprintf("/run/%095d", i))
		c.Secrets = append(c.Secrets, notify.SecretVersion{Name: fmt.Sprintf("%050d", i), VersionID: fmt.Sprintf("%0100d", i)})
	}
	got := described(t, c, "{}")
	env := map[string]string{}
	for _, kv := range got.Env {
		key, value, _ := strings.Cut(kv, "=")
		env[key] = value
	}
	paths := strings.Split(env["SECRETSD_PATHS"], "\n")
	if env["SECRETSD_TRUNCATED"] != "1" || len(paths) < 500 || !slices.Equal(paths, c.Paths[:len(paths)]) || !slices.Equal(paths, got.Args) {
		t.Errorf("truncated=%q, %d paths, %d arguments", env["SECRETSD_TRUNCATED"], len(paths), len(got.Args))
	}
	names, ids := strings.Split(env["SECRETSD_SECRETS"], ","), strings.Split(env["SECRETSD_VERSION_IDS"], ",")
	if len(names) != len(ids) || names[len(names)-1] != c.Secrets[len(names)-1].Name {
		t.Errorf("%d names, %d version ids", len(names), len(ids))
	}
}

func TestACommandThatFailsIsTriedAgain(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "marker")
	target := script(fmt.Sprintf(`test -e %[1]s || { echo hunter2 >&2; touch %[1]s; exit 3; }`, marker))
	target.Retry.Initial = time.Millisecond
	n, events := started(t, target)
	n.Notify("hook", change("/a"))
	e := wantOutcome(t, events, notify.Failed)
	if got := e.Err.Error(); got != "command exited with status 3" {
		t.Errorf("error: %q", got)
	}
	wantOutcome(t, events, notify.Delivered)
	if owed := n.Owed(); len(owed) != 0 {
		t.Errorf("still owed: %v", owed)
	}
}

func TestACommandThatIsKilledFails(t *testing.T) {
	err := notify.Attempt(script(`kill -9 $$`), change("/a"))
	wantFailure(t, err, "failed", "command was ended by SIGKILL")
}

func TestATimeOutEndsTheWholeGroup(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a time-out of two seconds")
	}
	out := filepath.Join(t.TempDir(), "pid")
	// The grandchild does not listen to SIGTERM; the leader goes at once.
	target := script(fmt.Sprintf(
		`sh -c 'trap "" TERM; echo $$ >%[1]s.new; mv %[1]s.new %[1]s; while :; do sleep 1000; done' & wait`, out))
	target.Timeout = 2 * time.Second
	wantFailure(t, notify.Attempt(target, change("/a")), "failed", "command did not finish within 2s and was ended")
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the grandchild to end", func() bool { return !alive(pid) })
}

// alive reports whether pid is a process that has not exited.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return rest[0] != 'Z' && rest[0] != 'X'
}

func TestAGrandchildThatKeepsTheOutputOpenHoldsNobody(t *testing.T) {
	out := filepath.Join(t.TempDir(), "pid")
	began := time.Now()
	if err := notify.Attempt(script(`sleep 1000 & echo $! >`+out), change("/a")); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	if !alive(pid) {
		t.Error("what a successful command left running has been ended")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestAFloodOfOutputTakesNoMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	target := script(`head -c 100000000 /dev/zero; head -c 100000000 /dev/zero >&2`)
	if err := notify.Attempt(target, change("/a")); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d bytes allocated", grown)
	}
}

func TestACommandThatCannotBeEndedIsNotStartedTwice(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a time-out of three seconds")
	}
	needRoot(t)
	path := self(t)
	out := filepath.Join(t.TempDir(), "pid")
	for p := filepath.Dir(path); p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(path, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	target := hook(path, "notify-child", "become-root", out)
	target.Timeout = 3 * time.Second
	attempt := notify.Attempts(100 * time.Millisecond)
	var first, second error
	asNobody(t, func() {
		first = attempt(target, change("/a"))
		second = attempt(target, change("/a"))
	})
	wantFailure(t, first, "failed", "could not be ended")
	wantFailure(t, second, "failed", "an earlier run of the command")
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	target.Command = []string{"true"}
	eventually(t, "the command to be started again", func() bool { return attempt(target, change("/a")) == nil })
}
