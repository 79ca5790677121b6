package e2e

import (
	"fmt"
	"net/http"
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

// TestARotationRestartsTheChild: once, with file and environment of one version.
func TestARotationRestartsTheChild(t *testing.T) {
	w := newWrapper(t)
	w.conf(`  env: {DB: '{{ secret "db" }}', VERSION: '{{ version "db" }}'}`, fmt.Sprintf("files: [{path: %s, contents: '{{ secret \"db\" }}'}]\naudit: {path: %s/audit}", w.file, w.dir))
	p := w.exec("/bin/sh", "-c", `echo "$DB $(cat "$1/out")" >> "$1/starts"; echo $$ > "$1/pid"; while :; do sleep 0.05; done`, "sh", w.dir)
	eventually(t, "the child runs", func() bool { return content(w.path("starts")) == "one one\n" })
	w.set("db", "two")
	eventually(t, "it runs with the new version", func() bool { return content(w.path("starts")) == "one one\ntwo two\n" })
	steady(t, "it was started once", func() bool { return content(w.path("starts")) == "one one\ntwo two\n" })
	if n := strings.Count(content(w.path("audit")), `"via":"environment","secret":"db"`); n != 2 {
		t.Errorf("the audit log has %d lines of the environment:\n%s", n, content(w.path("audit")))
	}
	pid := w.pid("pid")
	p.signal(syscall.SIGTERM)
	if _, code := p.wait(); code != 143 || lives(pid) {
		t.Errorf("the wrapper ends with %d, and the child lives: %v", code, lives(pid))
	}
}

// TestOnChange: what the running child is told, and that files which tell somebody
// else are not its affair.
func TestOnChange(t *testing.T) {
	const script = `trap 'echo HUP >> "$1/log"' HUP; trap 'echo TERM >> "$1/log"; exit' TERM; echo "start $DB" >> "$1/log"; while :; do sleep 0.02; done`
	for _, tt := range []struct{ name, exec, files, want string }{
		{"restart for the environment", `  env: {DB: '{{ secret "db" }}'}`, "", "start one\nTERM\nstart two\n"},
		{"restart for a file", `  on_change: restart`, `files: [{path: DIR/out, contents: '{{ secret "db" }}'}]`, "start \nTERM\nstart \n"},
		{"a signal for a file", `  on_change: signal`, `files: [{path: DIR/out, contents: '{{ secret "db" }}'}]`, "start \nHUP\n"},
		{"nothing", "  on_change: none\n" + `  env: {DB: '{{ secret "db" }}'}`, "", "start one\n"},
		{"a file of others", `  on_change: restart`, `files: [{path: DIR/out, contents: '{{ secret "db" }}', notify: [other]}]
targets: [{name: other, process: {pid_file: DIR/other.pid}}]`, "start \n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWrapper(t)
			w.conf(w.shell(script)+"\n"+tt.exec, strings.ReplaceAll(tt.files, "DIR", w.dir))
			secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf).until("msg=ready")
			eventually(t, "the child runs", func() bool { return strings.HasPrefix(content(w.path("log")), "start") })
			w.set("db", "two")
			eventually(t, "the change is done", func() bool { return content(w.path("log")) == tt.want })
			if tt.files != "" {
				eventually(t, "the file follows", func() bool { return content(w.file) == "two" })
			}
			steady(t, "it stays so", func() bool { return content(w.path("log")) == tt.want })
		})
	}
}

// TestTheChildAsATarget: a file's change is told by the target's signal; one that
// comes with a new environment is one action, the restart.
func TestTheChildAsATarget(t *testing.T) {
	const script = `trap 'echo HUP >> "$1/log"' HUP; trap 'echo TERM >> "$1/log"; exit' TERM; echo "start $DB" >> "$1/log"; while :; do sleep 0.02; done`
	files := `files: [{path: DIR/out, contents: '{{ secret "db" }}', notify: [app]}]
targets: [{name: app, signal: HUP, process: {child: true}}]`
	for _, tt := range []struct{ name, exec, want string }{
		{"the file alone", "", "start \nHUP\n"},
		{"file and environment", "\n" + `  env: {DB: '{{ secret "db" }}'}`, "start one\nTERM\nstart two\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWrapper(t)
			w.conf(w.shell(script)+tt.exec, strings.ReplaceAll(files, "DIR", w.dir))
			secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf).until("msg=ready")
			eventually(t, "the child runs", func() bool { return strings.HasPrefix(content(w.path("log")), "start") })
			steady(t, "it was started after the publication", func() bool { return !strings.Contains(content(w.path("log")), "HUP") })
			w.set("db", "two")
			eventually(t, "the change is done", func() bool { return content(w.path("log")) == tt.want })
			steady(t, "it was one action", func() bool { return content(w.path("log")) == tt.want })
		})
	}
}

// TestTemplatesOfTheChildAreFollowed: a file's template, and what a variable's
// includes.
func TestTemplatesOfTheChildAreFollowed(t *testing.T) {
	w := newWrapper(t)
	write(t, w.path("file.tmpl"), "one")
	write(t, w.path("part.tmpl"), "one")
	w.conf(w.shell(`echo "start $PART $(cat "$1/out")" >> "$1/log"; while :; do sleep 0.02; done`)+"\n"+`  env: {PART: '{{ include "part.tmpl" }}'}`,
		fmt.Sprintf("files: [{path: %[1]s/out, template: %[1]s/file.tmpl}]\ntemplate_dir: %[1]s", w.dir))
	p := secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf)
	p.until("msg=ready")
	eventually(t, "the child runs", func() bool { return content(w.path("log")) == "start one one\n" })
	write(t, w.path("file.tmpl"), "two")
	eventually(t, "it runs with the new file", func() bool { return content(w.path("log")) == "start one one\nstart one two\n" })
	write(t, w.path("part.tmpl"), "{{ nonsense }}")
	p.until("cannot use a changed template of the child's environment")
	write(t, w.path("part.tmpl"), "two")
	eventually(t, "it runs with the new variable", func() bool {
		return content(w.path("log")) == "start one one\nstart one two\nstart two two\n"
	})
	// Somebody else's hand is put right, and is none of the child's affair.
	if err := os.Remove(w.path("out")); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGHUP)
	eventually(t, "the file is back", func() bool { return content(w.path("out")) == "two" })
	steady(t, "the child was left alone", func() bool { return strings.Count(content(w.path("log")), "start") == 3 })
}

// TestWhatIsWrongLeavesTheChildAlone: a value that no variable can hold, and a
// template that fails, after the child runs. The next good version counts.
func TestWhatIsWrongLeavesTheChildAlone(t *testing.T) {
	w := newWrapper(t)
	w.conf(w.shell(`echo "start $PASSWORD" >> "$1/log"; echo $$ > "$1/pid"; while :; do sleep 0.02; done`)+"\n  env_from: [{secret: db, upper: true}]", "")
	w.set("db", `{"password": "one"}`)
	p := secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf)
	p.until("msg=ready")
	pid := w.pid("pid")
	for _, bad := range []string{`CANARY no JSON`, `{"password": "CANARY", "api-key": "CANARY"}`, `{"password": "CANARY", "PASSWORD": "CANARY"}`, `{"password": "CANARY\u0000"}`} {
		seen := strings.Count(p.out.String(), "cannot bring the child's environment up to date")
		w.set("db", bad)
		eventually(t, "it is said", func() bool {
			return strings.Count(p.out.String(), "cannot bring the child's environment up to date") > seen
		})
		if !lives(pid) || content(w.path("log")) != "start one\n" {
			t.Errorf("%s has touched the child: %q", bad, content(w.path("log")))
		}
	}
	w.set("db", `{"password": "two"}`)
	eventually(t, "the good one counts", func() bool { return content(w.path("log")) == "start one\nstart two\n" })
	for _, want := range []string{"it is not a JSON object", `api-key`, "variable PASSWORD is given twice", "holds a NUL byte"} {
		if !strings.Contains(p.out.String(), want) {
			t.Errorf("nobody said %q", want)
		}
	}
	if strings.Contains(p.out.String(), "CANARY") {
		t.Errorf("the log holds a value:\n%s", p.out.String())
	}
}

// TestABrokenConfigurationNeverTouchesTheChild is a fault of a peer, which stops
// the child first and reads the configuration then.
func TestABrokenConfigurationNeverTouchesTheChild(t *testing.T) {
	w := newWrapper(t)
	const script = `trap 'echo HUP >> "$1/log"' HUP; echo "start $X" >> "$1/log"; echo $$ > "$1/pid"; while :; do sleep 0.02; done`
	good := w.shell(script) + "\n  env: {X: one}"
	w.conf(good, "")
	p := secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf)
	p.until("msg=ready")
	pid := w.pid("pid")
	for i, bad := range []string{
		"  comand: [x]", "  command: [/nowhere/program]", w.shell(script) + "\n  env: {X: '{{ nonsense }}'}", w.shell(script) + "\n  env: {1X: ''}",
		w.shell(script) + "\n  env_from: [{secret: nobody}]", w.shell(script) + "\n  kill_signal: NOSUCH", "  command: []",
	} {
		w.conf(bad, "")
		p.signal(syscall.SIGHUP)
		eventually(t, "it is refused", func() bool {
			return strings.Count(p.out.String(), "cannot reload, the running configuration stays") > i
		})
	}
	w.conf(good, "")
	p.signal(syscall.SIGHUP)
	p.until("reloaded configuration")
	if !lives(pid) || content(w.path("log")) != "start one\n" {
		t.Fatalf("the child was touched: %q", content(w.path("log")))
	}
	w.conf(w.shell(script)+"\n  env: {X: two}", "")
	p.signal(syscall.SIGHUP)
	eventually(t, "a good one counts", func() bool { return content(w.path("log")) == "start one\nstart two\n" })
	// Without exec the child ends, and with it there is one again.
	write(t, w.fixture.conf, strings.ReplaceAll(content(w.fixture.conf), "exec:", "vars_of_nobody:"))
	w.conf(good, "")
	text := content(w.fixture.conf)
	write(t, w.fixture.conf, text[:strings.Index(text, "exec:")])
	pid = w.pid("pid")
	p.signal(syscall.SIGHUP)
	eventually(t, "the child has ended", func() bool { return !lives(pid) })
	write(t, w.fixture.conf, text)
	p.signal(syscall.SIGHUP)
	eventually(t, "there is one again", func() bool { return content(w.path("log")) == "start one\nstart two\nstart one\n" })
	if strings.Contains(content(w.path("log")), "HUP") {
		t.Error("run has passed on SIGHUP")
	}
}

func TestRunForwardsAllButItsOwnSignals(t *testing.T) {
	w := newWrapper(t)
	out := w.path("signals")
	w.conf(fmt.Sprintf("  command: [%s, signals, %s]\n  kill_timeout: 100ms", builtChild(t), out), "")
	p := secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf)
	p.until("msg=ready")
	eventually(t, "the child runs", func() bool { return content(out) == "ready\n" })
	p.signal(syscall.SIGHUP)
	p.until("reloaded configuration")
	p.signal(syscall.SIGUSR1)
	eventually(t, "USR1 is forwarded", func() bool { return content(out) == "ready\n10\n" })
	p.signal(syscall.SIGQUIT)
	eventually(t, "QUIT is forwarded", func() bool { return content(out) == "ready\n10\n3\n" })
	p.signal(syscall.SIGINT)
	if _, code := p.wait(); code != 0 {
		t.Errorf("run ends with %d", code)
	}
	if content(out) != "ready\n10\n3\n15\n" {
		t.Errorf("the child was sent %q", content(out))
	}
}

// TestTheEndpointOutlivesTheChild: an application may need its secrets to end.
func TestTheEndpointOutlivesTheChild(t *testing.T) {
	w := newWrapper(t)
	w.conf(w.shell(`trap 'while [ ! -e "$1/gate" ]; do sleep 0.02; done; exit' TERM; echo $$ > "$1/pid"; while :; do sleep 0.02; done`),
		fmt.Sprintf(`endpoint: {listen: "%s", token_file: %s/token}`, w.endpoint, w.dir))
	p := secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf)
	p.until("msg=ready")
	pid := w.pid("pid")
	p.signal(syscall.SIGTERM)
	steady(t, "the endpoint answers while the child ends", func() bool {
		status, _ := get(t, "http://"+w.endpoint+"/v1/db", content(w.path("token")))
		return status == http.StatusOK && lives(pid)
	})
	write(t, w.path("gate"), "")
	if _, code := p.wait(); code != 0 {
		t.Errorf("run ends with %d", code)
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
