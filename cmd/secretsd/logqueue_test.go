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
		// How many there is room for is up to the scheduler; none may be unaccounted
		// for, or out of order.
		written, lost, last := 0, 0, -1
		for line := range strings.Lines(r.got.String()) {
			var n int
			if _, err := fmt.Sscanf(line, "line %d\n", &n); err == nil {
				if n <= last {
					t.Errorf("line %d comes after line %d", n, last)
				}
				written, last = written+1, n
			} else if _, rest, ok := strings.Cut(line, `level=WARN msg="log lines were lost, for nobody read them" lines=`); ok {
				_, err := fmt.Sscan(rest, &n)
				if err != nil {
					t.Error(err)
				}
				lost += n
			} else if line != "the last\n" {
				t.Errorf("the log has %q", line)
			}
		}
		if written+lost != 2*logQueue || lost == 0 || !strings.HasSuffix(r.got.String(), "the last\n") {
			t.Errorf("%d lines were written and %d lost, of %d", written, lost, 2*logQueue)
		}
		close(q.queue)
	})
}
