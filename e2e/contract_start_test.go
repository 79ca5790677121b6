package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// badStart is one part of C72: a start that must fail, before anything listens.
// The peer ends with 1 whatever is wrong, but for its command line; ours says by
// its code whether the configuration is at fault (3) or the machine (1), as
// README.md documents.
type badStart struct {
	what string
	// ours and peer are configurations, in which ADDR, HOST and PORT stand for a
	// free address; without peer ours has no counterpart there.
	ours, peer string
	token      string // what AWS_TOKEN is set to; empty leaves it unset
	args       string // in place of --config FILE
	code       int    // ours; the peer's is 1, or 2 where ours is
	says       string
	peerSays   string
}

const (
	oursGood = "state_dir: DIR/state\nsecrets: [{id: MyTest}]\nendpoint: {listen: 'ADDR', token_env: [AWS_TOKEN]}\n"
	peerGood = "[logging]\nlog_to_file = false\n[capabilities.secrets_manager]\nhttp_port = PORT\nvalidate_credentials = false\n"
)

func badStarts() []badStart {
	ours := func(old, text string) string { return strings.Replace(oursGood, old, text, 1) }
	onDemand := func(text string) string {
		return ours("token_env: [AWS_TOKEN]", "token_env: [AWS_TOKEN], on_demand: {secrets: ['*'], roles: ['*'], "+text+"}")
	}
	const (
		cache, security  = "[capabilities.secrets_manager.cache]\n", "[capabilities.secrets_manager.security]\n"
		noToken, general = "Could not read SSRF token variable(s)", "isn't valid"
	)
	return []badStart{
		{what: "token variable unset", ours: oursGood, peer: peerGood, code: 3, says: "AWS_TOKEN", peerSays: noToken},
		{what: "token file unreadable", ours: oursGood, peer: peerGood, token: "file:///nowhere/token", code: 3, says: "/nowhere/token", peerSays: noToken},
		{what: "token too short", ours: oursGood, token: "xyzzy", code: 3, says: "fewer than 16 bytes"},
		{what: "token empty", ours: oursGood, token: " ", code: 3, says: "fewer than 16 bytes"},
		{what: "port in use", ours: oursGood, peer: peerGood, token: contractToken, code: 1, says: "address already in use", peerSays: "Could not bind to ADDR: Address already in use (os error 98)"},
		{what: "unknown option", args: "--confiq x", code: 2, says: "unknown flag: --confiq", peer: peerGood, peerSays: "unexpected argument"},
		{what: "missing configuration", args: "--config /nowhere/conf", code: 3, says: "/nowhere/conf", peer: peerGood, peerSays: "Failed to read config file '/nowhere/conf'"},
		{what: "unknown key", ours: ours("listen", "http_port"), peer: strings.Replace(peerGood, "http_port", "listen", 1), token: contractToken,
			code: 3, says: "agent.yaml:3: unknown key endpoint.http_port", peerSays: "unknown field `listen`"},
		{what: "port", ours: ours("ADDR", "127.0.0.1:65536"), peer: strings.Replace(peerGood, "PORT", "80", 1), token: contractToken,
			code: 3, says: `endpoint.listen: "127.0.0.1:65536" is no address`, peerSays: general},
		{what: "connections", ours: ours("listen", "max_connections: 0, listen"), peer: peerGood + "max_conn = 0\n", token: contractToken,
			code: 3, says: "endpoint.max_connections: want at least 1", peerSays: general},
		{what: "roles", ours: onDemand("max_roles: 0"), peer: peerGood + "max_roles = 0\n", token: contractToken,
			code: 3, says: "endpoint.on_demand.max_roles: want at least 1", peerSays: general},
		{what: "prefix", ours: ours("listen", "path_prefix: v1, listen"), peer: peerGood + "path_prefix = \"v1\"\n", token: contractToken,
			code: 3, says: `endpoint.path_prefix: "v1" does not begin with /`, peerSays: "must begin with /"},
		{what: "TTL", ours: onDemand("interval: 99ms"), peer: peerGood + cache + "ttl_seconds = 3601\n", token: contractToken,
			code: 3, says: "endpoint.on_demand.interval: 99ms is less than 100ms", peerSays: general},
		{what: "cache size", ours: onDemand("max_entries: 0"), peer: peerGood + cache + "cache_size = 0\n", token: contractToken,
			code: 3, says: "endpoint.on_demand.max_entries: want at least 1", peerSays: general},
		{what: "headers", ours: ours("listen", "token_headers: ['']\n  , listen"), peer: peerGood + security + "ssrf_headers = []\n", token: contractToken,
			code: 3, says: `endpoint.token_headers: take the token from header "": no header can be called that`, peerSays: "can't be empty"},
		{what: "token variables", ours: ours("[AWS_TOKEN]", "[]"), peer: peerGood + security + "ssrf_env_variables = []\n", token: contractToken,
			code: 3, says: "there is no token_file, nor token_env", peerSays: "can't be empty"},
	}
}

// TestContractStarts is C72.
func TestContractStarts(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range badStarts() {
		t.Run(b.what, func(t *testing.T) {
			b.check(t, b.ours, b.code, b.says, path, "run")
			if _, err := os.Stat(peerBinary); err != nil || b.peer == "" {
				return
			}
			code := 1
			if b.code == 2 {
				code = 2
			}
			b.check(t, b.peer, code, b.peerSays, peerBinary, "sm", "start")
		})
	}
}

func (b *badStart) check(t *testing.T, conf string, code int, says string, name string, args ...string) {
	t.Helper()
	dir, addr := tmpfs(t), freePort(t)
	if b.what == "port in use" {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
	}
	_, port, _ := net.SplitHostPort(addr)
	place := strings.NewReplacer("DIR", dir, "ADDR", addr, "PORT", port)
	file := filepath.Join(dir, "agent.yaml")
	write(t, file, place.Replace(conf))
	if b.args != "" {
		args = append(args, strings.Fields(b.args)...)
	} else {
		args = append(args, "--config", file)
	}
	env := cleanEnv("AWS_ENDPOINT_URL=http://127.0.0.1:1")
	if b.token != "" {
		env = append(env, "AWS_TOKEN="+b.token)
	}
	out, got := start(t, env, name, args...).wait()
	if got != code || !strings.Contains(out, place.Replace(says)) {
		t.Errorf("%s ends with %d, want %d and %q:\n%s", filepath.Base(name), got, code, place.Replace(says), out)
	}
}
