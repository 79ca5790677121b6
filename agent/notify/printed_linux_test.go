package notify_test

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"secretsd/agent/notify"
	"secretsd/agent/secret"
)

func values(texts ...string) func() iter.Seq[secret.Value] {
	return func() iter.Seq[secret.Value] {
		return func(yield func(secret.Value) bool) {
			for _, text := range texts {
				if !yield(secret.NewValue(text)) {
					return
				}
			}
		}
	}
}

// loud is a target whose output is logged.
func loud(text string) notify.Target {
	target := script(text)
	target.Output = true
	return target
}

// printing makes an attempt that fails, and returns what is logged of the output.
func printing(t *testing.T, target notify.Target, opts notify.Options) string {
	t.Helper()
	if opts.Secrets == nil {
		opts.Secrets = values("hunter2-canary")
	}
	err := notify.AttemptGiven(target, change("/a"), opts)
	if err == nil {
		t.Fatal("it did not fail")
	}
	if strings.Contains(err.Error(), "said") {
		t.Errorf("the error has the output: %v", err)
	}
	return notify.OutputOf(err)
}

func TestTheEndOfWhatAFailedCommandPrintsIsTold(t *testing.T) {
	got := printing(t, loud(`echo it said this; echo and said that >&2; exit 3`), notify.Options{})
	if got != "it said this\nand said that" {
		t.Errorf("got %q", got)
	}
}

func TestNothingIsKeptOfOutputThatNobodyAskedFor(t *testing.T) {
	if got := printing(t, script(`echo it said this; exit 3`), notify.Options{}); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestNoDescriptorIsLeftOfWhatACommandPrints(t *testing.T) {
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	printing(t, loud(`echo it said; exit 1`), notify.Options{})
	before := open()
	for range 5 {
		printing(t, loud(`echo it said; exit 1`), notify.Options{})
		if err := notify.AttemptGiven(loud(`echo all is well`), change("/a"), notify.Options{Secrets: values("x-canary")}); err != nil {
			t.Error(err)
		}
		if err := notify.AttemptGiven(notify.Target{Name: "hook", Step: notify.Step{Command: []string{"/nowhere"}, Output: true}}, change("/a"), notify.Options{Secrets: values("x-canary")}); err == nil {
			t.Error("what is not there was run")
		}
	}
	eventually(t, "all to be closed", func() bool { return open() <= before })
}

func TestSecretsAreTakenOutOfOutput(t *testing.T) {
	got := printing(t, loud(`echo "cannot log in as app with hunter2-canary, it said"; echo "$GIVEN" | base64; exit 1`), notify.Options{
		Variables: func(string) ([]string, error) { return []string{"GIVEN=made-of-two-secrets"}, nil },
	})
	if want := "cannot log in as app with [redacted] it said"; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q first", got, want)
	}
	target := loud(`echo "for $GIVEN"; echo "$GIVEN" | base64; exit 1`)
	target.Env = "some"
	got = printing(t, target, notify.Options{
		Variables: func(env string) ([]string, error) {
			if env != "some" {
				return nil, fmt.Errorf("asked for %q", env)
			}
			return []string{"GIVEN=made-of-two-secrets"}, nil
		},
	})
	if want := "for [redacted]"; strings.TrimSpace(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What was known when it began is taken out, and what came to be known since.
func TestOldAndNewSecretsAreTakenOutOfOutput(t *testing.T) {
	lists := []func() iter.Seq[secret.Value]{values("the-old-one"), values("the-new-one")}
	got := printing(t, loud(`echo the-old-one or the-new-one it said; exit 1`), notify.Options{
		Secrets: func() iter.Seq[secret.Value] {
			list := lists[0]
			lists = lists[1:]
			return list()
		},
	})
	if got != "[redacted] or [redacted] it said" {
		t.Errorf("got %q", got)
	}
}

func TestOutputOfACommandThatRunsIntoItsTimeOutIsTold(t *testing.T) {
	target := loud(`echo it said this; sleep 1000`)
	target.Timeout = 500 * time.Millisecond
	err := notify.AttemptGiven(target, change("/a"), notify.Options{Secrets: values("x-canary")})
	wantFailure(t, err, "failed", "did not finish within 500ms")
	if got := notify.OutputOf(err); got != "it said this" {
		t.Errorf("got %q", got)
	}
	var h interface{ Hint() string }
	if !errors.As(err, &h) || !strings.Contains(h.Hint(), "longer timeout") {
		t.Errorf("hint of %v", err)
	}
}

func TestAFloodThatIsLoggedTakesLittleMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got := printing(t, loud(`yes said too much | head -c 50000000; echo at last; exit 1`), notify.Options{})
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("%d bytes allocated", grown)
	}
	if len(got) > 4096 || !strings.Contains(got, "said too much\n") || !strings.HasSuffix(got, "at last") {
		t.Errorf("%d bytes, which end in %q", len(got), got[max(len(got)-40, 0):])
	}
}

// Who is left behind holds nobody up, and is not ended by what it prints later.
func TestAGrandchildMayGoOnPrinting(t *testing.T) {
	dir := t.TempDir()
	begin, out, pidFile := filepath.Join(dir, "begin"), filepath.Join(dir, "out"), filepath.Join(dir, "pid")
	began := time.Now()
	got := printing(t, loud(fmt.Sprintf(`(while ! test -e %s; do sleep 0.01; done; yes | head -c 1000000; echo $? >%s; sleep 1000) & echo $! >%s; echo it said; exit 1`, begin, out, pidFile)), notify.Options{})
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
	if got != "it said" {
		t.Errorf("got %q", got)
	}
	b, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(-group(t, pid), syscall.SIGKILL) }()
	if err := os.WriteFile(begin, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the grandchild to have printed", func() bool {
		b, _ := os.ReadFile(out)
		return string(b) == "0\n"
	})
}

func group(t *testing.T, pid int) int {
	t.Helper()
	pgid, err := syscall.Getpgid(pid)
	if err != nil || pgid == syscall.Getpgrp() {
		t.Fatalf("group of %d: %d, %v", pid, pgid, err)
	}
	return pgid
}

func TestACommandIsGivenVariables(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	target := hook(self(t), "notify-child", "describe", out)
	target.Env = "app"
	err := notify.AttemptGiven(target, change("/a"), notify.Options{Variables: func(env string) ([]string, error) {
		return []string{"PGPASSWORD=of " + env, "HOME=/elsewhere"}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	got := readDescription(t, out)
	if !slices.Contains(got.Env, "PGPASSWORD=of app") || !slices.Contains(got.Env, "HOME=/elsewhere") || !slices.Contains(got.Env, "SECRETSD_REASON=change") {
		t.Errorf("environment %q", got.Env)
	}
}

func TestACommandIsNotRunWithoutItsVariables(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "marker")
	target := hook("/usr/bin/touch", marker)
	target.Env = "app"
	err := notify.AttemptGiven(target, change("/a"), notify.Options{Variables: func(string) ([]string, error) {
		return nil, hinted{errors.New("secret db: not read yet")}
	}})
	var h interface{ Hint() string }
	if !errors.As(err, &h) || h.Hint() != "wait" {
		t.Errorf("hint of %v", err)
	}
	wantFailure(t, err, "failed", "make the command's environment: secret db: not read yet")
	if _, err := os.Stat(marker); err == nil {
		t.Error("it was run")
	}
}

type hinted struct{ error }

func (hinted) Hint() string { return "wait" }

// Whom a command has left behind may keep its pipe for ever, but no values.
func TestNoValuesAreKeptForWhatACommandLeavesBehind(t *testing.T) {
	known := &[]string{"x-canary"}
	gone := make(chan struct{})
	runtime.AddCleanup(known, func(c chan struct{}) { close(c) }, gone)
	pid := filepath.Join(t.TempDir(), "pid")
	printing(t, loud(`sleep 60 & echo $! > `+pid+`; echo it said; exit 1`), notify.Options{Secrets: func() iter.Seq[secret.Value] {
		of := known
		return func(yield func(secret.Value) bool) { yield(secret.NewValue((*of)[0])) }
	}})
	left, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(left)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
			t.Errorf("it was not there any more: %v", err)
		}
	}()
	known = nil
	eventually(t, "the values to be let go of", func() bool {
		runtime.GC()
		select {
		case <-gone:
			return true
		default:
			return false
		}
	})
}
