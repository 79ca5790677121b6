// Package audit writes down who got which version of which secret, and when:
// one JSON object on a line, appended to a file or to standard output.
//
// Lines are queued and written by a goroutine of their own, so that a disk that
// is full or hangs blocks no answer; what could not be written is counted. A
// required log is the other way round: [Log.Record] waits for its line and says
// whether it was written, so that the caller can keep the answer back.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// queueLength bounds what waits for a slow disk: some hundred kilobytes.
	queueLength = 1024
	// batchBytes is how much is gathered for one write.
	batchBytes = 32 << 10
	// requiredWait is how long a required line may take.
	requiredWait = 5 * time.Second
)

// Stdout as a path means standard output.
const Stdout = "-"

// Entry is one line. Empty fields are left out. It never holds a value.
type Entry struct {
	Time time.Time `json:"time"`
	// Event is "get", "refresh", "describe", "call" or "publish", and Via
	// "endpoint", "control", "file", "environment" (the child's) or "command".
	Event string `json:"event"`
	Via   string `json:"via"`
	// Operation is the one that an SDK named, which for a call was refused.
	Operation string `json:"operation,omitempty"`
	// Client is the client's configured name.
	Client string `json:"client,omitempty"`
	// Remote is the address of a client that came over TCP.
	Remote string `json:"remote,omitempty"`
	// Peer is who came over a unix socket.
	Peer *Peer `json:"peer,omitempty"`
	// Secret is the id as the client wrote it, or the configured name.
	Secret string `json:"secret,omitempty"`
	// RoleARN is the role that the client had assumed for it.
	RoleARN string `json:"role_arn,omitempty"`
	// Key is the field of a JSON secret that was asked for.
	Key       string `json:"key,omitempty"`
	ARN       string `json:"arn,omitempty"`
	VersionID string `json:"version_id,omitempty"`
	// Path is the file that was published.
	Path string `json:"path,omitempty"`
	// Target is the target whose command was given the version in its environment.
	Target  string `json:"target,omitempty"`
	Outcome string `json:"outcome"`
	// Withheld is how many requests of nobody known had no line since the last
	// that had one, because there were too many.
	Withheld uint64 `json:"withheld,omitempty"`
}

// Peer is the other end of a unix socket, as the kernel names it.
type Peer struct {
	UID int `json:"uid"`
	GID int `json:"gid"`
	PID int `json:"pid"`
	// Exe is the program, where it could still be found out.
	Exe string `json:"exe,omitempty"`
}

// Options say where a [Log] writes.
type Options struct {
	// Path is a file, made with mode 0600 if it is missing, or [Stdout].
	Path string
	// Required makes Record wait for its line.
	Required bool
	// Stdout is what a path of [Stdout] means. It must not be nil then.
	Stdout io.Writer
	// Lost counts the lines that could not be written. It must not be nil.
	Lost *atomic.Uint64
	// Logger hears when writing begins to fail, and when it works again. It
	// must not be nil.
	Logger *slog.Logger
}

// Log is an open audit log. Its methods may be called from any goroutine.
type Log struct {
	opts  Options
	out   io.Writer
	file  *os.File // nil for standard output
	ended chan struct{}

	mu     sync.RWMutex // guards closed and the queue's end, never held across I/O
	closed bool
	queue  chan line

	// torn and failing belong to the writing goroutine.
	torn, failing bool
}

// line is one entry on its way; done, if it is not nil, gets its fate.
type line struct {
	text []byte
	done chan error
}

// Open opens the log for appending and starts its writer, which runs until
// [Log.Close]. To follow a rotation the caller opens the path again.
func Open(o Options) (*Log, error) {
	l := &Log{opts: o, out: o.Stdout, ended: make(chan struct{}), queue: make(chan line, queueLength)}
	if o.Path != Stdout {
		f, err := openFile(o.Path)
		if err != nil {
			return nil, err
		}
		l.out, l.file = f, f
	}
	go l.write()
	return l, nil
}

// openFile opens a regular file. O_NONBLOCK keeps a FIFO without a reader from
// holding the start up (fifo(7)).
func openFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, &openError{path, errors.Unwrap(err)}
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		_ = f.Close()
		return nil, &openError{path, err}
	}
	return f, nil
}

type openError struct {
	path string
	err  error
}

func (e *openError) Error() string { return "open audit log " + e.path + ": " + e.err.Error() }
func (e *openError) Unwrap() error { return e.err }

// Hint says how to mend it.
func (e *openError) Hint() string {
	return "audit.path names a regular file in a directory the agent's user may write, or is - for standard output"
}

var (
	errFull   = errors.New("write audit line: the queue is full")
	errClosed = errors.New("write audit line: the log is closed")
	errSlow   = fmt.Errorf("write audit line: not done within %s", requiredWait)
)

// Record writes e down, with the time of the call. An error means that the line
// is lost and counted; only a required log waits to be able to say so.
func (l *Log) Record(e Entry) error {
	e.Time = time.Now().UTC()
	text, err := json.Marshal(&e)
	if err != nil {
		return l.lose(1, fmt.Errorf("encode audit line: %w", err))
	}
	n := line{text: append(text, '\n')}
	if l.opts.Required {
		n.done = make(chan error, 1)
	}
	if err := l.enqueue(n); err != nil {
		return l.lose(1, err)
	}
	if n.done == nil {
		return nil
	}
	timer := time.NewTimer(requiredWait)
	defer timer.Stop()
	select {
	case err := <-n.done:
		return err
	case <-timer.C:
		return errSlow // counted, if it comes to that, when its turn comes
	}
}

func (l *Log) enqueue(n line) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return errClosed
	}
	select {
	case l.queue <- n:
		return nil
	default:
		return errFull
	}
}

func (l *Log) lose(lines int, err error) error {
	l.opts.Lost.Add(uint64(lines))
	return err
}

// write writes what is queued until the log is closed.
func (l *Log) write() {
	defer close(l.ended)
	for first := range l.queue {
		batch, text := l.gather(first)
		err := l.put(text)
		l.report(err)
		if err != nil {
			_ = l.lose(len(batch), nil)
		}
		for _, n := range batch {
			if n.done != nil {
				n.done <- err
			}
		}
	}
	if l.file != nil {
		_ = l.file.Close()
	}
}

// gather adds what is queued behind first, up to one write's worth.
func (l *Log) gather(first line) (batch []line, text []byte) {
	batch, text = []line{first}, first.text
	for len(text) < batchBytes {
		select {
		case n, ok := <-l.queue:
			if !ok {
				return batch, text
			}
			batch, text = append(batch, n), append(text, n.text...)
		default:
			return batch, text
		}
	}
	return batch, text
}

// put writes text. After a write that ended midway the next one begins on a
// line of its own, so that one lost line spoils no other.
func (l *Log) put(text []byte) error {
	if l.torn {
		text = append([]byte{'\n'}, text...)
	}
	n, err := l.out.Write(text)
	if n > 0 {
		l.torn = text[n-1] != '\n'
	}
	if err != nil {
		return fmt.Errorf("write audit line: %w", err)
	}
	return nil
}

func (l *Log) report(err error) {
	switch {
	case err != nil && !l.failing:
		l.opts.Logger.Error("cannot write audit log, counting what is lost", "path", l.opts.Path, "required", l.opts.Required, "error", err)
	case err == nil && l.failing:
		l.opts.Logger.Info("audit log is written again", "path", l.opts.Path, "lost", l.opts.Lost.Load())
	}
	l.failing = err != nil
}

// Required returns whether the log was opened as a required one.
func (l *Log) Required() bool { return l.opts.Required }

// Close takes no more lines, and returns when those queued are written or ctx
// is done, whose error it then returns; what is left is written all the same if
// the disk comes back.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.queue)
	}
	l.mu.Unlock()
	select {
	case <-l.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close audit log %s: %w", l.opts.Path, ctx.Err())
	}
}
