package endpoint

import (
	"context"
	"net/http"
	"strconv"
	"strings"
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
	// Refresh asks for a read from the service whatever is known.
	Refresh bool
}

// Answer is what a Reader found.
type Answer struct {
	// Version is never nil where Read returns no error.
	Version *secret.Version
	// Confirmed and Stale are as in [Entry].
	Confirmed time.Time
	Stale     bool
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
	// inFlight is how many requests are being answered, this one included.
	inFlight int64
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
	// id and version are what the observer is told; see about.
	id      string
	version *secret.Version
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
	respNoRoles   = jsonError(http.StatusBadRequest, "AccessDeniedException",
		"roleArn needs clients[].roles in the agent's configuration, which gives none")
)

func plain(status int, body string) response {
	return response{status: status, body: []byte(body)}
}

// core decides what a request is answered. It knows nothing of the server that
// brings it.
type core struct {
	settings atomic.Pointer[settings]
	view     atomic.Pointer[View]
	reader   Reader
}

// answer checks and answers one request, in the contract's order: limit,
// forwarding, token, method, route, parameters, secret. It blocks only in the
// Reader, and there for readLimit at most.
func (c *core) answer(ctx context.Context, r *request) response {
	s := c.settings.Load()
	path, query := splitTarget(r.target)
	ping := path == pathPing
	limit := s.maxInFlight
	if ping {
		limit += pingSlack
	}
	switch {
	case r.inFlight > limit:
		return respOverLimit
	case !ping && !s.atDoor(r):
		return respForwarded
	case !ping && !s.authorized(r):
		return respBadToken
	case r.method != http.MethodGet:
		return respMethod
	case ping:
		return respHealthy
	}
	return c.route(ctx, s, path, query)
}

func (s *settings) authorized(r *request) bool {
	ok := false
	for _, name := range s.tokenHeaders {
		if token, present := r.header.first(name); present && s.tokens.Valid(token) {
			ok = true
		}
	}
	return ok
}

func (c *core) route(ctx context.Context, s *settings, path, query string) response {
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
	switch {
	case err != nil:
		return plain(http.StatusBadRequest, err.Error())
	case p.hasRole:
		return respNoRoles
	}
	if !p.refresh {
		if hit := c.view.Load().find(&p); hit != nil && hit.response.status != 0 {
			return hit.response.about(p.id, hit.version)
		}
	}
	return c.read(ctx, &p)
}

func (c *core) read(ctx context.Context, p *params) response {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	a, err := c.reader.Read(ctx, Query{ID: p.id, VersionID: p.versionID, Stage: p.stage, Refresh: p.refresh})
	if err != nil {
		return errorResponse(err).about(p.id, nil)
	}
	r := response{status: http.StatusOK, body: encodeVersion(a.Version), json: true, stale: a.Stale, confirmed: a.Confirmed}
	return r.about(p.id, a.Version)
}
