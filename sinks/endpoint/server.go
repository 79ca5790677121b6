package endpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// maxHeaderBytes bounds a request's head; net/http adds 4096 of its own. The
// longest thing a client has to say is a session token of a few kilobytes.
const maxHeaderBytes = 16 << 10

// maxHeaders is how many header fields a request may have, as with AWS's agent.
const maxHeaders = 100

// Server serves the endpoint on one address or socket. Its methods may be called from
// any goroutine.
type Server struct {
	core     core
	inFlight atomic.Int64
	http     *http.Server
	listener net.Listener
	observe  func(*Exchange) error
}

// Listen binds o.Socket or o.Listen and returns a server that answers once
// [Server.Serve] runs; until then connections wait. Options that cannot work
// and an address that cannot be bound are errors with hints. The reader must
// not be nil; nor must tokens be, unless there are clients. Tokens stay the
// caller's to reload.
func Listen(ctx context.Context, o Options, tokens *Tokens, reader Reader) (*Server, error) {
	if reader == nil {
		return nil, errors.New("serve the endpoint: no reader")
	}
	if err := o.Check(); err != nil {
		return nil, err
	}
	s := &Server{core: core{reader: reader}, observe: o.Observe}
	if err := s.Configure(o, tokens); err != nil {
		return nil, err
	}
	s.Publish(nil)
	listener, err := o.bind(ctx)
	if err != nil {
		return nil, err
	}
	s.listener = listener
	s.http = newHTTPServer(o, s)
	return s, nil
}

func bindError(listen string, err error) error {
	var hint string
	_, port, _ := net.SplitHostPort(listen)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "something else listens on port " + port + ", perhaps AWS's agent or another secretsd: stop it, or set endpoint.listen to a free port"
	case errors.Is(err, syscall.EACCES):
		hint = "ports below 1024 need CAP_NET_BIND_SERVICE: set endpoint.listen to a higher port"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = "this machine does not have that address: 127.0.0.1 is always there"
	default:
		return fmt.Errorf("bind the endpoint to %s: %w", listen, err)
	}
	return withHint(hint, "bind the endpoint to %s: %w", listen, err)
}

// Addr returns the address that is bound, with the real port where port 0 was
// asked for.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Configure replaces headers, prefix, hosts, limit, clients and tokens in one
// step; the requests under way keep the old ones. Listen, Timeouts, Logger and
// Observe belong to the socket and are not looked at. With an error nothing is
// replaced.
func (s *Server) Configure(o Options, tokens *Tokens) error {
	if tokens == nil && len(o.Clients) == 0 {
		return errors.New("serve the endpoint: no tokens and no clients")
	}
	next, err := o.settings(tokens)
	if err != nil {
		return err
	}
	s.core.settings.Store(next)
	return nil
}

// Publish serves v from the next request on. A nil view holds nothing, so that
// every request goes to the Reader, as before the first one.
func (s *Server) Publish(v *View) {
	if v == nil {
		v = NewView(nil, nil)
	}
	s.core.publish(v)
}

// Serve answers requests until [Server.Shutdown], and then returns nil.
func (s *Server) Serve() error {
	err := s.http.Serve(s.listener)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops listening, closes idle connections and waits for the requests
// under way. When ctx ends first it closes what is left and returns ctx's
// error. It works also where Serve never ran.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	// Shutdown knows only listeners that are being served.
	_ = s.listener.Close()
	if err != nil {
		_ = s.http.Close()
	}
	return err
}

func newHTTPServer(o Options, s *Server) *http.Server {
	t := o.Timeouts.withDefaults()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ReadHeaderTimeout: t.ReadHeader,
		ReadTimeout:       t.Read,
		WriteTimeout:      t.Write,
		IdleTimeout:       t.Idle,
		MaxHeaderBytes:    maxHeaderBytes,
		Protocols:         protocols,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, peerOf(c))
		},
		ErrorLog: log.New(logWriter{o.Logger}, "", 0),
		// OPTIONS * is checked and refused like every other request.
		DisableGeneralOptionsHandler: true,
	}
}

// peerKey leads from a connection's context to its *Peer.
type peerKey struct{}

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 {
		// net/http hands HTTP/2's preface to handlers that want to take over.
		panic(http.ErrAbortHandler)
	}
	if countFields(r.Header) > maxHeaders {
		w.Header()["Connection"] = []string{"close"}
		w.Header()["Content-Type"] = nil
		w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
		return
	}
	peer, _ := r.Context().Value(peerKey{}).(*Peer)
	req := request{
		method:   r.Method,
		target:   r.RequestURI,
		host:     r.Host,
		http10:   r.ProtoMinor == 0,
		header:   httpHeader(r.Header),
		peer:     peer,
		extend:   extender(w),
		inFlight: s.inFlight.Add(1),
	}
	defer s.inFlight.Add(-1)
	began := time.Now()
	write(w, s.observed(&req, r.RemoteAddr, began, s.core.answer(r.Context(), &req)))
}

// countFields counts the fields of a head as AWS's agent does; net/http has taken
// Host out.
func countFields(h http.Header) int {
	n := 1
	for _, values := range h {
		n += len(values)
	}
	return n
}

// extender returns what gives a request more time than the server's timeouts.
func extender(w http.ResponseWriter) func(time.Duration) {
	return func(d time.Duration) {
		control, until := http.NewResponseController(w), time.Now().Add(d)
		// A connection without deadlines has nothing to extend.
		_ = control.SetReadDeadline(until)
		_ = control.SetWriteDeadline(until)
	}
}

// BadTokens returns how many requests were refused because nobody known had sent
// them.
func (s *Server) BadTokens() uint64 { return s.core.badTokens.Load() }

// httpHeader is an http.Header read by canonical names.
type httpHeader http.Header

func (h httpHeader) first(name string) (string, bool) {
	if values := h[name]; len(values) > 0 {
		return values[0], true
	}
	return "", false
}

// Header values that never vary; net/http only reads them.
var (
	typeJSON = []string{"application/json"}
	noStore  = []string{"no-store"}
	isStale  = []string{"true"}
)

func write(w http.ResponseWriter, r response) {
	h := w.Header()
	// Without an entry net/http would guess a type and add it.
	h["Content-Type"] = nil
	if r.json {
		h["Content-Type"] = typeJSON
		h["Cache-Control"] = noStore
	}
	if r.stale {
		h["X-Secretsd-Stale"] = isStale
		if age := r.age(); age != "" {
			h["Age"] = []string{age}
		}
	}
	h["Content-Length"] = []string{strconv.Itoa(len(r.body))}
	w.WriteHeader(r.status)
	// A client that has gone is nobody's error.
	_, _ = w.Write(r.body)
}

// logWriter takes net/http's own log lines, which name addresses and errors of
// connections but nothing of a request.
type logWriter struct{ logger *slog.Logger }

func (l logWriter) Write(line []byte) (int, error) {
	if l.logger != nil {
		l.logger.Warn("http server reported a problem", "detail", string(bytes.TrimSpace(line)))
	}
	return len(line), nil
}
