package endpoint_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

// gate is a reader that holds its callers until the test lets them go.
type gate struct {
	entered chan struct{}
	leave   chan struct{}
}

func newGate() *gate { return &gate{entered: make(chan struct{}), leave: make(chan struct{})} }

// open lets n callers go. Which of several goes first nobody can tell, so that a
// test which holds more lets all of them go before it looks at an answer.
func (g *gate) open(t *testing.T, n int) {
	t.Helper()
	for range n {
		select {
		case g.leave <- struct{}{}:
		case <-time.After(20 * time.Second):
			t.Fatal("no held request is left to let go")
		}
	}
}

func (g *gate) Read(ctx context.Context, q endpoint.Query) (endpoint.Answer, error) {
	g.entered <- struct{}{}
	select {
	case <-g.leave:
		return endpoint.Answer{Version: version(q.ID, defaultVersion, secret.StageCurrent)}, nil
	case <-ctx.Done():
		return endpoint.Answer{}, ctx.Err()
	}
}

// soon waits for ch, and fails the test if nothing comes.
func soon[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// TestConnectionLimit is C30 to C32, counting requests in flight.
func TestConnectionLimit(t *testing.T) {
	g := newGate()
	s := start(t, endpoint.Options{MaxConnections: 1}, g, entry(version("MyTest", defaultVersion, secret.StageCurrent)))
	a := send(t, s, head("GET", "/v1/SleepyTest_6", tokenT))
	soon(t, "request A", g.entered)
	for _, headers := range [][]string{{tokenT}, {}, {"X-Forwarded-For: 1"}} {
		if got := do(t, s, "GET", "/v1/MyTest", headers...); got.status != 429 || got.body != "Connection limit exceeded" {
			t.Errorf("C30: over the limit: %d %q, want 429", got.status, got.body)
		}
	}
	if got := do(t, s, "GET", "/ping"); got.status != 200 {
		t.Errorf("C32: /ping over the limit: status %d, want 200", got.status)
	}
	idle := dial(t, s)
	g.open(t, 1)
	if got := receive(t, a, "GET"); got.status != 200 || got.body != object("SleepyTest_6", defaultVersion, secret.StageCurrent) {
		t.Errorf("C30: request A: %d %q", got.status, got.body)
	}
	// Connection A is still open, as is one that says nothing: neither counts.
	if got := do(t, s, "GET", "/v1/MyTest", tokenT); got.status != 200 {
		t.Errorf("C31: after A was answered: status %d, want 200", got.status)
	}
	_ = idle.Close()
}

func TestPingHasTwoMore(t *testing.T) {
	g := newGate()
	s := start(t, endpoint.Options{MaxConnections: 3}, g)
	var held []net.Conn
	hold := func() {
		held = append(held, send(t, s, head("GET", "/v1/held", tokenT)))
		soon(t, "a held request", g.entered)
	}
	for range 3 {
		hold()
	}
	// Lowering the limit leaves the three under way in peace, and is how more
	// than limit+2 come to be in flight.
	if got := do(t, s, "GET", "/ping"); got.status != 200 {
		t.Errorf("/ping as the 4th of 3+2: status %d, want 200", got.status)
	}
	if err := s.Configure(endpoint.Options{MaxConnections: 1}, fixedTokens(t), nil); err != nil {
		t.Fatal(err)
	}
	if got := do(t, s, "GET", "/ping"); got.status != 429 {
		t.Errorf("/ping as the 4th of 1+2: status %d, want 429", got.status)
	}
	g.open(t, len(held))
	for _, conn := range held {
		if got := receive(t, conn, "GET"); got.status != 200 {
			t.Errorf("a request under way: status %d, want 200", got.status)
		}
	}
}

// TestMalformedHeads holds what comes back for heads that are no HTTP: an
// error status and a closed connection, and a healthy server after.
func TestMalformedHeads(t *testing.T) {
	s := start(t, endpoint.Options{}, noReads(t))
	const host = "Host: localhost\r\n"
	for name, c := range map[string]struct {
		raw    string
		status int // 0: closed without an answer
	}{
		"no version":              {"GET /ping\r\n" + host + "\r\n", 400},
		"garbage":                 {"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400},
		"bad method":              {"G@T /ping HTTP/1.1\r\n" + host + "\r\n", 400},
		"space in the target":     {"GET /ping x HTTP/1.1\r\n" + host + "\r\n", 400},
		"control in the target":   {"GET /pi\x01ng HTTP/1.1\r\n" + host + "\r\n", 400},
		"bad version":             {"GET /ping HTTP/1.x\r\n" + host + "\r\n", 400},
		"HTTP/2 request line":     {"GET /ping HTTP/2.0\r\n" + host + "\r\n", 505},
		"HTTP/2 preface":          {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0},
		"no colon":                {"GET /ping HTTP/1.1\r\n" + host + "nonsense\r\n\r\n", 400},
		"space before colon":      {"GET /ping HTTP/1.1\r\n" + host + "X-Vault-Token : x\r\n\r\n", 400},
		"folded first line":       {"GET /ping HTTP/1.1\r\n X: y\r\n" + host + "\r\n", 400},
		"NUL in a value":          {"GET /ping HTTP/1.1\r\n" + host + "X: a\x00b\r\n\r\n", 400},
		"two lengths":             {"GET /ping HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
		"bad length":              {"GET /ping HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\n", 400},
		"unknown coding":          {"GET /ping HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip\r\n\r\n", 501},
		"head too large":          {"GET /ping HTTP/1.1\r\n" + host + "X: " + strings.Repeat("x", 32<<10) + "\r\n\r\n", 431},
		"many headers":            {"GET /ping HTTP/1.1\r\n" + host + strings.Repeat("X: y\r\n", 8<<10) + "\r\n", 431},
		"target too large":        {"GET /ping?" + strings.Repeat("x", 65535) + " HTTP/1.1\r\n" + host + "\r\n", 431},
		"line without end, large": {strings.Repeat("x", 64<<10), 431},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, s)
			// The server may answer and close before it has read all.
			go func() { _, _ = io.WriteString(conn, c.raw) }()
			if c.status == 0 {
				if b, err := io.ReadAll(conn); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("got %q and %v, want a closed connection", b, err)
				}
				return
			}
			if got := receive(t, conn, "GET"); got.status != c.status {
				t.Errorf("status %d, want %d", got.status, c.status)
			}
			// Closed it must be, by a reset if the rest was left unread.
			if b, err := io.ReadAll(conn); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after the answer: %q and %v, want a closed connection", b, err)
			}
		})
	}
	if got := do(t, s, "GET", "/ping"); got.status != 200 {
		t.Errorf("/ping afterwards: status %d", got.status)
	}
}

func TestKeepAliveAndPipelining(t *testing.T) {
	s := start(t, endpoint.Options{}, noReads(t), entry(version("MyTest", defaultVersion, secret.StageCurrent)))
	conn := send(t, s, head("GET", "/ping")+head("GET", "/v1/MyTest", tokenT)+head("GET", "/v1/MyTest")+
		head("GET", "/v1/MyTest", tokenT, "Content-Length: 4")+"body"+head("GET", "/ping", "Connection: close"))
	r := bufio.NewReader(conn)
	for i, want := range []string{"healthy", object("MyTest", defaultVersion, secret.StageCurrent), "Bad Token",
		object("MyTest", defaultVersion, secret.StageCurrent), "healthy"} {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(body) != want {
			t.Errorf("answer %d: %q and %v, want %q", i, body, err, want)
		}
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after Connection: close: %v, want EOF", err)
	}
}

func TestSlowHeadIsCut(t *testing.T) {
	s := start(t, endpoint.Options{Timeouts: endpoint.Timeouts{ReadHeader: 50 * time.Millisecond}}, noReads(t))
	for _, raw := range []string{"", "GET /ping HTTP/1.1\r\nHost: local"} {
		conn := send(t, s, raw)
		// The deadline of the connection fails this read if the server waits.
		if b, err := io.ReadAll(conn); err != nil || strings.Contains(string(b), "healthy") {
			t.Errorf("a head that stops after %q: got %q and %v, want a closed connection", raw, b, err)
		}
	}
}

func TestIdleConnectionIsClosed(t *testing.T) {
	s := start(t, endpoint.Options{Timeouts: endpoint.Timeouts{Idle: 50 * time.Millisecond}}, noReads(t))
	b, err := io.ReadAll(send(t, s, head("GET", "/ping")))
	if err != nil || !strings.HasSuffix(string(b), "healthy") {
		t.Errorf("got %q and %v, want an answer and then EOF", b, err)
	}
}

func TestReaderHasFifteenSecondsAndTheClientsPatience(t *testing.T) {
	ended := make(chan error, 1)
	s := start(t, endpoint.Options{}, readerFunc(func(ctx context.Context, _ endpoint.Query) (endpoint.Answer, error) {
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > 15*time.Second || time.Until(deadline) < 10*time.Second {
			t.Errorf("deadline %v (%v), want one in 15 s", deadline, ok)
		}
		ended <- nil
		<-ctx.Done()
		ended <- ctx.Err()
		return endpoint.Answer{}, ctx.Err()
	}))
	conn := send(t, s, head("GET", "/v1/x", tokenT))
	soon(t, "the read", ended)
	_ = conn.Close()
	if err := soon(t, "the read's end", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("when the client goes the context ends with %v, want canceled", err)
	}
}

// TestPanicHurtsOnlyItsRequest also shows that net/http's own words go to the
// logger that was given.
func TestPanicHurtsOnlyItsRequest(t *testing.T) {
	var log syncBuffer
	s := start(t, endpoint.Options{MaxConnections: 1, Logger: slog.New(slog.NewJSONHandler(&log, nil))},
		readerFunc(func(context.Context, endpoint.Query) (endpoint.Answer, error) { panic("boom") }),
		entry(version("MyTest", defaultVersion, secret.StageCurrent)))
	if b, err := io.ReadAll(send(t, s, head("GET", "/v1/x", tokenT))); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %q and %v, want a closed connection", b, err)
	}
	if got := do(t, s, "GET", "/v1/MyTest", tokenT); got.status != 200 {
		t.Errorf("the next request: status %d, want 200: the panic still counts as in flight", got.status)
	}
	if line := log.String(); !strings.Contains(line, `"msg":"http server reported a problem"`) || !strings.Contains(line, "boom") {
		t.Errorf("logged %q, want the panic", line)
	} else if strings.Contains(line, token) {
		t.Error("the log holds the token")
	}
}

// syncBuffer is a buffer that a server may log to while a test reads it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestShutdownDrains(t *testing.T) {
	before := runtime.NumGoroutine()
	g := newGate()
	s, err := endpoint.Listen(t.Context(), endpoint.Options{Listen: "localhost:0"}, fixedTokens(t), g)
	if err != nil {
		t.Fatal(err)
	}
	served, drained := make(chan error, 1), make(chan error, 1)
	go func() { served <- s.Serve() }()
	conn := send(t, s, head("GET", "/v1/MyTest", tokenT))
	soon(t, "the request", g.entered)
	go func() { drained <- s.Shutdown(context.Background()) }()
	if err := soon(t, "the end of listening", served); err != nil {
		t.Errorf("serve: %v, want nil after a shutdown", err)
	}
	if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("the endpoint still listens")
	}
	select {
	case err := <-drained:
		t.Fatalf("shutdown returned with a request under way: %v", err)
	default:
	}
	g.open(t, 1)
	if got := receive(t, conn, "GET"); got.status != 200 {
		t.Errorf("the request under way: status %d, want 200", got.status)
	}
	if err := soon(t, "the shutdown", drained); err != nil {
		t.Errorf("shut down: %v", err)
	}
	noMoreGoroutines(t, before)
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	before := runtime.NumGoroutine()
	g := newGate()
	s, err := endpoint.Listen(t.Context(), endpoint.Options{Listen: "127.0.0.1:0"}, fixedTokens(t), g)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	conn := send(t, s, head("GET", "/v1/MyTest", tokenT))
	soon(t, "the request", g.entered)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("shut down: %v, want canceled", err)
	}
	if b, err := io.ReadAll(conn); len(b) > 0 {
		t.Errorf("the request cut off got %q and %v, want nothing", b, err)
	}
	if err := soon(t, "the end of serving", served); err != nil {
		t.Errorf("serve: %v", err)
	}
	noMoreGoroutines(t, before)
}

func TestShutdownOfAServerNeverServed(t *testing.T) {
	s, err := endpoint.Listen(t.Context(), endpoint.Options{Listen: "127.0.0.1:0"}, fixedTokens(t), noReads(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("shut down: %v", err)
	}
	if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("the endpoint still listens")
	}
	if err := s.Serve(); err != nil {
		t.Errorf("serve after a shutdown: %v, want nil", err)
	}
}

// noMoreGoroutines waits for goroutines that are about to end.
func noMoreGoroutines(t *testing.T, before int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(end) {
			buf := make([]byte, 64<<10)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}
