package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	firstVersion = "5767290c-d089-49ed-b97c-17086f8c9d79"
	nextVersion  = "1a1a1a1a-0000-4000-8000-000000000002"

	secretPrefix, secretSuffix = "arn:aws:secretsmanager:us-west-2:123456789012:secret:", "-NhBWsc"

	kmsText       = "Access to KMS is not allowed"
	signatureText = "The request signature we calculated does not match ..."
	notFoundText  = "Secrets Manager can't find the specified secret."
)

// stub is the backend that the contract describes at the top of its section 4:
// Secrets Manager and STS, whose answers follow from the names of secrets and
// roles. It remembers what it was asked.
type stub struct {
	*httptest.Server
	// freed is closed to let the answers for SleepyTest go.
	freed chan struct{}

	mu    sync.Mutex
	calls []string
	// reads counts the reads of each secret, asleep those that sleep.
	reads  map[string]int
	asleep int
	// moved are the secrets whose AWSCURRENT is another version by now.
	moved map[string]bool
	// script answers in place of the names, if it is there and its answer is: op is
	// Get or Describe, and n says the how manieth read of the secret it is.
	script func(op, name string, n int) *stubAnswer
}

// stubAnswer is a status and a body; status 0 breaks the connection off.
type stubAnswer struct {
	status int
	body   string
}

// stubRequest is what the operations have in common.
type stubRequest struct {
	SecretID     string   `json:"SecretId"`
	SecretIDList []string `json:"SecretIdList"`
	VersionID    string   `json:"VersionId"`
	VersionStage string
}

func newStub(t *testing.T) *stub {
	b := &stub{freed: make(chan struct{}), reads: map[string]int{}, moved: map[string]bool{}}
	b.Server = httptest.NewServer(http.HandlerFunc(b.serve))
	t.Cleanup(func() {
		b.CloseClientConnections()
		b.Close()
	})
	return b
}

// saw returns what was asked since the last call, in its order.
func (b *stub) saw() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := b.calls
	b.calls = nil
	return calls
}

// history returns what saw would.
func (b *stub) history() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.calls)
}

// count returns how many calls were just this one.
func (b *stub) count(call string) int {
	n := 0
	for _, c := range b.history() {
		if c == call {
			n++
		}
	}
	return n
}

// answers sets the script.
func (b *stub) answers(script func(op, name string, n int) *stubAnswer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.script = script
}

// move gives a secret another current version.
func (b *stub) move(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.moved[name] = true
}

func (b *stub) sleeping() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asleep > 0
}

func (b *stub) record(call, role string) {
	if role != "" {
		call += " as " + role
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, call)
}

func (b *stub) serve(w http.ResponseWriter, r *http.Request) {
	// Credential=KEY/DATE/REGION/SERVICE/aws4_request; the key of an assumed
	// role is the role's name.
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	role, _, _ := strings.Cut(scope, "/")
	if role == "test" {
		role = ""
	}
	target := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "secretsmanager.")
	if target == "" {
		b.serveSTS(w, r, role)
		return
	}
	var in stubRequest
	body, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(body, &in) != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	var answer *stubAnswer
	switch target {
	case "GetSecretValue":
		b.record("Get "+in.SecretID, role)
		answer = b.get(r, in)
	case "DescribeSecret":
		b.record("Describe "+in.SecretID, role)
		answer = b.describe(in)
	case "BatchGetSecretValue":
		b.record("Batch "+strings.Join(slices.Sorted(slices.Values(in.SecretIDList)), " "), role)
		answer = b.batch(r, in)
	default:
		answer = failing(400, "UnknownOperationException", target)
	}
	if answer.status == 0 {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(answer.status)
	_, _ = io.WriteString(w, answer.body)
}

// serveSTS answers AssumeRole, but for roles whose names begin with Denied, and
// GetCallerIdentity.
func (b *stub) serveSTS(w http.ResponseWriter, r *http.Request, role string) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, "bad form", http.StatusBadRequest)
		return
	}
	action, result := r.PostForm.Get("Action"), ""
	_, name, _ := strings.Cut(r.PostForm.Get("RoleArn"), ":role/")
	switch {
	case action == "GetCallerIdentity":
		b.record(action, role)
		result = "<Arn>arn:aws:sts::123456789012:assumed-role/x/y</Arn><UserId>x</UserId><Account>123456789012</Account>"
	case action == "AssumeRole" && !strings.HasPrefix(name, "Denied"):
		b.record("AssumeRole "+name, role)
		result = fmt.Sprintf("<Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>%s</Expiration></Credentials>",
			name, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	default:
		b.record("AssumeRole "+name, role)
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not today</Message></Error></ErrorResponse>")
		return
	}
	_, _ = fmt.Fprintf(w, "<%[1]sResponse><%[1]sResult>%[2]s</%[1]sResult></%[1]sResponse>", action, result)
}

func failing(status int, code, message string) *stubAnswer {
	fields := map[string]string{"__type": code}
	if message != "" {
		fields["message"] = message
	}
	body, _ := json.Marshal(fields) // strings always become JSON
	return &stubAnswer{status, string(body)}
}

// nameOf returns the name of what was asked for by name or ARN.
func nameOf(id string) string {
	return strings.TrimSuffix(strings.TrimPrefix(id, secretPrefix), secretSuffix)
}

func (b *stub) get(r *http.Request, in stubRequest) *stubAnswer {
	name := nameOf(in.SecretID)
	b.mu.Lock()
	b.reads[name]++
	n, script, moved := b.reads[name], b.script, b.moved[name]
	b.mu.Unlock()
	if script != nil {
		if a := script("Get", name, n); a != nil {
			return a
		}
	}
	switch {
	case strings.HasPrefix(name, "KMSACCESSDENIED"):
		return &stubAnswer{400, `{"__type":"AccessDeniedException","Message":"` + kmsText + `"}`}
	case strings.HasPrefix(name, "OTHERERROR"):
		return failing(400, "InvalidSignatureException", signatureText)
	case strings.HasPrefix(name, "NOTFOUND"):
		return failing(400, "ResourceNotFoundException", notFoundText)
	case strings.HasPrefix(name, "UNAVAILABLE"):
		return failing(500, "InternalServiceError", "try later")
	case strings.HasPrefix(name, "NOMESSAGE"):
		return failing(400, "SomethingException", "")
	case strings.HasPrefix(name, "GARBAGE"):
		return &stubAnswer{200, "<html>garbage</html>"}
	case strings.HasPrefix(name, "SleepyTest"):
		b.sleep(r)
	}
	return &stubAnswer{200, valueOf(name, in, n, moved)}
}

// sleep holds an answer until freed is closed.
func (b *stub) sleep(r *http.Request) {
	b.mu.Lock()
	b.asleep++
	b.mu.Unlock()
	select {
	case <-b.freed:
	case <-r.Context().Done():
	}
}

// valueOf returns what GetSecretValue answers for a name; it is the n-th read.
func valueOf(name string, in stubRequest, n int, moved bool) string {
	version, stage, created := in.VersionID, in.VersionStage, `,"CreatedDate":1569534789.046`
	if version == "" {
		version = firstVersion
		if moved {
			version = nextVersion
		}
	}
	if stage == "" {
		stage = "AWSCURRENT"
		if moved && version == firstVersion {
			stage = "AWSPREVIOUS"
		}
	}
	value := `"SecretString":"hunter2"`
	switch {
	case strings.HasPrefix(name, "REFRESHNOW"):
		value = fmt.Sprintf(`"SecretString":"value %d"`, n)
	case strings.HasPrefix(name, "binary"):
		value = `"SecretBinary":"AAECA//+/Q=="`
	case strings.HasPrefix(name, "large"):
		value = `"SecretString":"` + large(name) + `"`
	case strings.HasPrefix(name, "escaped"):
		value = `"SecretString":"<>&\"\\\n\u2028\ud83d\udd11\u0001"`
	case strings.HasPrefix(name, "undated"):
		created = ""
	}
	return fmt.Sprintf(`{"ARN":"%s","Name":"%s","VersionId":"%s",%s,"VersionStages":["%s"]%s}`,
		secretPrefix+name+secretSuffix, name, version, value, stage, created)
}

// large returns a value as long as the name says behind its hyphen.
func large(name string) string {
	var n int
	_, _ = fmt.Sscanf(name, "large-%d", &n) // a name without a length has no value
	return strings.Repeat("x", n)
}

func (b *stub) describe(in stubRequest) *stubAnswer {
	name := nameOf(in.SecretID)
	b.mu.Lock()
	n, script, moved := b.reads[name], b.script, b.moved[name]
	b.mu.Unlock()
	if script != nil {
		if a := script("Describe", name, n); a != nil {
			return a
		}
	}
	stages := fmt.Sprintf(`"%s":["AWSCURRENT"]`, firstVersion)
	if moved {
		stages = fmt.Sprintf(`"%s":["AWSPREVIOUS"],"%s":["AWSCURRENT"]`, firstVersion, nextVersion)
	}
	return &stubAnswer{200, fmt.Sprintf(`{"ARN":"%s","Name":"%s","VersionIdsToStages":{%s},"CreatedDate":1569534789.046}`,
		secretPrefix+name+secretSuffix, name, stages)}
}

// batch answers each secret as get does.
func (b *stub) batch(r *http.Request, in stubRequest) *stubAnswer {
	values, failures := []json.RawMessage{}, []map[string]string{}
	for _, id := range in.SecretIDList {
		a := b.get(r, stubRequest{SecretID: id})
		if a.status == 200 && json.Valid([]byte(a.body)) {
			values = append(values, json.RawMessage(a.body))
			continue
		}
		var fault struct {
			Type    string `json:"__type"`
			Message string
		}
		if a.status == 200 || json.Unmarshal([]byte(a.body), &fault) != nil {
			continue // left to single reads
		}
		failures = append(failures, map[string]string{"SecretId": id, "ErrorCode": fault.Type, "Message": fault.Message})
	}
	slices.Reverse(values) // their order is not promised
	body, err := json.Marshal(map[string]any{"SecretValues": values, "Errors": failures})
	if err != nil {
		return failing(500, "InternalServiceError", err.Error())
	}
	return &stubAnswer{200, string(body)}
}
