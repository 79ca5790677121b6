package agent

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"secretsd/agent/config"
	"secretsd/agent/secret"
	"secretsd/agent/source/local"
	"secretsd/sinks/endpoint"
)

// running runs a whole agent on a local Secrets Manager, in a bubble whose time
// is not real. The configuration's DIR is a directory on tmpfs.
type running struct {
	t     *testing.T
	dir   string
	svc   *local.Service
	agent *Agent
	opts  Options
	log   *lockedLog
	// stop ends the agent.
	stop func()
	// ready is [Options.Ready].
	ready func(Counts)
	// made is given the agent before it runs; nil if nobody wants it.
	made func(*Agent)
}

func runAgent(t *testing.T, conf string, prepare func(*running), body func(r *running)) {
	dir := memoryDir(t)
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := &running{t: t, dir: dir, svc: local.New(local.Options{}), log: &lockedLog{}}
		prepare(r)
		r.opts = Options{
			Ready: r.ready, Logger: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Local: r.svc,
			clock:         func() time.Duration { return time.Since(start) + time.Hour },
			listenControl: func(string) (net.Listener, error) { return newSilence(), nil },
		}
		r.start(conf)
		body(r)
		r.stop()
		if t.Failed() {
			t.Log(r.log.String())
		}
	})
}

// start runs an agent, which takes over what one before it has left.
func (r *running) start(conf string) {
	r.t.Helper()
	a, err := New(context.Background(), r.config(conf), r.opts)
	if err != nil {
		r.t.Fatal(err)
	}
	r.agent = a
	if r.made != nil {
		r.made(a)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("the agent ended with %v", err)
		}
	}
}

// restart runs another agent in the place of the one that runs.
func (r *running) restart(conf string) {
	r.t.Helper()
	r.stop()
	r.start(conf)
	r.after(time.Second)
}

func (r *running) config(conf string) *config.Config {
	r.t.Helper()
	text := strings.ReplaceAll(conf, "DIR", r.dir) + "\nstate_dir: " + r.dir + "/state\n"
	cfg, err := config.Parse(filepath.Join(r.dir, "agent.yaml"), []byte(text))
	if err != nil {
		r.t.Fatal(err)
	}
	return cfg
}

func (r *running) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *running) file(name string) string {
	data, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (r *running) health(path string) (int, string) {
	w := httptest.NewRecorder()
	r.agent.telemetry("127.0.0.1:9273").ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://127.0.0.1:9273"+path, nil))
	return w.Code, w.Body.String()
}

// silence is a listener that nobody connects to.
type silence struct {
	net.Listener
	closed chan struct{}
	once   sync.Once
}

func newSilence() *silence { return &silence{closed: make(chan struct{})} }

func (s *silence) Accept() (net.Conn, error) {
	<-s.closed
	return nil, net.ErrClosed
}

func (s *silence) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func (s *silence) Addr() net.Addr { return &net.UnixAddr{} }

type lockedLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// TestHealthFailsOnlyWhileTheLoopIsStuck has the loop wait for the test, in the
// first pass.
func TestHealthFailsOnlyWhileTheLoopIsStuck(t *testing.T) {
	var hold, never chan struct{}
	prepare := func(r *running) {
		hold, never = make(chan struct{}), make(chan struct{})
		must(t, r.svc.Put("prod/db", "one"))
		r.ready = func(Counts) { <-hold }
	}
	runAgent(t, oneSecret, prepare, func(r *running) {
		r.after(59 * time.Second)
		if code, body := r.health("/healthz"); code != 200 {
			t.Errorf("after 59 s in one pass /healthz answers %d %s", code, body)
		}
		r.after(2 * time.Second)
		if code, body := r.health("/healthz"); code != 503 || !strings.Contains(body, "stuck") {
			t.Errorf("after a minute in one pass /healthz answers %d %s", code, body)
		}
		close(hold)
		r.after(time.Second)
		if code, body := r.health("/healthz"); code != 200 {
			t.Errorf("after the pass /healthz answers %d %s", code, body)
		}
		r.svc.SetFault(func(string, string) *local.Fault { return &local.Fault{Until: never} })
		r.after(10 * time.Minute)
		if code, body := r.health("/healthz"); code != 200 {
			t.Errorf("while nobody answers /healthz answers %d %s", code, body)
		}
		r.svc.SetFault(nil)
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const oneSecret = `
refresh: {interval: 1m, max_stale: 1h}
secrets: [{name: db, id: prod/db}]
files: [{path: DIR/out, contents: '{{ secret "db" }}'}]
`

func TestRotationReachesTheFile(t *testing.T) {
	runAgent(t, oneSecret, func(r *running) { must(t, r.svc.Put("prod/db", "one")) }, func(r *running) {
		r.after(time.Second)
		if got := r.file("out"); got != "one" {
			t.Fatalf("the file holds %q", got)
		}
		if n := strings.Count(r.log.String(), "msg=ready"); n != 1 || !strings.Contains(r.log.String(), "msg=ready secrets=1 files=1 skipped=0 targets=0") {
			t.Errorf("ready was said %d times", n)
		}
		must(t, r.svc.Put("prod/db", "two"))
		r.after(70 * time.Second)
		if got := r.file("out"); got != "two" {
			t.Errorf("the file holds %q", got)
		}
		if calls := r.svc.Calls()["GetSecretValue"]; calls > 4 {
			t.Errorf("%d calls in 71 s of an interval of a minute", calls)
		}
	})
}

// TestAnOutageKeepsWhatIsThere walks through an outage that outlasts max_stale.
func TestAnOutageKeepsWhatIsThere(t *testing.T) {
	runAgent(t, oneSecret, func(r *running) { must(t, r.svc.Put("prod/db", "one")) }, func(r *running) {
		r.after(time.Second)
		if code, _ := r.health("/readyz"); code != 200 {
			t.Fatalf("/readyz answers %d", code)
		}
		r.svc.SetFault(func(string, string) *local.Fault {
			return &local.Fault{Code: "ThrottlingException", Message: "Rate exceeded", Status: 400}
		})
		r.after(30 * time.Minute)
		ans, err := r.agent.Read(context.Background(), endpoint.Query{ID: "db"})
		if err != nil || ans.Version.Text.Reveal() != "one" || !ans.Stale {
			t.Errorf("during the outage: %+v %v", ans, err)
		}
		if code, body := r.health("/readyz"); code != 200 {
			t.Errorf("during the outage /readyz answers %d %s", code, body)
		}
		r.after(45 * time.Minute)
		if _, err := r.agent.Read(context.Background(), endpoint.Query{ID: "db"}); secret.KindOf(err) != secret.Throttled {
			t.Errorf("after max_stale: %v", err)
		}
		if code, body := r.health("/readyz"); code != 503 || !strings.Contains(body, "secret db could not be confirmed for longer than max_stale") {
			t.Errorf("after max_stale /readyz answers %d %s", code, body)
		}
		if code, _ := r.health("/healthz"); code != 200 {
			t.Errorf("after max_stale /healthz answers %d", code)
		}
		if got := r.file("out"); got != "one" {
			t.Errorf("after max_stale the file holds %q", got)
		}
		if n := strings.Count(r.log.String(), "level=ERROR"); n != 1 {
			t.Errorf("%d error lines, want the one about max_stale", n)
		}
		r.svc.SetFault(nil)
		must(t, r.svc.Put("prod/db", "two"))
		r.after(20 * time.Minute)
		if ans, err := r.agent.Read(context.Background(), endpoint.Query{ID: "db"}); err != nil || ans.Version.Text.Reveal() != "two" || ans.Stale {
			t.Errorf("after the outage: %+v %v", ans, err)
		}
		if code, _ := r.health("/readyz"); code != 200 {
			t.Errorf("after the outage /readyz answers %d", code)
		}
		if got := r.file("out"); got != "two" {
			t.Errorf("after the outage the file holds %q", got)
		}
	})
}

func TestADeletedSecretDeletesNothing(t *testing.T) {
	runAgent(t, oneSecret, func(r *running) { must(t, r.svc.Put("prod/db", "one")) }, func(r *running) {
		r.after(time.Second)
		r.svc.SetFault(func(string, string) *local.Fault {
			return &local.Fault{Code: "ResourceNotFoundException", Message: "Secrets Manager can't find the specified secret.", Status: 400}
		})
		r.after(10 * time.Minute)
		if got := r.file("out"); got != "one" {
			t.Errorf("the file holds %q", got)
		}
		if ans, err := r.agent.Read(context.Background(), endpoint.Query{ID: "prod/db"}); err != nil || ans.Version.Text.Reveal() != "one" {
			t.Errorf("the endpoint answers %v", err)
		}
	})
}

func TestAReloadReadsOnlyWhatIsNew(t *testing.T) {
	prepare := func(r *running) {
		for _, n := range []string{"prod/db", "other"} {
			must(t, r.svc.Put(n, n+" value"))
		}
	}
	conf := strings.ReplaceAll(oneSecret, "interval: 1m", "interval: 10h, max_stale: 20h")
	conf = strings.ReplaceAll(conf, ", max_stale: 1h", "")
	runAgent(t, conf, prepare, func(r *running) {
		r.after(time.Minute)
		before := r.svc.Calls()
		next := strings.Replace(conf, "secrets: [", "secrets: [{name: other, id: other}, ", 1)
		next = strings.Replace(next, "files: [", "files: [{path: DIR/more, contents: '{{ secret \"other\" }}'}, ", 1)
		must(t, r.agent.Reload(context.Background(), r.config(next)))
		r.after(time.Second)
		if r.file("more") != "other value" || r.file("out") != "prod/db value" {
			t.Errorf("the files hold %q and %q", r.file("more"), r.file("out"))
		}
		after := r.svc.Calls()
		if got := after["GetSecretValue"] - before["GetSecretValue"] + after["BatchGetSecretValue"] - before["BatchGetSecretValue"]; got != 1 {
			t.Errorf("the reload cost %d calls", got)
		}
		// A configuration that cannot work changes nothing.
		bad := r.config(strings.Replace(conf, `secret "db"`, `secret "nobody"`, 1))
		var invalid *ConfigError
		if err := r.agent.Reload(context.Background(), bad); !errors.As(err, &invalid) || !strings.Contains(err.Error(), `"nobody"`) {
			t.Errorf("a reload with an unknown secret: %v", err)
		}
		must(t, r.svc.Put("other", "rotated"))
		r.after(11 * time.Hour)
		if got := r.file("more"); got != "rotated" {
			t.Errorf("after the refused reload the file holds %q", got)
		}
	})
}

func TestTheEndpointReadsWhatTheViewLacks(t *testing.T) {
	conf := `
refresh: {interval: 10m}
secrets: [{name: db, id: prod/db}]
`
	runAgent(t, conf, func(r *running) { must(t, r.svc.Put("prod/db", "one")) }, func(r *running) {
		read := func(q endpoint.Query) (string, error) {
			ans, err := r.agent.Read(context.Background(), q)
			if err != nil {
				return "", err
			}
			return ans.Version.Text.Reveal(), nil
		}
		// Before the first answer a request joins the read.
		if got, err := read(endpoint.Query{ID: "db"}); got != "one" || err != nil {
			t.Errorf("at the start: %q %v", got, err)
		}
		must(t, r.svc.Put("prod/db", "two"))
		if got, err := read(endpoint.Query{ID: "prod/db"}); got != "one" || err != nil {
			t.Errorf("from the cache: %q %v", got, err)
		}
		if got, err := read(endpoint.Query{ID: "prod/db", Stage: "AWSPREVIOUS"}); got != "one" || err != nil {
			t.Errorf("AWSPREVIOUS: %q %v", got, err)
		}
		// refreshNow goes to the source, however many ask.
		r.svc.SetFault(func(string, string) *local.Fault { return &local.Fault{Delay: time.Second} })
		before := r.svc.Calls()["GetSecretValue"]
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if got, err := read(endpoint.Query{ID: "prod/db", Refresh: true}); got != "two" || err != nil {
					t.Errorf("refreshed: %q %v", got, err)
				}
			})
		}
		wg.Wait()
		if got := r.svc.Calls()["GetSecretValue"] - before; got != 1 {
			t.Errorf("20 refreshes cost %d calls", got)
		}
		if got, err := read(endpoint.Query{ID: "db"}); got != "two" || err != nil {
			t.Errorf("after the refresh: %q %v", got, err)
		}
		before = r.svc.Calls()["GetSecretValue"]
		for range 5 {
			if _, err := read(endpoint.Query{ID: "db", Stage: "NOSUCH"}); secret.KindOf(err) != secret.NotFound {
				t.Errorf("a label nobody has: %v", err)
			}
		}
		if got := r.svc.Calls()["GetSecretValue"] - before; got != 1 {
			t.Errorf("asking five times for what is not there costs %d calls", got)
		}
		var denied *secret.Error
		if _, err := read(endpoint.Query{ID: "not/configured"}); !errors.As(err, &denied) || denied.Code != "AccessDeniedException" || denied.Status != 400 {
			t.Errorf("an id that is not configured: %v", err)
		}
	})
}

// TestNoValueIsLogged runs through failures of every sort at the debug level.
func TestNoValueIsLogged(t *testing.T) {
	const canary = "CANARY-hunter2"
	conf := `
refresh: {interval: 1m}
heal_interval: 1m
secrets: [{name: db, id: prod/db}]
files:
  - {path: DIR/good, contents: '{{ (secret "db").key }}', notify: [hook, app]}
  - {path: DIR/bad, contents: '{{ (secret "db").absent }}'}
  - {path: DIR/worse, contents: '{{ add (secret "db").key 1 | fromJson }}'}
  - {path: DIR/sub/file, contents: '{{ secret "db" }}', create_dirs: true}
targets: [{name: hook, command: [/bin/false, "{}"], on_first: true}, {name: app, process: {pid_file: DIR/pid}}]
`
	prepare := func(r *running) {
		must(t, r.svc.Put("prod/db", `{"key":"`+canary+`"}`))
		must(t, os.WriteFile(filepath.Join(r.dir, "pid"), []byte("rubbish "+canary), 0o600))
	}
	runAgent(t, conf, prepare, func(r *running) {
		r.after(2 * time.Minute)
		must(t, os.Chmod(filepath.Join(r.dir, "good"), 0o666))
		must(t, os.RemoveAll(filepath.Join(r.dir, "sub")))
		must(t, os.WriteFile(filepath.Join(r.dir, "sub"), nil, 0o600))
		must(t, r.svc.Put("prod/db", canary))
		r.after(5 * time.Minute)
		if strings.Contains(r.log.String(), canary) {
			t.Error("the log holds the value")
		}
		if !strings.Contains(r.log.String(), "has no key") {
			t.Error("the test provoked nothing")
		}
		state, err := os.ReadFile(filepath.Join(r.dir, "state", "state.json"))
		if err != nil || bytes.Contains(state, []byte(canary)) {
			t.Errorf("the state holds the value, or nothing: %v", err)
		}
	})
}
