package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// fixture is a directory with a configuration on a local Secrets Manager that
// is loaded from a file.
type fixture struct {
	t                        *testing.T
	dir, conf, secrets, file string
	endpoint                 string
}

func newFixture(t *testing.T) *fixture {
	dir := tmpfs(t)
	f := &fixture{t: t, dir: dir, conf: filepath.Join(dir, "agent.yaml"), secrets: filepath.Join(dir, "secrets.yaml"),
		file: filepath.Join(dir, "out"), endpoint: freePort(t)}
	f.set("db", "one")
	return f
}

// set writes the file of secrets with one secret.
func (f *fixture) set(name, value string) {
	f.t.Helper()
	write(f.t, f.secrets+".new", fmt.Sprintf("secrets: [{name: %s, string: '%s'}]\n", name, value))
	if err := os.Rename(f.secrets+".new", f.secrets); err != nil {
		f.t.Fatal(err)
	}
}

// configure writes the configuration; more is added at its end.
func (f *fixture) configure(contents, more string) {
	f.t.Helper()
	write(f.t, f.conf, fmt.Sprintf(`
source: {local: {path: %[1]s/secrets.yaml}}
refresh: {interval: 100ms}
state_dir: %[1]s/state
secrets: [{name: db, id: db}]
files: [{path: %[1]s/out, contents: '%[2]s', notify: [app]}]
targets: [{name: app, process: {pid_file: %[1]s/app.pid}, debounce: 0s}]
%[3]s
`, f.dir, contents, more))
}

func (f *fixture) run() *process {
	f.t.Helper()
	p := secretsd(f.t, cleanEnv(), "run", "--config", f.conf)
	p.until("msg=ready")
	return p
}

func TestReload(t *testing.T) {
	f := newFixture(t)
	f.configure(`a={{ secret "db" }}`, fmt.Sprintf(`endpoint: {listen: "%s", token_file: %s/token}`, f.endpoint, f.dir))
	agent := f.run()
	if content(f.file) != "a=one" {
		t.Fatalf("the file holds %q", content(f.file))
	}

	// A broken configuration changes nothing and says so.
	write(t, f.conf, "secrets: [{id: db}]\nfiles: [{path: relative, contents: x}]\nnonsense: true\n")
	agent.signal(syscall.SIGHUP)
	agent.until("cannot reload, the running configuration stays")
	agent.until("unknown key nonsense")
	f.set("db", "two")
	eventually(t, "the old configuration goes on", func() bool { return content(f.file) == "a=two" })

	// A port in use: the same.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	f.configure(`b={{ secret "db" }}`, fmt.Sprintf(`endpoint: {listen: "%s", token_file: %s/token}`, taken.Addr(), f.dir))
	agent.signal(syscall.SIGHUP)
	agent.until("address already in use")
	if content(f.file) != "a=two" {
		t.Errorf("a reload that failed changed the file to %q", content(f.file))
	}
	if status, _ := get(t, "http://"+f.endpoint+"/ping", ""); status != 200 {
		t.Errorf("the old endpoint answers %d", status)
	}

	// A good one moves everything, the endpoint too.
	moved := freePort(t)
	f.configure(`c={{ secret "db" }}`, fmt.Sprintf(`endpoint: {listen: "%s", token_file: %s/token}`, moved, f.dir))
	agent.signal(syscall.SIGHUP)
	agent.until("reloaded configuration")
	eventually(t, "the new template is in place", func() bool { return content(f.file) == "c=two" })
	status, body := get(t, "http://"+moved+"/secretsmanager/get?secretId=db", content(filepath.Join(f.dir, "token")))
	if status != 200 || !strings.Contains(body, `"SecretString":"two"`) {
		t.Errorf("the moved endpoint answers %d %s", status, body)
	}
	eventually(t, "the old address is given up", func() bool {
		c, err := net.Dial("tcp", f.endpoint)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
}

func TestTheEndpointsTokenFollowsItsFile(t *testing.T) {
	f := newFixture(t)
	f.configure(`x`, fmt.Sprintf(`endpoint: {listen: "%s", token_file: %s/token}`, f.endpoint, f.dir))
	agent := f.run()
	tokenFile := filepath.Join(f.dir, "token")
	url := "http://" + f.endpoint + "/v1/db"
	old := content(tokenFile)
	if info, err := os.Stat(tokenFile); err != nil || info.Mode() != 0o400 || len(strings.TrimSpace(old)) != 64 {
		t.Errorf("the token file: %v, %d characters (%v)", info.Mode(), len(old), err)
	}
	if err := os.Remove(tokenFile); err != nil {
		t.Fatal(err)
	}
	write(t, tokenFile, "0123456789abcdef0123456789abcdef\n")
	agent.signal(syscall.SIGHUP)
	agent.until("reloaded configuration")
	if status, _ := get(t, url, "0123456789abcdef0123456789abcdef"); status != 200 {
		t.Errorf("the new token is answered with %d", status)
	}
	if status, _ := get(t, url, old); status != 403 {
		t.Errorf("after a reload the old token is answered with %d", status)
	}
	if err := os.Remove(tokenFile); err != nil {
		t.Fatal(err)
	}
	agent.signal(syscall.SIGHUP)
	agent.until("cannot read a token of the endpoint again")
	agent.until(`hint="clients that look for their token find none: put the file back`)
	if status, _ := get(t, url, "0123456789abcdef0123456789abcdef"); status != 200 {
		t.Errorf("the token whose file has gone is answered with %d", status)
	}
}

// TestACrashLosesNoNotification kills the agent between publishing and telling:
// the application's pid file comes only after the crash, so nothing can have
// been told before.
func TestACrashLosesNoNotification(t *testing.T) {
	f := newFixture(t)
	f.configure(`{{ secret "db" }}`, "")
	pid := filepath.Join(f.dir, "app.pid")
	_, hups := application(t, f.dir)
	hidden := pid + ".hidden"
	if err := os.Rename(pid, hidden); err != nil {
		t.Fatal(err)
	}
	agent := f.run()
	f.set("db", "two")
	eventually(t, "the file follows", func() bool { return content(f.file) == "two" })
	agent.signal(syscall.SIGKILL)
	agent.wait()
	if hups() != 0 {
		t.Fatal("the application was told without its pid file")
	}
	if err := os.Rename(hidden, pid); err != nil {
		t.Fatal(err)
	}
	f.run()
	eventually(t, "the application is told what it was owed", func() bool { return hups() >= 1 })
	steady(t, "it is told once", func() bool { return hups() == 1 })
}

// TestDebtsOutliveAFirstPassThatOwesMore restarts an agent whose first pass
// publishes something else: what the last agent owed must not be overwritten.
func TestDebtsOutliveAFirstPassThatOwesMore(t *testing.T) {
	f := newFixture(t)
	write(t, f.conf, fmt.Sprintf(`
source: {local: {path: %[1]s/secrets.yaml}}
refresh: {interval: 100ms}
state_dir: %[1]s/state
secrets: [{name: db, id: db}]
files:
  - {path: %[1]s/out, contents: '{{ secret "db" }}', notify: [app]}
  - {path: %[1]s/static, contents: 'static', notify: [other]}
targets: [{name: app, process: {pid_file: %[1]s/app.pid}}, {name: other, process: {pid_file: %[1]s/other.pid}}]
`, f.dir))
	pid, hups := application(t, f.dir)
	if err := os.Rename(pid, pid+".hidden"); err != nil {
		t.Fatal(err)
	}
	agent := f.run()
	f.set("db", "two")
	eventually(t, "the file follows", func() bool { return content(f.file) == "two" })
	agent.signal(syscall.SIGKILL)
	agent.wait()
	if err := errors.Join(os.Rename(pid+".hidden", pid), os.Remove(filepath.Join(f.dir, "static"))); err != nil {
		t.Fatal(err)
	}
	f.run()
	eventually(t, "the application is told what it was owed", func() bool { return hups() == 1 })
}

func TestAReloadReplacesTheLocalSecrets(t *testing.T) {
	f := newFixture(t)
	addr := freePort(t)
	other := filepath.Join(f.dir, "other.yaml")
	write(t, other, "secrets: [{name: db, string: other}]\n")
	conf := func(path string) {
		write(t, f.conf, fmt.Sprintf("source: {local: {path: %s, listen: \"%s\"}}\nrefresh: {interval: 100ms}\nstate_dir: %s/state\nsecrets: [{id: db}]\nfiles: [{path: %s, contents: '{{ secret \"db\" }}'}]\n", path, addr, f.dir, f.file))
	}
	conf(f.secrets)
	agent := f.run()
	conf(other)
	agent.signal(syscall.SIGHUP)
	eventually(t, "the file has the other secret", func() bool { return content(f.file) == "other" })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr, strings.NewReader(`{"SecretId":"db"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Amz-Target", "secretsmanager.GetSecretValue")
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); !strings.Contains(string(body), `"SecretString":"other"`) {
		t.Errorf("the listener answers %s", body)
	}
}

// TestTheServiceManagerIsTold holds what systemd hears, and that a reload does
// not make an agent ready that was not.
func TestTheServiceManagerIsTold(t *testing.T) {
	f := newFixture(t)
	socket := filepath.Join(f.dir, "notify")
	conn, err := net.ListenPacket("unixgram", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var said lockedBuffer
	go func() {
		buf := make([]byte, 4096)
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = said.Write(append(buf[:n:n], '\n'))
		}
	}()
	f.set("unrelated", "x")
	f.configure(`{{ secret "db" }}`, "")
	agent := secretsd(t, append(cleanEnv(), "NOTIFY_SOCKET="+socket), "run", "--config", f.conf)
	agent.until("cannot read secret")
	agent.signal(syscall.SIGHUP)
	agent.until("reloaded configuration")
	if strings.Contains(said.String(), "READY=1") {
		t.Fatalf("an agent that has read nothing said %s", said.String())
	}
	f.set("db", "one")
	eventually(t, "the agent says that it is ready", func() bool { return strings.Contains(said.String(), "READY=1\nSTATUS=1 secret, 1 file in place") })
	agent.signal(syscall.SIGHUP)
	eventually(t, "the agent says that it reloads", func() bool {
		_, after, found := strings.Cut(said.String(), "RELOADING=1\nMONOTONIC_USEC=")
		return found && strings.Contains(after, "READY=1")
	})
	agent.signal(syscall.SIGTERM)
	eventually(t, "the agent says that it ends", func() bool { return strings.Contains(said.String(), "STOPPING=1") })
}

func TestSignalsEndTheAgent(t *testing.T) {
	f := newFixture(t)
	// The hook outlives the first signal: the agent waits for it, and the
	// second ends the agent all the same.
	write(t, f.conf, fmt.Sprintf(`
source: {local: {path: %[1]s/secrets.yaml}}
refresh: {interval: 100ms}
state_dir: %[1]s/state
secrets: [{name: db, id: db}]
files: [{path: %[1]s/out, contents: '{{ secret "db" }}', notify: [slow]}]
targets: [{name: slow, command: [/bin/sh, -c, 'echo $$ > %[1]s/hook; exec sleep 600'], timeout: 600s, on_first: true}]
`, f.dir))
	agent := f.run()
	hook := filepath.Join(f.dir, "hook")
	eventually(t, "the hook runs", func() bool { return strings.TrimSpace(content(hook)) != "" && !strings.HasPrefix(content(hook), "(") })
	t.Cleanup(func() {
		var pid int
		if _, err := fmt.Sscan(content(hook), &pid); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // our own hook, whose agent was ended before it
		}
	})
	agent.signal(syscall.SIGTERM)
	steady(t, "the agent drains", func() bool {
		select {
		case <-agent.done:
			return false
		default:
			return true
		}
	})
	agent.signal(syscall.SIGTERM)
	if _, code := agent.wait(); code != 1 {
		t.Errorf("the second signal ends with code %d, want 1", code)
	}
	if content(f.file) != "one" {
		t.Errorf("the file holds %q", content(f.file))
	}
}

func TestAnOutageEndsNothing(t *testing.T) {
	dir := tmpfs(t)
	nobody := freePort(t)
	endpoint, telemetry := freePort(t), freePort(t)
	write(t, filepath.Join(dir, "agent.yaml"), fmt.Sprintf(`
refresh: {interval: 100ms}
state_dir: %[1]s/state
secrets: [{name: db, id: db}]
files: [{path: %[1]s/out, contents: '{{ secret "db" }}'}]
endpoint: {listen: "%[2]s", token_file: %[1]s/token}
telemetry: {listen: "%[3]s"}
`, dir, endpoint, telemetry))
	write(t, filepath.Join(dir, "out"), "as found")
	agent := secretsd(t, cleanEnv("AWS_ENDPOINT_URL_SECRETS_MANAGER=http://"+nobody), "run", "--config", filepath.Join(dir, "agent.yaml"))
	agent.until("cannot read secret, trying again")
	steady(t, "the agent runs", func() bool {
		select {
		case <-agent.done:
			return false
		default:
			return true
		}
	})
	if got := content(filepath.Join(dir, "out")); got != "as found" {
		t.Errorf("the file holds %q", got)
	}
	if status, body := get(t, "http://"+telemetry+"/readyz", ""); status != 503 || !strings.Contains(body, "secret db was not read yet") {
		t.Errorf("/readyz answers %d %s", status, body)
	}
	if status, _ := get(t, "http://"+telemetry+"/healthz", ""); status != 200 {
		t.Errorf("/healthz answers %d", status)
	}
	if status, body := get(t, "http://"+endpoint+"/v1/db", content(filepath.Join(dir, "token"))); status != 502 || !strings.Contains(body, "ConnectionError") {
		t.Errorf("the endpoint answers %d %s", status, body)
	}
	// The service comes up: everything follows without a restart.
	write(t, filepath.Join(dir, "secrets.yaml"), "secrets: [{name: db, string: at last}]\n")
	secretsd(t, cleanEnv(), "dev", "--listen", nobody, "--endpoint", freePort(t), "--secrets", filepath.Join(dir, "secrets.yaml"))
	eventually(t, "the file is there", func() bool { return content(filepath.Join(dir, "out")) == "at last" })
	eventually(t, "the agent is ready", func() bool { status, _ := get(t, "http://"+telemetry+"/readyz", ""); return status == 200 })
}

func TestTwoAgentsShareNoState(t *testing.T) {
	f := newFixture(t)
	f.configure(`{{ secret "db" }}`, "")
	f.run()
	out, code := runTo(t, cleanEnv(), "run", "--config", f.conf)
	if code != 1 || !strings.Contains(out, "another secretsd is using it") || !strings.Contains(out, "hint: ") {
		t.Errorf("a second agent ends with %d:\n%s", code, out)
	}
}

func TestAPortInUseIsSaid(t *testing.T) {
	f := newFixture(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	f.configure(`{{ secret "db" }}`, fmt.Sprintf(`endpoint: {listen: "%s", token_file: %s/token}`, taken.Addr(), f.dir))
	out, code := runTo(t, cleanEnv(), "run", "--config", f.conf)
	if code != 1 || !strings.Contains(out, taken.Addr().String()) || !strings.Contains(out, "hint: ") {
		t.Errorf("a port in use ends with %d:\n%s", code, out)
	}
	if _, err := os.Stat(f.file); err == nil {
		t.Error("a file was written")
	}
}
