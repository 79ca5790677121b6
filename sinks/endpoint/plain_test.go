package endpoint_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

// FuzzPlainHead holds that net/http reads every head that is taken for a plain
// one as the same request, of the same length.
func FuzzPlainHead(f *testing.F) {
	for _, raw := range hostile() {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		plain, length, target, host, closes, fields := endpoint.ReadPlain(raw)
		if !plain {
			return
		}
		r := bytes.NewReader(raw)
		b := bufio.NewReaderSize(r, 16)
		req, err := http.ReadRequest(b)
		if err != nil {
			t.Fatalf("%q is no request to net/http: %v", raw[:length], err)
		}
		body, err := io.ReadAll(req.Body)
		if err != nil || len(body) > 0 || req.ContentLength != 0 || len(req.TransferEncoding) > 0 {
			t.Fatalf("%q has a body to net/http: %q and %v", raw[:length], body, err)
		}
		if used := len(raw) - r.Len() - b.Buffered(); used != length {
			t.Fatalf("%q: took %d bytes, net/http takes %d", raw, length, used)
		}
		if req.Method != http.MethodGet || req.RequestURI != target || req.Host != host || req.Close != closes || req.ProtoMajor != 1 || req.ProtoMinor != 1 {
			t.Fatalf("%q: took target %q, host %q, close %v; net/http %+v", raw[:length], target, host, closes, req)
		}
		fields.Del("Host")
		fields.Del("Connection") // which net/http keeps or not, and nobody asks for
		req.Header.Del("Connection")
		if diff := cmp.Diff(req.Header, fields); diff != "" {
			t.Fatalf("%q (-net/http +plain):\n%s", raw[:length], diff)
		}
		for name, values := range req.Header {
			if got, ok := endpoint.First(raw, name); !ok || got != values[0] {
				t.Fatalf("%q: field %s is %q, to net/http %q", raw[:length], name, got, values[0])
			}
		}
		for n := range length {
			if early, _, _, _, _, _ := endpoint.ReadPlain(raw[:n]); early {
				t.Fatalf("%q is taken for whole", raw[:n])
			}
		}
	})
}

// hostile are requests that differ between servers, and what smuggles one
// request within another.
func hostile() map[string]string {
	const host = "Host: localhost\r\n"
	const tok = tokenT + "\r\n"
	get := func(lines string) string { return "GET /v1/MyTest HTTP/1.1\r\n" + lines + "\r\n" }
	ok := get(host + tok)
	cases := map[string]string{
		"plain":                        ok,
		"two plain":                    ok + ok,
		"nothing":                      "",
		"empty line first":             "\r\n" + ok,
		"lower-case method":            "get /v1/MyTest HTTP/1.1\r\n" + host + tok + "\r\n",
		"two spaces":                   "GET  /v1/MyTest HTTP/1.1\r\n" + host + tok + "\r\n",
		"space after version":          "GET /v1/MyTest HTTP/1.1 \r\n" + host + tok + "\r\n",
		"tab for space":                "GET\t/v1/MyTest\tHTTP/1.1\r\n" + host + tok + "\r\n",
		"HTTP/1.0":                     "GET /v1/MyTest HTTP/1.0\r\n" + host + tok + "\r\n",
		"HTTP/1.0 without host":        "GET /v1/MyTest HTTP/1.0\r\n" + tok + "\r\n",
		"HTTP/1.2":                     "GET /v1/MyTest HTTP/1.2\r\n" + host + tok + "\r\n",
		"HTTP/0.9":                     "GET /v1/MyTest\r\n",
		"HTTP/1.10":                    "GET /v1/MyTest HTTP/1.10\r\n" + host + tok + "\r\n",
		"absolute target":              "GET http://localhost/v1/MyTest HTTP/1.1\r\n" + host + tok + "\r\n",
		"absolute target, other host":  "GET http://evil.test/v1/MyTest HTTP/1.1\r\n" + host + tok + "\r\n",
		"authority target":             "GET localhost:80 HTTP/1.1\r\n" + host + tok + "\r\n",
		"two slashes":                  "GET //v1/MyTest HTTP/1.1\r\n" + host + tok + "\r\n",
		"asterisk":                     "GET * HTTP/1.1\r\n" + host + tok + "\r\n",
		"bad escape in path":           "GET /v1/My%zz HTTP/1.1\r\n" + host + tok + "\r\n",
		"cut escape in path":           "GET /v1/My%2 HTTP/1.1\r\n" + host + tok + "\r\n",
		"bad escape in query":          "GET /secretsmanager/get?secretId=MyTest&versionStage=%zz HTTP/1.1\r\n" + host + tok + "\r\n",
		"fragment":                     "GET /v1/MyTest#x HTTP/1.1\r\n" + host + tok + "\r\n",
		"odd characters in target":     "GET /v1/MyTest?a=\"<>\\^`{|}[] HTTP/1.1\r\n" + host + tok + "\r\n",
		"NUL in target":                "GET /v1/My\x00Test HTTP/1.1\r\n" + host + tok + "\r\n",
		"DEL in target":                "GET /v1/My\x7fTest HTTP/1.1\r\n" + host + tok + "\r\n",
		"UTF-8 in target":              "GET /v1/MyT\u00e9st HTTP/1.1\r\n" + host + tok + "\r\n",
		"no host":                      get(tok),
		"empty host":                   get("Host:\r\n" + tok),
		"two hosts":                    get(host + host + tok),
		"two hosts, one evil":          get(host + "Host: evil.test\r\n" + tok),
		"bad host":                     get("Host: local host\r\n" + tok),
		"host with path":               get("Host: localhost/x\r\n" + tok),
		"host with user":               get("Host: a@localhost\r\n" + tok),
		"odd host":                     get("Host: [::1\r\n" + tok),
		"host with NUL":                get("Host: local\x00host\r\n" + tok),
		"space before colon":           get("Host : localhost\r\n" + tok),
		"folded":                       get(host + "X: a\r\n b\r\n" + tok),
		"folded token":                 get(host + "X-Vault-Token:\r\n " + token + "\r\n"),
		"folded first":                 "GET /v1/MyTest HTTP/1.1\r\n " + host + tok + "\r\n",
		"no colon":                     get(host + "nonsense\r\n" + tok),
		"empty name":                   get(host + ": x\r\n" + tok),
		"bad name":                     get(host + "X(y): x\r\n" + tok),
		"UTF-8 name":                   get(host + "X-\u00e9: x\r\n" + tok),
		"NUL in value":                 get(host + "X: a\x00b\r\n" + tok),
		"CR in value":                  get(host + "X: a\rb\r\n" + tok),
		"LF in value":                  get(host + "X: a\nY: b\r\n" + tok),
		"DEL in value":                 get(host + "X: a\x7fb\r\n" + tok),
		"UTF-8 in value":               get(host + "X: \u00e9\r\n" + tok),
		"blanks around the value":      get(host + "X-Vault-Token: \t " + token + " \t\r\n"),
		"many blanks":                  get(host + "X: " + strings.Repeat(" ", 500) + "\r\n" + tok),
		"LF only":                      strings.ReplaceAll(ok, "\r\n", "\n"),
		"LF only, then CRLF":           strings.ReplaceAll(ok, "\r\n", "\n") + ok,
		"LF ends the head":             "GET /v1/MyTest HTTP/1.1\r\n" + host + tok + "\n",
		"CR only":                      strings.ReplaceAll(ok, "\r\n", "\r"),
		"CR CR LF":                     "GET /v1/MyTest HTTP/1.1\r\r\n" + host + tok + "\r\n",
		"body of a GET":                get(host+tok+"Content-Length: 3\r\n") + "abc" + ok,
		"smuggled in a body":           get(host+tok+fmt.Sprintf("Content-Length: %d\r\n", len(ok))) + ok + ok,
		"no body":                      get(host+tok+"Content-Length: 0\r\n") + ok,
		"two lengths":                  get(host+tok+"Content-Length: 3\r\nContent-Length: 4\r\n") + "abcd",
		"two equal lengths":            get(host+tok+"Content-Length: 3\r\nContent-Length: 3\r\n") + "abc",
		"signed length":                get(host+tok+"Content-Length: +3\r\n") + "abc",
		"length list":                  get(host+tok+"Content-Length: 3, 3\r\n") + "abc",
		"huge length":                  get(host + tok + "Content-Length: 99999999999999999999\r\n"),
		"chunked":                      get(host+tok+"Transfer-Encoding: chunked\r\n") + "3\r\nabc\r\n0\r\n\r\n" + ok,
		"chunked and length":           get(host+tok+"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n") + "3\r\nabc\r\n0\r\n\r\n" + ok,
		"chunked, spelled oddly":       get(host+tok+"Transfer-Encoding: xchunked\r\n") + ok,
		"chunked, tab":                 get(host+tok+"Transfer-Encoding:\tchunked\r\n") + "0\r\n\r\n" + ok,
		"chunked twice":                get(host+tok+"Transfer-Encoding: chunked, chunked\r\n") + "0\r\n\r\n" + ok,
		"chunked underscore":           get(host+tok+"Transfer_Encoding: chunked\r\n") + ok,
		"bad chunk":                    get(host+tok+"Transfer-Encoding: chunked\r\n") + "zz\r\nabc\r\n0\r\n\r\n" + ok,
		"expect":                       get(host+tok+"Expect: 100-continue\r\nContent-Length: 3\r\n") + "abc",
		"expect something else":        get(host + tok + "Expect: x\r\n"),
		"upgrade":                      get(host + tok + "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
		"upgrade to HTTP/2":            get(host + tok + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"),
		"HTTP/2 preface":               "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"trailer":                      get(host + tok + "Trailer: X\r\n"),
		"close":                        get(host+tok+"Connection: close\r\n") + ok,
		"close, upper case":            get(host+tok+"CONNECTION: CLOSE\r\n") + ok,
		"close and keep":               get(host+tok+"Connection: keep-alive\r\nConnection: close\r\n") + ok,
		"close in a list":              get(host+tok+"Connection: x, close\r\n") + ok,
		"keep":                         get(host+tok+"Connection: keep-alive\r\n") + ok,
		"hop-by-hop token":             get(host+tok+"Connection: X-Vault-Token\r\n") + ok,
		"forwarded":                    get(host + tok + "x-forwarded-FOR: 1\r\n"),
		"forwarded, hidden by folding": get(host + "X: a\r\n X-Forwarded-For: 1\r\n" + tok),
		"via":                          get(host + tok + "Via:\r\n"),
		"browser":                      get(host + tok + "Sec-Fetch-Site: none\r\n"),
		"rebound":                      get("Host: evil.test\r\n" + tok),
		"wrong token":                  get(host+"X-Vault-Token: wrong-wrong-wrong\r\n") + ok,
		"two tokens":                   get(host + "X-Vault-Token: wrong-wrong-wrong\r\n" + "X-Vault-Token: " + token + "\r\n"),
		"token, underscores":           get(host + "X_Vault_Token: " + token + "\r\n"),
		"post":                         "POST /v1/MyTest HTTP/1.1\r\n" + host + tok + "Content-Length: 2\r\n\r\nab" + ok,
		"post, then plain":             "POST /ping HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n" + ok,
		"plain, then garbage":          ok + "\x16\x03\x01",
		"plain, then LF":               ok + "\n" + ok,
		"plain, then post":             ok + "POST /ping HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n" + ok,
		"garbage":                      "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
		"cut in the target":            "GET /v1/My",
		"cut in a field":               "GET /v1/MyTest HTTP/1.1\r\nHost: loc",
		"cut before the end":           ok[:len(ok)-1],
		"33 fields":                    get(host + tok + strings.Repeat("X: y\r\n", 31)),
		"100 fields":                   get(host + tok + strings.Repeat("X: y\r\n", 98)),
		"101 fields":                   get(host + tok + strings.Repeat("X: y\r\n", 100)),
		"7 KiB":                        get(host + tok + "X: " + strings.Repeat("x", 7<<10) + "\r\n"),
		"12 KiB":                       get(host + tok + "X: " + strings.Repeat("x", 12<<10) + "\r\n"),
		"32 KiB":                       get(host + tok + "X: " + strings.Repeat("x", 32<<10) + "\r\n"),
		"long target":                  "GET /ping?" + strings.Repeat("x", 9<<10) + " HTTP/1.1\r\n" + host + "\r\n",
	}
	return cases
}

// unknown is a reader that knows nothing.
var unknown = readerFunc(func(context.Context, endpoint.Query) (endpoint.Answer, error) {
	return endpoint.Answer{}, endpoint.ErrForbidden
})

// TestHostileRequestsAreReadAsNetHTTPDoes sends the same bytes to the endpoint
// and to net/http by itself, in one piece and in two.
func TestHostileRequestsAreReadAsNetHTTPDoes(t *testing.T) {
	s := start(t, endpoint.Options{}, unknown, entry(version("MyTest", defaultVersion, secret.StageCurrent)))
	s.Unslowed()
	other := endpoint.NetHTTP(t, s)
	for name, raw := range hostile() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := exchange(t, other, raw)
			for _, cut := range []int{0, 1, len(raw) / 3, len(raw) / 2, max(len(raw)-1, 0)} {
				if cut > len(raw) {
					continue
				}
				if diff := cmp.Diff(want, exchange(t, s.Addr(), raw[:cut], raw[cut:]).like(want)); diff != "" {
					t.Errorf("cut at %d (-net/http +endpoint):\n%s", cut, diff)
				}
			}
		})
	}
}

// TestMutatedRequestsAreReadAsNetHTTPDoes changes some bytes of them.
func TestMutatedRequestsAreReadAsNetHTTPDoes(t *testing.T) {
	s := start(t, endpoint.Options{}, unknown, entry(version("MyTest", defaultVersion, secret.StageCurrent)))
	s.Unslowed()
	other := endpoint.NetHTTP(t, s)
	var names []string
	cases := hostile()
	for name, raw := range cases {
		if len(raw) > 0 && len(raw) < 1024 {
			names = append(names, name)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		raw := []byte(cases[rapid.SampledFrom(names).Draw(rt, "case")])
		for range rapid.IntRange(1, 3).Draw(rt, "changes") {
			i := rapid.IntRange(0, len(raw)-1).Draw(rt, "at")
			raw[i] = rapid.SampledFrom([]byte("\r\n\t\x00 :;,/?#%&=*aZ0-_\x7f\xc3\"'\\")).Draw(rt, "byte")
		}
		if strings.Contains(string(raw), "waitVersion") {
			return
		}
		want := exchange(t, other, string(raw))
		if diff := cmp.Diff(want, exchange(t, s.Addr(), string(raw)).like(want)); diff != "" {
			rt.Fatalf("%q (-net/http +endpoint):\n%s", raw, diff)
		}
	})
}

// outcome is what came back on a connection.
type outcome struct {
	Answers []string
	// Rest is what follows the answers and is none.
	Rest string
}

// like leaves one difference out: fewer than four bytes after an answer are
// 400 to us, while net/http closes the connection without a word.
func (o outcome) like(want outcome) outcome {
	n := len(want.Answers)
	if n > 0 && len(o.Answers) == n+1 && strings.HasPrefix(o.Answers[n], "400 ") {
		o.Answers = o.Answers[:n]
	}
	return o
}

// exchange sends the parts, ends its side and returns all that comes back. A
// connection that is reset after its answers counts as closed.
func exchange(t *testing.T, addr net.Addr, parts ...string) outcome {
	t.Helper()
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	for _, part := range parts {
		_, _ = io.WriteString(conn, part) // a server may have closed already
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	back, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q: the connection stays open", parts)
	}
	var out outcome
	r := bufio.NewReader(bytes.NewReader(back))
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			rest, _ := io.ReadAll(r)
			out.Rest = string(rest)
			return out
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		resp.Header.Del("Date")
		if resp.StatusCode == http.StatusBadRequest && !strings.Contains(string(body), "Forwarded") {
			body = []byte("(net/http's own words)")
		}
		out.Answers = append(out.Answers, fmt.Sprintf("%s %v %v %s %v", resp.Status, resp.Header, resp.Close, body, err))
	}
}
