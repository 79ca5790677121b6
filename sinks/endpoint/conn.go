package endpoint

import (
	"context"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// plainConn answers the plain requests of one connection. It belongs to its
// goroutine; what others do to it they do through tracked.
type plainConn struct {
	*tracked
	server *Server
	remote string
	head   plainHead
	// req is what the core is asked; much of it stays from one request to the
	// next.
	req request
	// told is what the observer gets to see.
	told Exchange
	// buf[:filled] was read and is not answered yet.
	buf    []byte
	filled int
}

// serve answers requests until the connection ends or net/http takes it over.
func (c *plainConn) serve() {
	kept := false
	defer func() {
		if p := recover(); p != nil {
			c.server.logger.Warn("http server reported a problem", "detail", p, "stack", string(debug.Stack()))
		}
		if !kept {
			_ = c.Close()
		}
	}()
	c.buf = make([]byte, headSize)
	c.req = request{method: http.MethodGet, header: &c.head, peer: c.peer, patience: c.patience}
	for {
		v := headPartial
		if c.filled > 0 {
			v = c.head.read(c.buf[:c.filled], &c.req)
		}
		switch v {
		case headPlain:
			if !c.answer() {
				return
			}
		case headPartial:
			if !c.more() {
				// net/http has something to say about a head that ends early.
				kept = c.filled > 0 && c.hand()
				return
			}
		case headOther:
			kept = c.hand()
			return
		}
	}
}

// more reads what the client sends, and returns false when that is nothing any
// more.
func (c *plainConn) more() bool {
	if c.filled == len(c.buf) {
		c.buf = append(make([]byte, 0, maxHead), c.buf...)[:maxHead]
	}
	begins := c.filled == 0
	n, err := c.Conn.Read(c.buf[c.filled:])
	c.filled += n
	if n > 0 && begins && !c.enter(waitsForHead, time.Now()) {
		return false
	}
	return n > 0 || err == nil
}

// answer answers the request in head, and returns false when the connection is
// to be closed.
func (c *plainConn) answer() bool {
	s, began := c.server, time.Now()
	if !c.enter(busy, began) {
		return false
	}
	resp := c.respond(began)
	closes := c.head.closes || resp.closes || s.draining.Load()
	if !c.enter(writes, began) || c.write(&resp, began, closes) != nil || closes {
		return false
	}
	c.filled = copy(c.buf, c.buf[len(c.head.text):c.filled])
	if c.filled > 0 {
		// Whoever sends many requests at once has no more of the processor than
		// whoever sends one and waits.
		runtime.Gosched()
		return c.enter(waitsForHead, time.Now())
	}
	if len(c.buf) > headSize {
		c.buf = make([]byte, headSize)
	}
	// Looked at once more, for a shutdown that came meanwhile closed only what was
	// idle before.
	return c.enter(waitsIdle, time.Now()) && !s.draining.Load()
}

// respond asks the core.
func (c *plainConn) respond(began time.Time) response {
	s := c.server
	resp := s.core.answer(s.until, &c.req)
	c.req.view = nil // or an idle connection would keep values that were rotated away
	if s.observe == nil {
		return resp
	}
	if c.remote == "" {
		c.remote = c.RemoteAddr().String()
	}
	return s.observed(&c.told, &c.req, c.remote, began, resp)
}

// watchAfter is how long a read may take before it is watched whether the client
// is still there. Most are over by then.
const watchAfter = 50 * time.Millisecond

// patience returns a context that ends with ctx, or when the client has gone
// while the caller waits. The caller calls stop when it has waited enough.
func (c *plainConn) patience(ctx context.Context) (_ context.Context, stop func()) {
	ctx, gone := context.WithCancel(ctx)
	w := &watch{conn: c, gone: gone, ended: make(chan struct{})}
	timer := time.AfterFunc(watchAfter, w.run)
	return ctx, func() {
		if !timer.Stop() {
			w.stop()
		}
		gone()
	}
}

// watch reads ahead while a request is being answered, for that is how it shows
// that a client has gone.
type watch struct {
	conn    *plainConn
	gone    context.CancelFunc
	stopped atomic.Bool
	ended   chan struct{}
}

func (w *watch) run() {
	defer close(w.ended)
	c := w.conn
	for !w.stopped.Load() {
		// A client that fills the buffer with further requests is there.
		if c.filled == len(c.buf) {
			return
		}
		n, err := c.Conn.Read(c.buf[c.filled:])
		c.filled += n
		if err != nil {
			if !w.stopped.Load() {
				w.gone()
			}
			return
		}
	}
}

// stop ends the reading, and returns when nobody else looks at the buffer.
func (w *watch) stop() {
	w.stopped.Store(true)
	_ = w.conn.Conn.SetReadDeadline(time.Unix(1, 0))
	<-w.ended
	_ = w.conn.Conn.SetReadDeadline(time.Time{})
}

// hand gives the connection, with what was read of it, to net/http. It returns
// false if that takes no connections any more.
func (c *plainConn) hand() bool {
	if !c.enter(handedWaits, time.Now()) {
		return false
	}
	c.tracked.pending = c.buf[:c.filled]
	select {
	case c.server.handed <- c.tracked:
		return true
	case <-c.server.ended:
		return false
	}
}

// handedListener is where net/http gets its connections from.
type handedListener struct{ server *Server }

// Accept implements [net.Listener].
func (l handedListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.server.handed:
		return c, nil
	case <-l.server.ended:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener]; the server closes its own.
func (l handedListener) Close() error { return nil }

// Addr implements [net.Listener].
func (l handedListener) Addr() net.Addr { return l.server.listener.Addr() }

// maxCopied is up to which size a body is copied behind its head, to be written
// with it at once; a larger one is written from where it is.
const maxCopied = 16 << 10

var outs = sync.Pool{New: func() any { return new([]byte) }}

// write writes an answer. It blocks until the client has taken it, or has been
// given up.
func (c *plainConn) write(r *response, now time.Time, closes bool) error {
	out := outs.Get().(*[]byte) //nolint:errcheck // nothing else is in the pool
	b := r.appendHead((*out)[:0], now, closes)
	var err error
	if len(r.body) <= maxCopied {
		b = append(b, r.body...)
		_, err = c.Conn.Write(b)
	} else {
		parts := net.Buffers{b, r.body}
		_, err = parts.WriteTo(c.Conn)
	}
	clear(b) // or values would outlive their rotation in the pool
	*out = b
	outs.Put(out)
	return err
}

// appendHead appends the status line and the header of an answer.
func (r *response) appendHead(b []byte, now time.Time, closes bool) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(r.status), 10)
	b = append(append(append(b, ' '), http.StatusText(r.status)...), "\r\n"...)
	if r.json {
		b = append(b, "Cache-Control: no-store\r\nContent-Type: application/json\r\n"...)
	}
	if r.stale {
		if age := r.age(); age != "" {
			b = append(append(append(b, "Age: "...), age...), "\r\n"...)
		}
		b = append(b, "X-Secretsd-Stale: true\r\n"...)
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(r.body)), 10)
	b = append(append(b, "\r\nDate: "...), dateOf(now)...)
	if closes {
		b = append(b, "\r\nConnection: close"...)
	}
	return append(b, "\r\n\r\n"...)
}

// stamp is the text of a second.
type stamp struct {
	second int64
	text   string
}

var lastStamp atomic.Pointer[stamp]

// dateOf returns now as the Date field wants it (RFC 9110, 6.6.1), which is the
// same for a second.
func dateOf(now time.Time) string {
	second := now.Unix()
	if s := lastStamp.Load(); s != nil && s.second == second {
		return s.text
	}
	s := &stamp{second, now.UTC().Format(http.TimeFormat)}
	lastStamp.Store(s)
	return s.text
}
