package endpoint_test

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

func TestPatternsNameSecrets(t *testing.T) {
	const account = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:"
	const foreign = "arn:aws:secretsmanager:eu-west-1:999999999999:secret:"
	for _, c := range []struct {
		pattern, id string
		mayAsk      bool
		arn         string
		mayRead     bool
	}{
		{"*", "prod/db", true, account + "prod/db-AbCdEf", true},
		{"*", foreign + "prod/db", true, foreign + "prod/db-AbCdEf", true},
		{"prod/*", "prod/a/b", true, account + "prod/a/b-AbCdEf", true},
		{"prod/*", "dev/prod/db", false, account + "dev/prod/db-AbCdEf", false},
		{"prod/d?", "prod/db", true, account + "prod/db-AbCdEf", true},
		{"prod/d?", "prod/d", false, account + "prod/d-AbCdEf", false},
		{"prod/db", "prod/db-AbCdEf", false, account + "prod/db-AbCdEf-123456", false},
		// A name without its suffix is not the secret that was asked for.
		{"prod/db-*", "prod/db-AbCdEf", true, account + "prod/db-AbCdEf", false},
		// Names say nothing about ARNs, which may be of another account.
		{"prod/*", foreign + "prod/db-AbCdEf", false, foreign + "prod/db-AbCdEf", false},
		{"*:secret:prod/*", account + "prod/db", false, account + "prod/db-AbCdEf", false},
		// ARNs by ARN, with the suffix and without.
		{account + "prod/*", account + "prod/db", true, account + "prod/db-AbCdEf", true},
		{account + "prod/db", account + "prod/db-AbCdEf", true, account + "prod/db-AbCdEf", true},
		{account + "prod/db-??????", account + "prod/db", true, account + "prod/db-AbCdEf", true},
		{account + "prod/*", foreign + "prod/db", false, foreign + "prod/db-AbCdEf", false},
		// ARNs by name: the answer decides about account and Region.
		{account + "prod/*", "prod/db", true, account + "prod/db-AbCdEf", true},
		{account + "prod/*", "prod/db", true, foreign + "prod/db-AbCdEf", false},
		{account + "prod/db-QwErTy", "prod/db", true, account + "prod/db-AbCdEf", false},
		{account + "prod/db-QwErTy", "prod/db", true, account + "prod/db-QwErTy", true},
		{account + "prod/*", "dev/db", false, account + "dev/db-AbCdEf", false},
		{"arn:aws:*", "dev/db", true, account + "dev/db-AbCdEf", true},
		{"prod/*", "prod/db", true, "", false},
		{"prod/*", "", false, "", false},
	} {
		p := endpoint.Patterns{"unrelated", c.pattern}
		if got := p.MayAsk(c.id); got != c.mayAsk {
			t.Errorf("%s may ask for %s: %v", c.pattern, c.id, got)
		}
		if got := p.MayRead(c.id, c.arn); got != c.mayRead {
			t.Errorf("%s may read %s as %s: %v", c.pattern, c.id, c.arn, got)
		}
	}
}

// TestGlobsAgreeWithRegexp compares with the regular expression that a glob
// stands for.
func TestGlobsAgreeWithRegexp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[ab/*?]{1,8}`).Draw(t, "pattern")
		name := rapid.StringMatching(`[ab/]{1,10}`).Draw(t, "name")
		exp := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
		want := regexp.MustCompile("^" + exp + "$").MatchString(name)
		if got := (endpoint.Patterns{pattern}).MayAsk(name); got != want {
			t.Fatalf("%q matches %q: %v", pattern, name, got)
		}
	})
}

// clientWith returns a client whose token is that text.
func clientWith(t *testing.T, name, token string, secrets ...string) endpoint.Client {
	t.Helper()
	return endpoint.Client{Name: name, Tokens: tokensOf(t, token), Rights: endpoint.Rights{Secrets: secrets}}
}

func tokensOf(t *testing.T, token string) *endpoint.Tokens {
	t.Helper()
	return open(t, endpoint.TokenOptions{Env: []string{"T"}, LookupEnv: func(string) (string, bool) { return token, true }})
}

const forbidden = `{"__type":"AccessDeniedException","message":"This secret is not among those that this client may read."}`

func TestClientsReadTheirOwn(t *testing.T) {
	one, two := version("prod/one", "v1", secret.StageCurrent), version("prod/two", "v2", secret.StageCurrent)
	broken := failing("prod/broken", errElsewhere)
	named := entry(two)
	named.Name = "two"
	reader := readerFunc(func(_ context.Context, q endpoint.Query) (endpoint.Answer, error) {
		if q.Rights == nil || !q.Rights.MayAsk(q.ID) {
			return endpoint.Answer{}, endpoint.ErrForbidden
		}
		return endpoint.Answer{Version: one}, nil
	})
	o := endpoint.Options{Clients: []endpoint.Client{
		clientWith(t, "a", tokenA, "prod/one"),
		clientWith(t, "b", tokenB, "two", "prod/br*"),
		clientWith(t, "c", tokenC, arn("prod/two")),
	}}
	s := start(t, o, reader, entry(one), named, broken)
	const yes = "yes"
	for _, c := range []struct {
		token, id, want string
	}{
		{token, "prod/one", yes}, {token, "prod/two", yes}, {token, "two", yes},
		{tokenA, "prod/one", yes}, {tokenA, arn("prod/one"), yes},
		{tokenA, "prod/two", forbidden}, {tokenA, "two", forbidden}, {tokenA, arn("prod/two"), forbidden},
		{tokenA, "unknown", forbidden}, {tokenA, "prod/broken", forbidden},
		{tokenA, "prod/two?refreshNow=true", forbidden}, {tokenA, "prod/two?versionStage=X", forbidden},
		{tokenA, "prod/one?refreshNow=true", yes},
		// By the configured name a client may read whatever id asks for it.
		{tokenB, "two", yes}, {tokenB, "prod/two", yes}, {tokenB, arn("prod/two"), yes}, {tokenB, "prod/one", forbidden},
		{tokenB, "prod/broken", `{"__type":"InternalFailure"}`},
		{tokenC, "two", yes}, {tokenC, "prod/one", forbidden},
	} {
		got := do(t, s, "GET", "/v1/"+c.id, "X-Vault-Token: "+c.token)
		if c.want == yes && got.status != 200 || c.want != yes && got.body != c.want {
			t.Errorf("%s asks for %s: %d %s, want %s", c.token, c.id, got.status, got.body, c.want)
		}
		if c.want == forbidden && got.status != 400 {
			t.Errorf("%s asks for %s: status %d", c.token, c.id, got.status)
		}
	}
	if got := do(t, s, "GET", "/v1/prod/one", "X-Vault-Token: dddddddddddddddd"); got.status != 403 {
		t.Errorf("nobody's token: %d", got.status)
	}
	// A client taken away is nobody from the next request on.
	if err := s.Configure(endpoint.Options{Clients: o.Clients[:1]}, nil, nil); err != nil {
		t.Fatal(err)
	}
	for sent, want := range map[string]int{tokenA: 200, tokenB: 403, token: 403} {
		if got := do(t, s, "GET", "/v1/prod/one", "X-Vault-Token: "+sent); got.status != want {
			t.Errorf("after the change %s: %d, want %d", sent, got.status, want)
		}
	}
}

func TestClientsThatCannotBeAreRefused(t *testing.T) {
	a := clientWith(t, "a", tokenA, "x")
	for what, clients := range map[string][]endpoint.Client{
		"missing name":                 {{Tokens: a.Tokens}},
		"nothing tells who it is":      {{Name: "b", Rights: a.Rights}},
		"or one of another client":     {a, a},
		"no secret can be called that": {{Name: "b", Tokens: a.Tokens, Rights: endpoint.Rights{Secrets: []string{"a b"}}}},
	} {
		if err := (endpoint.Options{Listen: "127.0.0.1:0", Clients: clients}).Check(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %q", err, what)
		}
	}
}
