package endpoint_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

// token is the contract's "xyzzy" grown to the length ours must have.
const token = "xyzzy-0123456789"

const (
	tokenT = "X-Aws-Parameters-Secrets-Token: " + token
	tokenV = "X-Vault-Token: " + token
)

type readerFunc func(ctx context.Context, q endpoint.Query) (endpoint.Answer, error)

func (f readerFunc) Read(ctx context.Context, q endpoint.Query) (endpoint.Answer, error) {
	return f(ctx, q)
}

// noReads is the reader of tests in which the view answers everything.
func noReads(t *testing.T) readerFunc {
	return func(_ context.Context, q endpoint.Query) (endpoint.Answer, error) {
		t.Errorf("the reader was asked for %+v", q)
		return endpoint.Answer{}, context.Canceled
	}
}

// privateDir returns a directory whose mode does not depend on the umask.
func privateDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "private")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// fixedTokens returns tokens that hold the one token.
func fixedTokens(t *testing.T) *endpoint.Tokens {
	t.Helper()
	tokens, err := endpoint.OpenTokens(endpoint.TokenOptions{
		Env:       []string{"TOKEN"},
		LookupEnv: func(string) (string, bool) { return token, true },
	})
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// start serves on a free port until the test ends.
func start(t *testing.T, o endpoint.Options, reader endpoint.Reader, entries ...endpoint.Entry) *endpoint.Server {
	t.Helper()
	o.Listen = "127.0.0.1:0"
	s, err := endpoint.Listen(t.Context(), o, fixedTokens(t), reader)
	if err != nil {
		t.Fatal(err)
	}
	s.Publish(endpoint.NewView(nil, entries))
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shut down: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s
}

// reply is an answer with its body read.
type reply struct {
	status int
	header http.Header
	body   string
	closes bool
}

// dial connects, with a deadline after which every read fails the test.
func dial(t *testing.T, s *endpoint.Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// send writes raw bytes on a connection of its own.
func send(t *testing.T, s *endpoint.Server, raw string) net.Conn {
	t.Helper()
	conn := dial(t, s)
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	return conn
}

func receive(t *testing.T, conn net.Conn, method string) reply {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("read the answer: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("read the body: %v", err)
	}
	return reply{status: resp.StatusCode, header: resp.Header, body: string(body), closes: resp.Close}
}

// head returns an HTTP/1.1 request without a body, byte for byte.
func head(method, target string, headers ...string) string {
	lines := append([]string{method + " " + target + " HTTP/1.1", "Host: 127.0.0.1:2773"}, headers...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

func do(t *testing.T, s *endpoint.Server, method, target string, headers ...string) reply {
	t.Helper()
	conn := send(t, s, head(method, target, headers...))
	defer conn.Close()
	return receive(t, conn, method)
}

const defaultVersion = "5767290c-d089-49ed-b97c-17086f8c9d79"

func arn(name string) string {
	return "arn:aws:secretsmanager:us-west-2:123456789012:secret:" + name + "-NhBWsc"
}

// version is what the contract's backend answers for a name.
func version(name, id, stage string) *secret.Version {
	return &secret.Version{
		ARN: arn(name), Name: name, VersionID: id, Stages: []string{stage},
		Created: time.UnixMilli(1569534789046),
		Text:    secret.NewValue("hunter2"),
	}
}

// object is the body the contract writes as J(name, version, stage).
func object(name, id, stage string) string {
	return fmt.Sprintf(`{"ARN":"%s","Name":"%s","VersionId":"%s","SecretString":"hunter2","VersionStages":["%s"],"CreatedDate":"1569534789.046"}`,
		arn(name), name, id, stage)
}

// entry is a configured secret that follows AWSCURRENT.
func entry(v *secret.Version) endpoint.Entry {
	return endpoint.Entry{IDs: []string{v.Name, v.ARN}, Stage: secret.StageCurrent, Version: v, Confirmed: time.Now()}
}

func failing(id string, err error) endpoint.Entry {
	return endpoint.Entry{IDs: []string{id}, Stage: secret.StageCurrent, Err: err}
}
