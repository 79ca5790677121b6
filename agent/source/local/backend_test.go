package local_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"secretsd/agent/source/local"
)

func TestMain(m *testing.M) {
	os.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	os.Exit(m.Run())
}

// backend is something that answers the protocol.
type backend struct {
	url  string
	http *http.Client
	sdk  *sm.Client
	moto bool
}

func newBackend(url string, client *http.Client) *backend {
	return &backend{url: url, http: client, sdk: sm.New(sm.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(url),
		HTTPClient:   client,
		Credentials:  credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "example", ""),
		Retryer:      aws.NopRetryer{},
	})}
}

func inProcess(s *local.Service) *backend {
	return newBackend("http://localhost", &http.Client{Transport: s.Transport()})
}

func onLoopback(t testing.TB, s *local.Service) *backend {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return newBackend(server.URL, &http.Client{Transport: readOnly{server.Client().Transport}})
}

// readOnly hides that a request's body can write itself. That of the SDK (smithy-go
// v1.28.8, transport/http/internal/io/safe.go) answers WriteTo with [io.EOF] once it
// is closed, which it is as soon as the answer begins: net/http, if it asks after
// that whether there is more of the body, takes it for a failed request and closes
// the connection under the answer. The SDK's retries hide it; here there are none.
type readOnly struct{ http.RoundTripper }

func (r readOnly) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		req.Body = struct{ io.ReadCloser }{req.Body} // the SDK gives each attempt a request of its own
	}
	return r.RoundTripper.RoundTrip(req)
}

// onMoto starts a moto_server of its own and waits until it answers.
func onMoto(t *testing.T) *backend {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: moto_server is not started")
	}
	path, err := exec.LookPath("moto_server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("moto_server is missing (pip install 'moto[server]')")
		}
		t.Skip("moto_server is missing (pip install 'moto[server]')")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	l.Close()
	var out bytes.Buffer
	cmd := exec.Command(path, "-H", "127.0.0.1", "-p", port)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ask := time.NewTicker(20 * time.Millisecond)
	defer ask.Stop()
	for {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			b := newBackend("http://"+addr, &http.Client{Timeout: 30 * time.Second})
			b.moto = true
			return b
		}
		select {
		case <-ask.C:
		case <-exited:
			t.Fatalf("moto_server ended: %s", out.String())
		case <-ctx.Done():
			t.Fatal("moto_server did not answer within 30 s")
		}
	}
}

// answer is what came back, whichever way it was asked for.
type answer struct {
	status  int
	code    string
	message string
	out     obj
}

// raw posts a body as it is.
func (b *backend) raw(ctx context.Context, op, body string) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/", bytes.NewBufferString(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "secretsmanager."+op)
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/us-east-1/secretsmanager/aws4_request, SignedHeaders=host, Signature=0")
	resp, err := b.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	a := &answer{status: resp.StatusCode, out: obj{}}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &a.out); err != nil {
			return nil, fmt.Errorf("status %d, no JSON: %q", resp.StatusCode, text)
		}
	}
	if resp.StatusCode != http.StatusOK {
		a.code, _ = a.out["__type"].(string)
		for _, member := range []string{"Message", "message"} {
			if s, ok := a.out[member].(string); ok {
				a.message = s
			}
		}
	}
	return a, nil
}

// call goes through the SDK.
func (b *backend) call(ctx context.Context, op string, in obj) (*answer, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	out, err := sdkOperations[op](ctx, b.sdk, body)
	if err != nil {
		return refusal(err)
	}
	text, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	a := &answer{status: http.StatusOK, out: obj{}}
	return a, json.Unmarshal(text, &a.out)
}

func refusal(err error) (*answer, error) {
	var api interface {
		ErrorCode() string
		ErrorMessage() string
	}
	var response interface{ HTTPStatusCode() int }
	if !errors.As(err, &api) || !errors.As(err, &response) {
		return nil, err
	}
	return &answer{status: response.HTTPStatusCode(), code: api.ErrorCode(), message: api.ErrorMessage(), out: obj{}}, nil
}

type sdkOperation func(context.Context, *sm.Client, []byte) (any, error)

func sdkCall[I, O any](f func(*sm.Client, context.Context, *I, ...func(*sm.Options)) (*O, error)) sdkOperation {
	return func(ctx context.Context, c *sm.Client, body []byte) (any, error) {
		in := new(I)
		if err := json.Unmarshal(body, in); err != nil {
			return nil, err
		}
		return f(c, ctx, in)
	}
}

var sdkOperations = map[string]sdkOperation{
	"BatchGetSecretValue":      sdkCall((*sm.Client).BatchGetSecretValue),
	"CreateSecret":             sdkCall((*sm.Client).CreateSecret),
	"DeleteSecret":             sdkCall((*sm.Client).DeleteSecret),
	"DescribeSecret":           sdkCall((*sm.Client).DescribeSecret),
	"GetRandomPassword":        sdkCall((*sm.Client).GetRandomPassword),
	"GetSecretValue":           sdkCall((*sm.Client).GetSecretValue),
	"ListSecretVersionIds":     sdkCall((*sm.Client).ListSecretVersionIds),
	"ListSecrets":              sdkCall((*sm.Client).ListSecrets),
	"PutSecretValue":           sdkCall((*sm.Client).PutSecretValue),
	"RestoreSecret":            sdkCall((*sm.Client).RestoreSecret),
	"RotateSecret":             sdkCall((*sm.Client).RotateSecret),
	"TagResource":              sdkCall((*sm.Client).TagResource),
	"UntagResource":            sdkCall((*sm.Client).UntagResource),
	"UpdateSecret":             sdkCall((*sm.Client).UpdateSecret),
	"UpdateSecretVersionStage": sdkCall((*sm.Client).UpdateSecretVersionStage),
}
