package endpoint

import (
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"time"
)

// maxHeaderBytes bounds a request's head; net/http adds 4096 of its own. The
// longest thing a client has to say is a session token of a few kilobytes.
const maxHeaderBytes = 16 << 10

// maxHeaders is how many header fields a request may have, as with AWS's agent.
const maxHeaders = 100

// newHTTPServer returns what answers the requests that are not plain.
func newHTTPServer(s *Server) *http.Server {
	t := &s.timeouts
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
			return context.WithValue(ctx, connKey{}, c)
		},
		ConnState: s.all.State,
		ErrorLog:  log.New(logWriter{s.logger}, "", 0),
		// OPTIONS * is checked and refused like every other request.
		DisableGeneralOptionsHandler: true,
	}
}

// connKey leads from a connection's context to its *tracked.
type connKey struct{}

// serveHTTP has a request answered. Only while that lasts does the connection
// count as busy: before and after it is the client who is waited for.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	t, ok := r.Context().Value(connKey{}).(*tracked)
	// net/http hands HTTP/2's preface to handlers that want to take over.
	if !ok || r.ProtoMajor != 1 || !t.enter(handedBusy, time.Now()) {
		panic(http.ErrAbortHandler)
	}
	runtime.Gosched() // as for further plain requests
	resp := s.respondHTTP(w, r, t)
	t.enter(handedHalf, time.Now())
	write(w, resp)
}

func (s *Server) respondHTTP(w http.ResponseWriter, r *http.Request, t *tracked) response {
	if countFields(r.Header) > maxHeaders {
		return response{status: http.StatusRequestHeaderFieldsTooLarge, closes: true}
	}
	req := request{
		method: r.Method,
		target: r.RequestURI,
		host:   r.Host,
		http10: r.ProtoMinor == 0,
		header: httpHeader(r.Header),
		peer:   t.peer,
		extend: extender(w),
	}
	if r.Method == http.MethodPost {
		req.post = newPost(w, r, t)
	}
	began := time.Now()
	resp := s.core.answer(r.Context(), &req)
	if s.observe != nil {
		resp = s.observed(new(Exchange), &req, r.RemoteAddr, began, resp)
	}
	return resp
}

// newPost returns what reads the rest of a request.
func newPost(w http.ResponseWriter, r *http.Request, t *tracked) *post {
	return &post{
		values: func(name string) []string { return r.Header[name] },
		body: func(limit int64) ([]byte, error) {
			t.enter(handedHalf, time.Now())
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
			if !t.enter(handedBusy, time.Now()) {
				return nil, net.ErrClosed
			}
			return body, err
		},
		// A connection without deadlines is none that has a limit.
		cut: func() { _ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) },
	}
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
	typeSDK  = []string{sdkContentType}
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
	if r.requestID != "" {
		h["Content-Type"] = typeSDK
		h["X-Amzn-Requestid"] = []string{r.requestID}
	}
	if r.stale {
		h["X-Secretsd-Stale"] = isStale
		if age := r.age(); age != "" {
			h["Age"] = []string{age}
		}
	}
	if r.closes {
		h["Connection"] = []string{"close"}
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
	l.logger.Warn("http server reported a problem", "detail", string(bytes.TrimSpace(line)))
	return len(line), nil
}
