package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
)

// The programs in this file are AWS's own and have no line for secretsd: they
// are told by the environment where Secrets Manager is and who they are.

// sdkFixture runs an agent with three secrets of which client web may read two.
func sdkFixture(t *testing.T) (f *fixture, agent *process) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts programs in Python; left out by -short")
	}
	f = newFixture(t)
	f.setSDK("one")
	write(t, f.conf, fmt.Sprintf(`
source: {local: {path: %[1]s/secrets.yaml}}
refresh: {interval: 100ms}
state_dir: %[1]s/state
secrets: [{name: db, id: prod/db}, {id: prod/bin}, {id: other}]
endpoint:
  listen: "%[2]s"
  token_file: %[1]s/token
  clients: [{name: web, token_file: %[1]s/web, secrets: [prod/*]}]
audit: {path: %[1]s/audit.log}
`, f.dir, f.endpoint))
	return f, f.run()
}

// setSDK writes the file of secrets, in which the value of prod/db changes.
func (f *fixture) setSDK(value string) {
	f.t.Helper()
	write(f.t, f.secrets+".new", fmt.Sprintf("secrets: [{name: prod/db, string: '%s'}, {name: prod/bin, binary: AAH/}, {name: other, string: CANARY}]\n", value))
	if err := os.Rename(f.secrets+".new", f.secrets); err != nil {
		f.t.Fatal(err)
	}
}

// sdkEnv is all that such a program is told. What would go elsewhere goes
// nowhere.
func (f *fixture) sdkEnv(id, key string) []string {
	return cleanEnv("AWS_ENDPOINT_URL_SECRETS_MANAGER=http://"+f.endpoint, "AWS_ACCESS_KEY_ID="+id, "AWS_SECRET_ACCESS_KEY="+key,
		"HTTPS_PROXY=http://127.0.0.1:1", "HTTP_PROXY=", "http_proxy=", "https_proxy=http://127.0.0.1:1", "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
}

func (f *fixture) webEnv() []string {
	return f.sdkEnv("web", strings.TrimSpace(content(filepath.Join(f.dir, "web"))))
}

// needPython returns a Python that has a module of others.
func needPython(t *testing.T, module string) string {
	t.Helper()
	python := need(t, "python3")
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import "+module).CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("Python's %s is missing; .ci/run has to install it: %s", module, out)
		}
		t.Skipf("Python's %s is not installed", module)
	}
	return python
}

// sdkAnswer is what a call with boto3 came to.
type sdkAnswer struct {
	Code, Message              string
	Status, Retries            int
	HasRequestID               bool `json:"has_request_id"`
	ARN, Name, VersionId       string
	SecretString, SecretBinary string
	CreatedDate                string
	VersionStages              []string
	VersionIdsToStages         map[string][]string
	SecretValues               []struct{ Name, SecretString string }
	Errors                     []struct{ SecretId, ErrorCode string }
}

func TestBoto3(t *testing.T) {
	f, agent := sdkFixture(t)
	python := needPython(t, "boto3")
	out := output(t, f.webEnv(), python, "testdata/sdk_boto3.py")
	var got map[string]sdkAnswer
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, a := range got {
		if !a.HasRequestID || a.Retries != 0 {
			t.Errorf("%s: request id %v, %d retries", name, a.HasRequestID, a.Retries)
		}
	}
	for _, name := range []string{"get", "get stage"} {
		a := got[name]
		created, err := time.Parse(time.RFC3339Nano, a.CreatedDate)
		if a.Status != 200 || a.SecretString != "one" || a.Name != "prod/db" || !strings.Contains(a.ARN, ":secret:prod/db-") ||
			!cmp.Equal(a.VersionStages, []string{"AWSCURRENT"}) || err != nil || time.Since(created).Abs() > time.Hour {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	if got["binary"].SecretBinary != "0001ff" {
		t.Errorf("binary: %+v", got["binary"])
	}
	if d := got["describe"]; !cmp.Equal(d.VersionIdsToStages, map[string][]string{got["get"].VersionId: {"AWSCURRENT"}}) || d.ARN != got["get"].ARN {
		t.Errorf("describe: %+v", d)
	}
	if b := got["batch"]; len(b.SecretValues) != 1 || b.SecretValues[0].SecretString != "one" || len(b.Errors) != 2 ||
		b.Errors[0].ErrorCode != "AccessDeniedException" || b.Errors[1].ErrorCode != "AccessDeniedException" {
		t.Errorf("batch: %+v", b)
	}
	for name, want := range map[string][2]string{
		"not allowed":   {"AccessDeniedException", "not among those that this client may read"},
		"unknown":       {"AccessDeniedException", "not among those that this client may read"},
		"no such stage": {"ResourceNotFoundException", "can't find the specified secret value for staging label: NONE"},
		"put":           {"AccessDeniedException", "secretsd refuses PutSecretValue: the agent only reads"},
		"create":        {"AccessDeniedException", "secretsd refuses CreateSecret: the agent only reads"},
		"delete":        {"AccessDeniedException", "secretsd refuses DeleteSecret: the agent only reads"},
		"list":          {"AccessDeniedException", "secretsd refuses ListSecrets: the agent only reads"},
		"wrong key":     {"InvalidSignatureException", "does not match the signature you provided"},
		"wrong client":  {"UnrecognizedClientException", "The security token included in the request is invalid"},
		"an hour late":  {"InvalidSignatureException", "Signature expired: "},
		"an hour early": {"InvalidSignatureException", "Signature not yet current: "},
	} {
		if a := got[name]; a.Status != 400 || a.Code != want[0] || !strings.Contains(a.Message, want[1]) {
			t.Errorf("%s: %+v", name, a)
		}
	}
	checkSDKAudit(t, f)
	agent.signal(syscall.SIGTERM)
	if log, _ := agent.wait(); strings.Contains(log, "CANARY") || strings.Contains(log, strings.TrimSpace(content(filepath.Join(f.dir, "web")))) {
		t.Errorf("the log holds a value: %s", log)
	}
}

// checkSDKAudit looks at what was written down of the calls with boto3.
func checkSDKAudit(t *testing.T, f *fixture) {
	t.Helper()
	type line struct{ Event, Operation, Client, Secret, Outcome string }
	want := map[line]int{
		{"get", "GetSecretValue", "web", "prod/db", "ok"}:          2,
		{"get", "GetSecretValue", "web", "prod/bin", "ok"}:         1,
		{"describe", "DescribeSecret", "web", "prod/db", "ok"}:     1,
		{"get", "BatchGetSecretValue", "web", "prod/db", "ok"}:     1,
		{"get", "BatchGetSecretValue", "web", "other", "denied"}:   1,
		{"get", "BatchGetSecretValue", "web", "unknown", "denied"}: 1,
		{"get", "GetSecretValue", "web", "other", "denied"}:        1,
		{"get", "GetSecretValue", "web", "unknown", "denied"}:      1,
		{"get", "GetSecretValue", "web", "prod/db", "not_found"}:   1,
		{"call", "PutSecretValue", "web", "", "denied"}:            1,
		{"call", "CreateSecret", "web", "", "denied"}:              1,
		{"call", "DeleteSecret", "web", "", "denied"}:              1,
		{"call", "ListSecrets", "web", "", "denied"}:               1,
		{"get", "", "", "", "bad_token"}:                           4,
	}
	read := func() map[line]int {
		got := map[line]int{}
		for text := range strings.Lines(content(filepath.Join(f.dir, "audit.log"))) {
			var l line
			if err := json.Unmarshal([]byte(text), &l); err != nil {
				return nil // in the making
			}
			got[l]++
		}
		return got
	}
	eventually(t, "every call is written down", func() bool {
		n := 0
		for _, count := range read() {
			n += count
		}
		return n >= 18
	})
	if diff := cmp.Diff(want, read()); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(content(filepath.Join(f.dir, "audit.log")), "CANARY") {
		t.Error("the audit log holds a value")
	}
}

// TestCachingClientSeesARotation has AWS's caching client, which asks
// DescribeSecret which version is the current one and then gets that.
func TestCachingClientSeesARotation(t *testing.T) {
	f, _ := sdkFixture(t)
	python := needPython(t, "aws_secretsmanager_caching")
	app := start(t, f.webEnv(), python, "testdata/sdk_caching.py", "prod/db")
	app.until("value one\n")
	f.setSDK("two")
	app.until("value two\n")
	f.setSDK("three")
	app.until("value three\n")
	if out := app.out.String(); out != "value one\nvalue two\nvalue three\n" {
		t.Errorf("the application saw\n%s", out)
	}
}

// cliEndpoint returns what tells the AWS CLI where Secrets Manager is: nothing,
// where it knows the variable.
func cliEndpoint(t *testing.T, f *fixture) []string {
	t.Helper()
	version := output(t, cleanEnv(), need(t, "aws"), "--version")
	v := regexp.MustCompile(`^aws-cli/(\d+)\.(\d+)\.`).FindStringSubmatch(version)
	if v == nil {
		t.Fatalf("aws --version prints %q", version)
	}
	minor, _ := strconv.Atoi(v[2])
	if v[1] == "1" && minor >= 29 || v[1] == "2" && minor >= 13 {
		return nil
	}
	return []string{"--endpoint-url", "http://" + f.endpoint}
}

func TestAWSCommandLine(t *testing.T) {
	f, _ := sdkFixture(t)
	endpoint := cliEndpoint(t, f)
	aws := func(env []string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, "aws", append(append(endpoint, "secretsmanager"), args...)...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	text := []string{"--query", "SecretString", "--output", "text"}
	for _, id := range []string{"prod/db", "db"} {
		if out, err := aws(f.webEnv(), append([]string{"get-secret-value", "--secret-id", id}, text...)...); err != nil || out != "one\n" {
			t.Errorf("get-secret-value %s: %v %q", id, err, out)
		}
	}
	top := f.sdkEnv("default", strings.TrimSpace(content(filepath.Join(f.dir, "token"))))
	if out, err := aws(top, append([]string{"get-secret-value", "--secret-id", "other"}, text...)...); err != nil || out != "CANARY\n" {
		t.Errorf("the top-level token: %v %q", err, out)
	}
	if out, err := aws(f.webEnv(), "describe-secret", "--secret-id", "prod/db", "--query", "Name", "--output", "text"); err != nil || out != "prod/db\n" {
		t.Errorf("describe-secret: %v %q", err, out)
	}
	for _, row := range []struct {
		env  []string
		want string
		args []string
	}{
		{f.webEnv(), "(AccessDeniedException) when calling the GetSecretValue operation: This secret is not among those", []string{"get-secret-value", "--secret-id", "other"}},
		{f.webEnv(), "(AccessDeniedException) when calling the PutSecretValue operation: secretsd refuses PutSecretValue", []string{"put-secret-value", "--secret-id", "prod/db", "--secret-string", "x"}},
		{f.webEnv(), "(AccessDeniedException) when calling the RotateSecret operation: secretsd refuses RotateSecret", []string{"rotate-secret", "--secret-id", "prod/db"}},
		{f.sdkEnv("web", "wrong-wrong-wrong"), "(InvalidSignatureException)", []string{"get-secret-value", "--secret-id", "prod/db"}},
		{f.sdkEnv("nobody", "wrong-wrong-wrong"), "(UnrecognizedClientException)", []string{"get-secret-value", "--secret-id", "prod/db"}},
	} {
		if out, err := aws(row.env, row.args...); err == nil || !strings.Contains(out, row.want) {
			t.Errorf("%v: %v %s", row.args, err, out)
		}
	}
}

// goClient is the client of a Go program that is told by the environment.
func goClient(t *testing.T, env []string) *secretsmanager.Client {
	t.Helper()
	for _, kv := range env {
		if name, value, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, value)
		}
	}
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return secretsmanager.NewFromConfig(cfg)
}

func TestGoSDK(t *testing.T) {
	f, _ := sdkFixture(t)
	client := goClient(t, f.webEnv())
	value, err := client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("prod/db")})
	if err != nil || *value.SecretString != "one" || time.Since(*value.CreatedDate).Abs() > time.Hour {
		t.Fatalf("%+v, %v", value, err)
	}
	described, err := client.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: value.ARN})
	if err != nil || !cmp.Equal(described.VersionIdsToStages, map[string][]string{*value.VersionId: {"AWSCURRENT"}}) {
		t.Errorf("%+v, %v", described, err)
	}
	batch, err := client.BatchGetSecretValue(t.Context(), &secretsmanager.BatchGetSecretValueInput{SecretIdList: []string{"prod/db", "other"}})
	if err != nil || len(batch.SecretValues) != 1 || len(batch.Errors) != 1 || *batch.Errors[0].ErrorCode != "AccessDeniedException" {
		t.Errorf("%+v, %v", batch, err)
	}

	f.setSDK("two")
	eventually(t, "the program has the second value", func() bool {
		v, err := client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("prod/db")})
		return err == nil && *v.SecretString == "two"
	})

	refused := func(want string, err error) {
		t.Helper()
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	_, err = client.UpdateSecret(t.Context(), &secretsmanager.UpdateSecretInput{SecretId: aws.String("prod/db"), SecretString: aws.String("x")})
	refused("AccessDeniedException", err)
	_, err = client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("other")})
	refused("AccessDeniedException", err)
	_, err = client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("prod/db"), VersionId: value.VersionId, VersionStage: aws.String("AWSCURRENT")})
	refused("InvalidRequestException", err)
	var missing *types.ResourceNotFoundException
	_, err = client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("prod/db"), VersionStage: aws.String("NONE")})
	if !errors.As(err, &missing) {
		t.Errorf("an unknown label: %v", err)
	}
	_, err = goClient(t, f.sdkEnv("web", "wrong-wrong-wrong")).GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("prod/db")})
	refused("InvalidSignatureException", err)
	_, err = goClient(t, f.sdkEnv("nobody", "wrong-wrong-wrong")).GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("prod/db")})
	refused("UnrecognizedClientException", err)
}

// TestAnySignature has a program whose keys cannot be chosen, and a page that
// would like to be one.
func TestAnySignature(t *testing.T) {
	f := newFixture(t)
	f.configure("x", fmt.Sprintf(`endpoint: {listen: "%s", token_file: %s/token, unsafe_any_signature: true}`, f.endpoint, f.dir))
	agent := f.run()
	agent.until(`level=WARN msg="unsafe_any_signature is set`)
	value, err := goClient(t, f.sdkEnv("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")).GetSecretValue(t.Context(),
		&secretsmanager.GetSecretValueInput{SecretId: aws.String("db")})
	if err != nil || *value.SecretString != "one" {
		t.Errorf("%+v, %v", value, err)
	}
	for _, header := range [][2]string{{"Origin", "http://evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"Host", "evil.example"}} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+f.endpoint+"/", strings.NewReader(`{"SecretId":"db"}`))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "secretsmanager.GetSecretValue",
			"Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/r/secretsmanager/aws4_request, SignedHeaders=host, Signature=" + strings.Repeat("0", 64)} {
			req.Header.Set(name, value)
		}
		if header[0] == "Host" {
			req.Host = header[1]
		} else {
			req.Header.Set(header[0], header[1])
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("%v: %d", header, res.StatusCode)
		}
	}

	write(t, f.conf, "secrets: [{id: db}]\nendpoint:\n  clients: [{name: web, token_file: /run/t, secrets: [db]}]\n  unsafe_any_signature: true\n")
	out, code := runTo(t, cleanEnv(), "run", "--config", f.conf)
	if code != 3 || !strings.Contains(out, f.conf+":4: endpoint.unsafe_any_signature: there is no token_file") || !strings.Contains(out, "hint: give endpoint.token_file") {
		t.Errorf("for nobody run ends with %d:\n%s", code, out)
	}
}
