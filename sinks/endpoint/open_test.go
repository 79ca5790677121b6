package endpoint_test

import (
	"bufio"
	"context"
	"errors"
	"io"
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

// closed reports whether the server has closed the connection, at once or soon.
func closed(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err := conn.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// asks sends a request on a connection that stays open, and returns its status.
func asks(t *testing.T, conn net.Conn, target string) int {
	t.Helper()
	if _, err := io.WriteString(conn, head("GET", target, tokenT)); err != nil {
		t.Fatal(err)
	}
	return receive(t, conn, "GET").status
}

// TestTheOldestIdleConnectionGoes fills the connections of a server, by each
// kind of idle one.
func TestTheOldestIdleConnectionGoes(t *testing.T) {
	all := endpoint.NewConnections(4)
	g := newGate()
	s := start(t, endpoint.Options{Connections: all}, g, entry(version("MyTest", defaultVersion, secret.StageCurrent)))
	busy := send(t, s, head("GET", "/v1/held", tokenT))
	soon(t, "the held request", g.entered)
	// A connection is idle somewhat later than its client has the answer.
	idle := func(n int) {
		for all.Idle() != n {
			runtime.Gosched()
		}
	}
	plain := dial(t, s)
	asks(t, plain, "/ping")
	idle(1)
	posted := dial(t, s)
	// What is no plain request has net/http answer this connection.
	_, _ = io.WriteString(posted, head("POST", "/ping", "Content-Length: 0"))
	receive(t, posted, "POST")
	idle(2)
	// It says nothing, for nobody could tell here when a part of a head is read.
	silent := dial(t, s)
	idle(3)
	for i, oldest := range []net.Conn{plain, posted, silent} {
		next := dial(t, s)
		if got := asks(t, next, "/v1/MyTest"); got != 200 {
			t.Errorf("a connection above the limit: status %d, want 200", got)
		}
		if !closed(oldest) {
			t.Errorf("connection %d, the one idle for longest, is still open", i)
		}
		idle(3)
	}
	if got := all.Evicted(); got != 3 || all.Open() != 4 || all.Refused() != 0 {
		t.Errorf("%d connections closed, %d open, %d refused; want 3, 4, 0", got, all.Open(), all.Refused())
	}
	g.open(t, 1)
	if got := receive(t, busy, "GET").status; got != 200 {
		t.Errorf("the request under way: status %d, want 200", got)
	}
}

// TestALowerLimitIsReached opens one more connection after it was lowered.
func TestALowerLimitIsReached(t *testing.T) {
	all := endpoint.NewConnections(8)
	s := start(t, endpoint.Options{Connections: all}, noReads(t))
	for range 8 {
		asks(t, dial(t, s), "/ping")
	}
	all.SetLimit(3)
	if got := asks(t, dial(t, s), "/ping"); got != 200 || all.Open() != 3 || all.Evicted() != 6 {
		t.Errorf("status %d, %d connections open, %d closed; want 200, 3, 6", got, all.Open(), all.Evicted())
	}
}

func TestANewConnectionIsRefusedWhenAllAreBusy(t *testing.T) {
	all := endpoint.NewConnections(2)
	g := newGate()
	s := start(t, endpoint.Options{Connections: all}, g)
	var held []net.Conn
	for range 2 {
		held = append(held, send(t, s, head("GET", "/v1/held", tokenT)))
		soon(t, "a held request", g.entered)
	}
	if !closed(dial(t, s)) || all.Refused() != 1 {
		t.Errorf("a third connection was not refused (%d were)", all.Refused())
	}
	g.open(t, len(held))
	for _, conn := range held {
		if got := receive(t, conn, "GET").status; got != 200 {
			t.Errorf("a request under way: status %d", got)
		}
	}
	// Both are idle now.
	if got := asks(t, dial(t, s), "/ping"); got != 200 {
		t.Errorf("a connection afterwards: status %d", got)
	}
}

// TestListenersShareTheirConnections has a plain http.Server beside the endpoint,
// as the agent has.
func TestListenersShareTheirConnections(t *testing.T) {
	all := endpoint.NewConnections(2)
	s := start(t, endpoint.Options{Connections: all}, noReads(t))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other := &http.Server{ConnState: all.State, Handler: http.NotFoundHandler()}
	go func() { _ = other.Serve(all.Limit(l)) }()
	t.Cleanup(func() { _ = other.Close() })
	first, second := dial(t, s), dial(t, s)
	asks(t, first, "/ping")
	asks(t, second, "/ping")
	resp, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	// Of a body that is not read the client would not keep the connection.
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if !closed(first) {
		t.Error("the connection idle for longest is still open")
	}
	if got := asks(t, dial(t, s), "/ping"); got != 200 || !closed(second) {
		t.Errorf("the endpoint beside the other server: status %d", got)
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestManyIdleConnections opens ten thousand. They are let go of one by one, and
// who has something to say is heard.
func TestManyIdleConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 10,000 connections")
	}
	before := runtime.NumGoroutine()
	all := endpoint.NewConnections(100)
	s := start(t, endpoint.Options{Connections: all}, noReads(t), entry(version("MyTest", defaultVersion, secret.StageCurrent)))
	var open [200]net.Conn // of the client's side, which is as far as its descriptors go
	for i := range 10_000 {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if old := open[i%len(open)]; old != nil {
			_ = old.Close()
		}
		open[i%len(open)] = conn
		if i%2 == 0 {
			_, _ = io.WriteString(conn, "GET /v1/My") // and no more
		}
		if i%500 == 0 {
			if got := do(t, s, "GET", "/v1/MyTest", tokenT).status; got != 200 {
				t.Errorf("with %d connections opened: status %d", i, got)
			}
		}
		if n := all.Open(); n > 100 {
			t.Fatalf("%d connections are open", n)
		}
	}
	if n := runtime.NumGoroutine(); n > before+150 {
		t.Errorf("%d goroutines, %d before", n, before)
	}
	for _, conn := range open {
		_ = conn.Close()
	}
}

// TestWrongTokensAreSlowedDown asks with wrong tokens only, then with right ones
// while they wait.
func TestWrongTokensAreSlowedDown(t *testing.T) {
	s := start(t, endpoint.Options{MaxConnections: 30, Connections: endpoint.NewConnections(300)}, noReads(t), entry(version("MyTest", defaultVersion, secret.StageCurrent)))
	var wg sync.WaitGroup
	began := time.Now()
	for range 25 {
		for range 8 {
			wg.Go(func() {
				got := do(t, s, "GET", "/v1/MyTest", "X-Vault-Token: wrong-wrong-wrong-wrong")
				if got.status != 403 || got.body != "Bad Token" {
					t.Errorf("a wrong token: %d %q", got.status, got.body)
				}
			})
		}
	}
	for s.Strangers() < 30 {
		runtime.Gosched()
	}
	for range 20 {
		one := time.Now()
		if got := do(t, s, "GET", "/v1/MyTest", tokenT); got.status != 200 {
			t.Errorf("a right token among wrong ones: status %d", got.status)
		}
		if took := time.Since(one); took > 500*time.Millisecond {
			t.Errorf("a right token waited for %v", took)
		}
	}
	wg.Wait()
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("200 wrong tokens took %v, want at least a second for some", took)
	}
	if s.BadTokens() != 200 || s.Slowed() < 150 {
		t.Errorf("%d bad tokens, %d slowed", s.BadTokens(), s.Slowed())
	}
}

// TestAStrangersConnectionIsClosed so that the next try costs another one.
func TestAStrangersConnectionIsClosed(t *testing.T) {
	s := start(t, endpoint.Options{}, noReads(t))
	conn := dial(t, s)
	refusals := 0
	for range 40 {
		if _, err := io.WriteString(conn, head("GET", "/v1/x", "X-Vault-Token: wrong-wrong-wrong-wrong")); err != nil {
			break
		}
		resp := receive(t, conn, "GET")
		refusals++
		if resp.closes {
			break
		}
	}
	if refusals < 20 || refusals > 30 || !closed(conn) {
		t.Errorf("the connection had %d refusals", refusals)
	}
}

// TestSlowReaderIsCut has a client that asks and does not read.
func TestSlowReaderIsCut(t *testing.T) {
	big := version("big", defaultVersion, secret.StageCurrent)
	big.Text = secret.NewValue(strings.Repeat("x", 65536))
	all := endpoint.NewConnections(10)
	s := start(t, endpoint.Options{Connections: all, Timeouts: endpoint.Timeouts{Write: 100 * time.Millisecond}}, noReads(t), entry(big))
	conn := dial(t, s)
	go func() {
		for { // until the server has closed it
			if _, err := io.WriteString(conn, head("GET", "/v1/big", tokenT)); err != nil {
				return
			}
		}
	}()
	for end := time.Now().Add(10 * time.Second); all.Open() == 0; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("the connection never came")
		}
	}
	for end := time.Now().Add(10 * time.Second); all.Open() > 0; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("a client that does not read holds its connection")
		}
	}
}

// TestFurtherRequestsWaitForTheReader sends some while the endpoint looks whether
// the client is still there, which is by reading.
func TestFurtherRequestsWaitForTheReader(t *testing.T) {
	entered := make(chan struct{}, 1)
	s := start(t, endpoint.Options{}, readerFunc(func(ctx context.Context, q endpoint.Query) (endpoint.Answer, error) {
		entered <- struct{}{}
		select {
		case <-time.After(150 * time.Millisecond):
			return endpoint.Answer{Version: version(q.ID, defaultVersion, secret.StageCurrent)}, nil
		case <-ctx.Done():
			return endpoint.Answer{}, ctx.Err()
		}
	}))
	conn := send(t, s, head("GET", "/v1/slow", tokenT))
	soon(t, "the request", entered)
	_, _ = io.WriteString(conn, strings.Repeat(head("GET", "/ping"), 3))
	r := bufio.NewReader(conn)
	for i, want := range []string{object("slow", defaultVersion, secret.StageCurrent), "healthy", "healthy", "healthy"} {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != want {
			t.Errorf("answer %d: %q and %v, want %q", i, body, err, want)
		}
		_ = resp.Body.Close()
	}
}

func TestShutdownClosesConnectionsOfNetHTTPToo(t *testing.T) {
	s, err := endpoint.Listen(t.Context(), endpoint.Options{Listen: "127.0.0.1:0"}, fixedTokens(t), noReads(t))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	plain, posted := dial(t, s), dial(t, s)
	asks(t, plain, "/ping")
	_, _ = io.WriteString(posted, head("POST", "/ping", "Content-Length: 0"))
	receive(t, posted, "POST")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("shut down: %v", err)
	}
	if err := soon(t, "the end of serving", served); err != nil || !closed(plain) || !closed(posted) {
		t.Errorf("serve: %v, and a connection may still be open", err)
	}
}
