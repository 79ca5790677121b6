package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience is how long a real process may take on a loaded machine; what takes
// longer has failed. Nothing is measured with it.
const patience = 30 * time.Second

// binary returns the path of secretsd, built once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "secretsd-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "secretsd")
	cmd := exec.Command("go", "build", "-o", path, "secretsd/cmd/secretsd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build secretsd: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// need skips a test whose tool is missing, and fails it in CI.
func need(t *testing.T, tool string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing; .ci/run has to install it", tool)
	}
	t.Skipf("%s is not installed", tool)
	return ""
}

// tmpfs returns a private directory on tmpfs.
func tmpfs(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "secretsd-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// The ports that freePort gives, below those that the kernel takes by itself
// (ip_local_port_range in ip(7)), so that no listener or connection of the tests
// beside it gets one before the program that it is for.
const firstPort, ports = 20000, 12000

var portsGiven atomic.Uint32

// freePort returns a loopback address that nobody listens on, and each only once.
func freePort(t *testing.T) string {
	t.Helper()
	for range ports {
		// Tests of other processes begin elsewhere.
		port := firstPort + (uint32(os.Getpid())*97+portsGiven.Add(1))%ports
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			defer ln.Close()
			return ln.Addr().String()
		}
	}
	t.Fatal("there is no free port")
	return ""
}

// cleanEnv is the environment without anything of AWS, and with what keeps the
// SDK from asking an instance's metadata address.
func cleanEnv(extra ...string) []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "AWS_") && !strings.HasPrefix(kv, "NOTIFY_SOCKET=") {
			env = append(env, kv)
		}
	}
	env = append(env, "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1")
	return append(env, extra...)
}

// process is a program that runs beside the test.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  lockedBuffer
	done chan struct{}
	err  error
}

// start starts a program and ends it with the test.
func start(t *testing.T, env []string, name string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = env
	return startCommand(t, cmd)
}

// startCommand is start, of a command that says more about how it is run.
func startCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		// Asked first: a dev that is killed leaves its directory behind.
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			_ = p.cmd.Process.Kill()
			<-p.done
		}
		if t.Failed() {
			t.Logf("%s printed:\n%s", strings.Join(cmd.Args, " "), p.out.String())
		}
	})
	return p
}

func secretsd(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return start(t, env, path, args...)
}

// runTo runs secretsd to its end and returns its output and exit code.
func runTo(t *testing.T, env []string, args ...string) (string, int) {
	t.Helper()
	p := secretsd(t, env, args...)
	return p.wait()
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// wait returns the output and exit code of a process that ends by itself.
func (p *process) wait() (string, int) {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("the process did not end:\n%s", p.out.String())
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		p.t.Fatal(p.err)
	}
	return p.out.String(), p.cmd.ProcessState.ExitCode()
}

// until waits for want in the output.
func (p *process) until(want string) {
	p.t.Helper()
	eventually(p.t, "the output holds "+strconv.Quote(want), func() bool {
		select {
		case <-p.done:
			if !strings.Contains(p.out.String(), want) {
				p.t.Fatalf("the process ended without printing %q:\n%s", want, p.out.String())
			}
		default:
		}
		return strings.Contains(p.out.String(), want)
	})
}

// eventually polls cond until it holds, and fails the test if it never does.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// steady checks that cond holds now and goes on holding for a while.
func steady(t *testing.T, what string, cond func() bool) {
	t.Helper()
	end := time.NewTimer(700 * time.Millisecond)
	defer end.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if !cond() {
			t.Fatalf("it did not stay so that %s", what)
		}
		select {
		case <-tick.C:
		case <-end.C:
			return
		}
	}
}

func content(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "(" + err.Error() + ")"
	}
	return string(data)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// get asks an endpoint and returns status and body.
func get(t *testing.T, url, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Aws-Parameters-Secrets-Token", strings.TrimSpace(token))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(body)
}

// output runs a program to its end and returns what it printed.
func output(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = env
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}

// lockedBuffer is a buffer that two goroutines may use.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
