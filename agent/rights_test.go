package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"secretsd/agent/source/local"
	"secretsd/sinks/endpoint"
)

func mayRead(patterns ...string) *endpoint.Rights { return &endpoint.Rights{Secrets: patterns} }

// TestRightsAreDecidedBeforeAWSIsAsked asks for everything in every way.
func TestRightsAreDecidedBeforeAWSIsAsked(t *testing.T) {
	conf := "refresh: {interval: 1h}\nsecrets: [{name: db, id: prod/db}, {name: api, id: prod/api}]\n"
	prepare := func(r *running) {
		must(t, r.svc.Put("prod/db", "one"))
		must(t, r.svc.Put("prod/api", "two"))
	}
	runAgent(t, conf, prepare, func(r *running) {
		r.after(time.Second)
		ans, err := r.agent.Read(context.Background(), endpoint.Query{ID: "db"})
		must(t, err)
		before := r.svc.Calls()
		for _, id := range []string{"db", "prod/db", ans.Version.ARN, "unknown"} {
			for _, q := range []endpoint.Query{{}, {Refresh: true}, {Stage: "AWSPREVIOUS"}, {VersionID: ans.Version.VersionID}, {Stage: "OTHER", Refresh: true}} {
				q.ID, q.Rights = id, mayRead("api", "prod/a*")
				if _, err := r.agent.Read(context.Background(), q); err != endpoint.ErrForbidden {
					t.Errorf("%+v: %v", q, err)
				}
			}
		}
		after := r.svc.Calls()
		if after["GetSecretValue"] != before["GetSecretValue"] || after["BatchGetSecretValue"] != before["BatchGetSecretValue"] {
			t.Errorf("the refusals cost calls: %v, then %v", before, after)
		}
		for _, rights := range []*endpoint.Rights{nil, mayRead("db"), mayRead("prod/d*"), mayRead(ans.Version.ARN)} {
			if got, err := r.agent.Read(context.Background(), endpoint.Query{ID: "db", Refresh: true, Rights: rights}); err != nil || got.Name != "db" {
				t.Errorf("%v: %v", rights, err)
			}
		}
	})
}

// TestAnARNDecidesOnceItIsKnown asks while the first read is under way.
func TestAnARNDecidesOnceItIsKnown(t *testing.T) {
	conf := "refresh: {interval: 1h}\nsecrets: [{name: db, id: prod/db}]\n"
	prepare := func(r *running) {
		must(t, r.svc.Put("prod/db", "one"))
		r.svc.SetFault(func(string, string) *local.Fault { return &local.Fault{Delay: time.Second} })
	}
	runAgent(t, conf, prepare, func(r *running) {
		synctest.Wait()
		for pattern, want := range map[string]error{
			"arn:aws:secretsmanager:*:secret:prod/*": nil, "arn:aws:secretsmanager:*:secret:dev/*": endpoint.ErrForbidden,
		} {
			if _, err := r.agent.Read(context.Background(), endpoint.Query{ID: "db", Rights: mayRead(pattern)}); !errors.Is(err, want) {
				t.Errorf("%s: %v", pattern, err)
			}
		}
	})
}

// TestAnARNDecidesBeforeItIsServed asks after the first read, and before the pass
// that makes the view of it.
func TestAnARNDecidesBeforeItIsServed(t *testing.T) {
	r := &running{t: t, dir: memoryDir(t), svc: local.New(local.Options{})}
	must(t, r.svc.Put("prod/db", "one"))
	a, err := New(context.Background(), r.config("secrets: [{name: db, id: prod/db}]\n"), Options{Local: r.svc})
	must(t, err)
	defer a.Close()
	a.look(a.store.Snapshot())
	a.refresh.begin(context.Background())
	defer a.refresh.drain()
	must(t, a.refresh.readNow(context.Background(), "db", time.Time{}))
	for pattern, want := range map[string]error{
		"arn:aws:secretsmanager:*:secret:prod/*": nil, "arn:aws:secretsmanager:*:secret:dev/*": endpoint.ErrForbidden,
	} {
		if _, err := a.Read(context.Background(), endpoint.Query{ID: "db", Rights: mayRead(pattern)}); !errors.Is(err, want) {
			t.Errorf("%s: %v", pattern, err)
		}
	}
}

func TestTheTopLevelTokenIsNotMadeBesideClients(t *testing.T) {
	conf := `
secrets: [{name: db, id: prod/db}]
endpoint:
  listen: 127.0.0.1:0
  clients: [{name: a, token_file: DIR/tokens/a, secrets: [db]}, {name: b, token_file: DIR/tokens/b, secrets: [db]}]
`
	r := &running{t: t, dir: memoryDir(t), svc: local.New(local.Options{})}
	a, err := New(context.Background(), r.config(conf), Options{Local: r.svc})
	must(t, err)
	defer a.Close()
	entries, err := os.ReadDir(filepath.Join(r.dir, "tokens"))
	if err != nil || len(entries) != 2 || r.file("tokens/a") == r.file("tokens/b") {
		t.Errorf("token files %v %v", entries, err)
	}
}

func TestCheckFindsWhatIsWrongWithClients(t *testing.T) {
	r := &running{t: t, dir: memoryDir(t), svc: local.New(local.Options{})}
	conf := `
secrets: [{name: db, id: prod/db}]
endpoint:
  token_file: DIR/top
  clients: [{name: a, token_file: DIR/a, secrets: [db]}, {name: b, token_file: DIR/b, secrets: [db]}]
`
	must(t, os.WriteFile(filepath.Join(r.dir, "a"), []byte("aaaaaaaaaaaaaaaa"), 0o400))
	must(t, os.WriteFile(filepath.Join(r.dir, "b"), []byte("aaaaaaaaaaaaaaaa\n"), 0o400))
	must(t, os.WriteFile(filepath.Join(r.dir, "top"), []byte("short"), 0o400))
	err := CheckConfig(context.Background(), r.config(conf), Options{Local: r.svc})
	var invalid *ConfigError
	if !errors.As(err, &invalid) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		"agent.yaml:5: use token file " + r.dir + "/b: it holds the same token as " + r.dir + "/a",
		"agent.yaml:4: use the token in token file " + r.dir + "/top: it has fewer than 16 bytes",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
}

// TestTheSocketAloneServes runs a whole agent with a socket and no address, and
// reloads it to another mode.
func TestTheSocketAloneServes(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("peers are known on Linux only")
	}
	conf := fmt.Sprintf(`
secrets: [{name: db, id: prod/db}, {name: api, id: prod/api}]
endpoint: {socket: {path: DIR/s, mode: "0666"}, clients: [{name: me, uids: [%d], secrets: [db]}]}
`, os.Getuid())
	r := &running{t: t, dir: memoryDir(t), svc: local.New(local.Options{})}
	must(t, r.svc.Put("prod/db", "one"))
	must(t, r.svc.Put("prod/api", "two"))
	a, err := New(context.Background(), r.config(conf), Options{Local: r.svc})
	must(t, err)
	if addrs := a.Addrs(); addrs.Endpoint != "" || addrs.Socket != filepath.Join(r.dir, "s") {
		t.Errorf("bound %+v", addrs)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(r.dir, "s"))
	}}}
	defer client.CloseIdleConnections()
	status := func(id string) int {
		resp, err := client.Get("http://any.host/secretsmanager/get?secretId=" + id)
		must(t, err)
		must(t, resp.Body.Close())
		return resp.StatusCode
	}
	if got, other := status("prod/db"), status("prod/api"); got != 200 || other != 400 {
		t.Errorf("answers %d and %d", got, other)
	}
	must(t, a.Reload(context.Background(), r.config(strings.NewReplacer("0666", "0600", "[db]", "[api]").Replace(conf))))
	if info, err := os.Lstat(filepath.Join(r.dir, "s")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("after the reload the socket is %v %v", info, err)
	}
	if got, other := status("prod/db"), status("prod/api"); got != 400 || other != 200 {
		t.Errorf("after the reload answers %d and %d", got, other)
	}
	client.CloseIdleConnections()
	cancel()
	must(t, <-done)
	if _, err := os.Lstat(filepath.Join(r.dir, "s")); !os.IsNotExist(err) {
		t.Errorf("after the end: %v", err)
	}
}

// TestAChangedTokenFileIsFollowed writes a new token beside a running agent.
func TestAChangedTokenFileIsFollowed(t *testing.T) {
	conf := `
secrets: [{name: db, id: prod/db}]
endpoint: {listen: 127.0.0.1:0, token_grace: 1m, clients: [{name: a, token_file: DIR/a, secrets: [db]}]}
`
	dir := memoryDir(t)
	synctest.Test(t, func(t *testing.T) {
		r := &running{t: t, dir: dir, svc: local.New(local.Options{}), log: &lockedLog{}}
		cfg := r.config(conf)
		a := &Agent{log: slog.New(slog.NewTextHandler(r.log, nil))}
		next, err := a.listeners.prepareTokens(a, cfg)
		must(t, err)
		a.listeners.tokens = next
		tokens, old := next["a"].tokens, r.file("a")
		a.listeners.followTokens(a.log)
		if r.log.String() != "" {
			t.Errorf("nothing changed, and the log says %s", r.log)
		}
		fresh := filepath.Join(dir, "fresh")
		must(t, os.WriteFile(fresh, []byte("bbbbbbbbbbbbbbbb"), 0o400))
		must(t, os.Rename(fresh, filepath.Join(dir, "a")))
		a.listeners.followTokens(a.log)
		if !tokens.Valid(old) || !tokens.Valid("bbbbbbbbbbbbbbbb") {
			t.Error("within the grace time not both tokens are valid")
		}
		time.Sleep(time.Minute)
		if tokens.Valid(old) || !tokens.Valid("bbbbbbbbbbbbbbbb") {
			t.Error("after the grace time the old token is valid, or the new one is not")
		}
		must(t, os.WriteFile(fresh, []byte("short"), 0o400))
		must(t, os.Rename(fresh, filepath.Join(dir, "a")))
		for range 3 {
			a.listeners.followTokens(a.log)
		}
		if !tokens.Valid("bbbbbbbbbbbbbbbb") || strings.Count(r.log.String(), "cannot use a changed token file") != 1 {
			t.Errorf("after a short token the log says %s", r.log)
		}
	})
}

// TestARunningAgentLooksAtTokens holds that the loop asks.
func TestARunningAgentLooksAtTokens(t *testing.T) {
	dir := memoryDir(t)
	synctest.Test(t, func(t *testing.T) {
		r := &running{t: t, dir: dir, svc: local.New(local.Options{})}
		start := time.Now()
		a, err := New(context.Background(), r.config("secrets: [{name: db, id: prod/db}]\n"),
			Options{Local: r.svc, clock: func() time.Duration { return time.Since(start) },
				listenControl: func(string) (net.Listener, error) { return newSilence(), nil }})
		must(t, err)
		path := filepath.Join(dir, "a")
		must(t, os.WriteFile(path, []byte("aaaaaaaaaaaaaaaa"), 0o400))
		tokens, err := endpoint.OpenTokens(endpoint.TokenOptions{File: path})
		must(t, err)
		a.listeners.tokens = tokenSet{"a": {tokens: tokens}}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		must(t, os.Remove(path))
		must(t, os.WriteFile(path, []byte("bbbbbbbbbbbbbbbb"), 0o400))
		time.Sleep(tokenInterval + time.Second)
		synctest.Wait()
		if !tokens.Valid("bbbbbbbbbbbbbbbb") {
			t.Error("the new token is not valid")
		}
		cancel()
		must(t, <-done)
	})
}

// TestNoTwoClientsHaveOneToken has the second one in the environment, which the
// check of the files cannot see.
func TestNoTwoClientsHaveOneToken(t *testing.T) {
	conf := `
secrets: [{name: db, id: prod/db}]
endpoint: {listen: 127.0.0.1:0, token_env: [SECRETSD_TEST_TOKEN], clients: [{name: a, token_file: DIR/a, secrets: [db]}]}
`
	t.Setenv("SECRETSD_TEST_TOKEN", "aaaaaaaaaaaaaaaa")
	r := &running{t: t, dir: memoryDir(t), svc: local.New(local.Options{})}
	must(t, os.WriteFile(filepath.Join(r.dir, "a"), []byte("aaaaaaaaaaaaaaaa"), 0o400))
	a, err := New(context.Background(), r.config(conf), Options{Local: r.svc})
	if err == nil {
		a.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "client a has the same token as default") {
		t.Errorf("got %v", err)
	}
}

// TestTheFirstOfSeveralSecretsIsMeant asks for a stage that is not configured by
// an id which two secrets have.
func TestTheFirstOfSeveralSecretsIsMeant(t *testing.T) {
	conf := "refresh: {interval: 1h}\nsecrets: [{name: eu, id: prod/db, region: eu-west-1}, {name: us, id: prod/db, region: us-east-1}]\n"
	prepare := func(r *running) {
		must(t, r.svc.Put("prod/db", "one"))
		must(t, r.svc.Put("prod/db", "two"))
	}
	runAgent(t, conf, prepare, func(r *running) {
		r.after(time.Second)
		for _, stage := range []string{"", "AWSCURRENT", "AWSPREVIOUS"} {
			ans, err := r.agent.Read(context.Background(), endpoint.Query{ID: "prod/db", Stage: stage})
			if err != nil || ans.Name != "eu" {
				t.Errorf("stage %q: %q, %v", stage, ans.Name, err)
			}
		}
	})
}
