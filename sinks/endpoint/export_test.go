package endpoint

import (
	"net"
	"net/http"
	"testing"

	"golang.org/x/time/rate"
)

// Polls returns how many requests wait for a change.
func (s *Server) Polls() int64 { return s.core.polls.Load() }

// Strangers returns how many refusals wait for their turn.
func (s *Server) Strangers() int64 { return s.core.waiting.Load() }

// MaxBodies is how many requests may wait for their bodies.
const MaxBodies = maxBodies

// Bodies returns how many do.
func (s *Server) Bodies() int {
	b := &s.core.bodies
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// MaxOpen returns how many connections may be open.
func (s *Server) MaxOpen() int64 { return s.all.limit.Load() }

// Unslowed lets as many strangers come as like to.
func (s *Server) Unslowed() { s.core.limiter.SetLimit(rate.Inf) }

// NetHTTP serves what s serves by net/http alone, on the address it returns,
// until the test ends.
func NetHTTP(t *testing.T, s *Server) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := newHTTPServer(s)
	srv.ConnState = nil
	go func() { _ = srv.Serve(NewConnections(1000).Limit(l)) }()
	t.Cleanup(func() { _ = srv.Close() })
	return l.Addr()
}

// ReadPlain returns whether b begins with a plain head, its length, and the
// request it means, as far as the core looks at it.
func ReadPlain(b []byte) (plain bool, length int, target, host string, closes bool, fields http.Header) {
	var h plainHead
	var req request
	if h.read(b, &req) != headPlain {
		return false, 0, "", "", false, nil
	}
	fields = http.Header{}
	for _, f := range h.fields {
		fields.Add(f.name, f.value)
	}
	return true, len(h.text), req.target, req.host, h.closes, fields
}

// First returns what the core sees of a header field of the plain head that b
// begins with.
func First(b []byte, name string) (string, bool) {
	var h plainHead
	h.read(b, new(request))
	return h.first(name)
}

// Idle returns how many connections wait for a request, or for the rest of one.
func (c *Connections) Idle() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for t := range c.open {
		switch phaseOf(t.now.Load()) {
		case waitsForHead, waitsIdle, handedWaits:
			n++
		}
	}
	return n
}
