package notify_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"secretsd/agent/notify"
)

// lacking skips a test that cannot be run here, and fails it in CI.
func lacking(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("needs %s", what)
	}
	t.Skipf("needs %s", what)
}

// hook is a target that is told by a command.
func hook(argv ...string) notify.Target {
	return notify.Target{Name: "hook", Step: notify.Step{Command: argv}}
}

// lines delivers what a reader says, line by line, until it ends.
func lines(r io.Reader) <-chan string {
	ch := make(chan string, 64)
	go func() {
		defer close(ch)
		for sc := bufio.NewScanner(r); sc.Scan(); {
			ch <- sc.Text()
		}
	}()
	return ch
}

// within returns what ch delivers; a test that waits in vain fails.
func within[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v, ok := <-ch:
		if !ok {
			t.Fatalf("ended while waiting for %s", what)
		}
		return v
	case <-time.After(30 * time.Second):
		t.Fatalf("waited in vain for %s", what)
	}
	panic("unreachable")
}

// wantFailure fails unless err has the class and its text holds part.
func wantFailure(t *testing.T, err error, class, part string) {
	t.Helper()
	if err == nil || errors.Is(err, notify.ErrUnneeded) {
		t.Fatalf("got %v, want a failure with %q", err, part)
	}
	if got := notify.ClassOf(err); got != class || !strings.Contains(err.Error(), part) {
		t.Errorf("got %s: %v, want %s with %q", got, err, class, part)
	}
}

// runNotifier starts n and returns what drains it.
func runNotifier(t *testing.T, n *notify.Notifier) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// pass lets the time of a synctest bubble pass.
func pass(d time.Duration) { <-time.After(d) }

// eventually fails the test if ok does not become true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// event is one call of Settled.
type event struct {
	target string
	notify.Outcome
}

// logLine is a record that was logged.
type logLine struct {
	level slog.Level
	text  string // message and attributes
}

// logs keeps what is logged.
type logs struct {
	mu    sync.Mutex
	lines []logLine
}

func (l *logs) logger() *slog.Logger { return slog.New(&logHandler{logs: l}) }

func (l *logs) at(level slog.Level) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var texts []string
	for _, line := range l.lines {
		if line.level == level {
			texts = append(texts, line.text)
		}
	}
	return texts
}

type logHandler struct {
	logs  *logs
	attrs []slog.Attr
}

func (h *logHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *logHandler) WithGroup(string) slog.Handler            { return h }
func (h *logHandler) WithAttrs(as []slog.Attr) slog.Handler {
	return &logHandler{logs: h.logs, attrs: append(h.attrs[:len(h.attrs):len(h.attrs)], as...)}
}

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	add := func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	line := logLine{r.Level, b.String()}
	h.logs.mu.Lock()
	h.logs.lines = append(h.logs.lines, line)
	h.logs.mu.Unlock()
	return nil
}
