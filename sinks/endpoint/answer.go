package endpoint

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"secretsd/agent/secret"
)

// readLimit bounds how long a request waits for the Reader (design.md, 10,
// "Start").
const readLimit = 15 * time.Second

// pingSlack is how many requests beyond the limit /ping still answers, so that
// a busy endpoint does not look dead.
const pingSlack = 2

const (
	pathPing = "/ping"
	pathGet  = "/secretsmanager/get"
)

// Reader answers what the view cannot: a refresh asked for, other stages and
// versions, secrets not read yet, ids that nobody configured.
type Reader interface {
	// Read returns the version that q asks for. It returns when ctx ends, which
	// is after 15 s or when the client has gone. An error that holds a
	// [secret.Error] with a code is answered with that code, its message and its
	// status, or 400 if it has none; anything else as timeout (where it wraps
	// context.DeadlineExceeded), connection error or internal failure.
	// After an answer to a refresh the next view published must hold it, for a
	// client expects to read what it has just been given.
	Read(ctx context.Context, q Query) (Answer, error)
}

// Query is what a client asks for, as it was typed: ID may be a configured
// name, a friendly name, an ARN, or anything else.
type Query struct {
	ID string
	// VersionID and Stage are empty where they are not asked for. With both
	// empty an id means AWSCURRENT, and a configured name that is not also an id
	// the stage of its entry.
	VersionID string
	Stage     string
	// Role is the ARN of the role to be assumed for the read, or empty. A name
	// then means a secret of the role's account. A configured secret that is read
	// with that very role answers too.
	Role string
	// Refresh asks for a read from the service whatever is known.
	Refresh bool
	// Since is from when on somebody else's read will do for Refresh, where it has
	// brought an answer. Where it is zero only one that is still under way does. It
	// may be ignored.
	Since time.Time
	// Rights are the client's. Read answers [ErrForbidden] for what they do not
	// allow, without asking the service: decided once by id, and where the
	// secret is not configured once more by the ARN that came back.
	Rights *Rights
	// Of is that of the view which was published when the rights were decided. In
	// the next a name may mean another secret.
	Of any
}

// Answer is what a Reader found.
type Answer struct {
	// Name is the configured name, or empty for a secret that has none.
	Name string
	// Version is never nil where Read returns no error.
	Version *secret.Version
	// Body, if it is not nil, is that of Version, to be encoded once.
	Body *Body
	// Confirmed and Stale are as in [Entry].
	Confirmed time.Time
	Stale     bool
}

// Body is the encoded answer of one version. It is made when it is first asked
// for, and may be used by any number of goroutines.
type Body struct {
	bytes func() []byte
}

// NewBody returns the body of v.
func NewBody(v *secret.Version) *Body {
	return &Body{bytes: sync.OnceValue(func() []byte { return encodeVersion(v) })}
}

// request is all the endpoint looks at of an HTTP request.
type request struct {
	method string
	// target is the request-target as it stands on the wire.
	target string
	// host is the Host header, or the authority of an absolute target; empty if
	// there is neither.
	host   string
	http10 bool
	header header
	// peer is who is at the other end of a unix socket; nil for TCP.
	peer *Peer
	// post is there where the method is POST and nil else.
	post *post
	// extend gives the request that much time from now on, whatever the server's
	// timeouts; nil where the server cannot.
	extend func(time.Duration)
	// patience returns a context that also ends when the client has gone, and what
	// ends the watching; nil where the request's context does so already.
	patience func(context.Context) (context.Context, func())
	// view is what there was when the request came, or when it last looked again.
	view *View
	// passed are the settings whose checks at the door the same head has passed
	// before, or nil.
	passed *settings
}

// header returns the first value of a header and whether it is there at all.
// The name is spelled as net/textproto spells it.
type header interface {
	first(name string) (value string, present bool)
}

// response is an answer. Its body is shared and never written to.
type response struct {
	status    int
	body      []byte
	json      bool
	stale     bool
	confirmed time.Time
	// closes has the connection closed after the answer.
	closes bool
	// id is what the observer is told was asked for, see about, and role the one
	// that was to be assumed for it.
	id, role string
	// version is what body was made of, or nil.
	version *secret.Version
	// subject is what the answer was about, for whoever records it.
	subject subject
	// waited says that the request was one that waits for a change.
	waited bool
	// as is the outcome where it is not the one that status and body say.
	as Outcome
	// requestID is set in answers to the SDKs' protocol, and operation where its
	// caller is known. parts are the secrets of a batch.
	requestID, operation string
	parts                []Part
}

// subject is what an answer was about. Each field is empty where it is not
// known: client for a request that was refused at the door or for its token,
// secret and version where no value was given.
type subject struct {
	client string
	// mark is the client's, or nil.
	mark any
	// secret is the configured name, or the ARN of one that is not configured;
	// version the version id of the value given.
	secret, version string
}

// age returns the seconds since the value was last confirmed, as Age wants them
// (RFC 9111, 5.1), or "" where that is not known.
func (r *response) age() string {
	if r.confirmed.IsZero() {
		return ""
	}
	return strconv.FormatInt(int64(max(0, time.Since(r.confirmed))/time.Second), 10)
}

// The answers that never vary.
var (
	respHealthy   = plain(http.StatusOK, "healthy")
	respOverLimit = plain(http.StatusTooManyRequests, "Connection limit exceeded")
	respForwarded = plain(http.StatusBadRequest, "Forwarded")
	respBadToken  = plain(http.StatusForbidden, "Bad Token")
	respMethod    = plain(http.StatusMethodNotAllowed, "Not allowed")
	respNotFound  = plain(http.StatusNotFound, "Not found")
	respForbidden = errorResponse(ErrForbidden)
)

func plain(status int, body string) response {
	return response{status: status, body: []byte(body)}
}

// moment is what one request is answered by. The two belong together: the
// settings say who may read what is called db, and the view what that is.
type moment struct {
	settings *settings
	view     *View
}

// core decides what a request is answered. It knows nothing of the server that
// brings it.
type core struct {
	now    atomic.Pointer[moment]
	reader Reader
	// answering are the requests of known clients under way, and polls those of
	// them that wait for a change. Nobody else's count, so that whoever has no
	// token cannot take the place of one who has.
	answering, polls atomic.Int64
	// bodies are the requests whose bodies are still to come.
	bodies bodies
	// strangers are the requests that nobody known has sent.
	strangers

	// ended is closed when nobody is to wait for a change any more; nil means
	// never.
	ended <-chan struct{}

	mu   sync.Mutex
	next chan struct{} // closed by the next publish; nil where nobody waits
}

// answer checks and answers one request, in the contract's order: limit,
// forwarding, token, method, route, parameters, secret. It blocks only in the
// Reader, and there for readLimit at most.
//
// The response says who asked and what was given: whoever records answers does
// it here.
func (c *core) answer(ctx context.Context, r *request) response {
	now := c.now.Load()
	s := now.settings
	r.view = now.view
	path, query := splitTarget(r.target)
	if isSDK(r, path, query) {
		return c.sdk(ctx, s, r)
	}
	ping := path == pathPing
	limit := s.maxInFlight
	if ping {
		limit += pingSlack
	}
	switch {
	case c.full(limit):
		return respOverLimit
	case !ping && r.passed != s && !s.atDoor(r):
		return respForwarded
	}
	var who *client
	if !ping {
		r.passed = s
		if who = s.identify(r); who == nil {
			return c.refuse(ctx, respBadToken)
		}
		if !c.begin(limit) {
			return respOverLimit
		}
		defer c.end()
	}
	resp := c.allowed(ctx, s, who, r, path, query)
	if who != nil {
		resp.subject.client, resp.subject.mark = who.name, who.mark
	}
	return resp
}

// full reports whether as many requests are being answered as may be. Those that
// wait for a change have a limit of their own.
func (c *core) full(limit int64) bool { return c.answering.Load()-c.polls.Load() >= limit }

// begin counts the request of a known client, which ends with end. It returns
// false, and counts nothing, if others have come before it.
func (c *core) begin(limit int64) bool {
	if c.answering.Add(1)-c.polls.Load() > limit {
		c.end()
		return false
	}
	return true
}

func (c *core) end() { c.answering.Add(-1) }

// allowed answers a request whose client may ask; who is nil for /ping.
func (c *core) allowed(ctx context.Context, s *settings, who *client, r *request, path, query string) response {
	method := http.MethodGet
	if path == pathRefresh {
		method = http.MethodPost
	}
	switch {
	case r.method != method:
		return respMethod
	case path == pathPing:
		return respHealthy
	case path == pathRefresh:
		return c.refresh(ctx, s, who, r, query)
	case path == pathSecrets:
		if err := (&params{route: routeList}).parse(query, false); err != nil {
			return plain(http.StatusBadRequest, err.Error())
		}
		return r.view.list(who.rights)
	}
	return c.route(ctx, s, who, r, path, query)
}

func (c *core) route(ctx context.Context, s *settings, who *client, r *request, path, query string) response {
	var (
		p   params
		err error
	)
	if path == pathGet {
		p, err = parseQueryStyle(query)
	} else if id, ok := strings.CutPrefix(path, s.pathPrefix); ok {
		p, err = parsePathStyle(id, query)
	} else {
		return respNotFound
	}
	if err != nil {
		return plain(http.StatusBadRequest, err.Error())
	}
	var resp response
	if p.waitVersion != "" {
		resp = c.poll(ctx, s, r, &p)
		resp.waited = true
	} else {
		resp, _ = c.find(ctx, who, r, &p)
	}
	if p.key != "" && resp.version != nil {
		resp = withKey(resp, resp.version, p.key)
	}
	resp.role = p.role
	return resp
}

// find answers from the view, or else from the Reader.
func (c *core) find(ctx context.Context, who *client, r *request, p *params) (resp response, fromView bool) {
	if !p.refresh {
		if hit := r.view.find(p); hit != nil && hit.answers(p) {
			if hit.allowed(who.rights) && who.rights.MayAssume(p.role) {
				return hit.response.about(p.id, hit.version), true
			}
			// Whatever the Reader says: it takes the time that it takes to refuse what
			// does not exist, which would tell the two apart.
			c.read(ctx, r, p, who.rights)
			return respForbidden.about(p.id, nil), true
		}
	}
	return c.read(ctx, r, p, who.rights), false
}

func (c *core) read(ctx context.Context, req *request, p *params, rights *Rights) response {
	if req.patience != nil {
		var stop func()
		ctx, stop = req.patience(ctx)
		defer stop()
	}
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	a, err := c.reader.Read(ctx, Query{ID: p.id, VersionID: p.versionID, Stage: p.stage, Role: p.role, Refresh: p.refresh, Rights: rights, Of: req.view.Of})
	if err != nil {
		return failedRead(p.role, err).about(p.id, nil)
	}
	if a.Body == nil {
		a.Body = NewBody(a.Version)
	}
	r := response{status: http.StatusOK, body: a.Body.bytes(), json: true, stale: a.Stale, confirmed: a.Confirmed,
		subject: subject{secret: cmp.Or(a.Name, a.Version.ARN), version: a.Version.VersionID}}
	return r.about(p.id, a.Version)
}
