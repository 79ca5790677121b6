package source_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"secretsd/agent/secret"
	"secretsd/agent/source"
)

// tokenService is an STS that knows one operation.
type tokenService struct {
	// refuse is an error code, or "" to answer with credentials.
	refuse string
	// once answers the first call with credentials that have just expired, and
	// refuses afterwards.
	once bool
	// expired is an access key that is refused as expired.
	expired string

	mu    sync.Mutex
	asked []url.Values
}

func (s *tokenService) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if err := req.ParseForm(); err != nil {
		http.Error(w, "bad form", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, req.PostForm)
	lifetime := time.Hour
	refuse := s.refuse
	if s.expired != "" && strings.Contains(req.Header.Get("Authorization"), "Credential="+s.expired+"/") {
		refuse = "ExpiredToken"
	}
	if s.once && len(s.asked) == 1 {
		lifetime = 0
	} else if refuse != "" {
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>not today</Message></Error></ErrorResponse>`, refuse)
		return
	}
	action := req.PostForm.Get("Action")
	_, _ = fmt.Fprintf(w, `<%[1]sResponse><%[1]sResult><Credentials><AccessKeyId>AKIDROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey>`+
		`<SessionToken>t</SessionToken><Expiration>%[2]s</Expiration></Credentials></%[1]sResult></%[1]sResponse>`,
		action, time.Now().Add(lifetime).UTC().Format(time.RFC3339))
}

func (s *tokenService) seen() []url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

const role = "arn:aws:iam::" + home + ":role/reader"

func TestRolesAreAssumed(t *testing.T) {
	b, tokens := &backend{}, &tokenService{}
	s := overLoopback(t, b, func(o *source.Options) {
		o.ExternalID, o.SessionName = "ext-1", "pod/name with spaces"
	})
	t.Setenv("AWS_ENDPOINT_URL_STS", serve(t, tokens))
	own, other := secret.Current("own"), secret.Current("own")
	other.RoleARN = role
	for range 2 {
		wantAll(t, s.Fetch(t.Context(), []secret.Ref{own, other}))
	}
	keys := map[string]int{}
	for _, r := range b.seen() {
		keys[r.AccessKey]++
	}
	if keys["AKIDTEST"] != 2 || keys["AKIDROLE"] != 2 {
		t.Errorf("reads by access key: %v, want two of each", keys)
	}
	asked := tokens.seen()
	if len(asked) != 1 {
		t.Fatalf("STS was asked %d times, want once", len(asked))
	}
	q := asked[0]
	if q.Get("RoleArn") != role || q.Get("ExternalId") != "ext-1" || q.Get("RoleSessionName") != "pod-name-with-spaces" || q.Get("Action") != "AssumeRole" {
		t.Errorf("asked %v", q)
	}
	if got := s.Stats().Calls["AssumeRole"]["ok"]; got != 1 {
		t.Errorf("counted %d AssumeRole calls", got)
	}
}

// TestCallsOfTheCredentialChainAreCounted takes the credentials of a pod.
func TestCallsOfTheCredentialChainAreCounted(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("a.web.token"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, tokens := &backend{}, &tokenService{}
	s := overLoopback(t, b)
	t.Setenv("AWS_ENDPOINT_URL_STS", serve(t, tokens))
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_ROLE_ARN": role, "AWS_WEB_IDENTITY_TOKEN_FILE": token} {
		t.Setenv(name, value)
	}
	wantAll(t, s.Fetch(t.Context(), names(1)))
	calls := s.Stats().Calls
	if len(tokens.seen()) != 1 || calls["AssumeRoleWithWebIdentity"]["ok"] != 1 || calls["AssumeRole"]["ok"] != 0 || calls["GetSecretValue"]["ok"] != 1 {
		t.Errorf("STS was asked %d times, counted %v", len(tokens.seen()), calls)
	}
}

func TestSourceRoleAndSessionNameFromTheEnvironment(t *testing.T) {
	b, tokens := &backend{}, &tokenService{}
	s := overLoopback(t, b, func(o *source.Options) { o.RoleARN = role })
	t.Setenv("AWS_ENDPOINT_URL_STS", serve(t, tokens))
	t.Setenv("AWS_ROLE_SESSION_NAME", "pod-7")
	// The role's own account is known without asking.
	wantAll(t, s.Fetch(t.Context(), []secret.Ref{secret.Current(arn(region, abroad, "x")), secret.Current(arn(region, abroad, "y"))}))
	if batches, gets := b.count(); batches != 0 || gets != 2 {
		t.Errorf("%d batch calls and %d single reads of another account", batches, gets)
	}
	if q := tokens.seen(); len(q) != 1 || q[0].Get("RoleSessionName") != "pod-7" || q[0].Has("ExternalId") {
		t.Errorf("asked %v", q)
	}
}

// TestRoleRefusedMeanwhile loses its role between the check and the call: that
// is no denial of batch calls.
func TestRoleRefusedMeanwhile(t *testing.T) {
	b, tokens := &backend{}, &tokenService{refuse: "AccessDenied", once: true}
	s := overLoopback(t, b, func(o *source.Options) { o.RoleARN = role })
	t.Setenv("AWS_ENDPOINT_URL_STS", serve(t, tokens))
	for _, r := range s.Fetch(t.Context(), names(5)) {
		if e := failure(t, r); e.Kind != secret.Denied || e.Op != "AssumeRole" {
			t.Errorf("got %+v", e)
		}
	}
	if asked := len(tokens.seen()); asked != 2 || s.Stats().Fallbacks["denied"] != 0 {
		t.Errorf("STS was asked %d times, fallbacks %v", asked, s.Stats().Fallbacks)
	}
}

func TestRefusedRole(t *testing.T) {
	for code, kind := range map[string]secret.Kind{
		"AccessDenied": secret.Denied, "ExpiredToken": secret.Denied, "InvalidClientTokenId": secret.Denied,
		"RegionDisabledException": secret.Denied, "ValidationError": secret.Denied, // by its status, 403
	} {
		b, tokens := &backend{}, &tokenService{refuse: code}
		s := overLoopback(t, b)
		t.Setenv("AWS_ENDPOINT_URL_STS", serve(t, tokens))
		refs := names(30)
		for i := range refs {
			refs[i].RoleARN = role
		}
		for _, r := range s.Fetch(t.Context(), append(refs, secret.Current("own")))[:30] {
			e := failure(t, r)
			if e.Kind != kind || e.Op != "AssumeRole" || e.Code != code || e.Message != "not today" || e.Status != 403 || !strings.Contains(e.Remedy, "trust policy") {
				t.Errorf("%s: got %+v", code, e)
			}
		}
		if asked := len(tokens.seen()); asked != 1 {
			t.Errorf("%s: STS was asked %d times for one round", code, asked)
		}
		if _, gets := b.count(); gets != 1 {
			t.Errorf("%s: %d reads, want only the one that needs no role", code, gets)
		}
	}
}

// TestExpiredCredentialsAreForgotten: what a service has called expired is not
// used again, neither a role's credentials nor those it was assumed with.
func TestExpiredCredentialsAreForgotten(t *testing.T) {
	path := write(t, "credentials", profile("AKIDOLD"))
	expired := true
	b, tokens := &backend{}, &tokenService{expired: "AKIDOLD"}
	b.get = func(request) *reply {
		if expired {
			return apiError(400, "ExpiredTokenException", "expired")
		}
		return nil
	}
	s := overLoopback(t, b, func(o *source.Options) { o.RoleARN, o.CredentialsFile = role, path })
	t.Setenv("AWS_ENDPOINT_URL_STS", serve(t, tokens))
	if e := failure(t, fetchOne(t.Context(), s, secret.Current("a"))); e.Op != "AssumeRole" || e.Code != "ExpiredToken" {
		t.Errorf("got %+v", e)
	}
	replace(t, path, profile("AKIDNEW"))
	if e := failure(t, fetchOne(t.Context(), s, secret.Current("a"))); e.Op != "GetSecretValue" || e.Code != "ExpiredTokenException" {
		t.Errorf("got %+v", e)
	}
	expired = false
	wantAll(t, s.Fetch(t.Context(), names(1)))
	if asked := len(tokens.seen()); asked != 3 {
		t.Errorf("STS was asked %d times, want 3", asked)
	}
}

func TestUnreachableTokenService(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	s := overLoopback(t, &backend{}, func(o *source.Options) { o.RoleARN = role })
	t.Setenv("AWS_ENDPOINT_URL_STS", gone.URL)
	e := failure(t, fetchOne(t.Context(), s, secret.Current("a")))
	if e.Kind != secret.Transient || e.Op != "AssumeRole" || !errors.Is(e, syscall.ECONNREFUSED) {
		t.Errorf("got %+v", e)
	}
}

func TestImpossibleRoleAsksNobody(t *testing.T) {
	b := &backend{}
	e := failure(t, fetchOne(t.Context(), inMemory(t, b), secret.Ref{ID: "a", RoleARN: "arn:aws:iam::1:user/x"}))
	if e.Kind != secret.Invalid || len(b.seen()) != 0 {
		t.Errorf("got %+v", e)
	}
}

// TestARoleIsLetGo releases a role in the middle of a read with it, which ends
// well; the next read assumes the role anew, and other roles are left alone.
func TestARoleIsLetGo(t *testing.T) {
	held, free := make(chan struct{}), make(chan struct{})
	b, tokens := &backend{}, &tokenService{}
	b.get = func(r request) *reply {
		if r.SecretId == "slow" {
			close(held)
			<-free
		}
		return nil
	}
	s := overLoopback(t, b)
	t.Setenv("AWS_ENDPOINT_URL_STS", serve(t, tokens))
	as := func(id, role string) []secret.Ref {
		ref := secret.Current(id)
		ref.RoleARN = role
		return []secret.Ref{ref}
	}
	const other = role + "-of-others"
	wantAll(t, s.Fetch(t.Context(), append(as("a", role), as("a", other)...)))
	slow := make(chan []source.Result)
	go func() { slow <- s.Fetch(t.Context(), as("slow", role)) }()
	<-held
	s.Release(role)
	close(free)
	wantAll(t, <-slow)
	for range 2 {
		wantAll(t, s.Fetch(t.Context(), append(as("a", role), as("a", other)...)))
	}
	asked := map[string]int{}
	for _, q := range tokens.seen() {
		asked[q.Get("RoleArn")]++
	}
	if asked[role] != 2 || asked[other] != 1 {
		t.Errorf("roles assumed: %v, want the one let go twice and the other once", asked)
	}
}
