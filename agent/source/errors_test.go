package source_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/secret"
	"secretsd/agent/source"
)

func TestServiceErrors(t *testing.T) {
	for _, tc := range []struct {
		answer        *reply
		kind          secret.Kind
		code, message string
		hint          string // a part of it
	}{
		{apiError(400, "ResourceNotFoundException", "can't find"), secret.NotFound, "ResourceNotFoundException", "can't find", "Region"},
		{apiError(404, "ResourceNotFoundException", "can't find"), secret.NotFound, "ResourceNotFoundException", "can't find", "Region"},
		{apiError(400, "AccessDeniedException", "User is not authorized"), secret.Denied, "AccessDeniedException", "User is not authorized", "secretsmanager:GetSecretValue"},
		{apiError(400, "AccessDeniedException", "Access to KMS is not allowed"), secret.Denied, "AccessDeniedException", "Access to KMS is not allowed", "kms:Decrypt"},
		{apiError(400, "DecryptionFailure", "can't decrypt"), secret.Denied, "DecryptionFailure", "can't decrypt", "KMS key"},
		{apiError(400, "com.amazonaws.secretsmanager#DecryptionFailure:http://x", "m"), secret.Denied, "DecryptionFailure", "m", "KMS key"},
		{apiError(400, "UnrecognizedClientException", "invalid token"), secret.Denied, "UnrecognizedClientException", "invalid token", "credentials"},
		{apiError(400, "ExpiredTokenException", "expired"), secret.Denied, "ExpiredTokenException", "expired", "credentials"},
		{apiError(400, "InvalidSignatureException", "does not match"), secret.Denied, "InvalidSignatureException", "does not match", "clock"},
		{apiError(400, "ThrottlingException", "Rate exceeded"), secret.Throttled, "ThrottlingException", "Rate exceeded", "refresh.interval"},
		{apiError(400, "TooManyRequestsException", "slow"), secret.Throttled, "TooManyRequestsException", "slow", "refresh.interval"},
		{apiError(400, "RequestLimitExceeded", "slow"), secret.Throttled, "RequestLimitExceeded", "slow", "refresh.interval"},
		{apiError(429, "SomethingNew", "slow"), secret.Throttled, "SomethingNew", "slow", ""},
		{apiError(400, "InvalidRequestException", "it was marked for deletion."), secret.Invalid, "InvalidRequestException", "it was marked for deletion.", "restore-secret"},
		{apiError(400, "InvalidParameterException", "bad"), secret.Invalid, "InvalidParameterException", "bad", ""},
		{apiError(400, "ValidationException", "bad"), secret.Invalid, "ValidationException", "bad", ""},
		{apiError(400, "SomethingNew", "m"), secret.Invalid, "SomethingNew", "m", ""},
		{apiError(403, "SomethingNew", "m"), secret.Denied, "SomethingNew", "m", ""},
		{apiError(500, "InternalServiceError", "oops"), secret.Transient, "InternalServiceError", "oops", ""},
		{apiError(503, "SomethingNew", "oops"), secret.Transient, "SomethingNew", "oops", ""},
		{&reply{500, `{"__type":"InternalServiceError"}`}, secret.Transient, "InternalServiceError", "", ""},
		{&reply{400, `{"__type":"SomethingNew"}`}, secret.Invalid, "SomethingNew", "", ""},
		{&reply{400, `{"message":"no code"}`}, secret.Invalid, "", "HTTP status 400 without an error code", ""},
		{&reply{503, ``}, secret.Transient, "", "HTTP status 503 without an error code", ""},
		{&reply{403, `<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>`}, secret.Denied, "", "the answer of HTTP status 403 could not be understood", "policy"},
		{&reply{502, `<html>Bad Gateway</html>`}, secret.Transient, "", "the answer of HTTP status 502 could not be understood", ""},
		{&reply{400, `{"__type":"Acc`}, secret.Invalid, "", "the answer of HTTP status 400 could not be understood", ""},
		{&reply{302, ``}, secret.Transient, "", "HTTP status 302 without an error code", ""},
		{&reply{200, `garbage`}, secret.Transient, "", "the answer of HTTP status 200 could not be understood", ""},
		{&reply{200, `{"ARN":"a","SecretString":"cut of`}, secret.Transient, "", "the answer of HTTP status 200 could not be understood", ""},
		{&reply{200, ``}, secret.Transient, "", "the answer could not be understood", ""},
		{&reply{200, `{"ARN":"a","Name":"n","VersionId":"v"}`}, secret.Invalid, "", "the secret has no value", "put-secret-value"},
	} {
		t.Run(fmt.Sprintf("%d %.40s", tc.answer.status, tc.answer.body), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := inMemory(t, &backend{get: func(request) *reply { return tc.answer }})
				e := failure(t, fetchOne(t.Context(), s, secret.Current("db")))
				got := secret.Error{Kind: e.Kind, Op: e.Op, ID: e.ID, Code: e.Code, Message: e.Message, Status: e.Status}
				want := secret.Error{Kind: tc.kind, Op: "GetSecretValue", ID: "db", Code: tc.code, Message: tc.message, Status: tc.answer.status}
				if d := cmp.Diff(want, got); d != "" {
					t.Error(d)
				}
				if !strings.Contains(e.Remedy, tc.hint) {
					t.Errorf("the hint %q does not speak of %q", e.Remedy, tc.hint)
				}
			})
		})
	}
}

func TestRetriesAreThreeAndOnlyForWhatMayPass(t *testing.T) {
	for _, tc := range []struct {
		answer   *reply
		attempts int
		counted  string
	}{
		{apiError(500, "InternalServiceError", "oops"), 3, "transient"},
		{apiError(400, "ThrottlingException", "Rate exceeded"), 3, "throttled"},
		{&reply{503, "<html>"}, 3, "transient"},
		{apiError(400, "AccessDeniedException", "no"), 1, "denied"},
		{apiError(400, "ResourceNotFoundException", "no"), 1, "not_found"},
		{apiError(400, "InvalidRequestException", "marked for deletion"), 1, "invalid"},
		{&reply{200, "garbage"}, 1, "transient"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := &backend{get: func(request) *reply { return tc.answer }}
			s := inMemory(t, b)
			start := time.Now()
			fetchOne(t.Context(), s, secret.Current("db"))
			if _, gets := b.count(); gets != tc.attempts {
				t.Errorf("%v: %d attempts, want %d", tc.answer, gets, tc.attempts)
			}
			want := map[string]uint64{"ok": 0, "denied": 0, "not_found": 0, "throttled": 0, "invalid": 0, "transient": 0}
			want[tc.counted] = uint64(tc.attempts)
			if diff := cmp.Diff(want, s.Stats().Calls["GetSecretValue"]); diff != "" {
				t.Errorf("%v: counted %s", tc.answer, diff)
			}
			if d := time.Since(start); d > 4*time.Second {
				t.Errorf("%v: took %v", tc.answer, d)
			}
		})
	}
}

func TestSilenceEndsAfterFifteenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var starts []time.Duration
		start := time.Now()
		b := &backend{block: func(request) bool {
			starts = append(starts, time.Since(start))
			return true
		}}
		s := inMemory(t, b)
		e := failure(t, fetchOne(t.Context(), s, secret.Current("db")))
		if !errors.Is(e, context.DeadlineExceeded) || e.Kind != secret.Transient || e.Code != "" || e.Status != 0 {
			t.Errorf("got %+v", e)
		}
		if d := time.Since(start); d != 15*time.Second {
			t.Errorf("gave up after %v, want 15s", d)
		}
		if len(starts) != 3 || starts[1] < 5*time.Second || starts[1] > 6*time.Second {
			t.Errorf("attempts began at %v, want three that end after 5s", starts)
		}
	})
}

// TestSilentServiceIsNotWaitedForOnceEach: 40 pinned secrets cost one wait, and
// a single secret that is never answered costs the others nothing.
func TestSilentServiceIsNotWaitedForOnceEach(t *testing.T) {
	var pinned []secret.Ref
	for i := range 40 {
		pinned = append(pinned, secret.Ref{ID: fmt.Sprintf("s%d", i), VersionID: "v"})
	}
	synctest.Test(t, func(t *testing.T) {
		b := &backend{block: func(request) bool { return true }}
		start := time.Now()
		for _, r := range inMemory(t, b).Fetch(t.Context(), pinned) {
			if e := failure(t, r); !errors.Is(e, context.DeadlineExceeded) {
				t.Errorf("got %+v", e)
			}
		}
		if d := time.Since(start); d != 15*time.Second {
			t.Errorf("took %v, want 15s", d)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := &backend{block: func(r request) bool {
			<-time.After(2 * time.Second) // so that there is much left to do after 15s
			return r.SecretId == "s0"
		}}
		results := inMemory(t, b).Fetch(t.Context(), pinned)
		failure(t, results[0])
		wantAll(t, results[1:])
	})
}

func TestCallerEndsAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{block: func(request) bool { return true }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s := inMemory(t, b)
		start := time.Now()
		for _, r := range s.Fetch(ctx, append(names(30), secret.Ref{ID: "p", VersionID: "v"})) {
			if e := failure(t, r); !errors.Is(e, context.DeadlineExceeded) {
				t.Errorf("got %+v", e)
			}
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("returned after %v, want 1s", d)
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if e := failure(t, fetchOne(cancelled, s, secret.Current("db"))); !errors.Is(e, context.Canceled) || e.Kind != secret.Transient {
			t.Errorf("got %+v", e)
		}
	})
}

// body is an answer's body that says part and then fails, or blocks.
type body struct {
	part io.Reader
	err  error           // nil blocks until done
	done <-chan struct{} // closes when the client has given up
}

func (b *body) Read(p []byte) (int, error) {
	if n, err := b.part.Read(p); err == nil {
		return n, nil
	}
	if b.err == nil {
		<-b.done
		return 0, context.DeadlineExceeded
	}
	return 0, b.err
}

func (*body) Close() error { return nil }

func TestAnswersThatBreakOff(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want error
	}{
		{"stalls", nil, context.DeadlineExceeded},
		{"ends early", io.ErrUnexpectedEOF, io.ErrUnexpectedEOF},
		{"reset", &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}, syscall.ECONNRESET},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := open(t, source.Options{Region: region, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
				return &http.Response{
					StatusCode: http.StatusOK, Header: http.Header{}, Request: req,
					Body: &body{part: strings.NewReader(`{"SecretString":"CANARY`), done: req.Context().Done(), err: tc.err},
				}, nil
			})})
			e := failure(t, fetchOne(t.Context(), s, secret.Current("db")))
			if e.Kind != secret.Transient || !errors.Is(e, tc.want) || e.Code != "" || e.Status != 0 {
				t.Errorf("%s: got %+v", tc.name, e)
			}
			noCanary(t, e, "")
		})
	}
}

func TestConnectionFailures(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	e := failure(t, fetchOne(t.Context(), overLoopback(t, nil, func(o *source.Options) { o.Endpoint = closed.URL }), secret.Current("db")))
	if !errors.Is(e, syscall.ECONNREFUSED) || e.Kind != secret.Transient || e.Status != 0 || e.Code != "" || !strings.Contains(e.Message, "refused") {
		t.Errorf("got %+v", e)
	}
	for _, r := range overLoopback(t, nil, func(o *source.Options) { o.Endpoint = closed.URL }).Fetch(t.Context(), names(50)) {
		if e := failure(t, r); !errors.Is(e, syscall.ECONNREFUSED) {
			t.Errorf("got %+v", e)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var elsewhere atomic.Int32
	to := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	s := overLoopback(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, to, http.StatusFound)
	}))
	if e := failure(t, fetchOne(t.Context(), s, secret.Current("db"))); e.Status != http.StatusFound {
		t.Errorf("got %+v", e)
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d calls went elsewhere", n)
	}
}

// TestMalformedHTTPIsNotQuoted has a peer that sends the secret where HTTP
// expects a status line: net/http quotes such a line in its error.
func TestMalformedHTTPIsNotQuoted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.Copy(io.Discard, req.Body) // else the close resets the connection
			}
			_, _ = io.WriteString(conn, "CANARY-4242\r\n\r\n")
			_ = conn.Close()
		}
	}()
	var logged logLines
	s := overLoopback(t, nil, func(o *source.Options) {
		o.Endpoint, o.Logger = "http://"+l.Addr().String(), logged.logger()
	})
	e := failure(t, fetchOne(t.Context(), s, secret.Current("db")))
	if e.Kind != secret.Transient {
		t.Errorf("got %+v", e)
	}
	noCanary(t, e, logged.String())
}

// TestNoBodyInErrorsOrLogs answers with bodies that the SDK cannot read and
// quotes: numbers where text belongs, text where a date belongs, cut JSON.
func TestNoBodyInErrorsOrLogs(t *testing.T) {
	for _, b := range []string{
		`{"SecretString": 42420042}`,
		`{"ARN":"a","CreatedDate":"CANARY-4242","SecretString":"CANARY-4242"}`,
		`{"SecretString":"CANARY-4242`,
		`{"SecretBinary":"CANARY-4242!"}`,
		`{"SecretString":"CANARY-4242\q"}`,
		`CANARY-4242`,
		`{"SecretValues":[{"Name":"db","SecretString":42420042}]}`,
		`{"SecretValues":"CANARY-4242","ARN":["CANARY-4242"]}`,
		`{"VersionStages":"CANARY-4242","SecretValues":[{"CreatedDate":"CANARY-4242"}]}`,
	} {
		for _, status := range []int{200, 400, 403, 500} {
			synctest.Test(t, func(t *testing.T) {
				answer := func(request) *reply { return &reply{status, b} }
				var logged logLines
				s := inMemory(t, &backend{get: answer, batch: answer}, func(o *source.Options) { o.Logger = logged.logger() })
				refs := append(names(3), secret.Ref{ID: "pinned", VersionID: "v"})
				for _, r := range s.Fetch(t.Context(), refs) {
					noCanary(t, failure(t, r), logged.String())
				}
			})
		}
	}
}

// noCanary fails the test if the error, in any form or anywhere in its chain,
// or the log shows a canary.
func noCanary(t *testing.T, err error, logged string) {
	t.Helper()
	texts := []string{logged}
	for e := err; e != nil; e = errors.Unwrap(e) {
		texts = append(texts, e.Error(), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e), fmt.Sprintf("%q", e))
		if j, err := json.Marshal(e); err == nil {
			texts = append(texts, string(j))
		}
	}
	for _, text := range texts {
		if strings.Contains(text, "CANARY") || strings.Contains(text, "42420042") {
			t.Errorf("a body was shown: %s", text)
		}
	}
}

func TestValuesKeepEveryByteAndMillisecond(t *testing.T) {
	binary := string([]byte{0, 255, 10, 128})
	b := &backend{get: func(r request) *reply {
		e := secretOf(region, r.SecretId)
		switch r.SecretId {
		case "binary":
			delete(e, "SecretString")
			e["SecretBinary"] = []byte(binary)
		case "text":
			e["SecretString"] = "käse\n\"\u2028\x00"
		case "undated":
			delete(e, "CreatedDate")
		}
		return okReply(e)
	}}
	s := inMemory(t, b)
	want := func(id string) *secret.Version {
		return &secret.Version{ARN: arn(region, home, id), Name: id, VersionID: "v1-" + id, Stages: []string{"AWSCURRENT"}, Created: createdTime}
	}
	bin, text, undated := want("binary"), want("text"), want("undated")
	bin.Binary, text.Text = secret.NewValue(binary), secret.NewValue("käse\n\"\u2028\x00")
	undated.Text, undated.Created = secret.NewValue("value of undated"), time.Time{}
	for _, w := range []*secret.Version{bin, text, undated} {
		r := fetchOne(t.Context(), s, secret.Current(w.Name))
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		if d := cmp.Diff(w, r.Version); d != "" {
			t.Error(d)
		}
	}
}
