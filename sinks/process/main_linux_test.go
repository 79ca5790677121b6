package process_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"secretsd/sinks/process"
)

//nolint:gochecknoinits // as in cmd/secretsd
func init() { runtime.LockOSThread() }

// TestMain runs the test binary as one of the programs that are needed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "reaper" {
		os.Exit(reaper())
	}
	os.Exit(m.Run())
}

// reaper starts programs and has orphans at the same time, and says whether every
// program ended as it did, and which children are left.
func reaper() int {
	if err := adoptOrphans(); err != nil {
		fmt.Println(err)
		return 1
	}
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	go func() {
		for range 200 {
			err := exec.Command("/bin/sh", "-c", `(sleep 0.0$((RANDOM % 9 + 1)); exit 3) & exit 5`).Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 5 {
				fmt.Println("a program was taken from who waits for it:", err)
				os.Exit(1)
			}
		}
		deadline := time.Now().Add(20 * time.Second)
		for len(childrenOf(os.Getpid())) > 0 {
			if time.Now().After(deadline) {
				fmt.Println("left behind:", childrenOf(os.Getpid()))
				os.Exit(1)
			}
			runtime.Gosched()
		}
		os.Exit(0)
	}()
	process.ReapOrphans(died)
	return 1
}

// childrenOf returns the children of a process, with their states.
func childrenOf(parent int) []string {
	var list []string
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		if fields := strings.Fields(rest); len(fields) > 2 && fields[1] == strconv.Itoa(parent) {
			list = append(list, string(data[:strings.IndexByte(string(data), ')')+3]))
		}
	}
	return list
}

// supervised is a supervisor that runs.
type supervised struct {
	t      *testing.T
	sup    *process.Supervisor
	cancel func()
	done   chan struct{}
	exit   process.Exit
	err    error
	log    *lockedLog
}

func run(t *testing.T, opts process.Options) *supervised {
	t.Helper()
	log := &lockedLog{}
	opts.Logger = slog.New(slog.NewTextHandler(log, nil))
	ctx, cancel := context.WithCancel(context.Background())
	r := &supervised{t: t, sup: process.New(opts), cancel: cancel, done: make(chan struct{}), log: log}
	go func() {
		defer close(r.done)
		r.exit, r.err = r.sup.Run(ctx)
	}()
	t.Cleanup(func() {
		r.sup.Kill()
		cancel()
		r.wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return r
}

func (r *supervised) wait() (process.Exit, error) {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(30 * time.Second):
		r.t.Fatalf("the supervisor did not end:\n%s", r.log.String())
	}
	return r.exit, r.err
}

// shell is a program that is a shell script, with what it needs in $1, $2, ….
func shell(t *testing.T, script string, args ...string) *process.Program {
	t.Helper()
	env, err := process.NewEnvironment([]string{"PATH=/usr/bin:/bin"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &process.Program{Path: "/bin/sh", Args: append([]string{"sh", "-c", script, "sh"}, args...), Env: env,
		Signal: syscall.SIGHUP, KillSignal: syscall.SIGTERM, KillTimeout: 20 * time.Second}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func content(path string) string {
	data, _ := os.ReadFile(path)
	return string(data)
}

// pids waits until a file holds that many process ids, and returns them.
func pids(t *testing.T, path string, n int) []int {
	t.Helper()
	eventually(t, fmt.Sprintf("%d processes run", n), func() bool { return strings.Count(content(path), "\n") == n })
	var list []int
	for line := range strings.Lines(content(path)) {
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, pid)
	}
	return list
}

// lives reports whether a process exists and is no zombie.
func lives(pid int) bool {
	_, rest, ok := strings.Cut(content(fmt.Sprintf("/proc/%d/stat", pid)), ") ")
	return ok && rest[0] != 'Z' && rest[0] != 'X'
}

type lockedLog struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
