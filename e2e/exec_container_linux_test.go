package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestEmptyContainer is the wrapper as the entry point of an image that
// holds it and one program: no shell, no /tmp, and a file system that cannot be
// written.
func TestEmptyContainer(t *testing.T) {
	if testing.Short() {
		t.Skip("builds an image: not in the short round")
	}
	p := newPodman(t)
	secretsd, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, from := range map[string]string{"secretsd": secretsd, "child": builtChild(t)} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		putFile(t, filepath.Join(dir, name), string(data), 0o755)
	}
	putFile(t, filepath.Join(dir, "secrets.yaml"), `secrets: [{name: prod/app, json: {password: from-the-secret}}]`, 0o644)
	putFile(t, filepath.Join(dir, "agent.yaml"), `source: {local: {path: /secrets.yaml}}
secrets: [{name: app, id: prod/app}]
exec: {env_from: [{secret: app, upper: true}], kill_timeout: 2s}
`, 0o644)
	putFile(t, filepath.Join(dir, "Containerfile"), `FROM scratch
COPY secretsd child secrets.yaml agent.yaml /
USER 65532:65532
ENTRYPOINT ["/secretsd", "exec", "--config", "/agent.yaml", "--"]
CMD ["/child", "env", "PASSWORD"]
`, 0o644)
	const image = "localhost/wrapped:test"
	mustRunTool(t, p.command(t, "build", "--isolation=chroot", "-t", image, "-f", filepath.Join(dir, "Containerfile"), dir))
	run := func(args ...string) *exec.Cmd {
		return p.command(t, append([]string{"run", "--rm", "--network=none", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", image}, args...)...)
	}

	if got := mustRunTool(t, run()); got != "from-the-secret\n" {
		t.Errorf("the program finds %q", got)
	}
	if got := runTool(t, run("/child", "exit", "7")); got.code != 7 {
		t.Errorf("it ends with %d: %s", got.code, got.stderr)
	}
	if got := runTool(t, run("/child", "orphans")); got.code != 5 || !strings.Contains(got.stdout, "pid 1 is secretsd, zombies left: 0") {
		t.Errorf("it ends with %d: %s%s", got.code, got.stdout, got.stderr)
	}
	if got := runTool(t, run("/nowhere")); got.code != 127 {
		t.Errorf("a program that is not there ends with %d: %s", got.code, got.stderr)
	}

	// A program that ignores TERM is killed after its two seconds, long before
	// podman would do so.
	container := strings.TrimSpace(mustRunTool(t, p.command(t, "run", "-d", "--log-driver=k8s-file", "--network=none", "--read-only", image, "/child", "signals", "/dev/stdout")))
	logs := func() string { return runTool(t, p.command(t, "logs", container)).stdout }
	eventually(t, "the program runs", func() bool { return strings.Contains(logs(), "ready") })
	began := time.Now()
	mustRunTool(t, p.command(t, "stop", "-t", "60", container))
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %s to end", took)
	}
	if code := strings.TrimSpace(mustRunTool(t, p.command(t, "wait", container))); code != "137" || !strings.Contains(logs(), "15") {
		t.Errorf("it ended with %s and was told %s", code, logs())
	}
}
