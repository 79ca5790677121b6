package endpoint_test

import (
	"context"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

// startSocket serves on a socket until the test ends.
func startSocket(t *testing.T, o endpoint.Options, tokens *endpoint.Tokens) *endpoint.Server {
	t.Helper()
	s, err := endpoint.Listen(t.Context(), o, tokens, noReads(t))
	if err != nil {
		t.Fatal(err)
	}
	s.Publish(endpoint.NewView(nil, []endpoint.Entry{entry(version("db", "v1", secret.StageCurrent))}))
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shut down: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		if _, err := os.Lstat(o.Socket.Path); err == nil {
			t.Error("the shutdown left the socket there")
		}
	})
	return s
}

// ask sends raw bytes to a socket and returns the answer.
func ask(t *testing.T, path, raw string) reply {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	return receive(t, conn, "GET")
}

func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestPeersOnTheSocketNeedNoToken(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("peers are known on Linux only")
	}
	uid, gid := os.Getuid(), os.Getgid()
	withToken := func(c endpoint.Client, token string) endpoint.Client {
		c.Tokens = tokensOf(t, token)
		return c
	}
	client := func(name string, uids, gids []int) endpoint.Client {
		return endpoint.Client{Name: name, UIDs: uids, GIDs: gids, Rights: endpoint.Rights{Secrets: []string{"db"}}}
	}
	get := func(headers ...string) string { return head("GET", "/v1/db", headers...) }
	for _, c := range []struct {
		name   string
		client endpoint.Client
		raw    string
		want   int
	}{
		{"uid", client("a", []int{uid}, nil), get(), 200},
		{"gid", client("a", []int{uid + 1}, []int{gid}), get(), 200},
		{"other uid", client("a", []int{uid + 1}, []int{gid + 1}), get(), 403},
		{"uid with somebody's wrong token", client("a", []int{uid}, nil), get("X-Vault-Token: wrong"), 200},
		{"uid and token", withToken(client("a", []int{uid}, nil), tokenA), get("X-Vault-Token: " + tokenA), 200},
		{"uid without its token", withToken(client("a", []int{uid}, nil), tokenA), get(), 403},
		{"token without its uid", withToken(client("a", []int{uid + 1}, nil), tokenA), get("X-Vault-Token: " + tokenA), 403},
		{"top-level token", client("a", []int{uid + 1}, nil), get(tokenV), 200},
		{"any Host", client("a", []int{uid}, nil), "GET /v1/db HTTP/1.1\r\nHost: evil.example\r\n\r\n", 200},
		{"no browser", client("a", []int{uid}, nil), get("Sec-Fetch-Site: none"), 400},
		{"no proxy", client("a", []int{uid}, nil), get("X-Forwarded-For: 1.2.3.4"), 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(socketDir(t), "s")
			o := endpoint.Options{Socket: &endpoint.Socket{Path: path}, Clients: []endpoint.Client{c.client}}
			startSocket(t, o, fixedTokens(t))
			if got := ask(t, path, c.raw); got.status != c.want {
				t.Errorf("%d %s, want %d", got.status, got.body, c.want)
			}
		})
	}
	// The same clients are nobody over TCP.
	s := start(t, endpoint.Options{Clients: []endpoint.Client{
		client("a", []int{uid}, []int{gid}), withToken(client("b", []int{uid}, nil), tokenB),
	}}, noReads(t), entry(version("db", "v1", secret.StageCurrent)))
	for _, header := range []string{"X-Vault-Token: " + tokenB, "X-Other: 1"} {
		if got := do(t, s, "GET", "/v1/db", header); got.status != 403 {
			t.Errorf("over TCP with %s: %d", header, got.status)
		}
	}
}

// TestAPeersAddressIsNotItsOwnToChoose gives the client's side of the socket a
// name that could be taken for something else.
func TestAPeersAddressIsNotItsOwnToChoose(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("peers are known on Linux only")
	}
	dir, seen := socketDir(t), new(recorder)
	path := filepath.Join(dir, "s")
	startSocket(t, endpoint.Options{Socket: &endpoint.Socket{Path: path}, Observe: seen.observe}, fixedTokens(t))
	for _, name := range []string{"", filepath.Join(dir, "127.0.0.1:5")} {
		conn, err := net.DialUnix("unix", &net.UnixAddr{Name: name, Net: "unix"}, &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, method := range []string{"GET", "POST"} {
			if _, err := io.WriteString(conn, head(method, "/v1/db", tokenV, "Content-Length: 0")); err != nil {
				t.Fatal(err)
			}
			receive(t, conn, method)
		}
		for _, e := range seen.take() {
			if e.Remote != "" || e.PID != os.Getpid() {
				t.Errorf("remote %q, process %d", e.Remote, e.PID)
			}
		}
	}
}

func TestSocketHasItsModeAndReplacesOnlyADeadOne(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	path := filepath.Join(socketDir(t), "made", "s")
	socket := &endpoint.Socket{Path: path, Mode: 0o660, Owner: &endpoint.Owner{UID: -1, GID: os.Getgid()}}
	o := endpoint.Options{Socket: socket}
	s := startSocket(t, o, fixedTokens(t))
	if got := s.Addr().String(); got != path {
		t.Errorf("the address is %s", got)
	}
	mode := func() fs.FileMode {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode()
	}
	if got := mode(); got != fs.ModeSocket|0o660 {
		t.Errorf("mode %v", got)
	}
	socket.Mode = 0o600
	if err := socket.Own(); err != nil || mode() != fs.ModeSocket|0o600 {
		t.Errorf("after the change mode %v %v", mode(), err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v %v", entries, err)
	}
	if _, err := endpoint.Listen(t.Context(), o, fixedTokens(t), noReads(t)); err == nil || !strings.Contains(err.Error(), "somebody listens there") {
		t.Errorf("a second one: %v", err)
	}
	if got := ask(t, path, head("GET", "/v1/db", tokenV)); got.status != 200 {
		t.Errorf("after the second one's try: %d", got.status)
	}
}

// TestAReloadTakesTheSocketsOwnerBack gives the socket to a group, then to none.
func TestAReloadTakesTheSocketsOwnerBack(t *testing.T) {
	group := otherGroup(t)
	path := filepath.Join(socketDir(t), "s")
	socket := &endpoint.Socket{Path: path, Mode: 0o660, Owner: &endpoint.Owner{UID: -1, GID: group}}
	startSocket(t, endpoint.Options{Socket: socket}, fixedTokens(t))
	state := func() *syscall.Stat_t {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t)
	}
	before := state()
	if int(before.Gid) != group {
		t.Fatalf("the socket is of group %d, want %d", before.Gid, group)
	}
	if err := socket.Own(); err != nil || *state() != *before {
		t.Errorf("a socket that was right has been changed: %v", err)
	}
	for _, owner := range []*endpoint.Owner{{UID: os.Geteuid(), GID: -1}, nil} {
		socket.Owner = &endpoint.Owner{UID: -1, GID: group}
		if err := socket.Own(); err != nil {
			t.Fatal(err)
		}
		socket.Owner = owner
		if err := socket.Own(); err != nil || int(state().Gid) != os.Getegid() || int(state().Uid) != os.Geteuid() {
			t.Errorf("with owner %v it is of user %d and group %d: %v", owner, state().Uid, state().Gid, err)
		}
	}
}

// otherGroup returns a group that a file of ours can be given.
func otherGroup(t *testing.T) int {
	t.Helper()
	if os.Geteuid() == 0 {
		return 12345
	}
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if g != os.Getegid() {
			return g
		}
	}
	t.Skip("needs root, or a second group for this user")
	return 0
}

func TestWhatIsInTheSocketsWay(t *testing.T) {
	dir := socketDir(t)
	dead := filepath.Join(dir, "dead")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	startSocket(t, endpoint.Options{Socket: &endpoint.Socket{Path: dead}}, fixedTokens(t))
	if got := ask(t, dead, head("GET", "/v1/db", tokenV)); got.status != 200 {
		t.Errorf("in a dead one's place: %d", got.status)
	}
	file, loose := filepath.Join(dir, "file"), filepath.Join(dir, "loose")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(loose, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(loose, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dead, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		file:                              "something that is no socket is there",
		filepath.Join(dir, "link"):        "something that is no socket is there",
		filepath.Join(loose, "s"):         "others can write to directory",
		filepath.Join(dir, "a", "b", "s"): "no such file or directory",
		"s":                               "not an absolute path",
		"/" + strings.Repeat("a", 90):     "a path may have 90 bytes",
	} {
		o := endpoint.Options{Socket: &endpoint.Socket{Path: path}}
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("check %s: %v", path, err)
		}
		if s, err := endpoint.Listen(t.Context(), o, fixedTokens(t), noReads(t)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("listen on %s: %v %v", path, s, err)
		}
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "mine" {
		t.Errorf("the file in the way holds %q %v", data, err)
	}
}

func TestPeersExecutableIsThatOfTheProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("peers are known on Linux only")
	}
	want, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if got := (&endpoint.Peer{PID: os.Getpid()}).Executable(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
