package endpoint

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"time"
)

// The SDKs' own protocol, AWS JSON 1.1 (Smithy specification): POST /, the
// operation in X-Amz-Target, JSON in and out.
const (
	sdkTarget      = "X-Amz-Target"
	sdkPrefix      = "secretsmanager."
	sdkContentType = "application/x-amz-json-1.1"
	// maxSDKBody is more than the largest input there is, twenty ids of 2048
	// characters (BatchGetSecretValue, API reference).
	maxSDKBody = 64 << 10
	// maxOperation is longer than any operation's name.
	maxOperation = 64
)

// post is what only a request with a body has.
type post struct {
	// values returns all values of a header, by its name as net/textproto spells
	// it.
	values func(name string) []string
	// body reads the body, and fails where it is longer than limit or does not
	// come before the server's read timeout.
	body func(limit int64) ([]byte, error)
	// cut has a read of the body fail that is under way, or the next one.
	cut func()
	// read is set once the whole body has been read.
	read bool
}

// isSDK reports whether a request is one of the SDKs' protocol: exactly POST,
// the path / without a query, and a target that names the service. Every other
// request has the answer that it has without the protocol.
func isSDK(r *request, path, query string) bool {
	if r.post == nil || r.method != http.MethodPost || path != "/" || query != "" {
		return false
	}
	target, _ := r.header.first(sdkTarget)
	return strings.HasPrefix(target, sdkPrefix)
}

// sdk checks and answers a request of the SDKs' protocol, in the same order as
// any other: limit, door, caller, operation.
func (c *core) sdk(ctx context.Context, s *settings, r *request) response {
	resp := c.sdkAnswer(ctx, s, r)
	resp.requestID = newRequestID()
	// net/http would wait for the rest before it answers.
	resp.closes = resp.closes || !r.post.read
	return resp
}

func (c *core) sdkAnswer(ctx context.Context, s *settings, r *request) response {
	// A page in a browser cannot send such a request to another origin without
	// asking first, which is not answered, because of the headers it needs (Fetch
	// standard, "CORS-safelisted request-header"). Where a page passes for one of
	// this origin (DNS rebinding) it is the Host that gives it away; and whatever
	// else a page may find, its POST names its Origin, as no SDK's does.
	_, fromPage := r.header.first("Origin")
	switch {
	case c.full(s.maxInFlight):
		return sdkError(sdkLimited)
	case fromPage || !s.atDoor(r):
		return sdkError(sdkForwarded)
	}
	who, body, err := c.sdkCaller(s, r)
	if who == nil {
		resp := sdkError(err)
		if resp.as == OutcomeBadToken {
			return c.refuse(ctx, resp)
		}
		return resp
	}
	if !c.begin(s.maxInFlight) {
		return sdkError(sdkLimited)
	}
	defer c.end()
	op := operationOf(r)
	resp := c.sdkOperation(ctx, who, r, op, body)
	resp.subject.client, resp.subject.mark, resp.operation = who.name, who.mark, op
	return resp
}

// operationOf returns the operation a request names, or "" if that is no name
// or there are several.
func operationOf(r *request) string {
	targets := r.post.values(sdkTarget)
	name := strings.TrimPrefix(targets[0], sdkPrefix)
	isLetter := func(c rune) bool { return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
	if len(targets) != 1 || len(name) > maxOperation || strings.ContainsFunc(name, func(c rune) bool { return !isLetter(c) }) {
		return ""
	}
	return name
}

// sdkCaller returns who the request comes from, and its body. Who signs it
// right is meant by that; without a right signature a token or the socket's peer
// counts, as everywhere else, and after those any signature where that is
// allowed. The body of somebody who cannot be anybody is not read.
func (c *core) sdkCaller(s *settings, r *request) (*client, []byte, error) {
	var signing *client
	values := r.headerValues()
	sig, err := r.signature(values)
	other := s.identify(r)
	if other == nil && s.anySignature && err == nil && r.peer == nil {
		other = s.top
	}
	if err == nil {
		err = sig.check(values, time.Now())
	}
	if err == nil {
		if signing = s.byKeyID(sig.keyID, r.peer); signing == nil {
			err = sdkUnknownKey
		}
	}
	if signing == nil && other == nil {
		return nil, nil, err
	}
	body, readErr := c.sdkBody(r)
	switch {
	case readErr != nil:
		return nil, nil, readErr
	case signing != nil && signing.tokens.signed(&sig, sig.toSign(values, body)):
		return signing, body, nil
	case other != nil:
		return other, body, nil
	}
	return nil, nil, sdkWrongSignature
}

// signature returns what the request says to be signed by.
func (r *request) signature(values func(string) []string) (signature, error) {
	switch header := values("authorization"); {
	case len(header) == 0:
		return signature{}, sdkMissingToken
	case len(header) > 1:
		return signature{}, incomplete("There must be one Authorization header.")
	default:
		return parseAuthorization(header[0])
	}
}

// byKeyID returns the client whose name is an access key id, or nil if there is
// none that has tokens and may come from that peer.
func (s *settings) byKeyID(id string, p *Peer) *client {
	for _, c := range s.clients {
		if c.name == id && c.tokens != nil && c.admits(p) {
			return c
		}
	}
	return nil
}

// sdkBody reads the body.
func (c *core) sdkBody(r *request) ([]byte, error) {
	c.bodies.enter(r.post)
	body, err := r.post.body(maxSDKBody)
	cut := c.bodies.leave(r.post)
	if err == nil {
		r.post.read = true
		return body, nil
	}
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return nil, sdkTooLarge
	}
	if cut {
		return nil, sdkLimited
	}
	return nil, sdkUnreadable
}

// newRequestID returns a random UUID (RFC 9562, version 4).
func newRequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, since Go 1.24)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	var text [36]byte
	hex.Encode(text[:], b[:4])
	at := 8
	for _, part := range [][]byte{b[4:6], b[6:8], b[8:10], b[10:]} {
		text[at] = '-'
		at += 1 + hex.Encode(text[at+1:], part)
	}
	return string(text[:])
}
