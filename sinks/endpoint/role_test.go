package endpoint_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

const (
	roleA = "arn:aws:iam::123456789012:role/app/a"
	roleB = "arn:aws:iam::123456789012:role/app/b"
)

// TestWhichRoleIsMeant has one id configured without a role and with one, and
// another id with a role alone. want is the version id answered, or "" for the
// reader.
func TestWhichRoleIsMeant(t *testing.T) {
	own, as := version("prod/db", "own", secret.StageCurrent), version("prod/db", "as-a", secret.StageCurrent)
	alone := version("alone", "alone", secret.StageCurrent)
	pending := version("prod/api", "pending", secret.StagePending)
	api := version("prod/api", "api-as-a", secret.StageCurrent)
	with := func(name, role string, v *secret.Version) endpoint.Entry {
		e := entry(v)
		e.Name, e.Role, e.Stage = name, role, v.Stages[0]
		return e
	}
	s := start(t, endpoint.Options{}, elsewhere, with("as", roleA, as), with("own", "", own), with("lone", roleA, alone),
		with("api", roleA, api), with("pending", "", pending))
	for target, want := range map[string]string{
		"prod/db":                               "own",
		arn("prod/db"):                          "own",
		"prod/db?roleArn=" + roleA:              "as-a",
		"prod/db?roleArn=" + roleB:              "",
		"prod/db?refreshNow=1&roleArn=" + roleA: "",
		"own":                                   "own",
		"as":                                    "as-a",
		"as?roleArn=" + roleA:                   "as-a",
		"as?roleArn=" + roleB:                   "",
		"own?roleArn=" + roleA:                  "",
		"alone":                                 "alone",
		"alone?roleArn=" + roleA:                "alone",
		"alone?roleArn=" + roleB:                "",
		// The id is configured without a role, though at another stage.
		"prod/api":                         "",
		"prod/api?roleArn=" + roleA:        "api-as-a",
		"prod/api?versionStage=AWSPENDING": "pending",
	} {
		got := do(t, s, "GET", "/v1/"+target, tokenT)
		if want == "" && got.body != `{"__type":"InternalFailure"}` || want != "" && !strings.Contains(got.body, `"VersionId":"`+want+`"`) {
			t.Errorf("%s: %s, want %q", target, got.body, want)
		}
	}
}

// TestRolesNeedTheRight asks for a configured secret and for one on demand, as
// clients with and without roles.
func TestRolesNeedTheRight(t *testing.T) {
	configured := entry(version("prod/db", "as-a", secret.StageCurrent))
	configured.Role = roleA
	reader := readerFunc(func(_ context.Context, q endpoint.Query) (endpoint.Answer, error) {
		if !q.Rights.MayAssume(q.Role) {
			return endpoint.Answer{}, endpoint.ErrForbidden
		}
		return endpoint.Answer{Version: version(q.ID, "read", secret.StageCurrent)}, nil
	})
	client := func(name, token string, roles ...string) endpoint.Client {
		c := clientWith(t, name, token, "*")
		c.Rights.Roles = roles
		return c
	}
	s := start(t, endpoint.Options{Clients: []endpoint.Client{
		client("none", tokenA), client("app", tokenB, "arn:aws:iam::123456789012:role/app/*"), client("b", tokenC, roleB),
	}}, reader, configured)
	for _, c := range []struct {
		token, target string
		want          int
	}{
		{token, "prod/db?roleArn=" + roleA, 200}, {token, "x?roleArn=" + roleB, 200},
		{tokenA, "prod/db", 200}, {tokenA, "prod/db?roleArn=" + roleA, 400}, {tokenA, "x?roleArn=" + roleA, 400},
		{tokenB, "prod/db?roleArn=" + roleA, 200}, {tokenB, "x?roleArn=" + roleB, 200},
		{tokenB, "x?roleArn=arn:aws:iam::123456789012:role/other", 400},
		{tokenC, "prod/db?roleArn=" + roleA, 400}, {tokenC, "x?roleArn=" + roleB, 200},
	} {
		got := do(t, s, "GET", "/v1/"+c.target, "X-Vault-Token: "+c.token)
		if got.status != c.want || c.want == 400 && got.body != forbidden {
			t.Errorf("%s asks for %s: %d %s", c.token, c.target, got.status, got.body)
		}
	}
}

func TestRolesThatCannotBeAreRefused(t *testing.T) {
	c := clientWith(t, "a", tokenA, "x")
	for _, role := range []string{"", "app", "arn:aws:iam::123456789012:user/x", "arn:aws:iam::1*:role/a b"} {
		c.Rights.Roles = endpoint.Roles{"*", role}
		err := (endpoint.Options{Listen: "127.0.0.1:0", Clients: []endpoint.Client{c}}).Check()
		if err == nil || !strings.Contains(err.Error(), "client a: assume role") {
			t.Errorf("%q: %v", role, err)
		}
	}
}

// TestNamesInOtherAccounts decides about names whose account a role tells.
func TestNamesInOtherAccounts(t *testing.T) {
	const home, abroad = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:", "arn:aws:secretsmanager:eu-west-1:999999999999:secret:"
	for _, c := range []struct {
		pattern, id, asked string
		want               bool
	}{
		{"*", "prod/db", abroad + "prod/db", true},
		{"prod/*", "prod/db", abroad + "prod/db", true},
		{"dev/*", "prod/db", abroad + "prod/db", false},
		{abroad + "prod/*", "prod/db", abroad + "prod/db", true},
		{abroad + "prod/db-??????", "prod/db", abroad + "prod/db", true},
		{home + "prod/*", "prod/db", abroad + "prod/db", false},
		{"arn:aws:secretsmanager:us-*:999999999999:secret:*", "prod/db", abroad + "prod/db", false},
		// Nothing is known before the answer.
		{home + "prod/*", "prod/db", "", true},
		{"dev/*", "prod/db", "", false},
	} {
		if got := (endpoint.Patterns{c.pattern}).MayAskAs(c.id, c.asked); got != c.want {
			t.Errorf("%s may ask for %s as %s: %v", c.pattern, c.id, c.asked, got)
		}
	}
}

// TestRolesAreSeen holds what the observer and the refresher are told.
func TestRolesAreSeen(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	say := func(line string) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, line)
	}
	o := endpoint.Options{Observe: func(e *endpoint.Exchange) error {
		say(string(e.Outcome) + " " + e.Secret + " " + e.Role)
		return nil
	}}
	r := refreshing{
		func(_ context.Context, q endpoint.Query) (endpoint.Answer, error) {
			if q.Role == roleB {
				return endpoint.Answer{}, endpoint.ErrForbidden
			}
			return endpoint.Answer{Version: version(q.ID, "v", secret.StageCurrent)}, nil
		},
		func(q endpoint.Query, _ []string) (endpoint.Refreshed, error) {
			if q.Role == roleB {
				return endpoint.Refreshed{}, &secret.Error{Op: "AssumeRole", Kind: secret.Denied, Code: "AccessDenied", Message: "no"}
			}
			say("refreshed " + q.ID + " " + q.Stage + " " + q.Role)
			return endpoint.Refreshed{Name: q.ID, VersionID: "v"}, nil
		},
	}
	s := start(t, o, r)
	do(t, s, "GET", "/v1/db?roleArn="+roleA, tokenT)
	do(t, s, "GET", "/v1/db?roleArn="+roleB, tokenT)
	do(t, s, "GET", "/v1/db", tokenT)
	const refresh = "/secretsd/refresh?secretId=db&versionStage=AWSPENDING&roleArn="
	do(t, s, "POST", refresh+roleA, tokenT, "Content-Length: 0")
	if got := do(t, s, "POST", refresh+roleB, tokenT, "Content-Length: 0"); got.status != 403 || !strings.Contains(got.body, "from role: "+roleB) {
		t.Errorf("a role that is refused: %d %s", got.status, got.body)
	}
	want := []string{"ok db " + roleA, "denied db " + roleB, "ok db ", "refreshed db AWSPENDING " + roleA, "ok db " + roleA, "denied db " + roleB}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
}
