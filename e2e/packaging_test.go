package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lacking is [need] for what is not a program.
func lacking(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("needs %s", what)
	}
	t.Skipf("needs %s", what)
}

// toolOutcome is how a program ended.
type toolOutcome struct {
	stdout, stderr string
	code           int
}

func runTool(t *testing.T, cmd *exec.Cmd) toolOutcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatalf("start %s: %v", cmd, err)
	}
	return toolOutcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// mustRunTool returns the standard output of a program that has to succeed.
func mustRunTool(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	got := runTool(t, cmd)
	if got.code != 0 {
		t.Fatalf("%s: exit code %d\n%s%s", cmd, got.code, got.stdout, got.stderr)
	}
	return got.stdout
}

func putFile(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func textOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// systemdRoot returns a directory that stands for a machine on which the unit
// is installed as it is shipped, with the drop-in if wanted. The programs it
// names are there, and of systemd's own units those it refers to, empty.
func systemdRoot(t *testing.T, dropIn bool) string {
	t.Helper()
	root := t.TempDir()
	for _, program := range []string{"/usr/bin/secretsd", "/bin/kill"} {
		putFile(t, root+program, "#!/bin/sh\n", 0o755)
	}
	for _, name := range []string{"sysinit", "basic", "shutdown", "network-online", "multi-user"} {
		putFile(t, root+"/usr/lib/systemd/system/"+name+".target", "[Unit]\nDescription="+name+"\n", 0o644)
	}
	unit := root + "/usr/lib/systemd/system/secretsd.service"
	putFile(t, unit, textOf(t, "../packaging/systemd/secretsd.service"), 0o644)
	if dropIn {
		putFile(t, root+"/etc/systemd/system/secretsd.service.d/root-files.conf",
			textOf(t, "../packaging/systemd/root-files.conf"), 0o644)
	}
	return root
}

// Verify exits with 0 on keys it does not know and only complains, so that
// silence is what counts.
func TestSystemdUnitVerifies(t *testing.T) {
	analyze := need(t, "systemd-analyze")
	for name, dropIn := range map[string]bool{"as shipped": false, "with root-files.conf": true} {
		t.Run(name, func(t *testing.T) {
			root := systemdRoot(t, dropIn)
			got := runTool(t, exec.CommandContext(t.Context(), analyze, "verify", "--root="+root, "secretsd.service"))
			if diff := cmp.Diff(toolOutcome{}, got, cmp.AllowUnexported(toolOutcome{})); diff != "" {
				t.Errorf("systemd-analyze verify (-want +got):\n%s", diff)
			}
		})
	}
}

// The exposure that systemd computes, times ten, may not grow unnoticed. Most
// of what is left of it is the network, which is the agent's work.
func TestSystemdUnitExposure(t *testing.T) {
	analyze := need(t, "systemd-analyze")
	for _, row := range []struct {
		name      string
		dropIn    bool
		threshold string
	}{
		{"as shipped", false, "16"},
		{"with root-files.conf", true, "29"},
	} {
		t.Run(row.name, func(t *testing.T) {
			root := systemdRoot(t, row.dropIn)
			got := runTool(t, exec.CommandContext(t.Context(), analyze, "security", "--no-pager", "--offline=true",
				"--root="+root, "--threshold="+row.threshold, "secretsd.service"))
			if got.code != 0 || got.stderr != "" {
				t.Errorf("exposure above %s tenths, or not computed: exit code %d\n%s%s", row.threshold, got.code, got.stderr, got.stdout)
			}
		})
	}
}

// What verify cannot know: that the unit fits the program it starts.
func TestSystemdUnitFitsTheAgent(t *testing.T) {
	unit := textOf(t, "../packaging/systemd/secretsd.service")
	for _, line := range []string{
		"Type=notify",
		"ExecStart=/usr/bin/secretsd run --config /etc/secretsd/agent.yaml",
		"ExecReload=/bin/kill -HUP $MAINPID",
		"RuntimeDirectory=secretsd",
		"RuntimeDirectoryPreserve=restart",
		// A dynamic user's preserved directory can be read by nobody else.
		"User=secretsd",
		"LimitCORE=0",
		"MemorySwapMax=0",
		"RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
	} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("the unit has no line %q", line)
		}
	}
	// The agent sends no watchdog pings; systemd would kill it for that.
	if strings.Contains(unit, "\nWatchdogSec=") {
		t.Error("the unit sets WatchdogSec, but the agent sends no WATCHDOG=1")
	}
}

func TestSystemdUserIsMade(t *testing.T) {
	sysusers := need(t, "systemd-sysusers")
	conf, err := filepath.Abs("../packaging/systemd/sysusers.d/secretsd.conf")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := os.Mkdir(root+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	mustRunTool(t, exec.CommandContext(t.Context(), sysusers, "--root="+root, conf))
	fields := strings.Split(strings.TrimSpace(textOf(t, root+"/etc/passwd")), ":")
	if len(fields) != 7 {
		t.Fatalf("want one user, got %q", fields)
	}
	got := []string{fields[0], fields[5], fields[6]}
	if diff := cmp.Diff([]string{"secretsd", "/run/secretsd", "/usr/sbin/nologin"}, got); diff != "" {
		t.Errorf("user, home and shell (-want +got):\n%s", diff)
	}
	if group := textOf(t, root+"/etc/group"); !strings.HasPrefix(group, "secretsd:x:") {
		t.Errorf("want the group secretsd, got %q", group)
	}
}

// podman is a podman with a storage of its own, so that nothing of the test is
// seen by, or left to, the machine's.
type podman struct {
	path, root, runroot, conf string
}

func newPodman(t *testing.T) podman {
	t.Helper()
	dir := t.TempDir()
	p := podman{path: need(t, "podman"), root: dir + "/root", runroot: dir + "/run", conf: dir + "/containers.conf"}
	// The limits are podman's defaults made small: a machine may allow less
	// than the million open files it would ask for.
	putFile(t, p.conf, `[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
[engine.runtimes]
runc = ["`+need(t, "runc")+`"]
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
`, 0o600)
	if got := runTool(t, p.command(t, "info")); got.code != 0 {
		lacking(t, "a podman that works here: "+strings.TrimSpace(got.stderr))
	}
	return p
}

func (p podman) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	flags := []string{"--root=" + p.root, "--runroot=" + p.runroot, "--storage-driver=vfs"}
	cmd := exec.CommandContext(t.Context(), p.path, append(flags, args...)...)
	cmd.Env = append(os.Environ(), "CONTAINERS_CONF="+p.conf)
	return cmd
}

// build makes the image of packaging/container from a static binary, the way
// `make image` does.
func (p podman) build(t *testing.T, version string) (image string) {
	t.Helper()
	buildContext := t.TempDir()
	binary := "secretsd-linux-" + runtime.GOARCH
	// The flag outweighs a -race in GOFLAGS, which wants cgo.
	build := exec.CommandContext(t.Context(), need(t, "go"), "build", "-race=false", "-trimpath",
		"-ldflags", "-s -w -X main.version="+version, "-o", filepath.Join(buildContext, binary), "./cmd/secretsd")
	build.Dir = ".."
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	mustRunTool(t, build)
	putFile(t, filepath.Join(buildContext, "ca-certificates.crt"), "the authorities\n", 0o644)
	image = "localhost/secretsd:test"
	mustRunTool(t, p.command(t, "build", "--isolation=chroot", "-t", image,
		"--build-arg", "BINARY="+binary, "--build-arg", "VERSION="+version,
		"-f", "../packaging/container/Containerfile", buildContext))
	return image
}

func TestContainerImage(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux, whose image it builds")
	}
	if testing.Short() {
		t.Skip("builds an image: not in the short round")
	}
	p := newPodman(t)
	image := p.build(t, "1.2.3-test")

	t.Run("is what Kubernetes can check", func(t *testing.T) {
		var images []struct {
			Config struct {
				User            string
				Entrypoint, Cmd []string
				Labels          map[string]string
			}
		}
		if err := json.Unmarshal([]byte(mustRunTool(t, p.command(t, "image", "inspect", image))), &images); err != nil {
			t.Fatal(err)
		}
		if len(images) != 1 {
			t.Fatalf("want one image, got %d", len(images))
		}
		config := images[0].Config
		got := []string{config.User, strings.Join(config.Entrypoint, " "), strings.Join(config.Cmd, " "),
			config.Labels["org.opencontainers.image.version"]}
		if diff := cmp.Diff([]string{"65532:65532", "/secretsd", "run", "1.2.3-test"}, got); diff != "" {
			t.Errorf("user, entry point, command, version (-want +got):\n%s", diff)
		}
	})

	t.Run("has certificate authorities where Go looks", func(t *testing.T) {
		container := strings.TrimSpace(mustRunTool(t, p.command(t, "create", "--network=none", image)))
		to := filepath.Join(t.TempDir(), "authorities")
		mustRunTool(t, p.command(t, "cp", container+":/etc/ssl/certs/ca-certificates.crt", to))
		if diff := cmp.Diff("the authorities\n", textOf(t, to)); diff != "" {
			t.Errorf("certificate authorities (-want +got):\n%s", diff)
		}
	})

	t.Run("says its version", func(t *testing.T) {
		got := mustRunTool(t, p.command(t, "run", "--rm", "--network=none", "--read-only", image, "version"))
		if !strings.Contains(got, "1.2.3-test") {
			t.Errorf("want version 1.2.3-test, got %q", got)
		}
	})

	t.Run("accepts the configuration of the sidecar", func(t *testing.T) {
		etc := etcSecretsd(t, map[string]string{"agent.yaml": readSidecar(t).agentYAML(t)})
		if got := runTool(t, p.asInPod(t, image, etc, emptyDir(t), "check")); got.code != 0 {
			t.Errorf("check: exit code %d\n%s%s", got.code, got.stdout, got.stderr)
		}
	})
	t.Run("refuses a broken configuration", func(t *testing.T) {
		etc := etcSecretsd(t, map[string]string{"agent.yaml": "secrets: [{name: db, id: prod/db, colour: red}]\n"})
		got := runTool(t, p.asInPod(t, image, etc, emptyDir(t), "check"))
		if got.code != 3 || !strings.Contains(got.stderr, "colour") || !strings.Contains(got.stderr, "/etc/secretsd/agent.yaml:1") {
			t.Errorf("want exit code 3 and the place of the unknown key, got %d\n%s%s", got.code, got.stdout, got.stderr)
		}
	})
	t.Run("renders into a volume in memory", func(t *testing.T) {
		if os.Geteuid() != 0 {
			lacking(t, "root, to look at a file that belongs to the container's user")
		}
		etc := etcSecretsd(t, map[string]string{
			"agent.yaml": `source: {local: {path: secrets.yaml}}
secrets: [{name: db, id: prod/db}]
files: [{path: /secrets/db, contents: '{{ (secret "db").password }}'}]
`,
			"secrets.yaml": "secrets: [{name: prod/db, json: {password: one}}]\n",
		})
		secrets := emptyDir(t)
		mustRunTool(t, p.asInPod(t, image, etc, secrets, "render"))
		if diff := cmp.Diff("one", textOf(t, secrets+"/db")); diff != "" {
			t.Errorf("rendered file (-want +got):\n%s", diff)
		}
		info, err := os.Stat(secrets + "/db")
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o400 {
			t.Errorf("the file's mode is %v, want 0400", info.Mode())
		}
	})
}

// asInPod is a command of the agent with the mounts of the pod in
// packaging/kubernetes: a read-only root, the configuration in etc, volumes in
// memory that anybody may write to, of which secrets is one.
func (p podman) asInPod(t *testing.T, image, etc, secrets, command string) *exec.Cmd {
	t.Helper()
	return p.command(t, "run", "--rm", "--network=none", "--read-only", "--cap-drop=all",
		"--security-opt=no-new-privileges", "--volume="+etc+":/etc/secretsd:ro",
		"--mount=type=tmpfs,destination=/run/secretsd,tmpfs-mode=0777",
		"--volume="+secrets+":/secrets",
		image, command, "--config", "/etc/secretsd/agent.yaml")
}

// emptyDir returns a directory as the kubelet makes one of medium Memory.
func emptyDir(t *testing.T) string {
	t.Helper()
	dir := tmpfs(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// etcSecretsd returns a directory of configuration files that the container's
// user can get at.
func etcSecretsd(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "secretsd-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		putFile(t, filepath.Join(dir, name), text, 0o644)
	}
	return dir
}
