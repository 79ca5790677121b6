package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"secretsd/agent/audit"
	"secretsd/agent/config"
	"secretsd/sinks/endpoint"
)

// listener is one bound address.
type listener struct {
	addr  string // as configured
	bound string
	serve func() error
	// stop frees the address at once, and shutdown ends the rest.
	stop     func()
	shutdown func(context.Context) error
	started  bool
	server   *endpoint.Server // of the endpoint's only
	handler  *atomic.Pointer[http.Handler]
}

// listeners are the sockets of the running configuration, by purpose. They
// belong to the applying goroutine.
type listeners struct {
	running map[string]*listener
	next    map[string]*listener
	// tokens are those in use.
	tokens tokenSet
	// nextAudit is the audit log that a commit puts in place.
	nextAudit *audit.Log
	// onCommit are the steps of a reload that cannot fail, and view is what goes
	// with the configuration, nil before there is any.
	onCommit []func()
	view     *endpoint.View
	// follow loads the local secrets again when their file changes.
	follow    func(context.Context)
	following string
	unfollow  context.CancelFunc
}

const (
	endpointListener  = "endpoint"
	socketListener    = "endpoint socket"
	telemetryListener = "telemetry"
	localListener     = "local"
)

// prepare binds what b needs and is not bound yet, and reads its tokens. With
// an error everything is as it was.
func (l *listeners) prepare(ctx context.Context, a *Agent, b *build) error {
	l.next, l.onCommit = map[string]*listener{}, nil
	err := errors.Join(
		l.prepareEndpoint(ctx, a, b.cfg),
		l.prepareTelemetry(ctx, a, b.cfg.Telemetry),
		l.prepareLocal(ctx, a, b),
		l.prepareAudit(a, b.cfg.Audit),
	)
	if err == nil {
		return nil
	}
	for name, n := range l.next {
		if l.running[name] != n {
			_ = n.shutdown(ctx)
		}
	}
	closeAudit(l.nextAudit)
	l.next, l.onCommit, l.nextAudit = nil, nil, nil
	return err
}

func (l *listeners) prepareEndpoint(ctx context.Context, a *Agent, cfg *config.Config) error {
	e := cfg.Endpoint
	if e == nil {
		l.onCommit = append(l.onCommit, func() {
			l.tokens = nil
			a.open.SetLimit(openLimit(0))
			a.seen.traffic.keep(nil)
		})
		return nil
	}
	tokens, err := l.prepareTokens(a, cfg)
	if err != nil {
		return err
	}
	opts, top := endpointOptions(e, a.log), tokens[""].tokens
	opts.Observe, opts.Mark = a.observe, func(client string) any { return a.seen.traffic.caller(client) }
	opts.Clients, opts.Connections = tokens.clients(e), a.open
	l.onCommit = append(l.onCommit, func() {
		a.open.SetLimit(openLimit(e.MaxConnections))
		a.seen.traffic.keep(clientNames(e))
	})
	if e.UnsafeAnySignature {
		l.onCommit = append(l.onCommit, func() {
			a.log.Warn("unsafe_any_signature is set: every program that reaches the endpoint's address can read all that the top-level token can",
				"listen", e.Listen)
		})
	}
	if e.Listen != "" {
		if err := l.prepareServer(ctx, a, endpointListener, e.Listen, opts, top); err != nil {
			return err
		}
	}
	if e.Socket == nil {
		return nil
	}
	if opts, err = socketOptions(e, opts); err != nil {
		return placed(cfg, err, &e.Socket, &cfg.Endpoint)
	}
	return l.prepareServer(ctx, a, socketListener, e.Socket.Path, opts, top)
}

// prepareServer keeps or binds one of the endpoint's servers. A socket that somebody
// has removed or replaced is made again, for nobody finds the one that is served.
func (l *listeners) prepareServer(ctx context.Context, a *Agent, name, addr string, opts endpoint.Options, top *endpoint.Tokens) error {
	kept := l.running[name]
	same := kept != nil && kept.addr == addr
	if same && kept.server.InPlace() {
		l.next[name] = kept
		l.onCommit = append(l.onCommit, func() {
			if err := kept.server.Configure(opts, top, l.view); err != nil {
				a.log.Error("cannot configure the endpoint, keeping its options", "error", err)
			}
			if opts.Socket != nil {
				if err := opts.Socket.Own(); err != nil {
					a.log.Error("cannot set owner and mode of the endpoint's socket", attrs(err)...)
				}
			}
		})
		return nil
	}
	srv, err := endpoint.Listen(ctx, opts, top, a)
	if err != nil {
		return err
	}
	l.next[name] = &listener{addr: addr, bound: srv.Addr().String(), server: srv,
		serve: srv.Serve, stop: srv.StopListening, shutdown: srv.Shutdown}
	if same {
		l.onCommit = append(l.onCommit, func() {
			a.log.Warn("made the endpoint's socket again, which somebody had removed or replaced", "path", addr)
		})
	}
	if opts.Socket == nil && !onLoopback(addr) {
		l.onCommit = append(l.onCommit, func() {
			a.log.Warn("the endpoint can be reached from other machines: tokens and secrets cross the network in plain text", "listen", addr)
		})
	}
	return nil
}

func (l *listeners) prepareTelemetry(ctx context.Context, a *Agent, t *config.Telemetry) error {
	if t == nil {
		return nil
	}
	return l.prepareHTTP(ctx, a, telemetryListener, t.Listen, a.telemetry(t.Listen))
}

func (l *listeners) prepareLocal(ctx context.Context, a *Agent, b *build) error {
	conf := b.cfg.Source.Local
	if b.service == nil || conf == nil {
		l.follow, l.following = nil, ""
		return nil
	}
	l.onCommit = append(l.onCommit, func() {
		l.following = conf.Path
		l.follow = func(ctx context.Context) { _ = b.service.Watch(ctx, conf.Path) }
	})
	if conf.Listen == "" {
		return nil
	}
	return l.prepareHTTP(ctx, a, localListener, conf.Listen, b.service)
}

// prepareHTTP keeps or binds a plain HTTP listener.
func (l *listeners) prepareHTTP(ctx context.Context, a *Agent, name, addr string, h http.Handler) error {
	if kept := l.running[name]; kept != nil && kept.addr == addr {
		l.next[name] = kept
		l.onCommit = append(l.onCommit, func() { kept.handler.Store(&h) })
		return nil
	}
	current := new(atomic.Pointer[http.Handler])
	current.Store(&h)
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		err = fmt.Errorf("%s: listen on %s: %w", name, addr, err)
		if errors.Is(err, syscall.EADDRINUSE) {
			return &fault{err: err, hint: "another program listens there; choose another port"}
		}
		return err
	}
	srv := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*current.Load()).ServeHTTP(w, r) }),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10, ConnState: a.open.State,
	}
	l.next[name] = &listener{addr: addr, bound: ln.Addr().String(), handler: current,
		serve: func() error { return srv.Serve(a.open.Limit(ln)) },
		stop:  func() { _ = ln.Close() },
		shutdown: func(ctx context.Context) error {
			defer ln.Close()
			return srv.Shutdown(ctx)
		}}
	return nil
}

// commit makes what prepare made the running set, which serves v, if there is
// any yet; what is not in it any more is shut down, and its addresses are free when
// commit returns: the next reload may want them. It cannot fail.
func (l *listeners) commit(v *endpoint.View) {
	for name, old := range l.running {
		if l.next[name] != old {
			old.stop()
			go shutdownSoon(old)
		}
	}
	l.running, l.view = l.next, v
	for _, step := range l.onCommit {
		step()
	}
	l.publish(v) // on new ones
	l.next, l.onCommit, l.nextAudit, l.view = nil, nil, nil, nil
}

func shutdownSoon(l *listener) {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	_ = l.shutdown(ctx)
}

// serve starts what is bound and not being served yet.
func (l *listeners) serve(ctx context.Context, g *errgroup.Group) {
	for name, ln := range l.running {
		if ln.started {
			continue
		}
		ln.started = true
		g.Go(func() error {
			return ended(ln.serve(), name+" on "+ln.bound)
		})
	}
	l.watch(ctx, g)
}

// ended returns the error of a server that was not told to end.
func ended(err error, what string) error {
	if err == nil || errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", what, err)
}

// watch follows the file of the local secrets, if there is one.
func (l *listeners) watch(ctx context.Context, g *errgroup.Group) {
	if l.unfollow != nil {
		l.unfollow()
		l.unfollow = nil
	}
	if l.follow == nil || l.following == "" {
		return
	}
	ctx, l.unfollow = context.WithCancel(ctx)
	follow := l.follow
	g.Go(func() error { follow(ctx); return nil })
}

// shutdown ends all listeners and waits for the requests under way until ctx is
// done.
func (l *listeners) shutdown(ctx context.Context) {
	if l.unfollow != nil {
		l.unfollow()
	}
	var g errgroup.Group
	for _, ln := range l.running {
		g.Go(func() error { return ln.shutdown(ctx) })
	}
	_ = g.Wait() // a request that outlasts ctx was cut off, which is meant
}

// publish serves v on all that the endpoint listens on.
func (l *listeners) publish(v *endpoint.View) {
	for _, ln := range l.running {
		if ln.server != nil {
			ln.server.Publish(v)
		}
	}
}

// servers returns those of the endpoint.
func (l *listeners) servers() []*endpoint.Server {
	var list []*endpoint.Server
	for _, ln := range l.running {
		if ln.server != nil {
			list = append(list, ln.server)
		}
	}
	return list
}

// endpointAddr returns the endpoint's address, or its socket where it has no
// other.
func (l *listeners) endpointAddr() string {
	return cmp.Or(l.bound(endpointListener), l.bound(socketListener))
}

// bound returns the address that the listener of that purpose has, or "".
func (l *listeners) bound(name string) string {
	if ln := l.running[name]; ln != nil {
		return ln.bound
	}
	return ""
}

// Addrs are the addresses that an agent has bound; each is empty if there is
// none.
type Addrs struct{ Endpoint, Socket, Telemetry, Local string }

// Addrs returns the addresses bound. It is called before Run, or by the applying
// goroutine.
func (a *Agent) Addrs() Addrs {
	return Addrs{
		Endpoint:  a.listeners.bound(endpointListener),
		Socket:    a.listeners.bound(socketListener),
		Telemetry: a.listeners.bound(telemetryListener),
		Local:     a.listeners.bound(localListener),
	}
}
