package endpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Server serves the endpoint on one address or socket. Its methods may be called from
// any goroutine.
//
// It reads plain requests by itself, which is what makes a hit cheap: see
// [plainHead]. At the first other one it gives the connection to net/http, for
// as long as that lasts. Both ask the same core.
type Server struct {
	core     core
	timeouts Timeouts
	logger   *slog.Logger
	observe  func(*Exchange) error
	all      *Connections
	listener net.Listener

	http *http.Server
	// handed leads to net/http, and is closed to it by ended.
	handed chan net.Conn
	ended  chan struct{}
	end    func()

	// draining is set once, under mu, and then no connection begins.
	mu       sync.Mutex
	draining atomic.Bool
	conns    sync.WaitGroup
	// until is done when requests under way are to be cut off.
	until  context.Context //nolint:containedctx // of the server's life, which no caller has
	cutOff context.CancelFunc
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
	s := &Server{
		core: core{reader: reader}, observe: o.Observe, timeouts: o.Timeouts.withDefaults(), logger: o.Logger,
		all: o.Connections, handed: make(chan net.Conn), ended: make(chan struct{}),
	}
	s.core.limiter, s.core.ended = newLimiter(), s.ended
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if s.all == nil {
		s.all = NewConnections(o.openLimit())
	}
	if err := s.Configure(o, tokens, NewView(nil, nil)); err != nil {
		return nil, err
	}
	listener, err := o.bind(ctx)
	if err != nil {
		return nil, err
	}
	s.listener = listener
	s.http = newHTTPServer(s)
	s.end = sync.OnceFunc(func() { close(s.ended) })
	s.until, s.cutOff = context.WithCancel(context.WithoutCancel(ctx))
	s.all.sweepOften(s.timeouts.shortest())
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

// InPlace reports whether clients that come now find the server: false where
// somebody has removed or replaced its socket.
func (s *Server) InPlace() bool {
	l, ok := s.listener.(*socketListener)
	return !ok || l.inPlace()
}

// Configure replaces headers, prefix, hosts, limits, clients and tokens in one
// step, and with them the view, unless v is nil; the requests under way keep the
// old ones. Listen, Timeouts, Logger, Observe and Connections belong to the
// socket and are not looked at. With an error nothing is replaced.
//
// Rights go by names, and what has a name may change with the configuration: new
// clients are never answered from an old view, nor old ones from a new.
func (s *Server) Configure(o Options, tokens *Tokens, v *View) error {
	if tokens == nil && len(o.Clients) == 0 {
		return errors.New("serve the endpoint: no tokens and no clients")
	}
	if o.AnySignature && tokens == nil {
		return withHint("give endpoint.token_file, or take unsafe_any_signature away",
			"accept any signature: there is no token at the top level, so that nobody's rights would apply")
	}
	next, err := o.settings(tokens)
	if err != nil {
		return err
	}
	s.core.replace(next, v)
	return nil
}

// Publish serves v from the next request on. A nil view holds nothing, so that
// every request goes to the Reader, as before the first one.
func (s *Server) Publish(v *View) {
	if v == nil {
		v = NewView(nil, nil)
	}
	s.core.replace(nil, v)
}

// BadTokens returns how many requests were refused because nobody known had sent
// them.
func (s *Server) BadTokens() uint64 { return s.core.badTokens.Load() }

// Slowed returns how many of those had to wait for their answer.
func (s *Server) Slowed() uint64 { return s.core.slowed.Load() }

// Serve answers requests until [Server.Shutdown], and then returns nil.
func (s *Server) Serve() error {
	other := make(chan error, 1)
	go func() { other <- s.http.Serve(handedListener{s}) }()
	err := s.accept()
	s.end()
	if s.draining.Load() {
		err = nil
	}
	if other := <-other; err == nil && !errors.Is(other, http.ErrServerClosed) && !errors.Is(other, net.ErrClosed) {
		err = other
	}
	return err
}

// maxAcceptPause is how long accepting rests at most when the system is short of
// something.
const maxAcceptPause = time.Second

// accept begins connections until the listener is closed.
func (s *Server) accept() error {
	var pause time.Duration
	for {
		conn, err := s.listener.Accept()
		switch {
		case err == nil:
			pause = 0
			s.begin(conn)
		case s.draining.Load() || !isShortage(err) && !errors.Is(err, syscall.ECONNABORTED):
			return err
		case s.all.relieve(err):
		default:
			pause = min(max(2*pause, 5*time.Millisecond), maxAcceptPause)
			s.logger.Warn("cannot accept a connection to the endpoint, trying again", "error", err)
			select {
			case <-time.After(pause):
			case <-s.until.Done():
			}
		}
	}
}

// isShortage reports whether err says that the process or the system has no
// descriptor or no memory left for another connection (accept(2)).
func isShortage(err error) bool {
	for _, errno := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// begin serves conn in a goroutine of its own.
func (s *Server) begin(conn net.Conn) {
	t := s.all.admit(conn, s, peerOf(conn))
	if t == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		_ = t.Close()
		return
	}
	s.conns.Go(func() { (&plainConn{tracked: t, server: s}).serve() })
}

// StopListening frees the address, so that it can be bound again when it returns.
// Whoever is connected has an answer to one more request, and what is left is for
// [Server.Shutdown].
func (s *Server) StopListening() {
	s.mu.Lock()
	s.draining.Store(true)
	s.mu.Unlock()
	_ = s.listener.Close()
}

// Shutdown stops listening, closes idle connections, answers those that wait for
// a change with what there is, and waits for the requests under way. When ctx ends
// first it closes what is left and returns ctx's error. It works also where Serve
// never ran.
func (s *Server) Shutdown(ctx context.Context) error {
	s.StopListening()
	s.end()
	s.all.closeIdle(s)
	err := errors.Join(s.drain(ctx), s.http.Shutdown(ctx))
	s.cutOff()
	if err != nil {
		s.all.closeAll(s, waitsForHead, waitsIdle, busy, writes)
		_ = s.http.Close()
		return ctx.Err()
	}
	return nil
}

// drain waits until no plain request is under way, or until ctx is done.
func (s *Server) drain(ctx context.Context) error {
	done := make(chan struct{})
	go func() { s.conns.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
