package endpoint_test

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

// loitering are the ways to keep a connection without a token: each waits for
// the client to go on.
func loitering(t *testing.T) map[string]string {
	const host = "Host: localhost\r\n"
	const unread = 150_000 // answers, more than fit into the buffers of a connection
	return map[string]string{
		"nothing sent":                "",
		"part of a plain head":        "GET /v1/My",
		"part of another head":        "P",
		"no body after a POST":        "POST /ping HTTP/1.1\r\n" + host + "Content-Length: 100\r\n\r\n",
		"no body after a GET":         "GET /ping HTTP/1.1\r\n" + host + "Content-Length: 100\r\n\r\n",
		"no chunk":                    "POST /ping HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n",
		"no body with a wrong token":  "GET /v1/MyTest HTTP/1.1\r\n" + host + "X-Vault-Token: wrong-wrong-wrong\r\nContent-Length: 100\r\n\r\n",
		"no body after a signature":   rawPost(t, endpoint.DefaultClient, 100),
		"answers not read":            strings.Repeat("GET /ping HTTP/1.1\r\n"+host+"\r\n", unread),
		"answers of net/http, unread": strings.Repeat("GET /ping HTTP/1.0\r\nConnection: keep-alive\r\n"+host+"\r\n", unread),
	}
}

// loiter connects and sends raw, as far as the server takes it.
func loiter(t *testing.T, addr net.Addr, raw string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	go func() { _, _ = io.WriteString(conn, raw) }()
}

// TestWhoKeepsTheServerWaitingGoesFirst fills all connections in each of the
// ways, and asks with a right token.
func TestWhoKeepsTheServerWaitingGoesFirst(t *testing.T) {
	for what, raw := range loitering(t) {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			all := endpoint.NewConnections(8)
			var answered atomic.Int64
			o := endpoint.Options{Connections: all, Observe: func(*endpoint.Exchange) error { answered.Add(1); return nil }}
			s := start(t, o, noReads(t), entry(version("MyTest", defaultVersion, secret.StageCurrent)))
			s.Unslowed() // those who wait for a refusal have a limit of their own
			for range 8 {
				loiter(t, s.Addr(), raw)
			}
			settle(&answered)
			for range 8 {
				if got := asks(t, dial(t, s), "/v1/MyTest"); got != 200 {
					t.Fatalf("status %d, want 200", got)
				}
			}
			if n := all.Refused(); n > 0 {
				t.Errorf("%d connections were refused", n)
			}
		})
	}
}

// TestAnotherServersClientsGoToo has the telemetry listener's connections held.
func TestAnotherServersClientsGoToo(t *testing.T) {
	all := endpoint.NewConnections(4)
	s := start(t, endpoint.Options{Connections: all}, noReads(t), entry(version("MyTest", defaultVersion, secret.StageCurrent)))
	handled := make(chan struct{}, 4)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other := &http.Server{ConnState: all.State, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { handled <- struct{}{} })}
	go func() { _ = other.Serve(all.Limit(l)) }()
	t.Cleanup(func() { _ = other.Close() })
	for range 4 {
		loiter(t, l.Addr(), "GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
	}
	for range 4 {
		soon(t, "the other server's request", handled)
	}
	for range 4 {
		if got := asks(t, dial(t, s), "/v1/MyTest"); got != 200 {
			t.Fatalf("status %d, want 200", got)
		}
	}
}

// settle returns when n has not changed for a while.
func settle(n *atomic.Int64) {
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for last := int64(-1); last != n.Load(); <-tick.C {
		last = n.Load()
	}
}

// TestManyRequestsAtOnceDoNotHoldUpOne counts what is answered to clients that
// send without end while another waits for one answer.
func TestManyRequestsAtOnceDoNotHoldUpOne(t *testing.T) {
	var answered atomic.Int64
	o := endpoint.Options{Observe: func(*endpoint.Exchange) error { answered.Add(1); return nil }}
	s := start(t, o, noReads(t), entry(version("MyTest", defaultVersion, secret.StageCurrent)))
	const many = 50
	for range many {
		conn := dial(t, s)
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		go func() {
			for raw := strings.Repeat(head("GET", "/ping"), 1000); ; {
				if _, err := io.WriteString(conn, raw); err != nil {
					return
				}
			}
		}()
	}
	eventually(t, func() bool { return answered.Load() > 1000*many })
	var between []int64
	for range 20 {
		before := answered.Load()
		if got := do(t, s, "GET", "/v1/MyTest", tokenT).status; got != 200 {
			t.Fatalf("status %d, want 200", got)
		}
		between = append(between, answered.Load()-before)
	}
	slices.Sort(between)
	if median := between[len(between)/2]; median > 200*many {
		t.Errorf("%d answers were given to others first", median)
	}
}
