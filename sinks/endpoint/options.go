package endpoint

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
	"time"
)

// Defaults of [Options].
const (
	DefaultPathPrefix     = "/v1/"
	DefaultMaxConnections = 800
)

// DefaultTokenHeaders returns the headers the peer's clients send their token
// in.
func DefaultTokenHeaders() []string {
	return []string{"X-Aws-Parameters-Secrets-Token", "X-Vault-Token"}
}

// Options say where the endpoint listens and whom it answers. A zero field
// means its default.
type Options struct {
	// Listen is host:port, where host is a loopback address or localhost. Port
	// 0 takes a free one. There is no default. Not looked at where there is a
	// Socket.
	Listen string
	// AnyAddress permits a Listen address that other machines can reach.
	AnyAddress bool
	// Socket is listened on in place of Listen where it is not nil.
	Socket *Socket
	// TokenHeaders are the headers a token may come in; a request passes if any
	// of them holds a valid one. Default: [DefaultTokenHeaders].
	TokenHeaders []string
	// PathPrefix is what comes before the id in a path-style request; it need
	// not end in a slash. Default: [DefaultPathPrefix].
	PathPrefix string
	// AllowedHosts are Host headers accepted beside localhost and loopback
	// addresses: a name for any port of it, or name:port.
	AllowedHosts []string
	// MaxConnections is how many requests are answered at a time; /ping has two
	// more. Default: [DefaultMaxConnections].
	MaxConnections int
	// Connections are shared with the other servers that are given the same.
	// Default: the server's own, with room for twice MaxConnections and some.
	Connections *Connections
	// Clients are those who may read some of the secrets, beside whoever has
	// one of the tokens given with the options.
	Clients []Client
	// AnySignature takes a request of the SDKs' protocol that has a signature of
	// whatever kind, over TCP, for one of the top-level token's holder if it is
	// nobody else's. There must be such a token. For programs whose keys cannot
	// be chosen: every program that reaches the address can read what that token
	// reads.
	AnySignature bool
	// Timeouts bound what a slow client can hold.
	Timeouts Timeouts
	// Logger gets what the HTTP server has to say, accept errors above all.
	// Default: nowhere.
	Logger *slog.Logger
	// Mark returns what the observer knows a client by, [DefaultClient] among
	// them; it is called for each when the options take effect, and never for a
	// request. It may be nil.
	Mark func(client string) any
	// Observe is told of every request, before its answer is written, by the
	// goroutine that serves it. The Exchange is used again afterwards. With an
	// error the client gets an internal failure instead. It may be nil.
	Observe func(*Exchange) error
}

// Timeouts bound the parts of a connection's life. Zero means the default
// beside each field. Read and Write must leave the Reader its 15 s: net/http
// ends a request's context with the first of them. They are kept to within a
// second.
type Timeouts struct {
	ReadHeader time.Duration // from connecting, later from the first byte, to the end of the head: 5s
	Read       time.Duration // from the first byte to the end of the body: 30s
	Write      time.Duration // from the head's end to the answer's last byte: 30s
	Idle       time.Duration // between two requests of a connection: 2m
}

var defaultTimeouts = Timeouts{ReadHeader: 5 * time.Second, Read: 30 * time.Second, Write: 30 * time.Second, Idle: 2 * time.Minute}

func (t Timeouts) withDefaults() Timeouts {
	d := &defaultTimeouts
	return Timeouts{
		ReadHeader: cmp.Or(t.ReadHeader, d.ReadHeader), Read: cmp.Or(t.Read, d.Read),
		Write: cmp.Or(t.Write, d.Write), Idle: cmp.Or(t.Idle, d.Idle),
	}
}

// shortest returns the shortest of the timeouts that the server keeps itself.
func (t *Timeouts) shortest() time.Duration { return min(t.ReadHeader, t.Write, t.Idle) }

// openLimit returns how many connections are open at most where the options do
// not share them: as many as can be answered, as many that wait for a change,
// and some that are idle.
func (o Options) openLimit() int {
	return 2*cmp.Or(o.MaxConnections, DefaultMaxConnections) + idleSlack
}

// idleSlack is room for idle connections and for refusals that wait.
const idleSlack = 64

// Check returns all that is wrong with o and can be told without binding
// anything, joined, each with a hint.
func (o Options) Check() error {
	_, err := o.settings(nil)
	if o.Socket != nil {
		return errors.Join(o.Socket.Check(), err)
	}
	return errors.Join(checkListen(o.Listen, o.AnyAddress), o.checkAnySignature(), err)
}

// checkAnySignature keeps the network out: who needs no key must at least be on
// this machine.
func (o Options) checkAnySignature() error {
	if o.AnySignature && checkListen(o.Listen, false) != nil {
		return withHint("listen on a loopback address, or take unsafe_any_signature away",
			"accept any signature on %s: not a loopback address", o.Listen)
	}
	return nil
}

// bind binds what the options name.
func (o Options) bind(ctx context.Context) (net.Listener, error) {
	if o.Socket != nil {
		return o.Socket.listen(ctx)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", bindAddress(o.Listen))
	if err != nil {
		return nil, bindError(o.Listen, err)
	}
	return l, nil
}

// settings is what requests are checked by: immutable, and replaced whole by a
// reload.
type settings struct {
	clients []*client
	// top is the one with the top-level tokens, or nil.
	top          *client
	anySignature bool
	tokenHeaders []string
	pathPrefix   string
	hosts        map[string]bool
	maxInFlight  int64
}

func (o Options) settings(tokens *Tokens) (*settings, error) {
	s := &settings{
		pathPrefix:  cmp.Or(o.PathPrefix, DefaultPathPrefix),
		hosts:       make(map[string]bool, len(o.AllowedHosts)),
		maxInFlight: int64(cmp.Or(o.MaxConnections, DefaultMaxConnections)), anySignature: o.AnySignature,
	}
	errs := []error{s.setHeaders(o.TokenHeaders), s.setHosts(o.AllowedHosts), s.setClients(tokens, o.Clients)}
	if !strings.HasPrefix(s.pathPrefix, "/") || strings.ContainsAny(s.pathPrefix, "?# \t\r\n") {
		errs = append(errs, withHint("the default is "+DefaultPathPrefix,
			"use path prefix %q: it must begin with / and hold no space, ? or #", s.pathPrefix))
	}
	if s.maxInFlight < 1 {
		errs = append(errs, withHint("leave it out for the default",
			"limit connections to %d: the limit must be at least 1", o.MaxConnections))
	}
	if o.Mark != nil {
		for _, c := range s.clients {
			c.mark = o.Mark(c.name)
		}
	}
	return s, errors.Join(errs...)
}

func (s *settings) setHeaders(names []string) error {
	if len(names) == 0 {
		names = DefaultTokenHeaders()
	}
	var errs []error
	for _, name := range names {
		if err := CheckTokenHeader(name); err != nil {
			errs = append(errs, err)
			continue
		}
		s.tokenHeaders = append(s.tokenHeaders, textproto.CanonicalMIMEHeaderKey(name))
	}
	return errors.Join(errs...)
}

// CheckTokenHeader returns why no token can come in the header of that name, with
// a hint, or nil.
func CheckTokenHeader(name string) error {
	why, is := "", func(other string) bool { return strings.EqualFold(name, other) }
	switch {
	case !isHeaderName(name):
		why = "no header can be called that"
	case slices.ContainsFunc(forwardedHeaders, is):
		why = "requests that have it are refused, for they come through a proxy or from a browser"
	case slices.ContainsFunc(framingHeaders, is):
		why = "it has a meaning of its own in HTTP, and a request with a token there is none"
	default:
		return nil
	}
	return withHint("name a header such as X-Vault-Token", "take the token from header %q: %s", name, why)
}

// framingHeaders are those that net/http itself acts on, or takes out, whatever
// they hold.
var framingHeaders = []string{"Host", "Content-Length", "Transfer-Encoding", "Expect"}

// isHeaderName reports whether name is a token (RFC 9110, 5.6.2).
func isHeaderName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

func (s *settings) setHosts(hosts []string) error {
	var errs []error
	for _, host := range hosts {
		name, _, ok := splitHost(host)
		if !ok || name == "" || strings.ContainsAny(name, "/*@ \t") {
			errs = append(errs, withHint("give the name clients use, with or without a port, such as secrets.internal",
				"allow host %q: not a host name", host))
			continue
		}
		s.hosts[strings.ToLower(host)] = true
	}
	return errors.Join(errs...)
}

// checkListen holds that the endpoint listens on loopback only, or with
// anyAddress on an address. Names other than localhost are refused unresolved:
// what they mean is up to somebody else's DNS.
func checkListen(listen string, anyAddress bool) error {
	const hint = "listen on a loopback address such as 127.0.0.1:2773"
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return withHint(hint, "listen on %q: not an address with a port", listen)
	}
	if _, err := netip.ParseAddr(host); !isLoopbackName(host) && (!anyAddress || err != nil) {
		return withHint(hint, "listen on %s: not a loopback address", listen)
	}
	if _, err := netip.ParseAddrPort("127.0.0.1:" + port); err != nil {
		return withHint(hint, "listen on %s: not a port number", listen)
	}
	return nil
}

// bindAddress returns what is bound for a listen address that passed
// checkListen. localhost is 127.0.0.1, which is where the peer's clients look,
// whatever /etc/hosts says.
func bindAddress(listen string) string {
	host, port, _ := net.SplitHostPort(listen)
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
