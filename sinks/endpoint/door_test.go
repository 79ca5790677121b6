package endpoint_test

import (
	"strings"
	"testing"

	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

func TestHeadersOfProxiesAndBrowsersAreRefused(t *testing.T) {
	s := start(t, endpoint.Options{}, noReads(t), entry(version("MyTest", defaultVersion, secret.StageCurrent)))
	for _, header := range []string{
		"X-Forwarded-For: 1.2.3.4", "Forwarded: for=1.2.3.4", "forwarded:", "Via: 1.1 proxy", "VIA:",
		"Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-origin", "sec-fetch-site: none",
	} {
		for _, token := range []string{tokenT, "X-Nothing: 1"} {
			got := do(t, s, "GET", "/v1/MyTest", header, token)
			if got.status != 400 || got.body != "Forwarded" {
				t.Errorf("%s with %s: %d %q, want 400 Forwarded", header, token, got.status, got.body)
			}
		}
		if got := do(t, s, "GET", "/ping", header); got.status != 200 {
			t.Errorf("%s on /ping: status %d, want 200", header, got.status)
		}
	}
	if got := do(t, s, "GET", "/v1/MyTest", tokenT, "Origin: http://evil.example"); len(got.header.Values("Access-Control-Allow-Origin")) > 0 {
		t.Error("an answer allows another origin")
	}
}

// withHost sends a request whose head after the request line is given whole.
func withHost(t *testing.T, s *endpoint.Server, line string, headers ...string) reply {
	t.Helper()
	conn := send(t, s, line+"\r\n"+strings.Join(append(headers, tokenT), "\r\n")+"\r\n\r\n")
	defer conn.Close()
	return receive(t, conn, "GET")
}

func TestHostMustBeLoopbackOrAllowed(t *testing.T) {
	s := start(t, endpoint.Options{AllowedHosts: []string{"Secrets.Internal", "agent:8080", "[2001:db8::1]"}}, noReads(t),
		entry(version("MyTest", defaultVersion, secret.StageCurrent)))
	for host, want := range map[string]int{
		"localhost": 200, "LOCALHOST:1": 200, "localhost:": 200, "127.0.0.1": 200, "127.0.0.1:2773": 200, "127.255.1.2:80": 200,
		"[::1]": 200, "[::1]:2773": 200, "[::ffff:127.0.0.1]:1": 200,
		"secrets.internal": 200, "SECRETS.INTERNAL:99": 200, "agent:8080": 200, "[2001:db8::1]:5": 200,
		"agent": 400, "agent:8081": 400, "secrets.internal.evil.example": 400,
		"": 400, "evil.example": 400, "evil.example:2773": 400, "localhost.evil.example": 400, "127.0.0.1.evil.example:2773": 400,
		"127.1": 400, "2130706433": 400, "0.0.0.0:2773": 400, "10.0.0.1": 400, "[::]:2773": 400, "[fe80::1]": 400,
		"localhost:2773:1": 400, "localhost:port": 400, "[::1": 400, "[::1]x": 400, "[localhost]x": 400,
	} {
		got := withHost(t, s, "GET /v1/MyTest HTTP/1.1", "Host: "+host)
		if got.status != want {
			t.Errorf("Host %q: status %d, want %d (%s)", host, got.status, want, got.body)
		}
	}
	if got := withHost(t, s, "GET /ping HTTP/1.1", "Host: evil.example"); got.status != 200 {
		t.Errorf("/ping with another Host: status %d, want 200", got.status)
	}
}

func TestHostOfOtherRequestForms(t *testing.T) {
	s := start(t, endpoint.Options{}, noReads(t), entry(version("MyTest", defaultVersion, secret.StageCurrent)))
	for _, c := range []struct {
		line   string
		host   []string
		status int
	}{
		{"GET /v1/MyTest HTTP/1.0", nil, 200},
		{"GET /v1/MyTest HTTP/1.0", []string{"Host: evil.example"}, 400},
		{"GET /v1/MyTest HTTP/1.1", nil, 400},
		{"GET /v1/MyTest HTTP/1.1", []string{"Host: localhost", "Host: localhost"}, 400},
		// The authority of an absolute target is what counts (RFC 9112, 3.2.2).
		{"GET http://127.0.0.1:2773/v1/MyTest HTTP/1.1", []string{"Host: localhost"}, 200},
		{"GET http://evil.example/v1/MyTest HTTP/1.1", []string{"Host: localhost"}, 400},
		{"CONNECT evil.example:443 HTTP/1.1", []string{"Host: localhost"}, 400},
		{"CONNECT 127.0.0.1:2773 HTTP/1.1", []string{"Host: localhost"}, 405},
		{"GET http://127.0.0.1:2773 HTTP/1.1", []string{"Host: localhost"}, 404},
		{"GET http://127.0.0.1:2773?secretId=MyTest HTTP/1.1", []string{"Host: localhost"}, 404},
	} {
		if got := withHost(t, s, c.line, c.host...); got.status != c.status {
			t.Errorf("%s %q: status %d, want %d (%s)", c.line, c.host, got.status, c.status, got.body)
		}
	}
}
