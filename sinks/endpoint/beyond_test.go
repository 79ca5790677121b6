package endpoint_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

func TestOneFieldOfAJSONSecret(t *testing.T) {
	const text = `{"user":"a\"b","port": 5432.10,"big":12345678901234567890,"tags":["x", 1],"none":null,"":"blank"}`
	v := version("db", "v1", secret.StageCurrent)
	v.Text = secret.NewValue(text)
	binary := version("bin", "v1", secret.StageCurrent)
	binary.Text, binary.Binary = secret.Value{}, secret.NewValue("\x00")
	reader := readerFunc(func(context.Context, endpoint.Query) (endpoint.Answer, error) {
		return endpoint.Answer{Version: v}, nil
	})
	s := start(t, endpoint.Options{}, reader, entry(v), entry(version("plain", "v1", secret.StageCurrent)), entry(binary))
	whole := do(t, s, "GET", "/v1/db", tokenT)
	for target, want := range map[string]string{
		"db?jsonKey=user": `"a\"b"`, "db?jsonKey=port": `"5432.10"`, "db?jsonKey=big": `"12345678901234567890"`,
		"db?jsonKey=tags": `"[\"x\", 1]"`, "db?jsonKey=none": `"null"`, "db?jsonKey=user&refreshNow=true": `"a\"b"`,
	} {
		got := do(t, s, "GET", "/v1/"+target, tokenT)
		if got.status != 200 || !strings.Contains(got.body, `"VersionId":"v1","SecretString":`+want+`,"VersionStages"`) {
			t.Errorf("%s: %d %s", target, got.status, got.body)
		}
	}
	for target, want := range map[string]string{
		"db?jsonKey=password": `{"__type":"InvalidParameterException","message":"The secret has no key \"password\"."}`,
		"plain?jsonKey=a":     `{"__type":"InvalidParameterException","message":"The secret is not a JSON object, so that it has no key \"a\"."}`,
		"bin?jsonKey=a":       `{"__type":"InvalidParameterException","message":"The secret is not a JSON object, so that it has no key \"a\"."}`,
		"db?jsonKey=":         "invalid jsonKey value",
	} {
		if got := do(t, s, "GET", "/v1/"+target, tokenT); got.status != 400 || got.body != want {
			t.Errorf("%s: %d %s", target, got.status, got.body)
		}
	}
	if got := do(t, s, "GET", "/v1/db", tokenT); got.body != whole.body {
		t.Error("asking for a field changed the whole")
	}
}

func TestTheListShowsWhatMayBeReadAndNoValue(t *testing.T) {
	db := entry(version("prod/db", "v1", secret.StageCurrent))
	db.Name = "db"
	gone := failing("prod/gone", errElsewhere)
	s := start(t, endpoint.Options{Clients: []endpoint.Client{
		clientWith(t, "a", tokenA, "prod/gone"), clientWith(t, "b", tokenB, "nothing"),
	}}, noReads(t), db, gone)
	const first = `{"Name":"db","SecretId":"prod/db","ARN":"arn:aws:secretsmanager:us-west-2:123456789012:secret:prod/db-NhBWsc","VersionId":"v1","VersionStage":"AWSCURRENT"}`
	const second = `{"Name":null,"SecretId":"prod/gone","ARN":null,"VersionId":null,"VersionStage":"AWSCURRENT"}`
	for sent, want := range map[string]string{
		token: `{"Secrets":[` + first + "," + second + `]}`, tokenA: `{"Secrets":[` + second + `]}`, tokenB: `{"Secrets":[]}`,
	} {
		if got := do(t, s, "GET", "/secretsd/secrets", "X-Vault-Token: "+sent); got.status != 200 || got.body != want {
			t.Errorf("%s: %d %s", sent, got.status, got.body)
		}
	}
	for _, c := range []struct {
		method, target, header string
		want                   int
	}{
		{"GET", "/secretsd/secrets", "X-Other: 1", 403}, {"GET", "/secretsd/secrets", "Via: x", 400},
		{"POST", "/secretsd/secrets", tokenT, 405}, {"GET", "/secretsd/secrets?x=1", tokenT, 400},
		{"GET", "/secretsd/refresh?secretId=db", tokenT, 405}, {"POST", "/secretsd/refresh?secretId=db", "X-Other: 1", 403},
		{"GET", "/systemsmanager/parameters/get?name=x", tokenT, 404}, {"POST", "/secretsmanager/get?secretId=db", tokenT, 405},
	} {
		if got := do(t, s, c.method, c.target, c.header); got.status != c.want {
			t.Errorf("%s %s %s: %d, want %d", c.method, c.target, c.header, got.status, c.want)
		}
	}
	if got := s.BadTokens(); got != 2 {
		t.Errorf("%d bad tokens counted", got)
	}
}

func TestALongPollAnswersWhenTheVersionChanges(t *testing.T) {
	s := start(t, endpoint.Options{MaxConnections: 2}, noReads(t), entry(version("db", "v1", secret.StageCurrent)))
	if got := do(t, s, "GET", "/v1/db?waitVersion=other", tokenT); got.body != object("db", "v1", "AWSCURRENT") {
		t.Errorf("another version: %s", got.body)
	}
	if got := do(t, s, "GET", "/v1/db?waitVersion=v1&timeout=10ms", tokenT); got.body != object("db", "v1", "AWSCURRENT") {
		t.Errorf("after the timeout: %s", got.body)
	}
	for target, want := range map[string]string{
		"db?waitVersion=v1&timeout=x": "invalid timeout value", "db?waitVersion=v1&timeout=-1s": "invalid timeout value",
		"db?waitVersion=": "invalid waitVersion value",
	} {
		if got := do(t, s, "GET", "/v1/"+target, tokenT); got.status != 400 || got.body != want {
			t.Errorf("%s: %d %s", target, got.status, got.body)
		}
	}
	one := send(t, s, head("GET", "/v1/db?waitVersion=v1&timeout=30", tokenT))
	two := send(t, s, head("GET", "/secretsmanager/get?secretId=db&waitVersion=v1&timeout=30s", tokenT))
	// Two wait, which is the cap; the next is refused, and others are not.
	eventually(t, func() bool { return s.Polls() == 2 })
	if got := do(t, s, "GET", "/v1/db?waitVersion=v1&timeout=0", tokenT); got.status != 429 {
		t.Errorf("the third that would wait: status %d, want 429", got.status)
	}
	for range 3 {
		if got := do(t, s, "GET", "/v1/db", tokenT); got.status != 200 {
			t.Errorf("beside those that wait: %d", got.status)
		}
	}
	s.Publish(endpoint.NewView(nil, []endpoint.Entry{entry(version("db", "v1", secret.StageCurrent))}))
	s.Publish(endpoint.NewView(nil, []endpoint.Entry{entry(version("db", "v2", secret.StageCurrent))}))
	if a, b := receive(t, one, "GET"), receive(t, two, "GET"); a.body != object("db", "v2", "AWSCURRENT") || b.body != a.body {
		t.Errorf("got %s and %s", a.body, b.body)
	}
	// Who loses its token while it waits gets nothing.
	three := send(t, s, head("GET", "/v1/db?waitVersion=v2&timeout=30", tokenT))
	eventually(t, func() bool { return s.Polls() == 1 })
	if err := s.Configure(endpoint.Options{Clients: []endpoint.Client{clientWith(t, "a", tokenA, "db")}}, nil, nil); err != nil {
		t.Fatal(err)
	}
	s.Publish(endpoint.NewView(nil, []endpoint.Entry{entry(version("db", "v3", secret.StageCurrent))}))
	if got := receive(t, three, "GET"); got.status != 403 {
		t.Errorf("after its token was taken away: %d %s", got.status, got.body)
	}
}

// TestALongPollEndsWithTheRightsItHas takes the secret from the client while it
// waits, without a new view to wake it.
func TestALongPollEndsWithTheRightsItHas(t *testing.T) {
	o := func(secrets ...string) endpoint.Options {
		return endpoint.Options{Clients: []endpoint.Client{clientWith(t, "a", tokenA, secrets...)}}
	}
	s := start(t, o("db"), unknown, entry(version("db", "v1", secret.StageCurrent)))
	poll := send(t, s, head("GET", "/v1/db?waitVersion=v1&timeout=1", "X-Vault-Token: "+tokenA))
	eventually(t, func() bool { return s.Polls() == 1 })
	if err := s.Configure(o("other"), nil, nil); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, poll, "GET"); got.status != 400 || got.body != forbidden {
		t.Errorf("at the end of its time: %d %s", got.status, got.body)
	}
}

// TestALongPollDoesNotHoldAShutdown has one wait for longer than a shutdown may
// take.
func TestALongPollDoesNotHoldAShutdown(t *testing.T) {
	s, err := endpoint.Listen(t.Context(), endpoint.Options{Listen: "127.0.0.1:0"}, fixedTokens(t), noReads(t))
	if err != nil {
		t.Fatal(err)
	}
	s.Publish(endpoint.NewView(nil, []endpoint.Entry{entry(version("db", "v1", secret.StageCurrent))}))
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	poll := send(t, s, head("GET", "/v1/db?waitVersion=v1&timeout=60", tokenT))
	eventually(t, func() bool { return s.Polls() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("shut down: %v", err)
	}
	if got := receive(t, poll, "GET"); got.status != 200 || got.body != object("db", "v1", "AWSCURRENT") {
		t.Errorf("at the shutdown: %d %s", got.status, got.body)
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
}

func TestALongPollOutlastsTheServersTimeouts(t *testing.T) {
	short := endpoint.Timeouts{Read: 50 * time.Millisecond, Write: 50 * time.Millisecond}
	s := start(t, endpoint.Options{Timeouts: short}, noReads(t), entry(version("db", "v1", secret.StageCurrent)))
	if got := do(t, s, "GET", "/v1/db?waitVersion=v1&timeout=300ms", tokenT); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// eventually waits for what another goroutine is about to do.
func eventually(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); {
		if time.Now().After(end) {
			t.Fatal("it never came to it")
		}
		<-time.After(time.Millisecond)
	}
}

// refreshing is a reader that also refreshes.
type refreshing struct {
	readerFunc
	refresh func(q endpoint.Query, refused []string) (endpoint.Refreshed, error)
}

func (r refreshing) Refresh(_ context.Context, q endpoint.Query, refused []string) (endpoint.Refreshed, error) {
	return r.refresh(q, refused)
}

func TestRefreshOverHTTP(t *testing.T) {
	r := refreshing{noReads(t), func(q endpoint.Query, refused []string) (endpoint.Refreshed, error) {
		if q.ID == "unknown" {
			return endpoint.Refreshed{}, endpoint.ErrForbidden
		}
		if slices.Equal(refused, []string{"v1", "v2"}) {
			v := version(q.ID, "v3", secret.StagePending)
			v.Text = secret.NewValue("p\"3")
			return endpoint.Refreshed{Name: q.ID, VersionID: "v3", Pending: v}, nil
		}
		return endpoint.Refreshed{Name: q.ID, VersionID: "v2", Changed: slices.Contains(refused, "v1")}, nil
	}}
	s := start(t, endpoint.Options{}, r)
	for target, want := range map[string]struct {
		status int
		body   string
	}{
		"?secretId=db&refused=v1":            {http.StatusOK, `{"Name":"db","VersionId":"v2","State":"published"}`},
		"?secretId=db&refused=v1&refused=v2": {http.StatusOK, `{"Name":"db","VersionId":"v3","State":"pending","Stage":"AWSPENDING","SecretString":"p\"3"}`},
		"?secretId=db":                       {http.StatusOK, `{"Name":"db","VersionId":"v2","State":"unchanged"}`},
		"?secretId=unknown":                  {http.StatusBadRequest, forbidden},
		"":                                   {http.StatusBadRequest, "missing parameter secretId"},
		"?secretId=db&versionId=AWSPENDING":  {http.StatusBadRequest, "unknown parameter: versionId"},
		"?secretId=db&roleArn=x":             {http.StatusBadRequest, roleText},
	} {
		if got := do(t, s, "POST", "/secretsd/refresh"+target, tokenT, "Content-Length: 0"); got.status != want.status || got.body != want.body {
			t.Errorf("%s: %d %s, want %+v", target, got.status, got.body, want)
		}
	}
}
