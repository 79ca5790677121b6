package source_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"secretsd/agent/secret"
	"secretsd/agent/source"
)

const (
	home    = "111111111111"
	abroad  = "222222222222"
	region  = "eu-west-1"
	created = 1569534789.046
)

// request is one call as the service saw it.
type request struct {
	Op           string   `json:"-"`
	Region       string   `json:"-"` // that of the signature
	AccessKey    string   `json:"-"`
	UserAgent    string   `json:"-"`
	SecretId     string   `json:",omitempty"`
	SecretIdList []string `json:",omitempty"`
	VersionId    string   `json:",omitempty"`
	VersionStage string   `json:",omitempty"`
	NextToken    string   `json:",omitempty"`
}

// reply is one answer: a status and a body, sent as they are.
type reply struct {
	status int
	body   string
}

func apiError(status int, code, message string) *reply {
	b, err := json.Marshal(map[string]string{"__type": code, "message": message})
	if err != nil {
		panic(err)
	}
	return &reply{status: status, body: string(b)}
}

// entry is a secret in the form of both operations' answers.
type entry map[string]any

// backend is a Secrets Manager that knows any secret: the value of one called
// "x" is "value of x". Functions change what it answers; nil ones and nil
// replies leave it as it is.
type backend struct {
	get   func(r request) *reply
	batch func(r request) *reply
	// entries changes what a batch answers in SecretValues.
	entries func(r request, all []entry) []entry
	// failures says which ids a batch answers in Errors, as code and message.
	failures func(id string) (code, message string)
	// block holds every answer until the client hangs up.
	block func(r request) bool

	mu    sync.Mutex
	calls []request
}

func (b *backend) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r := request{Op: strings.TrimPrefix(req.Header.Get("X-Amz-Target"), "secretsmanager."), UserAgent: req.UserAgent()}
	body, err := io.ReadAll(req.Body)
	if err != nil || json.Unmarshal(body, &r) != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	// Credential=KEY/DATE/REGION/secretsmanager/aws4_request
	if _, scope, ok := strings.Cut(req.Header.Get("Authorization"), "Credential="); ok {
		parts := strings.Split(scope, "/")
		r.AccessKey, r.Region = parts[0], parts[2]
	}
	b.mu.Lock()
	b.calls = append(b.calls, r)
	b.mu.Unlock()
	if b.block != nil && b.block(r) {
		<-req.Context().Done()
		return
	}
	answer := b.answer(r)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(answer.status)
	_, _ = io.WriteString(w, answer.body)
}

func (b *backend) answer(r request) *reply {
	script, usual := b.get, b.usualGet
	if r.Op == "BatchGetSecretValue" {
		script, usual = b.batch, b.usualBatch
	}
	if script != nil {
		if a := script(r); a != nil {
			return a
		}
	}
	return usual(r)
}

func (b *backend) usualGet(r request) *reply {
	e := secretOf(r.Region, r.SecretId)
	e["VersionStages"] = []string{r.VersionStage}
	if r.VersionId != "" {
		e["VersionId"] = r.VersionId
	}
	return okReply(e)
}

func (b *backend) usualBatch(r request) *reply {
	values, failures := []entry{}, []map[string]string{}
	for _, id := range r.SecretIdList {
		if b.failures != nil {
			if code, message := b.failures(id); code != "" {
				failures = append(failures, map[string]string{"SecretId": id, "ErrorCode": code, "Message": message})
				continue
			}
		}
		values = append(values, secretOf(r.Region, id))
	}
	slices.Reverse(values) // their order is not promised
	if b.entries != nil {
		values = b.entries(r, values)
	}
	return okReply(map[string]any{"SecretValues": values, "Errors": failures})
}

// secretOf answers for a name, a full ARN, or a partial ARN.
func secretOf(region, id string) entry {
	account, name := home, id
	if f := strings.SplitN(id, ":", 7); len(f) == 7 {
		region, account, name = f[3], f[4], f[6]
		name = strings.TrimSuffix(name, "-AbCdEf")
	}
	return entry{
		"ARN": arn(region, account, name), "Name": name, "VersionId": "v1-" + name,
		"VersionStages": []string{secret.StageCurrent}, "CreatedDate": created, "SecretString": "value of " + name,
	}
}

func arn(region, account, name string) string {
	return "arn:aws:secretsmanager:" + region + ":" + account + ":secret:" + name + "-AbCdEf"
}

func okReply(v any) *reply {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return &reply{status: http.StatusOK, body: string(b)}
}

// seen returns the calls so far and forgets them.
func (b *backend) seen() []request {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := b.calls
	b.calls = nil
	return calls
}

// count returns how many batch calls and single reads there were, and forgets
// them.
func (b *backend) count() (batches, gets int) {
	for _, r := range b.seen() {
		if r.Op == "BatchGetSecretValue" {
			batches++
		} else {
			gets++
		}
	}
	return batches, gets
}

// inProcess is a transport that calls a handler.
type inProcess struct{ handler http.Handler }

func (t inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	t.handler.ServeHTTP(w, req)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// roundTrip is a transport made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// inMemory returns a source that reaches h in process.
func inMemory(t *testing.T, h http.Handler, change ...func(*source.Options)) *source.Source {
	t.Helper()
	o := source.Options{Region: region, Transport: inProcess{handler: h}}
	for _, f := range change {
		f(&o)
	}
	return open(t, o)
}

// overLoopback returns a source that reaches h over HTTP, with static
// credentials from the environment.
func overLoopback(t *testing.T, h http.Handler, change ...func(*source.Options)) *source.Source {
	t.Helper()
	isolate(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	o := source.Options{Region: region, Endpoint: serve(t, h)}
	for _, f := range change {
		f(&o)
	}
	return open(t, o)
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

func open(t *testing.T, o source.Options) *source.Source {
	t.Helper()
	s, err := source.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// isolate takes away the developer's own AWS settings, and the instance
// metadata service.
func isolate(t *testing.T) {
	t.Helper()
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "AWS_") || strings.HasSuffix(strings.ToUpper(name), "_PROXY") {
			t.Setenv(name, "") // so that it comes back
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", write(t, "config", ""))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", write(t, "credentials", ""))
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// names returns refs to n secrets by name.
func names(n int) []secret.Ref {
	refs := make([]secret.Ref, n)
	for i := range refs {
		refs[i] = secret.Current(fmt.Sprintf("app/s%03d", i))
	}
	return refs
}

// wantAll fails the test unless every ref was answered with its own value.
func wantAll(t *testing.T, results []source.Result) {
	t.Helper()
	for _, r := range results {
		wantValue(t, r)
	}
}

func wantValue(t *testing.T, r source.Result) {
	t.Helper()
	if r.Err != nil {
		t.Errorf("%+v: %v", r.Ref, r.Err)
		return
	}
	name := r.Ref.ID[strings.LastIndex(r.Ref.ID, ":")+1:]
	if want := "value of " + strings.TrimSuffix(name, "-AbCdEf"); r.Version.Text.Reveal() != want {
		t.Errorf("%+v: got another secret's value, %q", r.Ref, r.Version.Text.Reveal())
	}
}

// failure returns the *secret.Error of a result that must have one.
func failure(t *testing.T, r source.Result) *secret.Error {
	t.Helper()
	e, ok := errors.AsType[*secret.Error](r.Err)
	if !ok || r.Version != nil {
		t.Fatalf("%+v: got version %v and error %v, want only a *secret.Error", r.Ref, r.Version, r.Err)
	}
	if e.ID != r.Ref.ID {
		t.Errorf("the error of %q names %q", r.Ref.ID, e.ID)
	}
	return e
}

// logLines is a logger at debug level and what it wrote.
type logLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// fetchOne reads one ref.
func fetchOne(ctx context.Context, s *source.Source, ref secret.Ref) source.Result {
	return s.Fetch(ctx, []secret.Ref{ref})[0]
}

var createdTime = time.UnixMilli(1569534789046).UTC()
