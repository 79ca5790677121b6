package endpoint_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

func sign(t *testing.T, r *http.Request, c call) {
	t.Helper()
	sum := sha256.Sum256([]byte(c.body))
	err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: c.id, SecretAccessKey: c.key}, r,
		hex.EncodeToString(sum[:]), "secretsmanager", "eu-west-1", c.at)
	if err != nil {
		t.Fatal(err)
	}
}

// getDB is a right request that the tests change.
func getDB(id, key string) call {
	return call{op: "GetSecretValue", body: `{"SecretId":"db"}`, id: id, key: key}
}

func dbServer(t *testing.T, o endpoint.Options) *endpoint.Server {
	t.Helper()
	return start(t, o, unknown, entry(version("db", defaultVersion, secret.StageCurrent)))
}

func codeIn(r reply) string {
	_, rest, _ := strings.Cut(r.body, `{"__type":"`)
	code, _, _ := strings.Cut(rest, `"`)
	return code
}

// TestSDKCallersMustSignRight has one row for each way of not being anybody.
// Each counts as a bad token, and is slowed as one.
func TestSDKCallersMustSignRight(t *testing.T) {
	s := dbServer(t, endpoint.Options{Clients: []endpoint.Client{
		clientWith(t, "web", tokenA, "db"),
		{Name: "batch", UIDs: []int{os.Getuid()}, Rights: endpoint.Rights{Secrets: endpoint.Patterns{"db"}}},
		{Name: "both", Tokens: tokensOf(t, tokenC), UIDs: []int{os.Getuid()}, Rights: endpoint.Rights{Secrets: endpoint.Patterns{"db"}}},
	}})
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	replace := func(from, to string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), from, to, 1))
		}
	}
	for _, c := range []struct {
		what, code string
		id, key    string
		at         time.Duration
		edit       func(*http.Request)
	}{
		{what: "no signature", code: "MissingAuthenticationTokenException"},
		{what: "another scheme", code: "IncompleteSignatureException", edit: set("Authorization", "Bearer "+tokenA)},
		{what: "no parameters", code: "IncompleteSignatureException", edit: set("Authorization", "AWS4-HMAC-SHA256")},
		{what: "two headers", code: "IncompleteSignatureException", id: "web", key: tokenA, edit: func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }},
		{what: "no Signature", code: "IncompleteSignatureException", id: "web", key: tokenA, edit: replace("Signature=", "Sig=")},
		{what: "target not signed", code: "IncompleteSignatureException", id: "web", key: tokenA, edit: replace(";x-amz-target", "")},
		{what: "nobody's name", code: "UnrecognizedClientException", id: "nobody", key: tokenA},
		{what: "a client without a token", code: "UnrecognizedClientException", id: "batch", key: tokenA},
		{what: "a client that comes over the socket only", code: "UnrecognizedClientException", id: "both", key: tokenC},
		{what: "wrong key", code: "InvalidSignatureException", id: "web", key: tokenB},
		{what: "a client's key in another's name", code: "InvalidSignatureException", id: "default", key: tokenA},
		{what: "expired", code: "InvalidSignatureException", id: "web", key: tokenA, at: -6 * time.Minute},
		{what: "of the future", code: "InvalidSignatureException", id: "web", key: tokenA, at: 6 * time.Minute},
		{what: "another operation", code: "InvalidSignatureException", id: "web", key: tokenA, edit: set("X-Amz-Target", "secretsmanager.DescribeSecret")},
		{what: "another date", code: "InvalidSignatureException", id: "web", key: tokenA, edit: set("X-Amz-Date", time.Now().Add(time.Minute).UTC().Format("20060102T150405Z"))},
		{what: "another body", code: "InvalidSignatureException", id: "web", key: tokenA, edit: func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`{"SecretId":"dc"}`)) }},
		{what: "another service", code: "InvalidSignatureException", id: "web", key: tokenA, edit: replace("/secretsmanager/", "/s3/")},
		{what: "another Region", code: "InvalidSignatureException", id: "web", key: tokenA, edit: replace("/eu-west-1/", "/us-east-1/")},
		{what: "wrong token in a header", code: "MissingAuthenticationTokenException", edit: set("X-Vault-Token", tokenB)},
	} {
		before := s.BadTokens()
		request := getDB(c.id, c.key)
		request.at, request.edit = time.Now().Add(c.at), c.edit
		got := post(t, s, request)
		if got.status != 400 || codeIn(got) != c.code || strings.Contains(got.body, "hunter2") {
			t.Errorf("%s: %d %s, want %s", c.what, got.status, got.body, c.code)
		}
		if n := s.BadTokens() - before; n != 1 {
			t.Errorf("%s: counted %d times", c.what, n)
		}
	}
	// One burst is refused at once; after that a signature is slowed like a token.
	for range 3 {
		post(t, s, getDB("nobody", tokenA))
	}
	if s.Slowed() == 0 {
		t.Error("wrong signatures are never slowed")
	}
	before := s.BadTokens()
	for what, c := range map[string]call{
		"a client": getDB("web", tokenA), "the top level": getDB(endpoint.DefaultClient, token),
		"skew within bounds":       {op: "GetSecretValue", body: `{"SecretId":"db"}`, id: "web", key: tokenA, at: time.Now().Add(-4 * time.Minute)},
		"a session token, signed":  {op: "GetSecretValue", body: `{"SecretId":"db"}`, id: "web", key: tokenA, before: set("X-Amz-Security-Token", "leftover")},
		"a session token, added":   {op: "GetSecretValue", body: `{"SecretId":"db"}`, id: "web", key: tokenA, edit: set("X-Amz-Security-Token", "leftover")},
		"a token in a header":      {op: "GetSecretValue", body: `{"SecretId":"db"}`, edit: set("X-Vault-Token", tokenA)},
		"a media type with a case": {op: "GetSecretValue", body: `{"SecretId":"db"}`, id: "web", key: tokenA, before: set("Content-Type", "Application/x-amz-json-1.1; charset=utf-8")},
	} {
		if got := post(t, s, c); got.status != 200 || !strings.Contains(got.body, "hunter2") {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
	}
	if s.BadTokens() != before {
		t.Error("right signatures count as bad tokens")
	}
	other := getDB("web", tokenA)
	other.before = set("Content-Type", "application/json")
	if got := post(t, s, other); got.status != 404 || codeIn(got) != "UnknownOperationException" {
		t.Errorf("another media type: %d %s", got.status, got.body)
	}
}

// TestSDKRouteIsNarrow shows that what is not exactly the SDKs' request has the
// answer it always had.
func TestSDKRouteIsNarrow(t *testing.T) {
	s := dbServer(t, endpoint.Options{})
	target := "X-Amz-Target: secretsmanager.GetSecretValue"
	for _, c := range []struct {
		method, target string
		headers        []string
		status         int
		body           string
	}{
		{"POST", "/", nil, 403, "Bad Token"},
		{"POST", "/", []string{tokenT}, 405, "Not allowed"},
		{"POST", "/", []string{tokenT, "X-Amz-Target: AmazonSSM.GetParameter"}, 405, "Not allowed"},
		{"POST", "/", []string{tokenT, "X-Amz-Target: Secretsmanager.GetSecretValue"}, 405, "Not allowed"},
		{"POST", "/", []string{tokenT, "X-Amz-Target: x", target}, 405, "Not allowed"},
		{"POST", "/?x=1", []string{tokenT, target}, 405, "Not allowed"},
		{"POST", "//", []string{tokenT, target}, 405, "Not allowed"},
		{"POST", "/%2F", []string{tokenT, target}, 405, "Not allowed"},
		{"POST", "/v1/db", []string{tokenT, target}, 405, "Not allowed"},
		{"GET", "/", []string{tokenT, target}, 404, "Not found"},
		{"PUT", "/", []string{tokenT, target}, 405, "Not allowed"},
		{"GET", "/", []string{target}, 403, "Bad Token"},
	} {
		got := do(t, s, c.method, c.target, append(c.headers, "Content-Length: 0")...)
		if got.status != c.status || got.body != c.body || got.header.Get("X-Amzn-Requestid") != "" {
			t.Errorf("%s %s %q: %d %q, want %d %q", c.method, c.target, c.headers, got.status, got.body, c.status, c.body)
		}
	}
	// Two targets of which the first is right are refused by name.
	got := do(t, s, "POST", "/", tokenT, target, target, "Content-Length: 2", "Content-Type: application/x-amz-json-1.1\r\n\r\n{}")
	if got.status != 400 || codeIn(got) != "UnknownOperationException" {
		t.Errorf("two targets: %d %s", got.status, got.body)
	}
}

// TestReplacedTokensSign shows that the grace time is the same here.
func TestReplacedTokensSign(t *testing.T) {
	path := filepath.Join(privateDir(t), "token")
	put := func(text string) {
		t.Helper()
		_ = os.Remove(path)
		if err := os.WriteFile(path, []byte(text+"\n"), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	put(tokenA)
	tokens := open(t, endpoint.TokenOptions{File: path, Grace: time.Minute})
	s := dbServer(t, endpoint.Options{Clients: []endpoint.Client{{Name: "web", Tokens: tokens, Rights: endpoint.Rights{Secrets: endpoint.Patterns{"db"}}}}})
	status := func(key string) int { return post(t, s, getDB("web", key)).status }
	put(tokenB)
	if status(tokenA) != 200 || status(tokenB) != 400 {
		t.Error("before the reload the new token counts")
	}
	if changed, err := tokens.Reload(false); !changed || err != nil {
		t.Fatal(changed, err)
	}
	if status(tokenA) != 200 || status(tokenB) != 200 {
		t.Error("in the grace time not both tokens are valid")
	}
	if _, err := tokens.Reload(true); err != nil {
		t.Fatal(err)
	}
	if status(tokenA) != 400 || status(tokenB) != 200 {
		t.Error("after the grace time not the new token alone is valid")
	}
}

// TestSDKDoor shows that the checks at the door are as for every request, with
// one more, whatever the signature.
func TestSDKDoor(t *testing.T) {
	for _, unsafe := range []bool{false, true} {
		s := dbServer(t, endpoint.Options{AnySignature: unsafe})
		for _, edit := range []func(*http.Request){
			func(r *http.Request) { r.Header.Set("X-Forwarded-For", "1.2.3.4") },
			func(r *http.Request) { r.Header.Set("Forwarded", "") },
			func(r *http.Request) { r.Header.Set("Via", "1.1 x") },
			func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") },
			func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") },
			func(r *http.Request) { r.Header.Set("Origin", "null") },
			func(r *http.Request) { r.Header.Set("Origin", "") },
			func(r *http.Request) { r.Host = "evil.example:2773" },
		} {
			c := getDB("default", token)
			c.edit = edit
			got := post(t, s, c)
			if got.status != 400 || codeIn(got) != "AccessDeniedException" || !strings.Contains(got.body, `"Forwarded: `) {
				t.Errorf("any signature %v: %d %s", unsafe, got.status, got.body)
			}
		}
	}
}

// TestAnySignature shows what the unsafe key opens, and what it does not.
func TestAnySignature(t *testing.T) {
	seen := new(recorder)
	s := dbServer(t, endpoint.Options{AnySignature: true, Observe: seen.observe, Clients: []endpoint.Client{clientWith(t, "web", tokenA, "nothing")}})
	c := getDB("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
	old := c
	old.at = time.Now().Add(-time.Hour)
	partial := c
	partial.edit = func(r *http.Request) {
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x/20200101/r/s3/aws4_request, SignedHeaders=host, Signature="+strings.Repeat("00", 32))
	}
	for what, c := range map[string]call{"any key": c, "an old one": old, "one of nothing": partial, "a client's with another key": getDB("web", tokenB)} {
		got := post(t, s, c)
		if e := seen.take(); got.status != 200 || len(e) != 1 || e[0].Client != endpoint.DefaultClient {
			t.Errorf("%s: %d %s, observed %+v", what, got.status, got.body, e)
		}
	}
	// Who signs right has its own rights and no more.
	if got := post(t, s, getDB("web", tokenA)); got.status != 400 || codeIn(got) != "AccessDeniedException" {
		t.Errorf("a client with its own key: %d %s", got.status, got.body)
	}
	none := getDB("", "")
	if got := post(t, s, none); codeIn(got) != "MissingAuthenticationTokenException" {
		t.Errorf("without a signature: %d %s", got.status, got.body)
	}
	none.edit = func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }
	if got := post(t, s, none); codeIn(got) != "IncompleteSignatureException" {
		t.Errorf("with another scheme: %d %s", got.status, got.body)
	}
	// Nothing else is opened.
	if got := do(t, s, "GET", "/v1/db"); got.status != 403 {
		t.Errorf("GET without a token: %d", got.status)
	}
	// No preflight is answered, which is what a page's request needs.
	got := do(t, s, "OPTIONS", "/", "Origin: http://evil.example", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,x-amz-target")
	for name := range got.header {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("a preflight is answered with %s", name)
		}
	}
	if got.status < 400 {
		t.Errorf("a preflight is answered with %d", got.status)
	}
	if err := s.Configure(endpoint.Options{AnySignature: true, Clients: []endpoint.Client{clientWith(t, "web", tokenA, "db")}}, nil, nil); err == nil || !strings.Contains(err.Error(), "nobody's rights") {
		t.Errorf("without a token at the top level: %v", err)
	}
	wide := endpoint.Options{AnySignature: true, AnyAddress: true, Listen: "0.0.0.0:2773", AllowedHosts: []string{"x"}}
	if err := wide.Check(); err == nil || !strings.Contains(err.Error(), "not a loopback address") {
		t.Errorf("for the network: %v", err)
	}
	if err := s.Configure(endpoint.Options{}, fixedTokens(t), nil); err != nil {
		t.Fatal(err)
	}
	if got := post(t, s, c); codeIn(got) != "UnrecognizedClientException" {
		t.Errorf("without the key: %d %s", got.status, got.body)
	}
}

// TestSDKOverTheSocket shows that a peer known by its uid needs no signature,
// that a right one counts before the uid, and that any signature is none here.
func TestSDKOverTheSocket(t *testing.T) {
	path := filepath.Join(privateDir(t), "s")
	seen := new(recorder)
	o := endpoint.Options{Socket: &endpoint.Socket{Path: path}, Observe: seen.observe, Clients: []endpoint.Client{
		{Name: "me", UIDs: []int{os.Getuid()}, Rights: endpoint.Rights{Secrets: endpoint.Patterns{"db"}}}, clientWith(t, "web", tokenA, "db")}}
	s := startSocket(t, o, nil)
	by := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	defer by.CloseIdleConnections()
	over := func(c call) reply {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://secretsd/", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		return postTo(t, by, r, c)
	}
	for _, c := range []struct{ id, key, client string }{{"", "", "me"}, {"web", tokenA, "web"}, {"web", tokenB, "me"}, {"AKIDEXAMPLE", "x", "me"}} {
		got := over(getDB(c.id, c.key))
		if e := seen.take(); got.status != 200 || e[0].Client != c.client {
			t.Errorf("%s %s: %d %s, observed %+v", c.id, c.key, got.status, got.body, e)
		}
	}
	o.Clients[0].UIDs, o.AnySignature = []int{os.Getuid() + 1}, true
	if err := s.Configure(o, fixedTokens(t), nil); err != nil {
		t.Fatal(err)
	}
	if got := over(getDB("AKIDEXAMPLE", "x")); codeIn(got) != "UnrecognizedClientException" {
		t.Errorf("any signature over the socket: %d %s", got.status, got.body)
	}
}

// rawPost is the head of a right request for a body of n bytes, of which only
// the head is known.
func rawPost(t *testing.T, id string, n int) string {
	t.Helper()
	date := time.Now().UTC().Format("20060102T150405Z")
	return strings.Join([]string{
		"POST / HTTP/1.1", "Host: 127.0.0.1:2773", "Content-Type: application/x-amz-json-1.1", "X-Amz-Target: secretsmanager.GetSecretValue",
		"X-Amz-Date: " + date, fmt.Sprintf("Content-Length: %d", n),
		"Authorization: AWS4-HMAC-SHA256 Credential=" + id + "/" + date[:8] + "/us-east-1/secretsmanager/aws4_request, SignedHeaders=host;x-amz-date;x-amz-target, Signature=" + strings.Repeat("00", 32),
		"", "",
	}, "\r\n")
}

// TestSDKBodiesAreBounded shows that a body has a size and a time.
func TestSDKBodiesAreBounded(t *testing.T) {
	s := dbServer(t, endpoint.Options{})
	big := getDB("default", token)
	big.body += strings.Repeat(" ", 64<<10-len(big.body))
	if got := post(t, s, big); got.status != 200 {
		t.Errorf("64 KiB: %d %s", got.status, got.body)
	}
	big.body += " "
	if got := post(t, s, big); got.status != 413 || codeIn(got) != "RequestEntityTooLargeException" {
		t.Errorf("64 KiB and one byte: %d %s", got.status, got.body)
	}
	// Whoever cannot be anybody is answered before its body comes.
	conn := send(t, s, rawPost(t, "nobody", 64<<10))
	if got := receive(t, conn, "POST"); codeIn(got) != "UnrecognizedClientException" {
		t.Errorf("nobody: %d %s", got.status, got.body)
	}
	// And whoever may be somebody has the read timeout for it.
	s = dbServer(t, endpoint.Options{Timeouts: endpoint.Timeouts{Read: time.Second}})
	conn = send(t, s, rawPost(t, "default", 100)+`{"Secret`)
	if got := receive(t, conn, "POST"); got.status != 400 || codeIn(got) != "SerializationException" {
		t.Errorf("a body that does not come: %d %s", got.status, got.body)
	}
	if _, err := bufio.NewReader(conn).ReadByte(); err != io.EOF {
		t.Errorf("its connection stays open: %v", err)
	}
}

// TestSlowBodiesHoldNobodyUp has as many bodies under way as there may be, of
// requests that nobody has signed.
func TestSlowBodiesHoldNobodyUp(t *testing.T) {
	s := dbServer(t, endpoint.Options{MaxConnections: 3})
	var slow []net.Conn
	for i := range endpoint.MaxBodies {
		slow = append(slow, send(t, s, rawPost(t, endpoint.DefaultClient, 100)))
		eventually(t, func() bool { return s.Bodies() == i+1 })
	}
	for i := range 5 {
		if got := post(t, s, getDB("default", token)); got.status != 200 {
			t.Fatalf("beside slow bodies: %d %s", got.status, got.body)
		}
		if got := receive(t, slow[i], "POST"); codeIn(got) != "ThrottlingException" || !closed(slow[i]) {
			t.Errorf("slow body %d, the oldest: %d %s", i, got.status, got.body)
		}
		slow = append(slow, send(t, s, rawPost(t, endpoint.DefaultClient, 100)))
		eventually(t, func() bool { return s.Bodies() == endpoint.MaxBodies })
		if got := do(t, s, "GET", "/v1/db", tokenT); got.status != 200 {
			t.Errorf("GET beside slow bodies: %d %s", got.status, got.body)
		}
	}
	for _, conn := range slow {
		_ = conn.Close()
	}
	eventually(t, func() bool { return s.Bodies() == 0 })
}

// TestSDKOverTheLimit shows that the limit of requests in flight is one for all.
func TestSDKOverTheLimit(t *testing.T) {
	g := newGate()
	s := start(t, endpoint.Options{MaxConnections: 1}, g)
	a := send(t, s, head("GET", "/v1/held", tokenT))
	soon(t, "request A", g.entered)
	if got := post(t, s, getDB("default", token)); got.status != 400 || codeIn(got) != "ThrottlingException" {
		t.Errorf("over the limit: %d %s", got.status, got.body)
	}
	g.open(t, 1)
	if got := receive(t, a, "GET"); got.status != 200 {
		t.Errorf("request A: %d", got.status)
	}
}
