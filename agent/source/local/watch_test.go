package local_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"secretsd/agent/source/local"
)

// watched is a service that follows a file, and what it logs.
type watched struct {
	*local.Service
	*backend
	dir  string
	path string
	logs chan string
	text *lockedBuffer
}

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tell sends each record's message to a channel.
type tell struct {
	slog.Handler
	to chan string
}

func (h tell) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	h.to <- r.Message
	return err
}

const (
	loaded  = "secrets file loaded"
	broken  = "secrets file is broken, keeping the secrets as they are"
	missing = "secrets file cannot be read, keeping the secrets as they are"
	polled  = "secrets file cannot be watched, looking at it every two seconds"
)

// watch starts a service that follows DIR/secrets.yaml. prepare makes the file.
func watch(t *testing.T, prepare func(dir, path string)) *watched {
	t.Helper()
	dir := t.TempDir()
	w := &watched{dir: dir, path: filepath.Join(dir, "secrets.yaml"), logs: make(chan string, 100), text: &lockedBuffer{}}
	prepare(dir, w.path)
	w.Service = local.New(local.Options{Logger: slog.New(tell{slog.NewTextHandler(w.text, nil), w.logs})})
	w.backend = inProcess(w.Service)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Watch(ctx, w.path) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch: %v", err)
		}
		if strings.Contains(w.text.String(), canary) {
			t.Errorf("the log holds a value: %s", w.text)
		}
	})
	return w
}

// expect waits for the next log message, which must be this one.
func (w *watched) expect(t *testing.T, message string) {
	t.Helper()
	select {
	case got := <-w.logs:
		if got != message {
			t.Fatalf("logged %q, want %q\n%s", got, message, w.text)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("did not log %q\n%s", message, w.text)
	}
}

// until waits for a log message and passes over others: a look can fall between
// an in-place write's truncation and its end.
func (w *watched) until(t *testing.T, message string) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case got := <-w.logs:
			if got == message {
				return
			}
		case <-limit:
			t.Fatalf("did not log %q\n%s", message, w.text)
		}
	}
}

// replace puts a file in the place of another by renaming, as editors do.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.Rename(write(t, path+".new", text), path); err != nil {
		t.Fatal(err)
	}
}

// expectNothing gives the watch several times as long as it needs to say
// something: silence can be seen no other way.
func (w *watched) expectNothing(t *testing.T) {
	t.Helper()
	select {
	case got := <-w.logs:
		t.Fatalf("logged %q\n%s", got, w.text)
	case <-time.After(250 * time.Millisecond):
	}
}

func secretsOf(value string) string {
	return "secrets: [{name: a, string: " + value + "}]\n"
}

func TestWatchFollowsEdits(t *testing.T) {
	w := watch(t, func(_, path string) { write(t, path, secretsOf("one")) })
	w.expect(t, loaded)
	must(t, w.backend, get("a", "one"))
	write(t, w.path, secretsOf("two"))
	w.until(t, loaded)
	must(t, w.backend, get("a", "two"))
}

func TestWatchFollowsSavingByRename(t *testing.T) {
	w := watch(t, func(_, path string) { write(t, path, secretsOf("one")) })
	w.expect(t, loaded)
	for _, value := range []string{"two", "three"} {
		replace(t, w.path, secretsOf(value))
		w.expect(t, loaded)
		must(t, w.backend, get("a", value))
	}
}

// flip makes a generation of a ConfigMap volume current, as the kubelet does.
func flip(t *testing.T, dir, generation, value string) {
	t.Helper()
	gen := filepath.Join(dir, generation)
	if err := os.Mkdir(gen, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(gen, "secrets.yaml"), secretsOf(value))
	next := filepath.Join(dir, "..data_tmp")
	if err := os.Symlink(generation, next); err != nil {
		t.Fatal(err)
	}
	old, _ := os.Readlink(filepath.Join(dir, "..data"))
	if err := os.Rename(next, filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	if old != "" {
		if err := os.RemoveAll(filepath.Join(dir, old)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWatchFollowsConfigMaps(t *testing.T) {
	w := watch(t, func(dir, path string) {
		flip(t, dir, "..1", "one")
		if err := os.Symlink(filepath.Join("..data", "secrets.yaml"), path); err != nil {
			t.Fatal(err)
		}
	})
	w.expect(t, loaded)
	for i, value := range []string{"two", "three", "four"} {
		flip(t, w.dir, ".."+string(rune('2'+i)), value)
		w.expect(t, loaded)
		must(t, w.backend, get("a", value))
	}
}

func TestWatchFollowsTheFileBehindALink(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "real.yaml")
	w := watch(t, func(_, path string) {
		if err := os.Symlink(write(t, elsewhere, secretsOf("one")), path); err != nil {
			t.Fatal(err)
		}
	})
	w.expect(t, loaded)
	write(t, elsewhere, secretsOf("two"))
	w.until(t, loaded)
	must(t, w.backend, get("a", "two"))
}

func TestWatchKeepsSecretsOverABrokenFile(t *testing.T) {
	w := watch(t, func(_, path string) { write(t, path, secretsOf("one")) })
	w.expect(t, loaded)
	bad := "secrets: [{name: a, strng: " + canary + "}]\n"
	replace(t, w.path, bad)
	w.expect(t, broken)
	must(t, w.backend, get("a", "one"))
	// The same content again, and other files, are not told a second time.
	replace(t, w.path, bad)
	write(t, filepath.Join(w.dir, "other"), "x")
	w.expectNothing(t)
	replace(t, w.path, secretsOf("two"))
	w.expect(t, loaded)
	must(t, w.backend, get("a", "two"))
	if !strings.Contains(w.text.String(), "secrets.yaml:1: unknown key strng") {
		t.Errorf("the log does not say where: %s", w.text)
	}
}

func TestWatchKeepsSecretsOverAMissingFile(t *testing.T) {
	w := watch(t, func(_, path string) { write(t, path, secretsOf("one")) })
	w.expect(t, loaded)
	if err := os.Remove(w.path); err != nil {
		t.Fatal(err)
	}
	w.expect(t, missing)
	must(t, w.backend, get("a", "one"))
	replace(t, w.path, secretsOf("two"))
	w.expect(t, loaded)
	must(t, w.backend, get("a", "two"))
}

func TestWatchKeepsValuesOfTheAPI(t *testing.T) {
	w := watch(t, func(_, path string) { write(t, path, secretsOf("one")) })
	w.expect(t, loaded)
	must(t, w.backend, step{op: "PutSecretValue", in: obj{"SecretId": "a", "SecretString": "by API"}})
	replace(t, w.path, secretsOf("one")+"# a comment\n")
	w.expect(t, loaded)
	must(t, w.backend, get("a", "by API"))
	replace(t, w.path, secretsOf("two"))
	w.expect(t, loaded)
	must(t, w.backend, get("a", "two"))
}

func TestWatchDoesNotLoadAgainWhatLoadLoaded(t *testing.T) {
	path := secretsFile(t, secretsOf("one"))
	logs := make(chan string, 100)
	s := local.New(local.Options{Logger: slog.New(tell{slog.NewTextHandler(io.Discard, nil), logs})})
	load(t, s, path)
	write(t, path, secretsOf("two")) // between Load and Watch
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Watch(ctx, path) }()
	<-logs
	must(t, inProcess(s), get("a", "two"), step{op: "ListSecretVersionIds", in: obj{"SecretId": "a", "IncludeDeprecated": true}, want: obj{"Versions": count(2)}})
	cancel()
	if err := <-done; err != nil || len(logs) != 0 {
		t.Errorf("got %v and %d more messages", err, len(logs))
	}
}

func TestWatchWaitsForTheDirectory(t *testing.T) {
	w := watch(t, func(dir, _ string) {
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
	})
	w.expect(t, polled)
	w.expect(t, missing)
	if err := os.Mkdir(w.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, w.path, secretsOf("one"))
	w.until(t, loaded)
	must(t, w.backend, get("a", "one"))
	// It is watched now, and again after it was replaced as a whole.
	next := w.dir + ".next"
	if err := os.Mkdir(next, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(next, "secrets.yaml"), secretsOf("two"))
	if err := os.Rename(w.dir, w.dir+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, w.dir); err != nil {
		t.Fatal(err)
	}
	w.until(t, loaded)
	must(t, w.backend, get("a", "two"))
	write(t, w.path, secretsOf("three"))
	w.until(t, loaded)
	must(t, w.backend, get("a", "three"))
}
