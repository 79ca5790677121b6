package endpoint_test

import (
	"errors"
	"net"
	"strings"
	"testing"

	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

// hint returns the hint of the first error in the chain that has one.
func hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

func TestListenOnAPortInUse(t *testing.T) {
	s := start(t, endpoint.Options{}, noReads(t))
	_, err := endpoint.Listen(t.Context(), endpoint.Options{Listen: s.Addr().String()}, fixedTokens(t), noReads(t))
	_, port, _ := net.SplitHostPort(s.Addr().String())
	if err == nil || !strings.Contains(err.Error(), s.Addr().String()) || !strings.Contains(hint(err), "port "+port) {
		t.Errorf("got %v with hint %q, want both to name the port", err, hint(err))
	}
}

func TestListenOnLoopbackOnly(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "example.com:0", "localhost.example.com:0", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:65536", ""} {
		s, err := endpoint.Listen(t.Context(), endpoint.Options{Listen: listen}, fixedTokens(t), noReads(t))
		if err == nil {
			_ = s.Shutdown(t.Context())
			t.Errorf("listen on %q: no error", listen)
		} else if hint(err) == "" {
			t.Errorf("listen on %q: no hint with %v", listen, err)
		}
	}
}

func TestOptionsThatCannotWork(t *testing.T) {
	ok := endpoint.Options{Listen: "[::1]:0", AllowedHosts: []string{"a", "a:80", "[2001:db8::1]:80"}, TokenHeaders: []string{"X-Foo"}, PathPrefix: "/"}
	if err := ok.Check(); err != nil {
		t.Errorf("check: %v", err)
	}
	for name, o := range map[string]endpoint.Options{
		"path prefix \"v1\"":       {PathPrefix: "v1"},
		"path prefix \"/v1?\"":     {PathPrefix: "/v1?"},
		"header \"\"":              {TokenHeaders: []string{""}},
		"header \"X Foo\"":         {TokenHeaders: []string{"X Foo"}},
		"header \"X:\"":            {TokenHeaders: []string{"X:"}},
		"header \"host\"":          {TokenHeaders: []string{"host"}},
		"host \"http://a\"":        {AllowedHosts: []string{"http://a"}},
		"host \"*.example.com\"":   {AllowedHosts: []string{"*.example.com"}},
		"host \"\"":                {AllowedHosts: []string{""}},
		"limit connections to -1:": {MaxConnections: -1},
	} {
		o.Listen = "127.0.0.1:0"
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), name) || hint(err) == "" {
			t.Errorf("want an error with a hint naming %s, got %v with hint %q", name, err, hint(err))
		}
	}
	all := endpoint.Options{PathPrefix: "x", MaxConnections: -1, TokenHeaders: []string{" "}}
	if err := all.Check(); err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("want all four errors at once, got %v", err)
	}
}

// TestTokenHeadersThatNeverArrive holds that just those headers are refused in
// which no client can bring a token.
func TestTokenHeadersThatNeverArrive(t *testing.T) {
	for name, arrives := range map[string]bool{
		"X-Foo": true, "x_foo": true, "Authorization": true, "Cookie": true, "Connection": true, "Te": true, "Upgrade": true,
		"host": false, "Content-Length": false, "transfer-encoding": false, "Expect": false,
		"X-Forwarded-For": false, "forwarded": false, "Via": false, "Sec-Fetch-Site": false,
	} {
		err := endpoint.CheckTokenHeader(name)
		if arrives != (err == nil) || err != nil && hint(err) == "" {
			t.Errorf("%s: got %v with hint %q", name, err, hint(err))
		}
		if !arrives {
			continue
		}
		s := start(t, endpoint.Options{TokenHeaders: []string{name}}, noReads(t), entry(version("MyTest", defaultVersion, secret.StageCurrent)))
		if got := do(t, s, "GET", "/v1/MyTest", name+": "+token); got.status != 200 {
			t.Errorf("a token in %s is answered with status %d", name, got.status)
		}
	}
}

func TestConfigureChangesNothingOnError(t *testing.T) {
	s := start(t, endpoint.Options{}, noReads(t), entry(version("MyTest", defaultVersion, secret.StageCurrent)))
	if err := s.Configure(endpoint.Options{PathPrefix: "no", TokenHeaders: []string{"X-Foo"}}, fixedTokens(t), nil); err == nil {
		t.Error("a prefix without a slash was accepted")
	}
	if err := s.Configure(endpoint.Options{}, nil, nil); err == nil {
		t.Error("no tokens were accepted")
	}
	if got := do(t, s, "GET", "/v1/MyTest", tokenT); got.status != 200 {
		t.Errorf("after a refused reload: status %d, want 200", got.status)
	}
}
