package source_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"secretsd/agent/secret"
	"secretsd/agent/source"
)

func TestNoCredentials(t *testing.T) {
	isolate(t)
	b := &backend{}
	s := open(t, source.Options{Region: region, Endpoint: serve(t, b)})
	for _, r := range s.Fetch(t.Context(), names(3)) {
		e := failure(t, r)
		if e.Kind != secret.Transient || e.Op != "credentials" || e.Status != 0 || e.Code != "" || !strings.Contains(e.Message, "no AWS credentials") || e.Remedy == "" {
			t.Errorf("got %+v", e)
		}
	}
	if n := len(b.seen()); n != 0 {
		t.Errorf("%d calls were sent", n)
	}
}

// TestCredentialsMayComeLate has a container credential endpoint that refuses
// first, as that of a Pod Identity agent does which has not started yet.
func TestCredentialsMayComeLate(t *testing.T) {
	var ready atomic.Bool
	creds := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !ready.Load() || req.Header.Get("Authorization") != "pod-token" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"code":"NotYet","message":"the agent is starting"}`)
			return
		}
		_, _ = fmt.Fprintf(w, `{"AccessKeyId":"AKIDPOD","SecretAccessKey":"s","Token":"t","Expiration":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	isolate(t)
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", creds)
	t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", write(t, "token", "pod-token"))
	b := &backend{}
	s := open(t, source.Options{Region: region, Endpoint: serve(t, b)})
	e := failure(t, fetchOne(t.Context(), s, secret.Current("a")))
	if e.Kind != secret.Transient || e.Op != "credentials" || !strings.Contains(e.Message, "the agent is starting") {
		t.Errorf("got %+v", e)
	}
	ready.Store(true)
	wantAll(t, s.Fetch(t.Context(), names(2)))
	if calls := b.seen(); len(calls) != 1 || calls[0].AccessKey != "AKIDPOD" {
		t.Errorf("got %+v", calls)
	}
}

// TestSilentCredentialsDoNotHoldAFetch has a credential endpoint that accepts
// and says nothing for a while.
func TestSilentCredentialsDoNotHoldAFetch(t *testing.T) {
	answer := make(chan struct{})
	creds := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		<-answer
		_, _ = io.WriteString(w, `{"AccessKeyId":"AKIDPOD","SecretAccessKey":"s"}`)
	}))
	isolate(t)
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", creds)
	s := open(t, source.Options{Region: region, Endpoint: serve(t, &backend{})})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for _, r := range s.Fetch(ctx, names(30)) {
		e := failure(t, r)
		if e.Kind != secret.Transient || e.Op != "credentials" || !errors.Is(e, context.DeadlineExceeded) {
			t.Errorf("got %+v", e)
		}
	}
	close(answer)
	wantAll(t, s.Fetch(t.Context(), names(2)))
}

// TestSilentCredentialAttemptEnds has a credential endpoint that drops the
// first request without a word: the second attempt comes after five seconds.
func TestSilentCredentialAttemptEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a real time limit of 5s")
	}
	var asked atomic.Int32
	creds := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if asked.Add(1) == 1 {
			<-req.Context().Done()
			return
		}
		_, _ = io.WriteString(w, `{"AccessKeyId":"AKIDPOD","SecretAccessKey":"s"}`)
	}))
	isolate(t)
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", creds)
	s := open(t, source.Options{Region: region, Endpoint: serve(t, &backend{})})
	wantAll(t, s.Fetch(t.Context(), names(2)))
}

// TestNewAsksNobody counts what reaches any address the SDK could ask.
func TestNewAsksNobody(t *testing.T) {
	var asked atomic.Int32
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked.Add(1)
		http.NotFound(w, req)
	}))
	for _, creds := range []map[string]string{
		{"AWS_CONTAINER_CREDENTIALS_FULL_URI": url},
		{"AWS_WEB_IDENTITY_TOKEN_FILE": write(t, "token", "x"), "AWS_ROLE_ARN": role},
		{"AWS_EC2_METADATA_DISABLED": "false"},
	} {
		isolate(t)
		t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
		t.Setenv("AWS_ENDPOINT_URL", url)
		t.Setenv("AWS_ENDPOINT_URL_STS", url)
		t.Setenv("AWS_DEFAULTS_MODE", "auto")
		for k, v := range creds {
			t.Setenv(k, v)
		}
		s := open(t, source.Options{RoleARN: role})
		if _, err := s.ResolveRegion(secret.Current("a")); err == nil {
			t.Error("a Region was found where none is set")
		}
		if n := asked.Load(); n != 0 {
			t.Errorf("%v: %d calls were sent", creds, n)
		}
		failure(t, fetchOne(t.Context(), s, secret.Ref{ID: "a", Region: region}))
		if asked.Swap(0) == 0 {
			t.Errorf("%v: Fetch asked nobody either", creds)
		}
	}
}

// TestSDKWarningsGoToTheLogger has an instance metadata service of the first
// version only, which the SDK warns of.
func TestSDKWarningsGoToTheLogger(t *testing.T) {
	const path = "/latest/meta-data/iam/security-credentials/"
	metadata := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.Method == http.MethodGet && req.URL.Path == path:
			_, _ = io.WriteString(w, "role")
		case req.Method == http.MethodGet && req.URL.Path == path+"role":
			_, _ = fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":"AKIDNODE","SecretAccessKey":"CANARY-4242","Token":"CANARY-4242","Expiration":%q}`,
				time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		default:
			http.NotFound(w, req)
		}
	}))
	isolate(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata)
	var logged logLines
	b := &backend{}
	s := open(t, source.Options{Region: region, Endpoint: serve(t, b), Logger: logged.logger()})
	wantAll(t, s.Fetch(t.Context(), names(2)))
	if !strings.Contains(logged.String(), "level=WARN") || !strings.Contains(logged.String(), "IMDSv1") || s.Stats().SDKWarnings == 0 {
		t.Errorf("the SDK's warning is not in our log: %s", logged.String())
	}
	noCanary(t, nil, logged.String())
}

// TestProfileMayComeLate names a profile that no file holds yet.
func TestProfileMayComeLate(t *testing.T) {
	isolate(t)
	t.Setenv("AWS_PROFILE", "later")
	t.Setenv("AWS_REGION", region)
	b := &backend{}
	s := open(t, source.Options{Endpoint: serve(t, b)})
	if e := failure(t, fetchOne(t.Context(), s, secret.Current("a"))); e.Kind != secret.Transient || !strings.Contains(e.Message, "later") {
		t.Errorf("got %+v", e)
	}
	replace(t, os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), "[later]\naws_access_key_id=AKIDLATER\naws_secret_access_key=s\n")
	wantAll(t, s.Fetch(t.Context(), names(1)))
}

func replace(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func profile(key string) string {
	return "[default]\naws_access_key_id=" + key + "\naws_secret_access_key=s\n"
}

// TestCredentialsFileIsReadAgain: it goes before the environment, may come
// late, and is read again when its key is called expired.
func TestCredentialsFileIsReadAgain(t *testing.T) {
	path := t.TempDir() + "/credentials"
	b := &backend{get: func(r request) *reply {
		if r.AccessKey != "AKIDNEW" {
			return apiError(400, "ExpiredTokenException", "expired")
		}
		return nil
	}}
	s := overLoopback(t, b, func(o *source.Options) { o.CredentialsFile = path })
	e := failure(t, fetchOne(t.Context(), s, secret.Current("a")))
	if e.Kind != secret.Transient || e.Op != "credentials" || !strings.Contains(e.Message, path) {
		t.Errorf("got %+v", e)
	}
	replace(t, path, profile("AKIDOLD"))
	if e := failure(t, fetchOne(t.Context(), s, secret.Current("a"))); e.Code != "ExpiredTokenException" {
		t.Errorf("got %+v", e)
	}
	replace(t, path, profile("AKIDNEW"))
	wantAll(t, s.Fetch(t.Context(), names(1)))
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := source.New(t.Context(), source.Options{Region: region, CredentialsFile: path})
	wantOptionError(t, err, "read by everyone")
	if err := os.Chmod(path, 0o620); err != nil {
		t.Fatal(err)
	}
	_, err = source.New(t.Context(), source.Options{Region: region, CredentialsFile: path})
	wantOptionError(t, err, "written by others")
	_, err = source.New(t.Context(), source.Options{Region: region, CredentialsFile: t.TempDir()})
	wantOptionError(t, err, "regular file")
}

// TestCredentialProcessIsNotQuoted: the SDK puts its output into the error.
func TestCredentialProcessIsNotQuoted(t *testing.T) {
	for _, script := range []string{"echo CANARY-4242", "echo '{\"Version\":1,\"AccessKeyId\":42420042'", "sh -c 'echo CANARY-4242; exit 3'"} {
		isolate(t)
		t.Setenv("AWS_CONFIG_FILE", write(t, "config", "[default]\ncredential_process = "+script+"\n"))
		var logged logLines
		s := open(t, source.Options{Region: region, Logger: logged.logger()})
		e := failure(t, fetchOne(t.Context(), s, secret.Current("a")))
		if e.Kind != secret.Transient || !strings.Contains(e.Message, "credential_process") {
			t.Errorf("got %+v", e)
		}
		noCanary(t, e, logged.String())
	}
}

func TestCABundle(t *testing.T) {
	b := &backend{}
	srv := httptest.NewUnstartedServer(b)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshake that must fail
	srv.StartTLS()
	t.Cleanup(srv.Close)
	with := func(o *source.Options) { o.Endpoint = srv.URL }
	e := failure(t, fetchOne(t.Context(), overLoopback(t, b, with), secret.Current("a")))
	if e.Kind != secret.Transient || e.Status != 0 || !strings.Contains(e.Remedy, "AWS_CA_BUNDLE") {
		t.Errorf("without the authority: got %+v", e)
	}
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	isolate(t)
	t.Setenv("AWS_CA_BUNDLE", write(t, "ca.pem", string(bundle)))
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	wantAll(t, open(t, source.Options{Region: region, Endpoint: srv.URL}).Fetch(t.Context(), names(2)))
	t.Setenv("AWS_CA_BUNDLE", "/nonexistent/ca.pem")
	_, err := source.New(t.Context(), source.Options{Region: region})
	wantOptionError(t, err, "/nonexistent/ca.pem")
}

// TestFourConnections: a burst of reads must not become a burst of handshakes.
func TestFourConnections(t *testing.T) {
	var now, most atomic.Int32
	b := &backend{get: func(request) *reply {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-time.After(10 * time.Millisecond) // lets others come in meanwhile
		now.Add(-1)
		return nil
	}}
	s := overLoopback(t, b)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 8 {
				s.Fetch(context.Background(), []secret.Ref{{ID: "x", VersionID: fmt.Sprint(i, j)}, {ID: "y", VersionID: fmt.Sprint(i, j)}})
			}
		})
	}
	wg.Wait()
	if most.Load() != 4 {
		t.Errorf("%d calls at once, want 4", most.Load())
	}
}

// TestUsedFromSeveralPlaces is for the race detector.
func TestUsedFromSeveralPlaces(t *testing.T) {
	b, tokens := &backend{}, &tokenService{}
	s := overLoopback(t, b)
	t.Setenv("AWS_ENDPOINT_URL_STS", serve(t, tokens))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			refs := names(25)
			for j := range refs {
				if (i+j)%3 == 0 {
					refs[j].RoleARN = role
				}
				if (i+j)%5 == 0 {
					refs[j].VersionID = "pinned"
				}
			}
			for _, r := range s.Fetch(context.Background(), refs) {
				if r.Err != nil {
					t.Error(r.Err)
				}
			}
			s.Stats()
		})
	}
	wg.Wait()
	if asked := len(tokens.seen()); asked != 1 {
		t.Errorf("STS was asked %d times", asked)
	}
}
