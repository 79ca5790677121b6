package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"secretsd/agent/source/local"
)

// rotating is a Secrets Manager with a policy that can deny reads of AWSPENDING, and
// an agent that reads one secret of it.
type rotating struct {
	*fixture
	t      *testing.T
	client *secretsmanager.Client
	denied atomic.Bool
	// broken has reads of AWSPENDING fail as in an outage.
	broken atomic.Bool
	// looked counts the reads of AWSPENDING.
	looked atomic.Int64
	first  string
	arn    string
	audit  string
	agent  *process
}

func startRotating(t *testing.T, secrets, rest string) *rotating {
	r := &rotating{fixture: newFixture(t), t: t}
	svc := local.New(local.Options{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return // the agent was killed while it asked
		}
		if r.denied.Load() && req.Header.Get("X-Amz-Target") == "secretsmanager.GetSecretValue" && bytes.Contains(body, []byte(`"AWSPENDING"`)) {
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"__type":"AccessDeniedException","Message":"User is not authorized to perform: secretsmanager:GetSecretValue"}`)
			return
		}
		if bytes.Contains(body, []byte(`"AWSPENDING"`)) {
			r.looked.Add(1)
		}
		if r.broken.Load() && bytes.Contains(body, []byte(`"AWSPENDING"`)) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		svc.ServeHTTP(w, req)
	}))
	t.Cleanup(srv.Close)
	r.client = secretsmanager.New(secretsmanager.Options{Region: "us-east-1", BaseEndpoint: &srv.URL, Credentials: credentials.NewStaticCredentialsProvider("id", "key", "")})
	made, err := r.client.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("prod/db"), SecretString: aws.String("CANARY-one")})
	if err != nil {
		t.Fatal(err)
	}
	r.first, r.arn, r.audit = *made.VersionId, *made.ARN, filepath.Join(r.dir, "audit.log")
	write(t, r.conf, fmt.Sprintf(`
source: {aws: {endpoint: %s}}
refresh: {interval: 1h}
state_dir: %s/state
audit: {path: %s}
endpoint: {listen: "%s", token_file: %s/token}
secrets: [%s]
files: [{path: %s, contents: '{{ secret "db" }}'}]
%s`, srv.URL, r.dir, r.audit, r.endpoint, r.dir, secrets, r.file, rest))
	r.agent = secretsd(t, cleanEnv(), "run", "--config", r.conf)
	r.agent.until("msg=ready")
	return r
}

// pend does createSecret, and finish finishSecret.
func (r *rotating) pend(value string) string {
	r.t.Helper()
	put, err := r.client.PutSecretValue(r.t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: aws.String("prod/db"), SecretString: &value, VersionStages: []string{"AWSPENDING"},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return *put.VersionId
}

func (r *rotating) finish(from, to string) {
	if _, err := r.client.UpdateSecretVersionStage(r.t.Context(), &secretsmanager.UpdateSecretVersionStageInput{
		SecretId: aws.String("prod/db"), VersionStage: aws.String("AWSCURRENT"), MoveToVersionId: &to, RemoveFromVersionId: &from,
	}); err != nil {
		r.t.Error(err)
	}
}

type answered struct{ Name, VersionID, State, Stage, SecretString string }

func (r *rotating) refused(ids ...string) (got answered) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.endpoint+"/secretsd/refresh?"+url.Values{"secretId": {"db"}, "refused": ids}.Encode(), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", strings.TrimSpace(content(filepath.Join(r.dir, "token"))))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || resp.StatusCode != http.StatusOK {
		r.t.Fatalf("%d %v", resp.StatusCode, err)
	}
	return got
}

func TestARefusedClientGetsThePendingVersion(t *testing.T) {
	r := startRotating(t, "{name: db, id: prod/db}", "")
	second := r.pend("CANARY-two")
	if got, want := r.refused(r.first), (answered{"db", second, "pending", "AWSPENDING", "CANARY-two"}); got != want {
		t.Fatalf("%+v, want %+v", got, want)
	}
	if content(r.file) != "CANARY-one" {
		t.Errorf("the file holds %q", content(r.file))
	}
	eventually(t, "the audit log says who was given what", func() bool {
		lines := auditLines(t, r.audit)
		return len(lines) == 2 && lines[1].Event == "refresh" && lines[1].VersionID == second && lines[1].Secret == "db"
	})
	if out, code := runTo(t, cleanEnv(), "refresh", "db", "--refused", r.first, "--timeout", "1s", "--config", r.conf); code != 1 || !strings.Contains(out, "pending: true") || strings.Contains(out, "CANARY") {
		t.Errorf("refresh ends with %d: %s", code, out)
	}
	r.finish(r.first, second)
	// What was read within half a second is not read again.
	eventually(t, "the current version is the new one", func() bool {
		return r.refused(r.first) == answered{Name: "db", VersionID: second, State: "published"}
	})
	if content(r.file) != "CANARY-two" || strings.Contains(r.agent.out.String()+content(r.audit), "CANARY") {
		t.Errorf("the file holds %q, the log\n%s", content(r.file), r.agent.out.String())
	}
}

// TestMetricsOfPendingAnswers: one is a value that was given, of whoever asks, which
// says nothing of how long a request takes; what files show is a metric of its own.
func TestMetricsOfPendingAnswers(t *testing.T) {
	for _, shown := range []string{"false", "true"} {
		t.Run(shown, func(t *testing.T) {
			telemetry := freePort(t)
			r := startRotating(t, "{name: db, id: prod/db, pending: "+shown+"}", fmt.Sprintf("telemetry: {listen: %q}", telemetry))
			second := r.pend("CANARY-two")
			for range 3 {
				if got := r.refused(r.first); got.State != "pending" || got.VersionID != second {
					t.Fatalf("%+v", got)
				}
			}
			_, page := get(t, "http://"+telemetry+"/metrics", "")
			for _, want := range []string{
				`secretsd_endpoint_requests_total{outcome="ok"} 3`, `secretsd_endpoint_requests_total{outcome="stale"} 0`,
				`secretsd_endpoint_requests_total{outcome="failed"} 0`, `secretsd_endpoint_request_duration_seconds_count 0`,
				`secretsd_secret_version_info{secret="db",version_id="` + r.first + `"} 1`, `secretsd_secret_stale{secret="db"} 0`,
				`secretsd_secret_pending_shown{secret="db"} ` + map[string]string{"false": "0", "true": "1"}[shown],
				`secretsd_secret_refresh_failures_total{kind="not_found",secret="db"} 0`,
			} {
				if !strings.Contains(page, "\n"+want+"\n") {
					t.Errorf("/metrics lacks %s", want)
				}
			}
			if strings.Contains(page, second) || strings.Contains(page, "CANARY") {
				t.Error("/metrics holds what a caller was given")
			}
		})
	}
}

func TestAPolicyThatDeniesThePendingVersion(t *testing.T) {
	r := startRotating(t, "{name: db, id: prod/db}", "")
	r.denied.Store(true)
	current := r.first
	for _, value := range []string{"two", "three"} {
		next := r.pend(value)
		finished := time.AfterFunc(500*time.Millisecond, func() { r.finish(current, next) })
		if got, want := r.refused(current), (answered{Name: "db", VersionID: next, State: "published"}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		finished.Stop()
		current = next
	}
	if n := strings.Count(r.agent.out.String(), "cannot read AWSPENDING"); n != 1 {
		t.Errorf("the denial was said %d times", n)
	}
}

// TestFilesAndEnvironmentOfAPendingVersion is a legacy program that says over the
// command line that it was refused.
func TestFilesAndEnvironmentOfAPendingVersion(t *testing.T) {
	seen := filepath.Join(t.TempDir(), "seen")
	r := startRotating(t, "{name: db, id: prod/db, pending: true}", `
exec:
  command: [sh, -c, 'echo "$PASSWORD" >> `+seen+`; exec sleep 3600']
  on_change: restart
  env: {PASSWORD: '{{ secret "db" }}'}
`)
	second := r.pend("CANARY-two")
	out, code := runTo(t, cleanEnv(), "refresh", "db", "--refused", r.first, "--config", r.conf)
	if code != 0 || !strings.Contains(out, "pending") || !strings.Contains(out, second) || content(r.file) != "CANARY-two" {
		t.Fatalf("refresh ends with %d: %s\nthe file holds %q", code, out, content(r.file))
	}
	eventually(t, "the child has it", func() bool { return content(seen) == "CANARY-one\nCANARY-two\n" })
	if out, _ := runTo(t, cleanEnv(), "status", "--config", r.conf); !strings.Contains(out, "pending "+second) {
		t.Errorf("status says\n%s", out)
	}
	// The end of the rotation changes nothing any more.
	r.finish(r.first, second)
	eventually(t, "the current version is the new one", func() bool {
		out, code := runTo(t, cleanEnv(), "refresh", "db", "--refused", r.first, "--config", r.conf)
		return code == 0 && strings.Contains(out, "published")
	})
	steady(t, "the child is left alone", func() bool { return content(seen) == "CANARY-one\nCANARY-two\n" && content(r.file) == "CANARY-two" })
	if log := r.agent.out.String(); strings.Contains(log, "CANARY") {
		t.Error(log)
	}
}

// TestARefusedCallerHoldsNoShutdown ends the agent under a caller who waits for a
// version that does not come.
func TestARefusedCallerHoldsNoShutdown(t *testing.T) {
	r := startRotating(t, "{name: db, id: prod/db}", "")
	answer := make(chan answered, 1)
	go func() {
		defer close(answer) // also if it fails
		answer <- r.refused(r.first)
	}()
	eventually(t, "the caller waits", func() bool { return r.looked.Load() > 0 })
	r.agent.signal(syscall.SIGTERM)
	if got := <-answer; got.State != "unchanged" || got.VersionID != r.first {
		t.Errorf("the caller got %+v", got)
	}
	if _, code := r.agent.wait(); code != 0 {
		t.Errorf("the agent ended with code %d", code)
	}
}
