package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestControlSocket asks a running agent by the commands that its users have.
func TestControlSocket(t *testing.T) {
	f := newFixture(t)
	write(t, f.secrets, `secrets: [{name: db, string: "{\"user\": \"app\", \"port\": 5432, \"password\": \"s3cret-CANARY\"}\n"}]`)
	f.configure(`{{ (secret "db").user }}`, "")
	socket := filepath.Join(f.dir, "state", "control.sock")

	out, code := runTo(t, cleanEnv(), "status", "--config", f.conf)
	if code != 1 || !strings.Contains(out, "no agent runs with state directory "+f.dir+"/state") || !strings.Contains(out, "hint: start one") {
		t.Errorf("status without an agent ends with %d:\n%s", code, out)
	}
	agent := f.run()
	info, err := os.Lstat(socket)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Fatalf("the control socket is %v %v", info, err)
	}

	if out, code := runTo(t, cleanEnv(), "status", "--ready", "--config", f.conf); code != 0 || out != "" {
		t.Errorf("status --ready ends with %d:\n%s", code, out)
	}
	out, code = runTo(t, cleanEnv(), "status", "--state-dir", filepath.Dir(socket))
	if code != 0 || !strings.Contains(out, ", ready, up ") || !strings.Contains(out, f.file) || strings.Contains(out, "CANARY") {
		t.Errorf("status ends with %d:\n%s", code, out)
	}
	out, code = runTo(t, cleanEnv(), "status", "--config", f.conf, "--output", "json")
	var status struct {
		Ready   bool
		Secrets []struct {
			Name      string
			VersionID string `json:"version_id"`
		}
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil || code != 0 || !status.Ready || len(status.Secrets) != 1 ||
		status.Secrets[0].VersionID == "" || strings.Contains(out, "CANARY") {
		t.Errorf("status --output json ends with %d, %v:\n%s", code, err, out)
	}

	for _, row := range []struct {
		want string
		args []string
	}{
		{"{\"user\": \"app\", \"port\": 5432, \"password\": \"s3cret-CANARY\"}\n", []string{"db"}},
		{"s3cret-CANARY", []string{"db", "--key", "password"}},
		{"5432", []string{"--key=port", "db"}},
	} {
		out, code := runTo(t, cleanEnv(), append([]string{"get", "--config", f.conf}, row.args...)...)
		if code != 0 || out != row.want {
			t.Errorf("get %v ends with %d and prints %q", row.args, code, out)
		}
	}
	out, code = runTo(t, cleanEnv(), "get", "db", "--key", "nothing", "--config", f.conf)
	if code != 1 || !strings.Contains(out, `no key "nothing"`) || !strings.Contains(out, "password, port, user") || strings.Contains(out, "CANARY") {
		t.Errorf("get of a missing key ends with %d:\n%s", code, out)
	}
	if out, code := runTo(t, cleanEnv(), "get", "other", "--config", f.conf); code != 4 || !strings.Contains(out, "not among those") {
		t.Errorf("get of a secret that is not configured ends with %d:\n%s", code, out)
	}
	if _, code := runTo(t, cleanEnv(), "get", "--config", f.conf); code != 2 {
		t.Errorf("get without an id ends with %d", code)
	}

	refreshes(t, f)

	agent.signal(syscall.SIGTERM)
	agent.wait()
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the control socket outlives the agent")
	}
}

// refreshes asks for refreshes by the command, in all ways that they can end.
func refreshes(t *testing.T, f *fixture) {
	refresh := func(want int, args ...string) string {
		t.Helper()
		out, code := runTo(t, cleanEnv(), append([]string{"refresh", "--config", f.conf}, args...)...)
		if code != want || strings.Contains(out, "CANARY") {
			t.Errorf("refresh %v ends with %d, want %d:\n%s", args, code, want, out)
		}
		return out
	}
	var first struct {
		Name, State string
		VersionID   string `json:"version_id"`
	}
	if err := json.Unmarshal([]byte(refresh(0, "db", "--output", "json")), &first); err != nil || first.Name != "db" || first.State != "unchanged" {
		t.Errorf("%+v %v", first, err)
	}
	if out := refresh(1, "db", "--refused", first.VersionID, "--timeout", "1s"); !strings.Contains(out, "still the current one") || !strings.Contains(out, "hint: its rotation") {
		t.Errorf("of the current version it says\n%s", out)
	}
	// The fixture's schedule may be faster than a refresh, but it cannot render
	// this either.
	write(t, f.secrets, `secrets: [{name: db, string: '{"other": "s3cret-CANARY"}'}]`)
	eventually(t, "the file is held", func() bool {
		out, _ := runTo(t, cleanEnv(), "refresh", "db", "--config", f.conf)
		return strings.Contains(out, "  held  ")
	})
	if out := refresh(1, "db", "--refused", first.VersionID); !strings.Contains(out, "file "+f.file+": ") || !strings.Contains(out, "1 file could not be brought to version") {
		t.Errorf("of a held file it says\n%s", out)
	}
	if out := refresh(4, "other"); !strings.Contains(out, "not among those") {
		t.Errorf("of a secret that is not configured it says\n%s", out)
	}
	refresh(2)
	refresh(2, "db", "--timeout", "2m")
	refresh(2, "db", "--output", "wide")
}

// TestControlSocketIsOurs shows that a crash leaves nothing in the way, and
// that nothing of somebody else's is taken away.
func TestControlSocketIsOurs(t *testing.T) {
	f := newFixture(t)
	f.configure(`{{ secret "db" }}`, "")
	state := filepath.Join(f.dir, "state")
	socket := filepath.Join(state, "control.sock")
	agent := f.run()
	agent.signal(syscall.SIGKILL)
	agent.wait()
	if _, err := os.Lstat(socket); err != nil {
		t.Fatalf("a crash left no socket, so that nothing is shown here: %v", err)
	}
	second := f.run()
	if _, code := runTo(t, cleanEnv(), "status", "--ready", "--state-dir", state); code != 0 {
		t.Errorf("after a crash status --ready ends with %d", code)
	}
	second.signal(syscall.SIGTERM)
	second.wait()

	ln, err := new(net.ListenConfig).Listen(context.Background(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	out, code := runTo(t, cleanEnv(), "run", "--config", f.conf)
	if code != 1 || !strings.Contains(out, "somebody listens on it") {
		t.Errorf("beside a listener of somebody else run ends with %d:\n%s", code, out)
	}
	_ = ln.Close()
	write(t, socket, "a file")
	out, code = runTo(t, cleanEnv(), "run", "--config", f.conf)
	if code != 1 || !strings.Contains(out, "something else of that name") || content(socket) != "a file" {
		t.Errorf("beside a file run ends with %d:\n%s", code, out)
	}
}

// TestControlSocketRefusesOthers opens the socket's mode to everybody: the
// kernel's word on who connects still holds.
func TestControlSocketRefusesOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	f := newFixture(t)
	f.configure(`{{ secret "db" }}`, "")
	f.run()
	state := filepath.Join(f.dir, "state")
	for path, mode := range map[string]os.FileMode{f.dir: 0o755, state: 0o755, filepath.Join(state, "control.sock"): 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		uid  uint32
		want string
	}{{0, "HTTP/1.1 200 OK"}, {65534, "HTTP/1.1 403 Forbidden"}} {
		cmd := exec.Command(need(t, "curl"), "-si", "--unix-socket", filepath.Join(state, "control.sock"), "http://control/secret?id=db")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: row.uid, Gid: row.uid}}
		out, err := cmd.CombinedOutput()
		if !strings.HasPrefix(string(out), row.want) || (row.uid != 0 && strings.Contains(string(out), "one")) {
			t.Errorf("uid %d gets %v\n%s", row.uid, err, out)
		}
	}
}

// TestWhatSomebodyAskedForIsToldAtOnce: a version that a refresh has brought is told
// as such, and does not wait for the splay.
func TestWhatSomebodyAskedForIsToldAtOnce(t *testing.T) {
	f := newFixture(t)
	write(t, f.conf, fmt.Sprintf(`
source: {local: {path: %[1]s/secrets.yaml}}
refresh: {interval: 1h}
state_dir: %[1]s/state
secrets: [{name: db, id: db}]
files: [{path: %[1]s/out, contents: '{{ secret "db" }}', notify: [hook], check: {command: [/bin/true]}}]
targets: [{name: hook, splay: 1h, command: [/bin/sh, -c, 'echo "$SECRETSD_REASON $(cat "$0")" >> "$0.told"', %[1]s/out]}]
`, f.dir))
	agent := f.run()
	f.set("db", "two")
	agent.until("updated=1")
	if out, code := runTo(t, cleanEnv(), "refresh", "db", "--config", f.conf); code != 0 {
		t.Fatalf("refresh ended with %d:\n%s", code, out)
	}
	eventually(t, "the hook is told", func() bool { return content(f.file+".told") == "manual two\n" })
}

// TestSocketsThatVanishedAreMadeAgain removes both sockets of a running agent, or puts
// others in their place, and reloads it.
func TestSocketsThatVanishedAreMadeAgain(t *testing.T) {
	f := newFixture(t)
	own := filepath.Join(f.dir, "s")
	f.configure(`{{ secret "db" }}`, fmt.Sprintf("endpoint: {socket: {path: %s, mode: '0660'}, clients: [{name: me, uids: [%d], secrets: ['*']}]}\n", own, os.Geteuid()))
	agent := f.run()
	control := filepath.Join(f.dir, "state", "control.sock")
	answers := func(when string) {
		t.Helper()
		if out, code := runTo(t, cleanEnv(), "status", "--config", f.conf); code != 0 || !strings.Contains(out, "socket "+own) {
			t.Errorf("%s status ends with %d:\n%s", when, code, out)
		}
		out, err := exec.Command(need(t, "curl"), "-s", "--unix-socket", own, "http://localhost/secretsmanager/get?secretId=db").CombinedOutput()
		if err != nil || !strings.Contains(string(out), `"VersionId"`) {
			t.Errorf("%s the endpoint answers %v\n%s", when, err, out)
		}
	}
	reloads := 0
	reload := func() {
		t.Helper()
		agent.signal(syscall.SIGHUP)
		reloads++
		eventually(t, "the agent has reloaded", func() bool { return strings.Count(agent.out.String(), "reloaded configuration") == reloads })
	}
	const again = "socket again, which somebody had removed or replaced"
	answers("at the start")
	reload()
	answers("after a reload")
	if strings.Contains(agent.out.String(), again) {
		t.Error("sockets in their place were made again")
	}

	for _, path := range []string{own, control} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	reload()
	answers("after both had vanished")
	if info, err := os.Lstat(own); err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Errorf("the socket is %v %v", info, err)
	}
	if info, err := os.Lstat(control); err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("the control socket is %v %v", info, err)
	}
	for _, path := range []string{own, control} {
		if n := strings.Count(agent.out.String(), again+`" path=`+path+"\n"); n != 1 {
			t.Errorf("of %s it was said %d times:\n%s", path, n, agent.out.String())
		}
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path + ".dead", Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		if err := errors.Join(dead.Close(), os.Rename(path+".dead", path)); err != nil {
			t.Fatal(err)
		}
	}
	reload()
	answers("after both had been replaced")

	agent.signal(syscall.SIGTERM)
	if out, code := agent.wait(); code != 0 {
		t.Errorf("the agent ends with %d:\n%s", code, out)
	}
	for _, path := range []string{own, control} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s outlives the agent", path)
		}
	}
}

// TestAControlSocketOfSomebodyElseStays: a reload does not take its place, and all
// else goes on.
func TestAControlSocketOfSomebodyElseStays(t *testing.T) {
	f := newFixture(t)
	f.configure(`{{ secret "db" }}`, "")
	agent := f.run()
	control := filepath.Join(f.dir, "state", "control.sock")
	if err := os.Remove(control); err != nil {
		t.Fatal(err)
	}
	ln, err := new(net.ListenConfig).Listen(context.Background(), "unix", control)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	agent.signal(syscall.SIGHUP)
	agent.until("somebody listens on it")
	agent.until("reloaded configuration")
	agent.signal(syscall.SIGTERM)
	agent.wait()
	if _, err := os.Lstat(control); err != nil {
		t.Errorf("the agent has removed it: %v", err)
	}
}
