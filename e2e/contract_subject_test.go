package e2e

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kind is one of those that the contract's table is run against.
type kind string

const (
	// configured is secretsd with the row's secrets in its configuration, and
	// nothing else; onDemand has none there and reads all because it is asked.
	configured kind = "configured"
	onDemand   kind = "on demand"
	// peer is AWS's own agent, to show that the table is true.
	peer kind = "AWS's agent"
)

// peerBinary is AWS's agent, built from its public source. It is no part of the
// repository; without the variable it is looked for beside it.
var peerBinary = cmp.Or(os.Getenv("SECRETSD_PEER"), "../../shared/peer-binaries/aws-workload-credentials-provider")

const (
	contractToken = "xyzzy-0123456789" // the contract's "xyzzy", grown to what ours must have
	tokenT        = "X-Aws-Parameters-Secrets-Token: " + contractToken
	tokenV        = "X-Vault-Token: " + contractToken
)

// settings are what a row has configured. Zero fields mean the defaults.
type settings struct {
	// ids are the secrets of a configured subject, and role the one they are read
	// with; with twice also without it. The others look at none of this.
	ids   []string
	role  string
	twice bool
	// fresh is how old an answer may become: the interval of ours, and in whole
	// seconds the TTL of the peer. Default: an hour.
	fresh time.Duration
	// noStale keeps what could not be confirmed from being served for long.
	noStale                     bool
	maxConn, entries, maxRoles  int
	prefix                      string
	headers                     []string
	prefetch                    []string
	backend                     func(*testing.T) string // its URL, where it is not a stub
	withoutCredentials, zeroTTL bool
}

// subject is a running agent with its backend.
type subject struct {
	*stub
	process *process
	t       *testing.T
	kind    kind
	addr    string
}

// newSubject starts one and waits until it listens.
func newSubject(t *testing.T, k kind, s settings) *subject {
	t.Helper()
	b := newStub(t)
	backend := b.URL
	if s.backend != nil {
		backend = s.backend(t)
	}
	var env []string
	for _, kv := range cleanEnv("AWS_ENDPOINT_URL="+backend, "AWS_REGION=us-west-2", "AWS_TOKEN="+contractToken, "AWS_MAX_ATTEMPTS=1") {
		if !s.withoutCredentials || !strings.HasPrefix(kv, "AWS_ACCESS_KEY_ID=") && !strings.HasPrefix(kv, "AWS_SECRET_ACCESS_KEY=") {
			env = append(env, kv)
		}
	}
	for {
		addr, dir := freePort(t), tmpfs(t)
		p := s.start(t, k, env, addr, dir)
		if p.listens(addr) {
			return &subject{stub: b, process: p, t: t, kind: k, addr: addr}
		}
		// Between freePort and here somebody else can have taken the port.
		if !strings.Contains(p.out.String(), "in use") {
			t.Fatalf("%s ended:\n%s", k, p.out.String())
		}
	}
}

func (s settings) start(t *testing.T, k kind, env []string, addr, dir string) *process {
	t.Helper()
	if k == peer {
		conf := filepath.Join(dir, "awcp.toml")
		write(t, conf, s.peerConfig(addr))
		return start(t, env, peerBinary, "sm", "start", "--config", conf)
	}
	conf := filepath.Join(dir, "agent.yaml")
	write(t, conf, s.ourConfig(k, addr, dir))
	return secretsd(t, env, "run", "--config", conf)
}

// listens waits until addr answers; false means that the process has ended.
func (p *process) listens(addr string) bool {
	p.t.Helper()
	up := false
	eventually(p.t, "the agent listens", func() bool {
		select {
		case <-p.done:
			return true
		default:
		}
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		up = err == nil
		return up
	})
	return up
}

// ourConfig returns an agent.yaml. It is JSON, which YAML is a superset of.
func (s settings) ourConfig(k kind, addr, dir string) string {
	interval, stale := time.Hour, 24*time.Hour
	if s.fresh > 0 {
		interval = s.fresh
	}
	if s.noStale {
		stale = max(time.Second, interval)
	}
	ends := map[string]any{"listen": addr, "token_env": []string{"AWS_TOKEN"}}
	conf := map[string]any{
		"refresh": map[string]any{"interval": interval.String(), "max_stale": stale.String()}, "endpoint": ends,
		"state_dir": filepath.Join(dir, "state"),
	}
	setIf(ends, "path_prefix", s.prefix)
	setIf(ends, "max_connections", s.maxConn)
	if s.headers != nil {
		ends["token_headers"] = s.headers
	}
	if k == onDemand {
		demand := map[string]any{"secrets": []string{"*"}, "roles": []string{"*"}}
		setIf(demand, "max_entries", s.entries)
		setIf(demand, "max_roles", s.maxRoles)
		ends["on_demand"] = demand
		return asJSON(conf)
	}
	var secrets []any
	for _, id := range append(s.ids, s.prefetch...) {
		one := map[string]any{"id": id}
		setIf(one, "role_arn", s.role)
		secrets = append(secrets, one)
		if s.twice {
			secrets = append(secrets, map[string]any{"id": id, "name": "the same without a role"})
		}
	}
	conf["secrets"] = secrets
	return asJSON(conf)
}

func setIf[T comparable](m map[string]any, key string, value T) {
	var zero T
	if value != zero {
		m[key] = value
	}
}

func asJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func (s settings) peerConfig(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	ttl := 3600
	if s.fresh > 0 {
		ttl = max(1, int(s.fresh/time.Second))
	}
	if s.zeroTTL {
		ttl = 0
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[logging]\nlog_level = \"info\"\nlog_to_file = false\n[capabilities.secrets_manager]\nhttp_port = %s\nvalidate_credentials = false\n", port)
	line := func(given bool, key string, value any) {
		if given {
			fmt.Fprintf(&b, "%s = %s\n", key, asJSON(value))
		}
	}
	line(s.maxConn > 0, "max_conn", s.maxConn)
	line(s.maxRoles > 0, "max_roles", s.maxRoles)
	line(s.prefix != "", "path_prefix", s.prefix)
	line(s.noStale, "ignore_transient_errors", false)
	b.WriteString("[capabilities.secrets_manager.cache]\n")
	line(true, "ttl_seconds", ttl)
	line(s.entries > 0, "cache_size", s.entries)
	if s.headers != nil {
		b.WriteString("[capabilities.secrets_manager.security]\n")
		line(true, "ssrf_headers", s.headers)
	}
	for _, id := range s.prefetch {
		b.WriteString("[[capabilities.secrets_manager.prefetch.secrets]]\n")
		line(true, "secret_id", id)
	}
	return b.String()
}

// answer is what an agent answers.
type answer struct {
	status int
	body   string
	header http.Header
	// closed says that the connection is closed after it.
	closed bool
}

// ask sends a request of HTTP/1.1 on a connection of its own, byte for byte as
// it stands: a method and a target.
func (s *subject) ask(request string, headers ...string) answer {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	lines := append([]string{request + " HTTP/1.1", "Host: " + s.addr}, headers...)
	// A server that refuses a long head answers before it is all sent.
	_, _ = io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n")
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		s.t.Fatalf("%s: read the answer of %s: %v", request, s.kind, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s: read the body: %v", request, err)
	}
	return answer{resp.StatusCode, string(body), resp.Header, resp.Close}
}

// get asks for a secret in query style, with more parameters behind its id.
func (s *subject) get(secretAndMore string) answer {
	s.t.Helper()
	return s.ask("GET /secretsmanager/get?secretId="+secretAndMore, tokenT)
}

// expect gets a secret and compares the answer.
func (s *subject) expect(secretAndMore string, want answer) {
	s.t.Helper()
	s.compare(secretAndMore, s.get(secretAndMore), want)
}

// compare compares status and body: of errors what the JSON says, for the spaces
// in it differ between the peer's versions, of all else each byte.
func (s *subject) compare(what string, got, want answer) {
	s.t.Helper()
	same := got.body == want.body
	if strings.HasPrefix(want.body, `{"__type"`) {
		var a, b map[string]string
		same = json.Unmarshal([]byte(got.body), &a) == nil && json.Unmarshal([]byte(want.body), &b) == nil && fmt.Sprint(a) == fmt.Sprint(b)
	}
	if got.status != want.status || !same {
		s.t.Errorf("%s: %d %.300q, want %d %.300q", what, got.status, got.body, want.status, want.body)
	}
}

// asked compares what the backend was asked since the last time.
func (s *subject) asked(want ...string) {
	s.t.Helper()
	if got := s.saw(); strings.Join(got, ", ") != strings.Join(want, ", ") {
		s.t.Errorf("the backend was asked %q, want %q", got, want)
	}
}

// The answers of the table.

func text(status int, body string) answer { return answer{status: status, body: body} }

// j is what the contract calls J(name, version, stage).
func j(name, version, stage string) answer {
	return value(name, version, stage, `"SecretString":"hunter2"`)
}

func value(name, version, stage, secret string) answer {
	return text(200, fmt.Sprintf(`{"ARN":"%s","Name":"%s","VersionId":"%s",%s,"VersionStages":["%s"],"CreatedDate":"1569534789.046"}`,
		secretPrefix+name+secretSuffix, name, version, secret, stage))
}

func current(name string) answer { return j(name, firstVersion, "AWSCURRENT") }

func fault(status int, code, message string) answer {
	return text(status, failing(status, code, message).body)
}

// closedBackend returns the URL of a port that nobody listens on.
func closedBackend(t *testing.T) string { return "http://" + freePort(t) }

// deafBackend returns the URL of a port whose queue of connections is full, so
// that connecting to it ends in a timeout.
func deafBackend(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "deaf")
	t.Cleanup(func() { _ = file.Close() })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for {
		conn, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return "http://" + addr
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}
