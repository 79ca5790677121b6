package endpoint_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

// row is one line of the contract's conformance table (its section 4), whose
// numbers the names begin with.
type row struct {
	name    string
	method  string // GET where empty
	target  string
	headers []string
	status  int
	body    string         // byte for byte, where fault is nil
	fault   map[string]any // an error body, compared as JSON
	// query is what the reader must be asked when nothing is configured; nil
	// means that it must not be asked.
	query *endpoint.Query
}

func q(id, versionID, stage string, refresh bool) *endpoint.Query {
	return &endpoint.Query{ID: id, VersionID: versionID, Stage: stage, Refresh: refresh}
}

func fault(code, message string) map[string]any {
	m := map[string]any{"__type": code}
	if message != "" {
		m["message"] = message
	}
	return m
}

const (
	get      = "/secretsmanager/get"
	roleText = "invalid roleArn format, expected arn:<partition>:iam::<account>:role/<name>"
)

var (
	withT = []string{tokenT}
	withV = []string{tokenV}
)

func doorRows() []row {
	rows := []row{
		{name: "C1", target: "/ping", status: 200, body: "healthy"},
		{name: "C2", target: "/ping", headers: withT, status: 200, body: "healthy"},
		{name: "C3", target: "/ping?x=y", headers: []string{"X-Forwarded-For: 1.2.3.4"}, status: 200, body: "healthy"},
		{name: "C4", target: "/pong", headers: withT, status: 404, body: "Not found"},
		{name: "C5", target: "/pong", status: 403, body: "Bad Token"},
		{name: "C6 slash", target: "/ping/", headers: withT, status: 404, body: "Not found"},
		{name: "C6 get slash", target: get + "/", headers: withT, status: 404, body: "Not found"},
		{name: "C6 root", target: "/", headers: withT, status: 404, body: "Not found"},
		{name: "C6 case", target: "/PING", headers: withT, status: 404, body: "Not found"},
		{name: "C6 escaped", target: "/%70ing", headers: withT, status: 404, body: "Not found"},
		{name: "C6 double slash", target: "//ping", headers: withT, status: 404, body: "Not found"},
		{name: "C6 escaped without token", target: "/%70ing", status: 403, body: "Bad Token"},
		{name: "C26 none", target: get + "?secretId=MyTest", status: 403, body: "Bad Token"},
		{name: "C26 path style", target: "/v1/MyTest", status: 403, body: "Bad Token"},
		{name: "C26 wrong", target: get + "?secretId=MyTest", headers: []string{"X-Vault-Token: click slipers"}, status: 403, body: "Bad Token"},
		{name: "C26 longer", target: get + "?secretId=MyTest", headers: []string{tokenT + "x"}, status: 403, body: "Bad Token"},
		{name: "C26 shorter", target: get + "?secretId=MyTest", headers: []string{tokenT[:len(tokenT)-1]}, status: 403, body: "Bad Token"},
		{name: "C26 empty", target: get + "?secretId=MyTest", headers: []string{"X-Vault-Token:"}, status: 403, body: "Bad Token"},
		{name: "C26 another header", target: get + "?secretId=MyTest", headers: []string{"Authorization: " + token}, status: 403, body: "Bad Token"},
		{name: "C26 second value", target: get + "?secretId=MyTest", headers: []string{"X-Vault-Token: no", tokenV}, status: 403, body: "Bad Token"},
		{name: "C28", target: get + "?secretId=MyTest", headers: []string{tokenV, "X-Forwarded-For: 54.239.28.85"}, status: 400, body: "Forwarded"},
		{name: "C28 without token", target: get + "?secretId=MyTest", headers: []string{"X-Forwarded-For: 54.239.28.85"}, status: 400, body: "Forwarded"},
		{name: "C28 empty value", target: get + "?secretId=MyTest", headers: []string{tokenV, "x-forwarded-for:"}, status: 400, body: "Forwarded"},
		{name: "C29b", method: "POST", target: get + "?secretId=MyTest", headers: []string{"Content-Length: 0"}, status: 403, body: "Bad Token"},
		{name: "C29 OPTIONS *", method: "OPTIONS", target: "*", headers: withT, status: 405, body: "Not allowed"},
		{name: "OPTIONS * without token", method: "OPTIONS", target: "*", status: 403, body: "Bad Token"},
		{name: "POST /ping needs no token", method: "POST", target: "/ping", headers: []string{"Content-Length: 0"}, status: 405, body: "Not allowed"},
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"} {
		for _, target := range []string{get + "?secretId=MyTest", "/v1/MyTest", "/ping"} {
			r := row{name: "C29 " + method + " " + target, method: method, target: target, headers: withT, status: 405, body: "Not allowed"}
			if method == "HEAD" {
				r.body = ""
			}
			rows = append(rows, r)
		}
	}
	return rows
}

func parameterRows() []row {
	rows := []row{
		{name: "C7", target: get, status: 400, body: "missing parameter secretId"},
		{name: "C8", target: get + "?secretId=", status: 400, body: "missing parameter secretId"},
		{name: "C9", target: get + "?versionStage=AWSPENDING", status: 400, body: "missing parameter secretId"},
		{name: "C10", target: get + "?secretId=MyTest&versionStage=AWSPENDING&abc=X", status: 400, body: "unknown parameter: abc"},
		{name: "C11", target: get + "?SecretId=MyTest", status: 400, body: "unknown parameter: SecretId"},
		{name: "C12", target: "/v1/", status: 400, body: "missing secret ID"},
		{name: "C13", target: "/v1/?versionId=a&abc=1", status: 400, body: "missing secret ID"},
		{name: "C14", target: "/v1/MyTest?versionStage=AWSPENDING&abc=X", status: 400, body: "unknown parameter: abc"},
		{name: "C15", target: "/v1/MyTest?secretId=x", status: 400, body: "unknown parameter: secretId"},
		{name: "C16", target: get + "?secretId=MyTest&refreshNow=123", status: 400, body: "invalid refreshNow value"},
		{name: "C16 empty", target: get + "?secretId=MyTest&refreshNow=", status: 400, body: "invalid refreshNow value"},
		{name: "C16 path style", target: "/v1/MyTest?refreshNow=yes", status: 400, body: "invalid refreshNow value"},
		{name: "C17", target: get + "?refreshNow=zzz", status: 400, body: "invalid refreshNow value"},
		{name: "left to right", target: get + "?abc=1&refreshNow=zzz", status: 400, body: "unknown parameter: abc"},
		{name: "an earlier bad value is not mended by a later one", target: get + "?secretId=MyTest&refreshNow=x&refreshNow=0", status: 400, body: "invalid refreshNow value"},
		{name: "the name is decoded", target: get + "?a%3Db+c%zz=1", status: 400, body: "unknown parameter: a=b c%zz"},
		{name: "; does not separate", target: get + "?secretId;x=1", status: 400, body: "unknown parameter: secretId;x"},
		{name: "the missing id comes before the role", target: get + "?roleArn=x", status: 400, body: "missing parameter secretId"},
	}
	for _, role := range []string{
		"notAnArn", "", "arn:aws:iam::123456789012:user/X", "arn:aws:iam::12345:role/X",
		"arn:aws:iam:us-east-1:123456789012:role/X", "arn:aws:iam::123456789012:role/",
		"arn:aws:iam::123456789012:role/a%22b", "arn:aws:iam::123456789012:role/X%0A",
	} {
		rows = append(rows, row{name: "C67 " + role, target: get + "?secretId=MyTest&roleArn=" + role, status: 400, body: roleText})
	}
	for i := range rows {
		rows[i].headers = withT
	}
	return rows
}

func valueRows() []row {
	const v, cur, pend = defaultVersion, secret.StageCurrent, secret.StagePending
	rows := []row{
		{name: "C18", target: get + "?secretId=MyTest", body: object("MyTest", v, cur), query: q("MyTest", "", "", false)},
		{name: "C18 empty parameters", target: get + "?&secretId=MyTest&&versionStage=&versionId=", body: object("MyTest", v, cur), query: q("MyTest", "", "", false)},
		{name: "C20", target: get + "?secretId=MyTest&versionStage=AWSPENDING", body: object("MyTest", v, pend), query: q("MyTest", "", pend, false)},
		{name: "C20 current", target: get + "?secretId=MyTest&versionStage=AWSCURRENT", body: object("MyTest", v, cur), query: q("MyTest", "", cur, false)},
		{name: "C21", target: get + "?secretId=MyTest&versionId=11111", body: object("MyTest", "11111", cur), query: q("MyTest", "11111", "", false)},
		{name: "C21 the current one", target: get + "?secretId=MyTest&versionId=" + v, body: object("MyTest", v, cur), query: q("MyTest", v, "", false)},
		{name: "C22", target: get + "?secretId=MyTest&versionStage=AWSPENDING&versionId=000000000000&refreshNow=true", body: object("MyTest", "000000000000", pend),
			query: q("MyTest", "000000000000", pend, true)},
		{name: "C23", target: "/v1/MyTest", headers: withV, body: object("MyTest", v, cur), query: q("MyTest", "", "", false)},
		{name: "C24", target: "/v1/My/Test?versionStage=AWSPENDING", body: object("My/Test", v, pend), query: q("My/Test", "", pend, false)},
		{name: "C24 refreshNow", target: "/v1/My/Test?versionStage=AWSPENDING&refreshNow=0", body: object("My/Test", v, pend), query: q("My/Test", "", pend, false)},
		{name: "C24 versionId", target: "/v1/My/Test?versionId=11111", body: object("My/Test", "11111", cur), query: q("My/Test", "11111", "", false)},
		{name: "C24 all", target: "/v1/My/Test?versionStage=AWSPENDING&versionId=11111&refreshNow=1", body: object("My/Test", "11111", pend), query: q("My/Test", "11111", pend, true)},
		{name: "C25", target: "/v1/" + arn("MyTest"), body: object("MyTest", v, cur), query: q(arn("MyTest"), "", "", false)},
		{name: "C27", target: get + "?secretId=MyTest", headers: []string{"X-Aws-Parameters-Secrets-Token: no", tokenV}, body: object("MyTest", v, cur), query: q("MyTest", "", "", false)},
		{name: "header names in any case", target: get + "?secretId=MyTest", headers: []string{strings.ToLower(tokenV) + "  "}, body: object("MyTest", v, cur), query: q("MyTest", "", "", false)},
		{name: "C61 %2B", target: get + "?secretId=a%2Bb", body: object("a+b", v, cur), query: q("a+b", "", "", false)},
		{name: "C61 +", target: get + "?secretId=a+b", body: object("a b", v, cur), query: q("a b", "", "", false)},
		{name: "bad UTF-8", target: get + "?secretId=a%FFb", body: object("a\uFFFDb", v, cur), query: q("a\uFFFDb", "", "", false)},
		{name: "C62", target: get + "?secretId=a&secretId=b", body: object("b", v, cur), query: q("b", "", "", false)},
		{name: "path style is not decoded", target: "/v1/My%2FTest+x", body: object("My%2FTest+x", v, cur), query: q("My%2FTest+x", "", "", false)},
		{name: "path style is not normalised", target: "/v1/../secretabc", body: object("../secretabc", v, cur), query: q("../secretabc", "", "", false)},
		{name: "path style keeps dots", target: "/v1/a/../b", body: object("a/../b", v, cur), query: q("a/../b", "", "", false)},
		{name: "path style keeps slashes", target: "/v1//x", body: object("/x", v, cur), query: q("/x", "", "", false)},
		{name: "absolute form", target: "http://127.0.0.1:2773/v1/MyTest", body: object("MyTest", v, cur), query: q("MyTest", "", "", false)},
		{name: "absolute form, query style", target: "http://localhost" + get + "?secretId=MyTest", body: object("MyTest", v, cur), query: q("MyTest", "", "", false)},
	}
	for value, refresh := range map[string]bool{"1": true, "true": true, "TRUE": true, "0": false, "false": false, "FALSE": false} {
		rows = append(rows, row{name: "C19 " + value, target: get + "?secretId=MyTest&refreshNow=" + value,
			body: object("MyTest", v, cur), query: q("MyTest", "", "", refresh)})
	}
	for i := range rows {
		if rows[i].status == 0 {
			rows[i].status = 200
		}
		if rows[i].headers == nil {
			rows[i].headers = withT
		}
	}
	return rows
}

const (
	kmsText       = "Access to KMS is not allowed"
	signatureText = "The request signature we calculated does not match the signature you provided.\nCheck your \"key\"."
	notFoundText  = "Secrets Manager can't find the specified secret."
)

func errorRows() []row {
	rows := []row{
		{name: "C33", target: "KMSACCESSDENIEDTest", status: 400, fault: fault("AccessDeniedException", kmsText)},
		{name: "C34", target: "OTHERERRORTest", status: 400, fault: fault("InvalidSignatureException", signatureText)},
		{name: "C35", target: "NOTFOUNDx", status: 400, fault: fault("ResourceNotFoundException", notFoundText)},
		{name: "C36", target: "UNAVAILABLE", status: 500, fault: fault("InternalServiceError", "try later")},
		{name: "C37", target: "NOMESSAGE", status: 500, body: `{"__type":"InternalFailure"}`},
		{name: "InternalFailure keeps its status", target: "INTERNALFAILURE", status: 503, body: `{"__type":"InternalFailure"}`},
		{name: "C38", target: "REFUSED", status: 502, body: `{"__type":"ConnectionError","message":"Read Error"}`},
		{name: "C38 not from the SDK", target: "BARE", status: 502, body: `{"__type":"ConnectionError","message":"Read Error"}`},
		{name: "C38 without a cause", target: "BROKEN", status: 502, body: `{"__type":"ConnectionError","message":"Read Error"}`},
		{name: "anything else", target: "UNKNOWN", status: 500, body: `{"__type":"InternalFailure"}`},
		{name: "the SDK refuses", target: "SDKSAYSNO", status: 500, body: `{"__type":"InternalFailure"}`},
		{name: "C39", target: "GARBAGE", status: 500, body: `{"__type":"InternalFailure"}`},
		{name: "C40", target: "TIMEOUT", status: 504, body: `{"__type":"TimeoutError","message":"Timeout"}`},
		{name: "C40 on the socket", target: "SOCKETTIMEOUT", status: 504, body: `{"__type":"TimeoutError","message":"Timeout"}`},
		{name: "C41", target: "NOCREDENTIALS", status: 500, body: `{"__type":"InternalFailure"}`},
		{name: "C41 no way to STS", target: "NOTOKENSERVICE", status: 500, body: `{"__type":"InternalFailure"}`},
		{name: "C41 in time", target: "SLOWCREDENTIALS", status: 500, body: `{"__type":"InternalFailure"}`},
		{name: "STS refuses", target: "ROLEDENIED", status: 403, fault: fault("AccessDenied", "not authorized")},
		{name: "our own refusal", target: "NOTCONFIGURED", status: 400, fault: fault("AccessDeniedException", "not configured")},
	}
	for i := range rows {
		rows[i].query = q(rows[i].target, "", "", false)
		rows[i].target = get + "?secretId=" + rows[i].target
		rows[i].headers = withT
	}
	return rows
}

const testRole = "arn:aws:iam::123456789012:role/TestRole"

// roleRows are C66 and C68, and what is answered where STS could not be asked.
func roleRows() []row {
	as := func(role string, query *endpoint.Query) *endpoint.Query {
		query.Role = role
		return query
	}
	const v, cur, other = defaultVersion, secret.StageCurrent, "arn:aws-cn:iam::123456789012:role/a/b+c"
	rows := []row{
		{name: "C66", target: get + "?secretId=MyTest&roleArn=" + testRole, status: 200, body: object("MyTest", v, cur), query: as(testRole, q("MyTest", "", "", false))},
		{name: "C66 path style", target: "/v1/MyTest?roleArn=arn:aws-cn:iam::123456789012:role/a/b%2Bc&refreshNow=1", status: 200, body: object("MyTest", v, cur),
			query: as(other, q("MyTest", "", "", true))},
		{name: "C62 for roles", target: "/v1/MyTest?roleArn=" + other + "&roleArn=" + testRole, status: 200, body: object("MyTest", v, cur), query: as(testRole, q("MyTest", "", "", false))},
	}
	for _, r := range []row{
		{name: "C68", target: "ROLEDENIED", status: 403, fault: fault("AccessDeniedException", "Failed to create caching client from role: "+testRole)},
		{name: "C68 not valid", target: "ROLEINVALID", status: 403, fault: fault("AccessDeniedException", "Failed to create caching client from role: "+testRole)},
		{name: "C68 throttled", target: "ROLETHROTTLED", status: 400, fault: fault("Throttling", "Rate exceeded")},
		{name: "C68 not reached", target: "ROLEREFUSED", status: 502, body: `{"__type":"ConnectionError","message":"Read Error"}`},
		{name: "C68 in time", target: "ROLESLOW", status: 504, body: `{"__type":"TimeoutError","message":"Timeout"}`},
		{name: "C68 no credentials to assume it with", target: "NOCREDENTIALS", status: 500, body: `{"__type":"InternalFailure"}`},
		{name: "C33 with a role", target: "KMSACCESSDENIEDTest", status: 400, fault: fault("AccessDeniedException", kmsText)},
	} {
		r.query = as(testRole, q(r.target, "", "", false))
		r.target = get + "?secretId=" + r.target + "&roleArn=" + testRole
		rows = append(rows, r)
	}
	for i := range rows {
		rows[i].headers = withT
	}
	return rows
}

func contractRows() []row {
	var rows []row
	for _, part := range [][]row{doorRows(), parameterRows(), valueRows(), errorRows(), roleRows()} {
		rows = append(rows, part...)
	}
	return rows
}

// TestContractThroughTheReader runs the table with nothing configured: every
// value comes from the reader, which must be asked exactly what was typed, and
// nothing where the request is refused before.
func TestContractThroughTheReader(t *testing.T) {
	b := &backend{errors: backendErrors(t)}
	s := start(t, endpoint.Options{}, b)
	for _, r := range contractRows() {
		t.Run(r.name, func(t *testing.T) {
			r.check(t, s)
			var want []endpoint.Query
			if r.query != nil {
				want = []endpoint.Query{*r.query}
			}
			if diff := cmp.Diff(want, b.take()); diff != "" {
				t.Errorf("what the reader was asked (-want +got):\n%s", diff)
			}
		})
	}
}

// TestContractFromTheView runs the same table with the secrets configured: the
// answers must be the same, and only other stages, other versions and
// refreshes go to the reader.
func TestContractFromTheView(t *testing.T) {
	b := &backend{errors: backendErrors(t)}
	var entries []endpoint.Entry
	for _, r := range valueRows() {
		if r.query != nil && !strings.HasPrefix(r.query.ID, "arn:") {
			entries = append(entries, entry(version(r.query.ID, defaultVersion, secret.StageCurrent)))
		}
	}
	for id, err := range b.errors {
		entries = append(entries, failing(id, err))
	}
	s := start(t, endpoint.Options{}, b, entries...)
	for _, r := range contractRows() {
		t.Run(r.name, func(t *testing.T) {
			r.check(t, s)
			asked := len(b.take()) > 0
			mustAsk := r.query != nil && (r.query.Refresh || r.query.Role != "" || r.query.Stage == secret.StagePending ||
				r.query.VersionID != "" && r.query.VersionID != defaultVersion)
			if asked != mustAsk {
				t.Errorf("the reader was asked: %v, want %v", asked, mustAsk)
			}
		})
	}
}

func (r row) check(t *testing.T, s *endpoint.Server) {
	t.Helper()
	method := r.method
	if method == "" {
		method = "GET"
	}
	got := do(t, s, method, r.target, r.headers...)
	if got.status != r.status {
		t.Errorf("status %d, want %d (body %q)", got.status, r.status, got.body)
	}
	wantType := []string(nil)
	if r.fault != nil || strings.HasPrefix(r.body, "{") {
		wantType = []string{"application/json"}
	}
	if diff := cmp.Diff(wantType, got.header.Values("Content-Type")); diff != "" {
		t.Errorf("Content-Type (-want +got):\n%s", diff)
	}
	if r.fault == nil {
		if got.body != r.body {
			t.Errorf("body\n%q, want\n%q", got.body, r.body)
		}
		return
	}
	var body map[string]any
	if err := json.Unmarshal([]byte(got.body), &body); err != nil {
		t.Fatalf("body %q: %v", got.body, err)
	}
	if diff := cmp.Diff(r.fault, body); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
}

// TestContractAsksAgainAfterAnError is C35: nothing remembers an error that
// the reader gave.
func TestContractAsksAgainAfterAnError(t *testing.T) {
	b := &backend{errors: backendErrors(t)}
	s := start(t, endpoint.Options{}, b)
	for range 2 {
		do(t, s, "GET", get+"?secretId=NOTFOUNDx", tokenT)
	}
	do(t, s, "GET", get+"?secretId=NOTFOUNDx&refreshNow=true", tokenT)
	want := []endpoint.Query{*q("NOTFOUNDx", "", "", false), *q("NOTFOUNDx", "", "", false), *q("NOTFOUNDx", "", "", true)}
	if diff := cmp.Diff(want, b.take()); diff != "" {
		t.Errorf("what the reader was asked (-want +got):\n%s", diff)
	}
}

// TestContractValues are C56 to C59: what a value looks like on the wire.
func TestContractValues(t *testing.T) {
	binary := version("binary", defaultVersion, secret.StageCurrent)
	binary.Text, binary.Binary = secret.Value{}, secret.NewValue("\x00\x01\x02\x03\xff\xfe\xfd")
	escaped := version("escaped", defaultVersion, secret.StageCurrent)
	escaped.Text = secret.NewValue("<>&\"\\\n\b\f\r\t\x01\x1f\x7f\u2028🔑/")
	undated := version("undated", defaultVersion, secret.StageCurrent)
	undated.Created = time.Time{}
	whole := version("whole", defaultVersion, secret.StageCurrent)
	whole.Created = time.Unix(1569534789, 0)
	whole.Text = secret.NewValue("")
	large := version("large", defaultVersion, secret.StageCurrent)
	large.Text = secret.NewValue(strings.Repeat("0123456789abcdef", 4096))
	bare := &secret.Version{Name: "bare", Text: secret.NewValue("x")}

	rest := func(name string) string {
		return fmt.Sprintf(`{"ARN":"%s","Name":"%s","VersionId":"%s",`, arn(name), name, defaultVersion)
	}
	const tail = `,"VersionStages":["AWSCURRENT"],"CreatedDate":"1569534789.046"}`
	want := map[string]string{
		"binary":  rest("binary") + `"SecretBinary":"AAECA//+/Q=="` + tail,
		"escaped": rest("escaped") + `"SecretString":"<>&\"\\\n\b\f\r\t\u0001\u001f` + "\x7f\u2028🔑/\"" + tail,
		"undated": rest("undated") + `"SecretString":"hunter2","VersionStages":["AWSCURRENT"],"CreatedDate":null}`,
		"whole":   rest("whole") + `"SecretString":"","VersionStages":["AWSCURRENT"],"CreatedDate":"1569534789"}`,
		"large":   rest("large") + `"SecretString":"` + large.Text.Reveal() + `"` + tail,
		"bare":    `{"ARN":null,"Name":"bare","VersionId":null,"SecretString":"x","CreatedDate":null}`,
	}
	var entries []endpoint.Entry
	for _, v := range []*secret.Version{binary, escaped, undated, whole, large, bare} {
		entries = append(entries, entry(v))
	}
	s := start(t, endpoint.Options{}, noReads(t), entries...)
	for name, body := range want {
		got := do(t, s, "GET", "/v1/"+name, tokenT)
		if got.status != 200 || got.body != body {
			t.Errorf("%s: status %d, body\n%q, want\n%q", name, got.status, got.body, body)
		}
		if length := got.header.Get("Content-Length"); length != fmt.Sprint(len(body)) {
			t.Errorf("%s: Content-Length %q, want %d", name, length, len(body))
		}
	}
}

// TestContractPrefixAndHeaders are C64 and C65, and that a reload changes both
// without closing the listener.
func TestContractPrefixAndHeaders(t *testing.T) {
	b := &backend{}
	s := start(t, endpoint.Options{PathPrefix: "/other"}, b)
	for target, id := range map[string]string{"/other/MyTest": "/MyTest", "/otherMyTest": "MyTest"} {
		do(t, s, "GET", target, tokenT)
		if diff := cmp.Diff([]endpoint.Query{{ID: id}}, b.take()); diff != "" {
			t.Errorf("%s: what the reader was asked (-want +got):\n%s", target, diff)
		}
	}
	if got := do(t, s, "GET", "/v1/MyTest", tokenT); got.status != 404 {
		t.Errorf("/v1/ with another prefix configured: status %d, want 404", got.status)
	}
	if err := s.Configure(endpoint.Options{TokenHeaders: []string{"x-foo"}}, fixedTokens(t), nil); err != nil {
		t.Fatal(err)
	}
	if got := do(t, s, "GET", "/v1/MyTest", tokenT); got.status != 403 {
		t.Errorf("a header no longer configured: status %d, want 403", got.status)
	}
	if got := do(t, s, "GET", "/v1/MyTest", "X-Foo: "+token); got.status != 200 {
		t.Errorf("the header configured: status %d, want 200", got.status)
	}
}
