package endpoint

import (
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
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
			return context.WithValue(ctx, peerKey{}, peerBehind(c))
		},
		ConnState: s.all.State,
		ErrorLog:  log.New(logWriter{s.logger}, "", 0),
		// OPTIONS * is checked and refused like every other request.
		DisableGeneralOptionsHandler: true,
	}
}

// peerBehind returns the peer of a connection that was handed over.
func peerBehind(c net.Conn) *Peer {
	if t, ok := c.(*tracked); ok {
		return t.peer
	}
	return nil
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
	if r.Method == http.MethodPost {
		req.post = newPost(w, r)
	}
	began := time.Now()
	resp := s.core.answer(r.Context(), &req)
	if s.observe != nil {
		resp = s.observed(new(Exchange), &req, r.RemoteAddr, began, resp)
	}
	write(w, resp)
}

// newPost returns what reads the rest of a request.
func newPost(w http.ResponseWriter, r *http.Request) *post {
	return &post{
		values: func(name string) []string { return r.Header[name] },
		body:   func(limit int64) ([]byte, error) { return io.ReadAll(http.MaxBytesReader(w, r.Body, limit)) },
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
