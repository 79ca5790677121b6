package local_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"secretsd/agent/source/local"
)

// listRequest is a valid request as it arrives over a socket.
func listRequest(edit func(*http.Request)) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:4566/", strings.NewReader("{}"))
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "secretsmanager.ListSecrets")
	edit(r)
	return r
}

func serve(s *local.Service, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func host(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }

func TestBrowsersAreRefusedOnASocket(t *testing.T) {
	for name, c := range map[string]struct {
		edit   func(*http.Request)
		status int
	}{
		"plain":                 {func(*http.Request) {}, 200},
		"localhost":             {host("localhost:4566"), 200},
		"localhost in capitals": {host("LOCALHOST"), 200},
		"IPv6 loopback":         {host("[::1]:4566"), 200},
		"IPv6 without a port":   {host("[::1]"), 200},
		"other loopback":        {host("127.8.8.8:80"), 200},
		"rebound name":          {host("evil.example:4566"), 403},
		"name like localhost":   {host("localhost.evil.example"), 403},
		"address of the LAN":    {host("192.168.1.2:4566"), 403},
		"any address":           {host("0.0.0.0:4566"), 403},
		"no host":               {host(""), 403},
		"origin":                {header("Origin", "https://evil.example"), 403},
		"own origin":            {header("Origin", "http://127.0.0.1:4566"), 403},
		"null origin":           {header("Origin", "null"), 403},
		"empty origin":          {header("Origin", ""), 403},
		"fetched":               {header("Sec-Fetch-Site", "same-origin"), 403},
		"typed":                 {header("Sec-Fetch-Site", "none"), 403},
	} {
		t.Run(name, func(t *testing.T) {
			s := local.New(local.Options{})
			w := serve(s, listRequest(c.edit))
			if w.Code != c.status {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, c.status)
			}
			if c.status == 403 && (!strings.Contains(w.Body.String(), `"AccessDeniedException"`) || len(s.Calls()) != 0) {
				t.Errorf("got %s, calls %v", w.Body, s.Calls())
			}
			if h := w.Result().Header; h.Get("Access-Control-Allow-Origin") != "" {
				t.Error("the answer invites other origins")
			}
		})
	}
}

func TestTransportTakesAnyHost(t *testing.T) {
	s := local.New(local.Options{})
	client := &http.Client{Transport: s.Transport()}
	b := newBackend("https://secretsmanager.us-east-1.amazonaws.com", client)
	must(t, b, create("db", "x"), get("db", "x"))
}

func TestRequestsThatAreNotOfTheProtocol(t *testing.T) {
	for name, c := range map[string]struct {
		edit   func(*http.Request)
		status int
		code   string
	}{
		"GET":             {func(r *http.Request) { r.Method = http.MethodGet }, 404, "UnknownOperationException"},
		"OPTIONS":         {func(r *http.Request) { r.Method = http.MethodOptions }, 404, "UnknownOperationException"},
		"another path":    {func(r *http.Request) { r.URL.Path = "/x" }, 404, "UnknownOperationException"},
		"a form":          {header("Content-Type", "application/x-www-form-urlencoded"), 404, "UnknownOperationException"},
		"plain text":      {header("Content-Type", "text/plain"), 404, "UnknownOperationException"},
		"no target":       {func(r *http.Request) { r.Header.Del("X-Amz-Target") }, 400, "UnknownOperationException"},
		"another service": {header("X-Amz-Target", "AmazonSSM.GetParameter"), 400, "UnknownOperationException"},
		"no operation":    {header("X-Amz-Target", "secretsmanager."), 400, "UnknownOperationException"},
		"too large": {func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(`{"x":"` + strings.Repeat("x", 1<<20) + `"}`))
		}, 413, "RequestEntityTooLargeException"},
		"broken off": {func(r *http.Request) {
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), errorReader{}))
		}, 400, "SerializationException"},
	} {
		t.Run(name, func(t *testing.T) {
			w := serve(local.New(local.Options{}), listRequest(c.edit))
			if w.Code != c.status || !strings.Contains(w.Body.String(), `"__type":"`+c.code+`"`) {
				t.Errorf("got %d %s, want %d %s", w.Code, w.Body, c.status, c.code)
			}
		})
	}
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, errors.New("reset") }

func TestAnswersAreFramedAlikeOnBothWays(t *testing.T) {
	for name, b := range map[string]*backend{
		"transport": inProcess(local.New(local.Options{})),
		"loopback":  onLoopback(t, local.New(local.Options{})),
	} {
		t.Run(name, func(t *testing.T) {
			r := listRequest(func(*http.Request) {})
			r, err := http.NewRequestWithContext(t.Context(), r.Method, b.url+"/", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/x-amz-json-1.1; charset=utf-8")
			r.Header.Set("X-Amz-Target", "secretsmanager.ListSecrets")
			resp, err := b.http.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.Status != "200 OK" || resp.Proto != "HTTP/1.1" || resp.Header.Get("Content-Type") != "application/x-amz-json-1.1" ||
				resp.ContentLength != int64(len(body)) || len(resp.Header.Get("X-Amzn-Requestid")) != 36 || resp.Header.Get("Date") == "" || resp.Request == nil {
				t.Errorf("got %+v with %q", resp, body)
			}
		})
	}
}

func TestTransportRefusesLargeBodies(t *testing.T) {
	b := inProcess(local.New(local.Options{}))
	a, err := b.raw(t.Context(), "ListSecrets", strings.Repeat(" ", 1<<20+1))
	if err != nil || a.status != 413 {
		t.Errorf("got %v, %v", a, err)
	}
}

// closable notices whether it was closed.
type closable struct {
	io.Reader
	closed bool
}

func (c *closable) Close() error { c.closed = true; return nil }

func TestTransportHonoursTheContextAndClosesTheBody(t *testing.T) {
	s := local.New(local.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	body := &closable{Reader: strings.NewReader("{}")}
	r := listRequest(func(*http.Request) {}).WithContext(ctx)
	r.Body = body
	resp, err := s.Transport().RoundTrip(r)
	if !errors.Is(err, context.Canceled) || resp != nil || !body.closed || len(s.Calls()) != 0 {
		t.Errorf("got %v, %v, closed %v", resp, err, body.closed)
	}
	r.Body = io.NopCloser(errorReader{})
	if _, err := s.Transport().RoundTrip(r); err == nil || err.Error() != "reset" {
		t.Errorf("got %v, want the body's error", err)
	}
}

func TestFaultsOfWholeCalls(t *testing.T) {
	for name, c := range map[string]struct {
		fault  local.Fault
		status int
		code   string
	}{
		"throttling":    {local.Fault{Code: "ThrottlingException", Message: "Rate exceeded"}, 400, "ThrottlingException"},
		"denied":        {local.Fault{Code: "AccessDeniedException", Message: "no"}, 400, "AccessDeniedException"},
		"internal":      {local.Fault{Code: "InternalServiceError", Message: "later"}, 500, "InternalServiceError"},
		"chosen status": {local.Fault{Code: "ServiceUnavailable", Status: 503}, 503, "ServiceUnavailable"},
		"nothing":       {local.Fault{}, 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := local.New(local.Options{Fault: func(op, id string) *local.Fault {
				if op == "GetSecretValue" && id == "db" {
					return &c.fault
				}
				return nil
			}})
			for _, b := range []*backend{inProcess(s), onLoopback(t, s)} {
				_ = s.Put("db", "x")
				_ = s.Put("other", "x")
				must(t, b, step{op: "GetSecretValue", in: obj{"SecretId": "db"}, code: c.code, status: c.status, message: c.fault.Message},
					get("other", "x"), batch("db").wants(obj{"SecretValues": named{"db"}}))
			}
		})
	}
}

func TestFaultsOfOneSecretInABatch(t *testing.T) {
	s := local.New(local.Options{})
	b := inProcess(s)
	must(t, b, create("t-a", "1"), create("t-b", "2"))
	s.SetFault(func(op, id string) *local.Fault {
		if op == "BatchGetSecretValue" && id == "t-b" {
			return &local.Fault{Code: "AccessDeniedException", Message: "Access to KMS is not allowed"}
		}
		return nil
	})
	want := obj{"SecretValues": named{"t-a"}, "Errors": arr{obj{"SecretId": "t-b", "ErrorCode": "AccessDeniedException", "Message": "Access to KMS is not allowed"}}}
	must(t, b, batch("t-a", "t-b").wants(want), batchBy("name", "t-").wants(want), get("t-b", "2"))
	s.SetFault(func(op, id string) *local.Fault {
		if op == "BatchGetSecretValue" && id == "" {
			return &local.Fault{Code: "AccessDeniedException"}
		}
		return nil
	})
	must(t, b, step{op: "BatchGetSecretValue", in: obj{"SecretIdList": arr{"t-a"}}, code: "AccessDeniedException"})
	s.SetFault(nil)
	must(t, b, batch("t-a").wants(obj{"SecretValues": named{"t-a"}}))
}

func TestFaultsBelowTheProtocol(t *testing.T) {
	s := local.New(local.Options{})
	for name, b := range map[string]*backend{"transport": inProcess(s), "loopback": onLoopback(t, s)} {
		t.Run(name, func(t *testing.T) {
			s.SetFault(func(string, string) *local.Fault {
				return &local.Fault{Body: []byte("<html>bad gateway"), Status: 502}
			})
			if _, err := b.raw(t.Context(), "ListSecrets", "{}"); err == nil || !strings.Contains(err.Error(), `status 502, no JSON: "<html>bad gateway"`) {
				t.Errorf("got %v", err)
			}
			s.SetFault(func(string, string) *local.Fault { return &local.Fault{Body: []byte(`{"SecretList": [`)} })
			if _, err := b.raw(t.Context(), "ListSecrets", "{}"); err == nil || !strings.Contains(err.Error(), "status 200") {
				t.Errorf("got %v", err)
			}
			s.SetFault(func(string, string) *local.Fault { return &local.Fault{Drop: true} })
			if _, err := b.raw(t.Context(), "ListSecrets", "{}"); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestFaultsThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := local.New(local.Options{})
		b := inProcess(s)
		start := time.Now()
		s.SetFault(func(string, string) *local.Fault { return &local.Fault{Delay: 3 * time.Second} })
		must(t, b, create("db", "x"))
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
		must(t, b, batch("db").wants(obj{"SecretValues": named{"db"}}))
		if took := time.Since(start); took != 9*time.Second {
			t.Errorf("the batch and its secret took %v", took-3*time.Second)
		}
		for _, hang := range []local.Fault{{Delay: time.Hour}, {Until: make(chan struct{})}} {
			s.SetFault(func(string, string) *local.Fault { return &hang })
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			if _, err := b.raw(ctx, "ListSecrets", "{}"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			cancel()
		}
		open := make(chan struct{})
		s.SetFault(func(string, string) *local.Fault { return &local.Fault{Until: open} })
		done := make(chan error, 1)
		go func() {
			_, err := b.raw(t.Context(), "ListSecrets", "{}")
			done <- err
		}()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("did not wait: %v", err)
		default:
		}
		close(open)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestHangOverASocketEndsWithTheClient(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	s := local.New(local.Options{Fault: func(string, string) *local.Fault {
		close(entered)
		return &local.Fault{Until: make(chan struct{})}
	}})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(left)
		s.ServeHTTP(w, r)
	}))
	defer server.Close()
	b := newBackend(server.URL, server.Client())
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	if _, err := b.raw(ctx, "ListSecrets", "{}"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-left
}

// TestRefusalsHoldNoValue sends requests that are refused for any reason, with a
// value that must not come back.
func TestRefusalsHoldNoValue(t *testing.T) {
	long := strings.Repeat(canary, 6000)
	s := local.New(local.Options{})
	b := inProcess(s)
	must(t, b, create("db", "x"))
	for _, body := range []string{
		`{"Name":"a b","SecretId":"a b","SecretString":"` + canary + `","ClientRequestToken":"0123456789abcdef0123456789abcdef"}`,
		`{"Name":"db","SecretId":"none","SecretString":"` + canary + `","ClientRequestToken":"0123456789abcdef0123456789abcdef"}`,
		`{"Name":"db","SecretId":"db","SecretString":"` + canary + `"}`,
		`{"Name":"db","SecretId":"db","SecretString":"` + long + `","ClientRequestToken":"0123456789abcdef0123456789abcdef"}`,
		`{"Name":"db","SecretId":"db","SecretString":["` + canary + `"]}`,
		`{"Name":"db","SecretId":"db","SecretBinary":"` + canary + `"}`,
		`{"Name":"db","SecretId":"db","SecretString":"` + canary + `"`,
		`{"Name":"db","SecretId":"db","SecretString":"` + canary + `\x"}`,
		`{"Name":"db","SecretId":"db","SecretString":"` + canary + `","SecretBinary":"AAE="}`,
	} {
		for _, op := range []string{"CreateSecret", "PutSecretValue", "UpdateSecret"} {
			a, err := b.raw(t.Context(), op, body)
			if err != nil || a.status != 400 || strings.Contains(a.message, "hunter2") {
				t.Errorf("%s %.80s: got %v, %v", op, body, a, err)
			}
		}
	}
}
