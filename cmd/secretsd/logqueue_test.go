package main

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// slowReader takes nothing until it is let.
type slowReader struct {
	let chan struct{}
	mu  sync.Mutex
	got strings.Builder
}

func (r *slowReader) Write(b []byte) (int, error) {
	<-r.let
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got.Write(b)
}

func TestLogLinesAreLostRatherThanWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &slowReader{let: make(chan struct{})}
		q := &queuedWriter{w: r, queue: make(chan queuedLine, logQueue), notice: slog.New(slog.NewTextHandler(r, nil))}
		go q.run()
		began := time.Now()
		for i := range 2 * logQueue {
			fmt.Fprintf(q, "line %d\n", i)
		}
		q.flush()
		if took := time.Since(began); took != flushTime {
			t.Errorf("a flush nobody reads took %v, want %v", took, flushTime)
		}
		close(r.let)
		synctest.Wait()
		fmt.Fprintln(q, "the last")
		q.flush()
		log := r.got.String()
		if !strings.HasPrefix(log, "line 0\n") || !strings.HasSuffix(log, "the last\n") ||
			!strings.Contains(log, `level=WARN msg="log lines were lost, for nobody read them" lines=10`) {
			t.Errorf("the log is\n%.300s\n...\n%s", log, log[max(0, len(log)-300):])
		}
		close(q.queue)
	})
}
