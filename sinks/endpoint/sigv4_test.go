package endpoint

// Tests of what cannot be seen from outside: the canonical form by AWS's own
// vectors and by the SDK's signer, and what is kept of a token.

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"pgregory.net/rapid"
)

// signedRequest returns what the core sees of an HTTP request.
func signedRequest(h *http.Request) *request {
	return &request{method: h.Method, target: "/", host: h.Host, header: httpHeader(h.Header),
		post: &post{values: func(name string) []string { return h.Header[name] }}}
}

// TestPublishedVectors has the requests of AWS's signature test suite
// (aws-sig-v4-test-suite) that are a POST to / without a query, with the
// signatures published there.
func TestPublishedVectors(t *testing.T) {
	const credential = "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request"
	signer, err := newSigner("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
	if err != nil {
		t.Fatal(err)
	}
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	for _, v := range []struct {
		name, body, signed, mac string
		header                  http.Header
	}{
		{"post-vanilla", "", "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b", nil},
		{"post-header-key-sort", "", "host;my-header1;x-amz-date", "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c", http.Header{"My-Header1": {"value1"}}},
		{"post-header-value-case", "", "host;my-header1;x-amz-date", "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d", http.Header{"My-Header1": {"VALUE1"}}},
		{"post-x-www-form-urlencoded", "Param1=value1", "content-type;host;x-amz-date", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a", form},
	} {
		h := &http.Request{Method: http.MethodPost, Host: "example.amazonaws.com", Header: http.Header{"X-Amz-Date": {"20150830T123600Z"}}}
		for name, values := range v.header {
			h.Header[name] = values
		}
		sig, err := parseAuthorization(sigAlgorithm + " " + credential + ", SignedHeaders=" + v.signed + ", Signature=" + v.mac)
		if err != nil {
			t.Fatal(err)
		}
		text := sig.toSign(signedRequest(h).headerValues(), []byte(v.body))
		if got := hex.EncodeToString(signer.sign(&sig.scope, text)); got != v.mac {
			t.Errorf("%s: signed as %s, want %s; the text was\n%s", v.name, got, v.mac, text)
		}
	}
}

// TestPublishedHeaderVectors has the canonical forms of header values that the
// suite publishes with GET requests.
func TestPublishedHeaderVectors(t *testing.T) {
	for _, v := range []struct {
		values []string
		want   string
	}{
		{[]string{"value4", "value1", "value3", "value2"}, "value4,value1,value3,value2"}, // get-header-value-order
		{[]string{` "a   b   c"`}, `"a b c"`},                                             // get-header-value-trim
		{[]string{"  value1  "}, "value1"},
	} {
		sig := signature{names: []string{"my-header1"}, list: "my-header1", scope: scope{"20150830", "r", "s"}}
		values := func(name string) []string {
			if name == "x-amz-date" {
				return []string{"20150830T123600Z"}
			}
			return v.values
		}
		empty := sha256.Sum256(nil)
		sum := sha256.Sum256([]byte("POST\n/\n\nmy-header1:" + v.want + "\n\nmy-header1\n" + hex.EncodeToString(empty[:])))
		if got := string(sig.toSign(values, nil)); !strings.HasSuffix(got, hex.EncodeToString(sum[:])) {
			t.Errorf("%q is not signed as %q", v.values, v.want)
		}
	}
}

// drawRequest returns a request as an SDK might send it, with the time it is to
// be signed at.
func drawRequest(t *rapid.T) (h *http.Request, body []byte, at time.Time) {
	body = []byte(rapid.String().Draw(t, "body"))
	h, err := http.NewRequest(http.MethodPost, "http://"+rapid.SampledFrom([]string{"127.0.0.1:2773", "localhost", "[::1]:1"}).Draw(t, "host")+"/", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	h.Host = h.URL.Host
	h.Header.Set("Content-Type", sdkContentType)
	h.Header.Set(sdkTarget, sdkPrefix+"GetSecretValue")
	for range rapid.IntRange(0, 3).Draw(t, "headers") {
		// No spaces around a value: the wire carries none.
		h.Header.Add("X-"+rapid.StringMatching(`[A-Z][a-z]{0,5}`).Draw(t, "name"), rapid.StringMatching(`[!-~]([ -~]{0,20}[!-~])?`).Draw(t, "value"))
	}
	return h, body, time.Now().Add(time.Duration(rapid.IntRange(-290, 290).Draw(t, "skew")) * time.Second)
}

func signWithSDK(t interface{ Fatal(...any) }, h *http.Request, body []byte, id, secret, region string, at time.Time) {
	sum := sha256.Sum256(body)
	err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}, h,
		hex.EncodeToString(sum[:]), sigService, region, at)
	if err != nil {
		t.Fatal(err)
	}
	if h.ContentLength > 0 { // what the transport adds
		h.Header.Set("Content-Length", strconv.FormatInt(h.ContentLength, 10))
	}
}

// verify says what verifying a request gives.
func verify(tokens *Tokens, h *http.Request, body []byte) error {
	r := signedRequest(h)
	values := r.headerValues()
	sig, err := r.signature(values)
	if err == nil {
		err = sig.check(values, time.Now())
	}
	if err == nil && !tokens.signed(&sig, sig.toSign(values, body)) {
		err = sdkWrongSignature
	}
	return err
}

// TestAgreesWithTheSDKsSigner has aws-sdk-go-v2 sign requests, which must be
// verified, and must not be once anything has been changed.
func TestAgreesWithTheSDKsSigner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringMatching(`[!-~][ -~]{14,90}[!-~]`).Draw(t, "token")
		tokens, err := OpenTokens(TokenOptions{Env: []string{"T"}, LookupEnv: func(string) (string, bool) { return secret, true }})
		if err != nil {
			t.Fatal(err)
		}
		h, body, at := drawRequest(t)
		region := rapid.SampledFrom([]string{"us-east-1", "eu-west-1", "local"}).Draw(t, "region")
		signWithSDK(t, h, body, "web", secret, region, at)
		if err := verify(tokens, h, body); err != nil {
			t.Fatalf("a right signature is refused: %v\n%v", err, h.Header)
		}
		authorization := h.Header.Get("Authorization")
		change := func(what string, do func()) {
			saved, host, text := h.Header.Clone(), h.Host, body
			if do(); verify(tokens, h, body) == nil {
				t.Fatalf("a changed %s is accepted", what)
			}
			h.Header, h.Host, body = saved, host, text
		}
		change("body", func() { body = append(bytes.Clone(body), ' ') })
		change("operation", func() { h.Header.Set(sdkTarget, sdkPrefix+"DescribeSecret") })
		change("second operation", func() { h.Header.Add(sdkTarget, sdkPrefix+"DescribeSecret") })
		change("Host", func() { h.Host += "1" })
		change("date", func() { h.Header.Set("X-Amz-Date", at.Add(time.Second).UTC().Format(sigTime)) })
		change("Region", func() {
			h.Header.Set("Authorization", strings.Replace(authorization, "/"+region+"/", "/eu-north-1/", 1))
		})
		change("signature", func() {
			last := authorization[len(authorization)-1]
			h.Header.Set("Authorization", authorization[:len(authorization)-1]+string("0123456789abcdef"[(strings.IndexByte("0123456789abcdef", last)+1)%16]))
		})
		other, err := OpenTokens(TokenOptions{Env: []string{"T"}, LookupEnv: func(string) (string, bool) { return secret + "x", true }})
		if err != nil {
			t.Fatal(err)
		}
		if verify(other, h, body) == nil {
			t.Fatal("another token's signature is accepted")
		}
	})
}

// TestGraceOfSignaturesEnds lets the grace time of a replaced token pass.
func TestGraceOfSignaturesEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "token")
		put := func(text string) {
			t.Helper()
			_ = os.Remove(path)
			if err := os.WriteFile(path, []byte(text), 0o400); err != nil {
				t.Fatal(err)
			}
		}
		const old, fresh = "0123456789abcdef", "fedcba9876543210"
		put(old)
		tokens, err := OpenTokens(TokenOptions{File: path, Grace: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		put(fresh)
		if _, err := tokens.Reload(false); err != nil {
			t.Fatal(err)
		}
		for _, left := range []bool{true, false} {
			for key, want := range map[string]bool{old: left, fresh: true} {
				body := []byte("{}")
				h, err := http.NewRequest(http.MethodPost, "http://localhost/", bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				h.Header.Set(sdkTarget, sdkPrefix+"GetSecretValue")
				signWithSDK(t, h, body, "web", key, "us-east-1", time.Now())
				if err := verify(tokens, h, body); (err == nil) != want {
					t.Errorf("grace left %v: signed with %s: %v", left, key, err)
				}
			}
			time.Sleep(time.Minute)
		}
	})
}

// TestSignaturesMustCoverTheRequest signs rightly, but not all of what there is
// to sign.
func TestSignaturesMustCoverTheRequest(t *testing.T) {
	const secret = "0123456789abcdef"
	signer, err := newSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, c := range []struct {
		what, signed, code string
		edit               func(h http.Header, sc *scope)
	}{
		{"all", "content-type;host;x-amz-date;x-amz-target", "", nil},
		{"as PHP's SDK", "host;x-amz-date;x-amz-target", "", nil},
		{"no Host", "content-type;x-amz-date;x-amz-target", "IncompleteSignatureException", nil},
		{"no date", "content-type;host;x-amz-target", "IncompleteSignatureException", nil},
		{"no target", "content-type;host;x-amz-date", "IncompleteSignatureException", nil},
		{"absent header", "host;x-absent;x-amz-date;x-amz-target", "IncompleteSignatureException", nil},
		{"another service", "host;x-amz-date;x-amz-target", "InvalidSignatureException", func(_ http.Header, sc *scope) { sc.service = "s3" }},
		{"another day", "host;x-amz-date;x-amz-target", "InvalidSignatureException", func(_ http.Header, sc *scope) { sc.date = "20150830" }},
		{"payload not signed", "host;x-amz-content-sha256;x-amz-date;x-amz-target", "InvalidSignatureException",
			func(h http.Header, _ *scope) { h.Set("X-Amz-Content-Sha256", unsignedPayload) }},
		{"date in another form", "host;x-amz-date;x-amz-target", "IncompleteSignatureException",
			func(h http.Header, _ *scope) { h.Set("X-Amz-Date", now.UTC().Format(time.RFC1123)) }},
		{"two dates", "host;x-amz-date;x-amz-target", "IncompleteSignatureException",
			func(h http.Header, _ *scope) { h.Add("X-Amz-Date", h.Get("X-Amz-Date")) }},
	} {
		date := now.UTC().Format(sigTime)
		sc := scope{date[:8], "us-east-1", sigService}
		h := &http.Request{Method: http.MethodPost, Host: "localhost", Header: http.Header{
			"Content-Type": {sdkContentType}, sdkTarget: {sdkPrefix + "GetSecretValue"}, "X-Amz-Date": {date}}}
		if c.edit != nil {
			c.edit(h.Header, &sc)
		}
		sig := signature{scope: sc, names: strings.Split(c.signed, ";"), list: c.signed}
		mac := signer.sign(&sc, sig.toSign(signedRequest(h).headerValues(), []byte("{}")))
		h.Header.Set("Authorization", sigAlgorithm+" Credential=web/"+sc.String()+", SignedHeaders="+c.signed+", Signature="+hex.EncodeToString(mac))
		tokens, err := OpenTokens(TokenOptions{Env: []string{"T"}, LookupEnv: func(string) (string, bool) { return secret, true }})
		if err != nil {
			t.Fatal(err)
		}
		if code := codeOf(verify(tokens, h, []byte("{}"))); code != c.code {
			t.Errorf("%s: %q, want %q", c.what, code, c.code)
		}
	}
}

func codeOf(err error) string {
	if f, ok := errors.AsType[*sdkFault](err); ok {
		return f.code
	}
	return ""
}

func TestSkewIsBounded(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		at   time.Duration
		want string
	}{
		{0, ""}, {5 * time.Minute, ""}, {-5 * time.Minute, ""},
		{-5*time.Minute - time.Second, "Signature expired: 20260301T115459Z is now earlier than 20260301T115500Z (20260301T120000Z - 5 min.)"},
		{5*time.Minute + time.Second, "Signature not yet current: 20260301T120501Z is still later than 20260301T120500Z (20260301T120000Z + 5 min.)"},
	} {
		err := checkSkew(now.Add(c.at), now)
		if c.want == "" && err != nil || c.want != "" && (codeOf(err) != "InvalidSignatureException" || !strings.HasSuffix(err.Error(), c.want)) {
			t.Errorf("a signature made %s from now: %v, want %q", c.at, err, c.want)
		}
	}
}

const goodAuthorization = sigAlgorithm + " Credential=web/20260301/us-east-1/secretsmanager/aws4_request, SignedHeaders=host;x-amz-date, Signature="

func TestMalformedAuthorizations(t *testing.T) {
	mac := strings.Repeat("0a", 32)
	for _, header := range []string{
		"", "x", "Basic eDp5", "AWS4-ECDSA-P256-SHA256 " + goodAuthorization[len(sigAlgorithm)+1:] + mac, sigAlgorithm, sigAlgorithm + " ",
		goodAuthorization, goodAuthorization + mac[1:], goodAuthorization + mac + "00", goodAuthorization + strings.ToUpper(mac),
		goodAuthorization + mac + ",", goodAuthorization + mac + ", Signature=" + mac, goodAuthorization + mac + ", Else=x",
		strings.Replace(goodAuthorization, "web/", "/", 1) + mac, strings.Replace(goodAuthorization, "web/", "", 1) + mac,
		strings.Replace(goodAuthorization, "web/", "web/x/", 1) + mac, strings.Replace(goodAuthorization, "aws4_request", "aws5_request", 1) + mac,
		strings.Replace(goodAuthorization, "host;x-amz-date", "x-amz-date;host", 1) + mac, strings.Replace(goodAuthorization, "host;", "host;host;", 1) + mac,
		strings.Replace(goodAuthorization, "host;", "Host;", 1) + mac, strings.Replace(goodAuthorization, "host;", ";", 1) + mac,
		strings.Replace(goodAuthorization, "SignedHeaders=host;x-amz-date, ", "", 1) + mac,
	} {
		if _, err := parseAuthorization(header); err == nil {
			t.Errorf("accepted %q", header)
		}
	}
	if _, err := parseAuthorization(goodAuthorization + mac); err != nil {
		t.Errorf("a right one: %v", err)
	}
	if _, err := parseAuthorization(strings.ReplaceAll(goodAuthorization, ", ", ",") + mac); err != nil {
		t.Errorf("one without spaces: %v", err)
	}
}

// FuzzAuthorization holds that what is parsed is what was written, and that
// anything goes without a panic.
func FuzzAuthorization(f *testing.F) {
	f.Add(goodAuthorization + strings.Repeat("0a", 32))
	f.Add(sigAlgorithm + " Credential=a/b/c/d/aws4_request,SignedHeaders=,Signature=")
	f.Fuzz(func(t *testing.T, header string) {
		sig, err := parseAuthorization(header)
		if err != nil {
			if codeOf(err) == "" {
				t.Fatalf("%q: %v is no answer", header, err)
			}
			return
		}
		back := []string{"Credential=" + sig.keyID + "/" + sig.scope.String(), "SignedHeaders=" + strings.Join(sig.names, ";"), "Signature=" + hex.EncodeToString(sig.mac)}
		for _, part := range back {
			if !strings.Contains(header, part) {
				t.Fatalf("%q was read as %q", header, part)
			}
		}
		_ = sig.check(func(string) []string { return nil }, time.Now())
	})
}

// TestTokensAreNotKept looks through all that is kept of a token for the token,
// as it is and as HMAC has it before it is reset.
func TestTokensAreNotKept(t *testing.T) {
	const secret = "CANARY-0123456789abcdef-CANARY"
	tokens, err := OpenTokens(TokenOptions{Env: []string{"T"}, LookupEnv: func(string) (string, bool) { return secret, true }})
	if err != nil {
		t.Fatal(err)
	}
	kept := memory(reflect.ValueOf(tokens.set.Load()), map[unsafe.Pointer]bool{})
	if len(kept) < 2*sha256.Size {
		t.Fatalf("only %d bytes were found", len(kept))
	}
	for _, pad := range []byte{0, 0x36, 0x5c} {
		padded := []byte(secret)
		for i := range padded {
			padded[i] ^= pad
		}
		if bytes.Contains(kept, padded[:8]) {
			t.Errorf("the token is in memory, with each byte changed by %#x", pad)
		}
	}
	sum := sha256.Sum256([]byte(secret))
	if !bytes.Contains(kept, sum[:]) {
		t.Error("the digest was not found: the search does not see everything")
	}
}

// memory returns the bytes of all that v leads to.
func memory(v reflect.Value, seen map[unsafe.Pointer]bool) []byte {
	var b []byte
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() || v.Kind() == reflect.Pointer && seen[v.UnsafePointer()] {
			return nil
		}
		if v.Kind() == reflect.Pointer {
			seen[v.UnsafePointer()] = true
		}
		return memory(v.Elem(), seen)
	case reflect.Struct:
		for i := range v.NumField() {
			b = append(b, memory(v.Field(i), seen)...)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			b = append(b, memory(v.Index(i), seen)...)
		}
	case reflect.String:
		return []byte(v.String())
	case reflect.Uint8:
		return []byte{byte(v.Uint())}
	}
	return b
}

func BenchmarkVerify(b *testing.B) {
	tokens, err := OpenTokens(TokenOptions{Env: []string{"T"}, LookupEnv: func(string) (string, bool) { return "0123456789abcdef", true }})
	if err != nil {
		b.Fatal(err)
	}
	body := []byte(`{"SecretId":"prod/db","VersionStage":"AWSCURRENT"}`)
	h, err := http.NewRequest(http.MethodPost, "http://127.0.0.1:2773/", bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	h.Header.Set("Content-Type", sdkContentType)
	h.Header.Set(sdkTarget, sdkPrefix+"GetSecretValue")
	signWithSDK(b, h, body, "web", "0123456789abcdef", "us-east-1", time.Now())
	b.ReportAllocs()
	for b.Loop() {
		if err := verify(tokens, h, body); err != nil {
			b.Fatal(err)
		}
	}
}
