package notify_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/notify"
)

// asked is a request as it arrived.
type asked struct {
	Method, Path, Agent, Type string
	Body                      string
}

// server answers with status and returns its URL and the requests.
func server(t *testing.T, status int) (url string, requests <-chan asked) {
	t.Helper()
	ch := make(chan asked, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		ch <- asked{r.Method, r.URL.RequestURI(), r.UserAgent(), r.Header.Get("Content-Type"), string(body)}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s.URL, ch
}

func request(url, method string) notify.Target {
	return via(notify.Step{HTTP: &notify.HTTP{URL: url, Method: method}})
}

func TestAProgramIsToldByARequest(t *testing.T) {
	// A proxy in the environment is not for this machine.
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1")
	t.Setenv("http_proxy", "http://192.0.2.1:1")
	url, requests := server(t, http.StatusNoContent)
	c := notify.Change{
		Reason:   notify.ReasonHeal,
		Secrets:  []notify.SecretVersion{{Name: "db", VersionID: "v1"}},
		Paths:    []string{"/run/a b"},
		Rollback: true,
	}
	if err := notify.Attempt(request(url+"/-/reload?now=1", ""), c); err != nil {
		t.Fatal(err)
	}
	got := <-requests
	var body map[string]any
	if err := json.Unmarshal([]byte(got.Body), &body); err != nil {
		t.Fatal(err)
	}
	got.Body = ""
	if diff := cmp.Diff(asked{Method: "POST", Path: "/-/reload?now=1", Agent: "secretsd", Type: "application/json"}, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	want := map[string]any{
		"target": "app", "reason": "heal", "paths": []any{"/run/a b"}, "rollback": true,
		"secrets": []any{map[string]any{"name": "db", "version_id": "v1"}},
	}
	if diff := cmp.Diff(want, body); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}

	if err := notify.Attempt(request(url, "PUT"), notify.Change{}); err != nil {
		t.Fatal(err)
	}
	if got := <-requests; got.Method != http.MethodPut || !strings.Contains(got.Body, `"secrets":[],"paths":[]`) {
		t.Errorf("request without news: %+v", got)
	}
	if err := notify.Attempt(request(url, "GET"), c); err != nil {
		t.Fatal(err)
	}
	if got := <-requests; got.Method != http.MethodGet || got.Body != "" || got.Type != "" {
		t.Errorf("request by GET: %+v", got)
	}
}

func TestAnswersThatAreNoSuccess(t *testing.T) {
	for status, part := range map[int]string{
		301: "answered 301 Moved Permanently", 307: "answered 307", 404: "answered 404 Not Found",
		500: "answered 500", 503: "answered 503 Service Unavailable", 299: "",
	} {
		url, requests := server(t, status)
		err := notify.Attempt(request(url, ""), change("/a"))
		if part == "" {
			if err != nil {
				t.Errorf("%d: %v", status, err)
			}
			continue
		}
		wantFailure(t, err, "failed", part)
		if status/100 == 3 && !strings.Contains(notify.HintOf(err), "redirects are not followed") {
			t.Errorf("%d: hint %q", status, notify.HintOf(err))
		}
		if len(requests) != 1 {
			t.Errorf("%d: %d requests, want one: redirects are not followed", status, len(requests))
		}
	}
	url, _ := server(t, http.StatusTeapot)
	teapot := request(url, "")
	teapot.HTTP.Status = http.StatusTeapot
	if err := notify.Attempt(teapot, change("/a")); err != nil {
		t.Errorf("the status that was asked for: %v", err)
	}
	url, _ = server(t, http.StatusOK)
	teapot.HTTP.URL = url
	wantFailure(t, notify.Attempt(teapot, change("/a")), "failed", "answered 200 OK")
}

func TestAProgramThatDoesNotListenYetIsAwaited(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	wantFailure(t, notify.Attempt(request("http://"+addr+"/reload", ""), change("/a")), "absent", "nobody listens at http://"+addr+"/reload")
}

// wild is a server that does what it likes with a connection.
func wild(t *testing.T, do func(net.Conn)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accept(t, ln, do)
	return ln.Addr().String()
}

// accept does the same with every connection of ln, until the test ends.
func accept(t *testing.T, ln net.Listener, do func(net.Conn)) {
	t.Helper()
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				do(conn)
			}()
		}
	}()
}

// silence reads and says nothing.
func silence(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// head reads a request's head.
func head(conn net.Conn) {
	for sc := bufio.NewScanner(conn); sc.Scan() && sc.Text() != ""; {
	}
}

func TestARequestIsCutAndItsAnswerBounded(t *testing.T) {
	var wrote atomic.Int64
	silent := wild(t, silence)
	flood := wild(t, func(conn net.Conn) {
		head(conn)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		for b := make([]byte, 64<<10); ; {
			n, err := conn.Write(b)
			wrote.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	trickle := wild(t, func(conn net.Conn) {
		head(conn)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn)
	})
	rubbish := wild(t, func(conn net.Conn) {
		head(conn)
		_, _ = io.WriteString(conn, "hunter2 hunter2 hunter2\r\n\r\n")
	})
	attempt := func(addr string) error {
		target := request("http://"+addr+"/", "")
		target.Timeout = time.Second
		return notify.Attempt(target, change("/a"))
	}
	wantFailure(t, attempt(silent), "failed", "was not answered in time")
	if err := attempt(flood); err != nil {
		t.Errorf("a flood after a good answer: %v", err)
	}
	if err := attempt(trickle); err != nil {
		t.Errorf("an answer that never ends: %v", err)
	}
	if n := wrote.Load(); n > 16<<20 {
		t.Errorf("%d bytes of an answer were taken", n)
	}
	if err := attempt(rubbish); err == nil {
		t.Error("rubbish is an answer")
	}
}

// localhost is this machine whatever a resolver says, and over both protocols.
func TestLocalhostIsNotLookedUp(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Logf("%s: %v", addr, err)
			continue
		}
		s := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
		go func() { _ = s.Serve(ln) }()
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		if err := notify.Attempt(request("http://localhost:"+port+"/", ""), change("/a")); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
		if err := notify.Ask(&notify.Probe{TCP: "localhost:" + port}, time.Minute); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
		_ = s.Shutdown(context.Background())
	}
}

func TestProbes(t *testing.T) {
	well, _ := server(t, http.StatusOK)
	ill, _ := server(t, http.StatusServiceUnavailable)
	addr := strings.TrimPrefix(well, "http://")
	silent := wild(t, silence)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	for name, tc := range map[string]struct {
		probe notify.Probe
		part  string
	}{
		"http":         {notify.Probe{HTTP: &notify.HTTP{URL: well}}, ""},
		"http 503":     {notify.Probe{HTTP: &notify.HTTP{URL: ill}}, "answered 503"},
		"wanted 503":   {notify.Probe{HTTP: &notify.HTTP{URL: ill, Status: 503}}, ""},
		"http hangs":   {notify.Probe{HTTP: &notify.HTTP{URL: "http://" + silent}}, "was not answered in time"},
		"tcp":          {notify.Probe{TCP: addr}, ""},
		"tcp closed":   {notify.Probe{TCP: gone.Addr().String()}, "nobody listens at"},
		"command":      {notify.Probe{Command: []string{"/bin/sh", "-c", `test "$SECRETSD_REASON $SECRETSD_TARGET $1" = "change app /a"`, "sh", "{}"}}, ""},
		"command says": {notify.Probe{Command: []string{"false"}}, "exited with status 1"},
		"hangs":        {notify.Probe{Command: []string{"sleep", "1000"}}, "did not finish within"},
	} {
		began := time.Now()
		limit := time.Minute
		if strings.HasSuffix(name, "hangs") {
			limit = 300 * time.Millisecond
		}
		err := notify.Ask(&tc.probe, limit)
		if tc.part == "" && err != nil || tc.part != "" && (err == nil || !strings.Contains(err.Error(), tc.part)) {
			t.Errorf("%s: got %v, want %q", name, err, tc.part)
		}
		if d := time.Since(began); d > 20*time.Second {
			t.Errorf("%s: took %v", name, d)
		}
	}
}
