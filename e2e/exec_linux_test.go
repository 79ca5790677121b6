package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// childProgram returns the path of testdata/child, built once for all tests.
var childProgram = sync.OnceValues(func() (string, error) {
	secretsd, err := binary()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(secretsd), "child") // removed with it
	cmd := exec.Command("go", "build", "-race=false", "-o", path, "./testdata/child")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build child: %w\n%s", err, out)
	}
	return path, nil
})

func builtChild(t *testing.T) string {
	t.Helper()
	path, err := childProgram()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// wrapper is a fixture whose configuration is a child's.
type wrapper struct{ *fixture }

func newWrapper(t *testing.T) wrapper { return wrapper{newFixture(t)} }

// conf writes a configuration with one secret and these keys of exec, and more at
// its end.
func (w wrapper) conf(exec, more string) {
	w.t.Helper()
	write(w.t, w.fixture.conf, fmt.Sprintf(`
source: {local: {path: %[1]s/secrets.yaml}}
refresh: {interval: 100ms}
state_dir: %[1]s/state
secrets: [{name: db, id: db}]
exec:
%[2]s
%[3]s
`, w.dir, exec, more))
}

func (w wrapper) path(name string) string { return filepath.Join(w.dir, name) }

// exec starts a wrapper.
func (w wrapper) exec(args ...string) *process {
	w.t.Helper()
	return secretsd(w.t, cleanEnv(), append([]string{"exec", "--log-level=info", "--config", w.fixture.conf, "--"}, args...)...)
}

// shell is the YAML of a command that is a shell script, which finds the
// fixture's directory in $1.
func (w wrapper) shell(script string) string {
	return fmt.Sprintf("  command: [/bin/sh, -c, %q, sh, %s]", script, w.dir)
}

// pid waits for a file with a process id.
func (w wrapper) pid(name string) int {
	w.t.Helper()
	pid := 0
	eventually(w.t, name+" holds a process id", func() bool {
		data, err := os.ReadFile(w.path(name))
		if err != nil || !strings.HasSuffix(string(data), "\n") {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(data)))
		return err == nil
	})
	return pid
}

// lives reports whether a process exists and is no zombie.
func lives(pid int) bool {
	_, rest, ok := strings.Cut(content(fmt.Sprintf("/proc/%d/stat", pid)), ") ")
	return ok && rest[0] != 'Z' && rest[0] != 'X'
}

// TestExecForwardsEverySignal: every signal that a Go program can catch, but CHLD,
// URG and PIPE.
func TestExecForwardsEverySignal(t *testing.T) {
	w := newWrapper(t)
	w.conf("  kill_timeout: 4s", "") // counted from the TERM among them
	out := w.path("signals")
	p := w.exec(builtChild(t), "signals", out)
	eventually(t, "the child runs", func() bool { return content(out) == "ready\n" })
	not := map[syscall.Signal]bool{syscall.SIGCHLD: true, syscall.SIGURG: true, syscall.SIGPIPE: true, syscall.SIGKILL: true, syscall.SIGSTOP: true,
		syscall.SIGPROF: true, 32: true, 33: true, 34: true}
	want := "ready\n"
	for n := syscall.Signal(1); n <= 64; n++ {
		if not[n] {
			continue
		}
		p.signal(n)
		want += fmt.Sprintf("%d\n", int(n))
		eventually(t, fmt.Sprintf("signal %d is forwarded", int(n)), func() bool { return content(out) == want })
	}
	for _, n := range []syscall.Signal{syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPIPE} {
		p.signal(n)
	}
	steady(t, "these three are not", func() bool { return content(out) == want })
}

// TestTheChildIsAsWithoutUs compares what a program finds with what it finds when
// it is started directly: limits, mask, ignored signals, umask, descriptors. Of the
// mask Go drops, at its own start, the signals that would end it (HUP, INT, QUIT,
// ABRT and TERM); there is no way to know that they were blocked.
func TestTheChildIsAsWithoutUs(t *testing.T) {
	w := newWrapper(t)
	w.conf("  on_change: none", "")
	secretsd, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	const look = `umask; cat /proc/self/limits; ls -l /proc/self/fd | sed 's/.*[0-9] \([0-9]* ->\)/\1/;s/pipe:.*/pipe/;s|/proc/[0-9]*|/proc/N|'; pwd`
	// A soft limit below the hard one, which Go raises, and core dumps, which we
	// switch off.
	const start = `cd /usr; umask 027; ulimit -S -n 512; ulimit -S -c 1000; exec 7</etc/passwd; exec "$@"`
	run := func(args ...string) string {
		cmd := exec.Command("/bin/sh", append([]string{"-c", start, "sh", builtChild(t), "masked"}, args...)...)
		cmd.Env = cleanEnv()
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return string(out)
	}
	status := func(args ...string) string { // without a shell, which clears the mask
		var b strings.Builder
		for line := range strings.Lines(run(append(args, "/bin/cat", "/proc/self/status")...)) {
			if key, _, _ := strings.Cut(line, ":"); key == "SigBlk" || key == "SigIgn" || strings.HasPrefix(key, "Cap") || key == "NoNewPrivs" || key == "Seccomp" {
				b.WriteString(line)
			}
		}
		return b.String()
	}
	wrap := []string{secretsd, "exec", "--config", w.fixture.conf, "--"}
	direct := run("/bin/sh", "-c", look) + status()
	wrapped := run(append(wrap, "/bin/sh", "-c", look)...) + status(wrap...)
	if diff := cmp.Diff(direct, wrapped); diff != "" {
		t.Errorf("the child finds (-directly +wrapped):\n%s", diff)
	}
	for _, want := range []string{"0027\n", "SigBlk:\t0000000000000a00\n", "SigIgn:\t0000000000000003\n", "512"} {
		if !strings.Contains(direct, want) {
			t.Errorf("the test does not look: no %q in\n%s", want, direct)
		}
	}
}

func TestTheChildLeadsAGroupInOurSession(t *testing.T) {
	w := newWrapper(t)
	w.conf("  on_change: none", "")
	p := w.exec("/bin/sh", "-c", `cut -d' ' -f1,4,5,6 /proc/$$/stat > "$1/stat"; exit 3`, "sh", w.dir)
	_, code := p.wait()
	var pid, parent, group, session int
	if _, err := fmt.Sscan(content(w.path("stat")), &pid, &parent, &group, &session); err != nil {
		t.Fatalf("%v in %q", err, content(w.path("stat")))
	}
	own, _, _ := syscall.Syscall(syscall.SYS_GETSID, 0, 0, 0)
	if code != 3 || pid != group || parent != p.cmd.Process.Pid || session != int(own) {
		t.Errorf("code %d, pid %d, parent %d of %d, group %d, session %d of %d", code, pid, parent, p.cmd.Process.Pid, group, session, own)
	}
}

// TestTheExitCodeIsPassedOn is a fault of a peer, which says 0 for 7.
func TestTheExitCodeIsPassedOn(t *testing.T) {
	w := newWrapper(t)
	w.conf("  on_change: none", "")
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "exit 255": 255, "kill -TERM $$": 143, "kill -KILL $$": 137} {
		if _, code := w.exec("/bin/sh", "-c", script).wait(); code != want {
			t.Errorf("%s: got %d, want %d", script, code, want)
		}
	}
}

// stubborn is a script that ignores TERM, and has a child that does, too, and has
// left its group.
const stubborn = `trap '' TERM INT; setsid sh -c 'trap "" TERM; echo $$ > "$1/grandchild"; while :; do sleep 0.05; done' sh "$1" & echo $$ > "$1/pid"; while :; do sleep 0.05; done`

func TestAChildThatIgnoresTerm(t *testing.T) {
	for _, command := range []string{"run", "exec"} {
		t.Run(command, func(t *testing.T) {
			w := newWrapper(t)
			w.conf(w.shell(stubborn)+"\n  kill_timeout: 300ms", "")
			p := secretsd(t, cleanEnv(), command, "--config", w.fixture.conf)
			pid, grandchild := w.pid("pid"), w.pid("grandchild")
			p.signal(syscall.SIGTERM)
			_, code := p.wait()
			if want := map[string]int{"run": 0, "exec": 137}[command]; code != want {
				t.Errorf("it ends with %d, want %d", code, want)
			}
			if lives(pid) || lives(grandchild) {
				t.Errorf("the child lives: %v, the grandchild: %v", lives(pid), lives(grandchild))
			}
		})
	}
}

func TestTheSecondSignalKillsTheChild(t *testing.T) {
	w := newWrapper(t)
	w.conf(w.shell(stubborn), "") // a kill timeout of half a minute
	p := secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf)
	pid, grandchild := w.pid("pid"), w.pid("grandchild")
	p.signal(syscall.SIGTERM)
	steady(t, "the child is waited for", func() bool { return lives(pid) && lives(p.cmd.Process.Pid) })
	p.signal(syscall.SIGINT)
	if _, code := p.wait(); code != 1 {
		t.Errorf("run ends with %d, want 1", code)
	}
	eventually(t, "all of it is dead", func() bool { return !lives(pid) && !lives(grandchild) })
}

// TestTheChildDiesWithUs: whoever kills a wrapper means the program.
func TestTheChildDiesWithUs(t *testing.T) {
	w := newWrapper(t)
	w.conf(w.shell(`echo $$ > "$1/pid"; trap '' TERM HUP; while :; do sleep 0.05; done`), "")
	p := secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf)
	pid := w.pid("pid")
	p.signal(syscall.SIGKILL)
	p.wait()
	eventually(t, "the child is dead", func() bool { return !lives(pid) })
}

func TestACrashIsNotTheEndOfRun(t *testing.T) {
	w := newWrapper(t)
	w.conf(w.shell(`echo start >> "$1/log"; [ "$(wc -l < "$1/log")" = 3 ] || exit 7; sleep 600`), "")
	p := secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf)
	began := time.Now()
	eventually(t, "it runs the third time", func() bool { return content(w.path("log")) == "start\nstart\nstart\n" })
	if took := time.Since(began); took < 3*time.Second {
		t.Errorf("two crashes were slept over for %s only", took)
	}
	p.until(`exit="status 7" wait=2s`)
	status := output(t, cleanEnv(), p.cmd.Path, "status", "--state-dir", w.path("state"))
	if !strings.Contains(status, "running") || !strings.Contains(status, "status 7") {
		t.Errorf("the status does not tell of the child:\n%s", status)
	}
}

// TestNoValueIsWhereOthersLook: not in our arguments, our environment, our log or
// our status.
func TestNoValueIsWhereOthersLook(t *testing.T) {
	w := newWrapper(t)
	w.set("db", "CANARY-hunter2")
	w.conf(w.shell(`echo "${#DB}" > "$1/pid"; exec sleep 600`)+"\n"+`  env: {DB: '{{ secret "db" }}'}`, "log: {level: debug}")
	p := secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf)
	p.until("msg=ready")
	if got := w.pid("pid"); got != len("CANARY-hunter2") {
		t.Fatalf("the child has a value of %d characters", got)
	}
	agent := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	status := output(t, cleanEnv(), p.cmd.Path, "status", "--output", "json", "--state-dir", w.path("state"))
	for what, text := range map[string]string{"arguments": content(agent + "cmdline"), "environment": content(agent + "environ"), "log": p.out.String(), "status": status, "state": content(w.path("state/state.json"))} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("the agent's %s hold a value: %s", what, text)
		}
	}
}

// TestPID1ReapsAndForwards is the agent as the first process of a pid namespace. That zombies stay
// is a fault of a peer.
func TestPID1ReapsAndForwards(t *testing.T) {
	unshare := need(t, "unshare")
	if os.Geteuid() != 0 {
		lacking(t, "root, for a pid namespace")
	}
	w := newWrapper(t)
	w.conf("  on_change: none", "")
	secretsd, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	in := func(args ...string) (string, int) {
		return start(t, cleanEnv(), unshare, append([]string{"-p", "-f", "--mount-proc", "--kill-child", secretsd, "exec", "--config", w.fixture.conf, "--"}, args...)...).wait()
	}
	out, code := in(builtChild(t), "orphans")
	if code != 5 || !strings.Contains(out, "pid 1 is secretsd, zombies left: 0") {
		t.Errorf("it ends with %d: %s", code, out)
	}
	if _, code := in("/bin/sh", "-c", "kill -TERM 1; sleep 600"); code != 143 {
		t.Errorf("TERM to pid 1 ends with %d", code)
	}
}

// TestExecWithoutAConfiguration reads from a service that is not its own.
func TestExecWithoutAConfiguration(t *testing.T) {
	w := newWrapper(t)
	addr := freePort(t)
	write(t, w.secrets, "secrets: [{name: prod/app, json: {user: app, digits: 12345, flag: true}}, {name: plain, string: CANARY}, {name: clash, json: {USER_NAME: x, user: y}}]\n")
	dev := secretsd(t, cleanEnv(), "dev", "--listen", addr, "--endpoint", freePort(t), "--secrets", w.secrets)
	dev.until("secretsd dev is running")
	env := cleanEnv("AWS_ENDPOINT_URL_SECRETS_MANAGER=http://" + addr)
	for _, tt := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"--secret", "prod/app", "--", "/bin/sh", "-c", `echo "$user $digits $flag"; exit 9`}, "app 12345 true\n", 9},
		{[]string{"-s", "name=prod/app", "--prefix", "db_", "--upper", "/bin/sh", "-c", `echo "$DB_USER"; exit 0`}, "app\n", 0},
		{[]string{"-s", "prod/app", "-s", "clash", "--", "/bin/true"}, `variable user is given twice`, 1},
		{[]string{"-s", "plain", "--", "/bin/true"}, "it is not a JSON object", 1},
		{[]string{"-s", "nobody/knows", "--", "/bin/true"}, "ResourceNotFoundException", 4},
		{[]string{"-s", "prod/app", "--", "/nowhere/program"}, "start /nowhere/program: no such file or directory", 127},
		{[]string{"-s", "prod/app", "--", "/etc/passwd"}, "start /etc/passwd: permission denied", 126},
	} {
		out, code := runTo(t, env, append([]string{"exec"}, tt.args...)...)
		if code != tt.code || !strings.Contains(out, tt.want) || strings.Contains(out, "CANARY") {
			t.Errorf("exec %q ends with %d, want %d, and prints %q", tt.args, code, tt.code, out)
		}
	}
	left, err := filepath.Glob("/dev/shm/secretsd-exec-*")
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
	// Two at once do not get into each other's way.
	other := secretsd(t, env, "exec", "-s", "prod/app", "--", "sleep", "600")
	eventually(t, "the first runs", func() bool { return len(childrenOf(other.cmd.Process.Pid)) == 1 })
	if out, code := runTo(t, env, "exec", "-s", "prod/app", "--", "/bin/true"); code != 0 {
		t.Errorf("the second ends with %d: %s", code, out)
	}
}

func childrenOf(parent int) []string {
	var list []string
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		if _, rest, ok := strings.Cut(content(name), ") "); ok && strings.Fields(rest)[1] == strconv.Itoa(parent) {
			list = append(list, name)
		}
	}
	return list
}

// TestExecWaitsForAnAnswer: what passes by is waited for, and not for ever.
func TestExecWaitsForAnAnswer(t *testing.T) {
	w := newWrapper(t)
	addr := freePort(t)
	env := cleanEnv("AWS_ENDPOINT_URL_SECRETS_MANAGER=http://" + addr)
	out, code := runTo(t, env, "exec", "--wait", "500ms", "-s", "db", "--", "/bin/true")
	if code != 4 || !strings.Contains(out, "connection refused") && !strings.Contains(out, "secret db: no answer within 500ms") {
		t.Errorf("without a service it ends with %d: %s", code, out)
	}
	p := secretsd(t, env, "exec", "-s", "db", "--", "/bin/sh", "-c", `echo "got $user"; exit 3`)
	p.until("cannot read secret, trying again")
	write(t, w.secrets, "secrets: [{name: db, json: {user: app}}]\n")
	secretsd(t, cleanEnv(), "dev", "--listen", addr, "--endpoint", freePort(t), "--secrets", w.secrets)
	if out, code := p.wait(); code != 3 || !strings.Contains(out, "got app") {
		t.Errorf("it ends with %d: %s", code, out)
	}
	// A signal ends what has no child yet.
	waiting := secretsd(t, cleanEnv("AWS_ENDPOINT_URL_SECRETS_MANAGER=http://"+freePort(t)), "exec", "-s", "db", "--", "/bin/true")
	waiting.until("cannot read secret, trying again")
	waiting.signal(syscall.SIGTERM)
	if _, code := waiting.wait(); code != 143 {
		t.Errorf("TERM ends it with %d", code)
	}
}

func TestNohupReachesTheChild(t *testing.T) {
	w := newWrapper(t)
	w.conf("  on_change: none", "")
	secretsd, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, cleanEnv(), "/bin/sh", "-c", `trap '' HUP; exec "$@"`, "sh", secretsd, "exec", "--config", w.fixture.conf, "--", "/bin/sh", "-c", `kill -HUP $PPID; kill -HUP $$; exit 6`)
	if out, code := p.wait(); code != 6 {
		t.Errorf("it ends with %d: %s", code, out)
	}
}
