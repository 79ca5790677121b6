package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	targetPrefix = "secretsmanager."
	contentType  = "application/x-amz-json-1.1"
	// maxBody is the largest request read. The largest valid one, a binary
	// value of 64 KiB as base64 beside its tags, is far below it.
	maxBody = 1 << 20
)

// reply is a complete answer.
type reply struct {
	status    int
	body      []byte
	requestID string
}

// errDropped asks whoever carries the answer to break the connection.
var errDropped = errors.New("connection dropped by a fault")

// ServeHTTP answers a request of the protocol: POST /, the operation in
// X-Amz-Target, JSON in and out. It asks for no credentials, so it must listen
// on loopback only, and it refuses with 403 what comes from a web page or
// through a name that is not this machine's (DNS rebinding): any Origin or
// Sec-Fetch-Site header, and any Host but localhost and loopback addresses.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := refuseBrowser(r); err != nil {
		s.failed(err).writeTo(w)
		return
	}
	body, err := readBody(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		s.failed(err).writeTo(w)
		return
	}
	rep, aborted := s.exchange(r.Context(), r.Method, r.URL.Path, r.Header, body)
	if aborted != nil {
		// The client is gone or shall believe the server is. net/http closes
		// the connection and logs nothing for this value.
		panic(http.ErrAbortHandler)
	}
	rep.writeTo(w)
}

func (rep *reply) writeTo(w http.ResponseWriter) {
	rep.header(w.Header())
	w.WriteHeader(rep.status)
	// A failed write means that the client has gone; nobody is left to tell.
	_, _ = w.Write(rep.body)
}

func (rep *reply) header(h http.Header) {
	h.Set("X-Amzn-Requestid", rep.requestID)
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(rep.body)))
}

// Transport returns a round tripper that hands requests to the service in
// process, whatever their host: the AWS SDK's client reaches it without a
// socket. Answers are complete when they are returned. A request's body is
// read to its end before its context is looked at. It keeps no connections and
// is safe for concurrent use.
func (s *Service) Transport() http.RoundTripper { return transport{s} }

type transport struct{ service *Service }

// RoundTrip implements [http.RoundTripper].
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		defer r.Body.Close()
		var err error
		if body, err = io.ReadAll(io.LimitReader(r.Body, maxBody+1)); err != nil {
			return nil, err
		}
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if len(body) > maxBody {
		return t.service.failed(errTooLarge()).response(t.service, r), nil
	}
	rep, err := t.service.exchange(r.Context(), r.Method, r.URL.Path, r.Header, body)
	if errors.Is(err, errDropped) {
		return nil, io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	return rep.response(t.service, r), nil
}

func (rep *reply) response(s *Service, r *http.Request) *http.Response {
	h := make(http.Header, 4)
	rep.header(h)
	h.Set("Date", s.now().UTC().Format(http.TimeFormat))
	return &http.Response{
		Status:        strconv.Itoa(rep.status) + " " + http.StatusText(rep.status),
		StatusCode:    rep.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        h,
		Body:          io.NopCloser(bytes.NewReader(rep.body)),
		ContentLength: int64(len(rep.body)),
		Request:       r,
	}
}

// exchange answers one request. The error is errDropped or the context's; all
// that the protocol can say is in the reply.
func (s *Service) exchange(ctx context.Context, method, path string, h http.Header, body []byte) (*reply, error) {
	op, err := route(method, path, h)
	if err != nil {
		return s.failed(err), nil
	}
	s.calls[op].Add(1)
	in, err := operations[op].decode(body)
	if err != nil {
		return s.failed(err), nil
	}
	fault, aborted := s.faultFor(ctx, op, in.id())
	switch {
	case aborted != nil:
		return nil, aborted
	case fault == nil:
	case fault.Drop:
		return nil, errDropped
	case fault.Body != nil:
		return &reply{max(fault.Status, http.StatusOK), fault.Body, s.uuid()}, nil
	case fault.Code != "":
		return s.failed(&apiError{code: fault.Code, message: fault.Message, status: fault.Status}), nil
	}
	return s.run(ctx, op, in)
}

func (s *Service) run(ctx context.Context, op string, in request) (*reply, error) {
	var v violations
	in.validate(&v)
	if err := v.err(); err != nil {
		return s.failed(err), nil
	}
	out, err := operations[op].run(ctx, s, in)
	if refused := (*apiError)(nil); errors.As(err, &refused) {
		return s.failed(refused), nil
	}
	if err != nil {
		return nil, err
	}
	rep := &reply{http.StatusOK, nil, s.uuid()}
	if out == nil {
		return rep, nil
	}
	// Only marshalling a value of an unknown kind can fail, and outputs have
	// none; a test of every operation would show it.
	if rep.body, err = json.Marshal(out); err != nil {
		return s.failed(&apiError{code: "InternalServiceError", message: "The answer could not be encoded."}), nil
	}
	return rep, nil
}

func (s *Service) failed(err *apiError) *reply {
	return &reply{err.httpStatus(), err.body(), s.uuid()}
}

// route returns the operation a request names. The refusals are those of the
// service's protocol layer: 404 for what is no request of the protocol, 400 for
// an operation it does not know.
func route(method, path string, h http.Header) (string, *apiError) {
	if method != http.MethodPost || path != "/" && path != "" {
		return "", unknownOperation(http.StatusNotFound, "The service answers POST / only.")
	}
	media, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	if media != contentType && media != "application/x-amz-json-1.0" && media != "application/json" {
		return "", unknownOperation(http.StatusNotFound, "The Content-Type must be "+contentType+".")
	}
	op, ok := strings.CutPrefix(h.Get("X-Amz-Target"), targetPrefix)
	if !ok {
		return "", unknownOperation(http.StatusBadRequest, "X-Amz-Target must be "+targetPrefix+"OPERATION.")
	}
	if _, ok := operations[op]; !ok {
		return "", unknownOperation(http.StatusBadRequest, "The local Secrets Manager does not know this operation.")
	}
	return op, nil
}

// refuseBrowser holds the rule of [Service.ServeHTTP].
func refuseBrowser(r *http.Request) *apiError {
	refused := &apiError{code: "AccessDeniedException", status: http.StatusForbidden}
	switch {
	case len(r.Header["Origin"]) > 0 || len(r.Header["Sec-Fetch-Site"]) > 0:
		refused.message = "Requests from web pages are refused."
	case !isLoopback(r.Host):
		refused.message = "The Host must be localhost or a loopback address."
	default:
		return nil
	}
	return refused
}

func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil && addr.Unmap().IsLoopback()
}

func errTooLarge() *apiError {
	return &apiError{code: "RequestEntityTooLargeException", message: "The request is larger than 1 MiB.", status: http.StatusRequestEntityTooLarge}
}

func readBody(r io.Reader) ([]byte, *apiError) {
	body, err := io.ReadAll(r)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, errTooLarge()
	}
	if err != nil {
		return nil, serialization("The request could not be read.")
	}
	return body, nil
}

// decodeJSON reads a request. Members it does not know are ignored, as the
// service does. What goes wrong is told without quoting the request, which may
// hold a secret.
func decodeJSON(body []byte, in any) *apiError {
	if !utf8.Valid(body) {
		return serialization("The request is not UTF-8.")
	}
	err := json.Unmarshal(body, in)
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		kind, _, _ := strings.Cut(wrong.Value, " ")
		return serialization(strings.ToUpper(kind) + "_VALUE can not be converted to " + wrong.Type.Kind().String())
	}
	if err != nil {
		return serialization("The request is not valid JSON.")
	}
	return nil
}
