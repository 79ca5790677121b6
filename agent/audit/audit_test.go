package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"secretsd/agent/audit"
)

// disk is a writer whose failures a test chooses.
type disk struct {
	mu    sync.Mutex
	text  bytes.Buffer
	err   error
	room  int           // bytes written before err
	block chan struct{} // a write waits until it is closed
}

func (d *disk) Write(p []byte) (int, error) {
	if d.block != nil {
		<-d.block
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		n, _ := d.text.Write(p[:min(d.room, len(p))])
		return n, d.err
	}
	return d.text.Write(p)
}

func (d *disk) set(err error, room int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err, d.room = err, room
}

type fixture struct {
	*audit.Log
	lost atomic.Uint64
	log  bytes.Buffer
}

func open(t *testing.T, o audit.Options) *fixture {
	t.Helper()
	f := &fixture{}
	o.Lost, o.Logger = &f.lost, slog.New(slog.NewTextHandler(&f.log, nil))
	l, err := audit.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	f.Log = l
	return f
}

func (f *fixture) close(t *testing.T) {
	t.Helper()
	if err := f.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestLinesAreAppended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	for _, outcome := range []string{"ok", "denied"} {
		l := open(t, audit.Options{Path: path})
		if err := l.Record(audit.Entry{Event: "get", Via: "control", Secret: "a\nb\"c", VersionID: "v1", Outcome: outcome,
			Peer: &audit.Peer{UID: 0, GID: 1, PID: 2, Exe: "/bin/x"}}); err != nil {
			t.Fatal(err)
		}
		l.close(t)
		if err := l.Record(audit.Entry{}); err == nil || l.lost.Load() != 1 {
			t.Errorf("a closed log answers %v and counts %d", err, l.lost.Load())
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines:\n%s", len(lines), data)
	}
	var e audit.Entry
	if err := json.Unmarshal([]byte(lines[1]), &e); err != nil || e.Secret != "a\nb\"c" || e.Outcome != "denied" || e.Peer.PID != 2 || e.Time.IsZero() {
		t.Errorf("%v %+v", err, e)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the log is %v %v", info, err)
	}
}

func TestWhatIsNoFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	link, fifo := filepath.Join(dir, "link"), filepath.Join(dir, "fifo")
	if err := errors.Join(os.Symlink(filepath.Join(dir, "elsewhere"), link), syscall.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, link, fifo, filepath.Join(dir, "no", "such")} {
		_, err := audit.Open(audit.Options{Path: path})
		var h interface{ Hint() string }
		if err == nil || !strings.Contains(err.Error(), path) || !errors.As(err, &h) || h.Hint() == "" {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestAFullDiskCountsAndSpoilsNothing lets a write end midway, then recover.
func TestAFullDiskCountsAndSpoilsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		l := open(t, audit.Options{Path: audit.Stdout, Stdout: d})
		record := func(id string) {
			if err := l.Record(audit.Entry{Secret: id, Outcome: "ok"}); err != nil {
				t.Errorf("%s: %v", id, err)
			}
			synctest.Wait()
		}
		record("first")
		d.set(syscall.ENOSPC, 20)
		record("lost")
		d.set(syscall.ENOSPC, 0)
		record("lost too")
		d.set(nil, 0)
		record("last")
		l.close(t)
		lines := strings.Split(strings.TrimSuffix(d.text.String(), "\n"), "\n")
		if len(lines) != 3 || !strings.Contains(lines[2], `"secret":"last"`) || !json.Valid([]byte(lines[2])) || l.lost.Load() != 2 {
			t.Errorf("lost %d:\n%s", l.lost.Load(), d.text.String())
		}
		if n := strings.Count(l.log.String(), "cannot write audit log"); n != 1 || !strings.Contains(l.log.String(), "written again") {
			t.Errorf("the trouble was said %d times:\n%s", n, l.log.String())
		}
	})
}

// TestAHangingDiskBlocksNobody fills the queue of a disk that does not answer.
func TestAHangingDiskBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{block: make(chan struct{})}
		l := open(t, audit.Options{Path: audit.Stdout, Stdout: d})
		const sent = 5000
		began, refused := time.Now(), 0
		for range sent {
			if l.Record(audit.Entry{Outcome: "ok"}) != nil {
				refused++
			}
		}
		if took := time.Since(began); took != 0 || refused == 0 {
			t.Errorf("%d refused in %v", refused, took)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := l.Close(ctx); err == nil {
			t.Error("closing waited for nothing")
		}
		close(d.block)
		l.close(t)
		if written := strings.Count(d.text.String(), "\n"); written+refused != sent || l.lost.Load() != uint64(refused) {
			t.Errorf("%d written, %d refused, %d counted", written, refused, l.lost.Load())
		}
	})
}

func TestRequiredSaysWhatBecameOfALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		l := open(t, audit.Options{Path: audit.Stdout, Stdout: d, Required: true})
		if err := l.Record(audit.Entry{Outcome: "ok"}); err != nil || strings.Count(d.text.String(), "\n") != 1 {
			t.Errorf("%v: %s", err, d.text.String())
		}
		d.set(syscall.ENOSPC, 0)
		if err := l.Record(audit.Entry{Outcome: "ok"}); !errors.Is(err, syscall.ENOSPC) || l.lost.Load() != 1 {
			t.Errorf("%v, %d lost", err, l.lost.Load())
		}
		l.close(t)

		d = &disk{block: make(chan struct{})}
		l = open(t, audit.Options{Path: audit.Stdout, Stdout: d, Required: true})
		began := time.Now()
		if err := l.Record(audit.Entry{Outcome: "ok"}); err == nil || time.Since(began) != 5*time.Second {
			t.Errorf("a disk that hangs: %v after %v", err, time.Since(began))
		}
		close(d.block)
		l.close(t)
	})
}
