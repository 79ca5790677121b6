package main

import (
	"io"
	"log/slog"
	"sync/atomic"
	"time"
)

// logQueue is how many log lines wait for a reader that is behind.
const logQueue = 1024

// flushTime is how long the end of the program waits for the last lines.
const flushTime = time.Second

// queuedWriter writes lines in a goroutine of its own, so that nobody who logs
// ever waits for whoever reads the log: a pipe that is full must not keep a
// secret from its file. When the queue is full lines are lost, and how many is
// written down once there is room again.
type queuedWriter struct {
	w     io.Writer
	queue chan queuedLine
	lost  atomic.Uint64
	// notice logs to w itself.
	notice *slog.Logger
}

// queuedLine is a line, or a request to be told when all before it is written.
type queuedLine struct {
	text    []byte
	written chan<- struct{}
}

// newQueuedWriter returns a writer to w, to which notice logs. Its goroutine
// lives as long as the program.
func newQueuedWriter(w io.Writer, notice *slog.Logger) *queuedWriter {
	q := &queuedWriter{w: w, queue: make(chan queuedLine, logQueue), notice: notice}
	go q.run()
	return q
}

// Write takes one line. It never blocks and never fails.
func (q *queuedWriter) Write(line []byte) (int, error) {
	select {
	case q.queue <- queuedLine{text: append([]byte(nil), line...)}:
	default:
		q.lost.Add(1)
	}
	return len(line), nil
}

func (q *queuedWriter) run() {
	writeInBackground()
	for line := range q.queue {
		if n := q.lost.Swap(0); n > 0 {
			q.notice.Warn("log lines were lost, for nobody read them", "lines", n)
		}
		if line.written != nil {
			close(line.written)
			continue
		}
		_, _ = q.w.Write(line.text) // there is nowhere to say that the log cannot be written
	}
}

// flush returns when the lines taken so far are written, or after flushTime.
func (q *queuedWriter) flush() {
	timer := time.NewTimer(flushTime)
	defer timer.Stop()
	written := make(chan struct{})
	select {
	case q.queue <- queuedLine{written: written}:
	case <-timer.C:
		return
	}
	select {
	case <-written:
	case <-timer.C:
	}
}
