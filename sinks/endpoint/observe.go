package endpoint

import (
	"bytes"
	"net/http"
	"time"

	"secretsd/agent/secret"
)

// Outcome says in one word what a request was answered, for metrics and audit.
type Outcome string

// The outcomes. Every request has exactly one.
const (
	OutcomeOK         Outcome = "ok"
	OutcomeStale      Outcome = "stale" // a value, older than its interval
	OutcomePing       Outcome = "ping"
	OutcomeLimited    Outcome = "limited"
	OutcomeForwarded  Outcome = "forwarded"
	OutcomeBadToken   Outcome = "bad_token"
	OutcomeBadRequest Outcome = "bad_request" // method, route or parameters
	OutcomeDenied     Outcome = "denied"
	OutcomeNotFound   Outcome = "not_found"
	OutcomeRefused    Outcome = "refused" // any other refusal of the service
	OutcomeFailed     Outcome = "failed"
)

// Outcomes returns all outcomes, so that each can be counted from zero.
func Outcomes() []Outcome {
	return []Outcome{OutcomeOK, OutcomeStale, OutcomePing, OutcomeLimited, OutcomeForwarded, OutcomeBadToken,
		OutcomeBadRequest, OutcomeDenied, OutcomeNotFound, OutcomeRefused, OutcomeFailed}
}

// Exchange is one request and what it is answered. It holds no value.
type Exchange struct {
	Method  string
	Outcome Outcome
	// Secret is the id as the client wrote it, or empty where the request was
	// refused before it was looked at. Anybody may have written it.
	Secret string
	// Role is the ARN of the role that the request had assumed for it, as the
	// client wrote it, or empty.
	Role string
	// ARN and VersionID are those of the version answered, or empty.
	ARN, VersionID string
	// Operation is the one that a known client named in the SDKs' protocol.
	Operation string
	// Parts are the secrets of a BatchGetSecretValue, which has no Secret.
	Parts []Part
	// Client is the client's name, empty for a request of nobody known, and Mark
	// what [Options.Mark] returned for it, or nil.
	Client string
	Mark   any
	// Remote is the address of the client's side, empty on a unix socket.
	Remote string
	// UID, GID and PID are those of a unix socket's peer; PID is 0 for others.
	UID, GID, PID int
	// Began is when the request's head had come, and Took the time from then to
	// the answer, which is still to be written.
	Began time.Time
	Took  time.Duration
	// Waited says that the request was one that waits for a change, so that the
	// time it took says nothing of the endpoint.
	Waited bool
}

// Part is one secret of a batch, with the fields of [Exchange].
type Part struct {
	Secret, ARN, VersionID string
	Outcome                Outcome
}

// observed tells the observer, if there is one, and returns what the client
// gets: r, or a failure if the observer forbids it. It writes to e.
func (s *Server) observed(e *Exchange, req *request, remote string, began time.Time, r response) response {
	*e = Exchange{Method: req.method, Outcome: r.outcome(), Secret: r.id, Role: r.role, Remote: remote, Began: began, Took: time.Since(began),
		Operation: r.operation, Parts: r.parts, Client: r.subject.client, Mark: r.subject.mark, Waited: r.waited}
	if req.peer != nil {
		e.Remote = "" // its side of a socket has no address but what it gives itself
		e.UID, e.GID, e.PID = req.peer.UID, req.peer.GID, req.peer.PID
	}
	if r.version != nil {
		e.ARN, e.VersionID = r.version.ARN, r.version.VersionID
	}
	if err := s.observe(e); err != nil {
		if r.requestID != "" {
			failed := sdkError(err)
			failed.requestID, failed.closes = r.requestID, r.closes
			return failed
		}
		return jsonError(http.StatusInternalServerError, internalFailure, "")
	}
	return r
}

// about returns r with what the observer is told of it.
func (r response) about(id string, v *secret.Version) response {
	r.id, r.version = id, v
	return r
}

func (r *response) outcome() Outcome {
	if r.as != "" {
		return r.as
	}
	switch r.status {
	case http.StatusOK:
		switch {
		case r.stale:
			return OutcomeStale
		case !r.json:
			return OutcomePing
		}
		return OutcomeOK
	case http.StatusTooManyRequests:
		return OutcomeLimited
	case http.StatusForbidden:
		if !r.json {
			return OutcomeBadToken
		}
	case http.StatusBadRequest:
		if !r.json && &r.body[0] == &respForwarded.body[0] {
			return OutcomeForwarded
		}
	}
	switch {
	case r.status >= 500:
		return OutcomeFailed
	case !r.json:
		return OutcomeBadRequest
	case isCode(r.body, "AccessDeniedException"):
		return OutcomeDenied
	case isCode(r.body, "ResourceNotFoundException"):
		return OutcomeNotFound
	default:
		return OutcomeRefused
	}
}

// isCode reports whether body is what [encodeError] makes for code.
func isCode(body []byte, code string) bool {
	return bytes.HasPrefix(body, []byte(`{"__type":"`+code+`"`))
}
