package agent

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"secretsd/agent/source/local"
	"secretsd/sinks/endpoint"
)

// TestAReadEndsWithTheSecretItBeganWith has a reload give a secret's name to
// another one while a client waits for it. The client's rights were decided for
// the first.
func TestAReadEndsWithTheSecretItBeganWith(t *testing.T) {
	conf := "refresh: {interval: 1h}\nsecrets: [{name: db, id: prod/web}]\n"
	next := "refresh: {interval: 1h}\nsecrets: [{name: db, id: prod/admin}]\n"
	prepare := func(r *running) {
		must(t, r.svc.Put("prod/web", "one"))
		must(t, r.svc.Put("prod/admin", "two"))
		slow := true // the first read
		r.svc.SetFault(func(string, string) *local.Fault {
			if !slow {
				return nil
			}
			slow = false
			return &local.Fault{Delay: 3 * time.Second}
		})
	}
	for _, rights := range []*endpoint.Rights{mayRead("prod/web"), mayRead("arn:aws:secretsmanager:*:secret:prod/web")} {
		runAgent(t, conf, prepare, func(r *running) {
			synctest.Wait()
			type result struct {
				ans endpoint.Answer
				err error
			}
			got := make(chan result, 1)
			go func() {
				ans, err := r.agent.Read(context.Background(), endpoint.Query{ID: "db", Rights: rights})
				got <- result{ans, err}
			}()
			r.after(time.Second)
			must(t, r.agent.Reload(context.Background(), r.config(next)))
			if res := <-got; res.err == nil && res.ans.Version.Name != "prod/web" {
				t.Errorf("who may read prod/web got %s", res.ans.Version.Name)
			}
		})
	}
}

// TestRightsAndNamesChangeTogether reloads between two configurations, of which
// each keeps one secret from a client that never stops asking.
func TestRightsAndNamesChangeTogether(t *testing.T) {
	const conf = `
refresh: {interval: 1h}
secrets: [{name: app, id: prod/app}, {name: db, id: prod/admin}]
endpoint: {listen: 127.0.0.1:0, token_file: DIR/top, clients: [{name: web, token_file: DIR/web, secrets: [app]}]}
`
	next := strings.NewReplacer("prod/admin", "prod/web", "[app]", "[db]").Replace(conf)
	r := &running{t: t, dir: memoryDir(t), svc: local.New(local.Options{})}
	for _, id := range []string{"prod/app", "prod/admin", "prod/web"} {
		must(t, r.svc.Put(id, "value-of-"+id))
	}
	a, err := New(context.Background(), r.config(conf), Options{Local: r.svc})
	must(t, err)
	addr := a.Addrs().Endpoint
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	var asking sync.WaitGroup
	var stop atomic.Bool
	var read atomic.Int64
	raw := "GET /v1/db HTTP/1.1\r\nHost: localhost\r\nX-Vault-Token: " + r.file("web") + "\r\n\r\n"
	for range 2 {
		asking.Go(func() {
			for conn := new(talk); !stop.Load(); {
				body := conn.ask(addr, raw)
				if strings.Contains(body, "value-of-prod/web") {
					read.Add(1)
				}
				if strings.Contains(body, "value-of-prod/admin") {
					t.Error("the client was given what neither configuration lets it read")
					return
				}
			}
		})
	}
	// On a busy machine the client may not have had its turn by then.
	for n, end := 0, time.Now().Add(30*time.Second); n < 200 || read.Load() == 0 && time.Now().Before(end); n++ {
		for _, conf := range []string{next, conf} {
			must(t, a.Reload(context.Background(), r.config(conf)))
		}
	}
	stop.Store(true)
	asking.Wait()
	if read.Load() == 0 {
		t.Error("the client never read what it may")
	}
	cancel()
	must(t, <-done)
}

// TestWhatIsDroppedCanBeBoundAgainAtOnce reloads between a configuration that listens
// and one that does not, while a client has a request under way.
func TestWhatIsDroppedCanBeBoundAgainAtOnce(t *testing.T) {
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer l.Close()
		return l.Addr().String()
	}
	const without = "refresh: {interval: 1h}\nsecrets: [{name: app, id: prod/app}]\n"
	r := &running{t: t, dir: memoryDir(t), svc: local.New(local.Options{})}
	addr, socket := free(), r.dir+"/run/socket"
	with := without + fmt.Sprintf("endpoint: {listen: %q, token_file: DIR/token, socket: {path: %s}}\ntelemetry: {listen: %q}\n", addr, socket, free())
	must(t, r.svc.Put("prod/app", "value"))
	a, err := New(context.Background(), r.config(with), Options{Local: r.svc})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	for range 100 {
		poll, err := net.Dial("tcp", addr)
		must(t, err)
		_, err = io.WriteString(poll, "GET /v1/app?waitVersion=none HTTP/1.1\r\nHost: localhost\r\nX-Vault-Token: "+r.file("token")+"\r\n\r\n")
		must(t, err)
		must(t, a.Reload(context.Background(), r.config(without)))
		must(t, a.Reload(context.Background(), r.config(with)))
		conn, err := net.Dial("unix", socket)
		must(t, err)
		_ = conn.Close()
		_ = poll.Close()
	}
	cancel()
	must(t, <-done)
}

// talk is a connection that is opened again when it breaks.
type talk struct {
	conn net.Conn
	r    *bufio.Reader
}

// ask returns the body of the answer, or "" if there was none.
func (c *talk) ask(addr, raw string) string {
	if c.conn == nil {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return ""
		}
		c.conn, c.r = conn, bufio.NewReader(conn)
	}
	if _, err := io.WriteString(c.conn, raw); err == nil {
		if resp, err := http.ReadResponse(c.r, nil); err == nil {
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); err == nil {
				return string(body)
			}
		}
	}
	_ = c.conn.Close()
	c.conn = nil
	return ""
}
