package notify_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"secretsd/agent/notify"
)

// program returns a program of its own path, which reports its signals.
func program(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "app")
	if os.Link(exe, path) != nil {
		return self(t)
	}
	return path
}

// run starts the program at path, which calls itself argv0.
func run(t *testing.T, path, argv0 string, args ...string) *process {
	t.Helper()
	p := launch(t, &exec.Cmd{Path: path, Args: append([]string{argv0, "notify-child"}, args...)})
	p.expect(t, "ready")
	return p
}

// untold fails if p was sent anything before now.
func (p *process) untold(t *testing.T) {
	t.Helper()
	p.mark(t)
	p.expect(t, "SIGUSR1")
}

func TestAllProcessesOfAProgramAreTold(t *testing.T) {
	path := program(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	one, two := run(t, path, "x", "count"), run(t, path, "y", "count")
	other := run(t, program(t), path, "count")
	for _, exe := range []string{path, link} {
		if err := notify.Attempt(found(notify.Process{Exe: exe}), change("/a")); err != nil {
			t.Fatal(err)
		}
		one.expect(t, "SIGHUP")
		two.expect(t, "SIGHUP")
	}
	// An upgrade replaces the file below the running program, by another file.
	if err := os.Rename(self(t), path); err != nil {
		t.Fatal(err)
	}
	three := run(t, path, "z", "count")
	for _, exe := range []string{path, link} {
		if err := notify.Attempt(found(notify.Process{Exe: exe}), change("/a")); err != nil {
			t.Fatal(err)
		}
		for _, p := range []*process{one, two, three} {
			p.expect(t, "SIGHUP")
			p.untold(t)
		}
	}
	other.untold(t)
}

func TestAProcessIsFoundByItsArgv0(t *testing.T) {
	name := fmt.Sprintf("app %d: master process -c /etc/app.conf", os.Getpid())
	path := program(t)
	app := run(t, path, name, "count")
	near := []*process{run(t, path, name+" ", "count"), run(t, path, name[:len(name)-1], "count"), run(t, path, "x", "count", name)}
	if err := notify.Attempt(found(notify.Process{Argv0: name}), change("/a")); err != nil {
		t.Fatal(err)
	}
	app.expect(t, "SIGHUP")
	app.untold(t)
	for _, p := range near {
		p.untold(t)
	}
}

// Of a server and its workers only the server is told, whoever has forked it.
func TestWorkersAreLeftToTheirMaster(t *testing.T) {
	path := program(t)
	one, two := run(t, path, "x", "master"), run(t, path, "x", "master")
	for range 3 {
		if err := notify.Attempt(found(notify.Process{Exe: path}), change("/a")); err != nil {
			t.Fatal(err)
		}
		// Waited for each time: signals that are pending are one.
		one.expect(t, "SIGHUP")
		two.expect(t, "SIGHUP")
	}
	one.untold(t)
	two.untold(t)
}

func TestAProgramThatDoesNotRunIsAwaited(t *testing.T) {
	path := program(t)
	wantFailure(t, notify.Attempt(found(notify.Process{Exe: path}), change("/a")), "absent", "no process runs "+path)
	wantFailure(t, notify.Attempt(found(notify.Process{Argv0: path}), change("/a")), "absent", "no process has the argv0")
	wantFailure(t, notify.Attempt(found(notify.Process{Cgroup: "/no/such/group"}), change("/a")), "absent", "no process is in cgroup /no/such/group")
	n, events := started(t, found(notify.Process{Exe: path}))
	n.Notify("app", change("/a"))
	eventually(t, "an attempt in vain", func() bool { return n.Status()[0].State == notify.StateAbsent })
	nextTick()
	p := run(t, path, "x", "count")
	// It began after the publication and has read the files.
	wantOutcome(t, events, notify.Unneeded)
	p.untold(t)
}

// An agent that is to tell its own program does not tell itself. It is one of a path of
// its own: the test's may be run by others, of another round of tests.
func TestTheAgentDoesNotFindItself(t *testing.T) {
	path := program(t)
	agent := &exec.Cmd{Path: path, Args: []string{"agent", "notify-child", "tell", "exe", path, ""}}
	if out, err := agent.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "no process runs "+path {
		t.Errorf("an agent that looks for its own program: %q, %v", out, err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	wantFailure(t, notify.SignalFound(&notify.Process{Exe: exe}, []int{os.Getpid()}, syscall.SIGTERM), "absent", "no process")
}

// A check of an application's files is often the application's own program, which a
// signal would end: what it was to judge would be held.
func TestCommandsOfTheAgentAreNotFound(t *testing.T) {
	sh, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "app")
	if err := os.WriteFile(path, sh, 0o755); err != nil {
		t.Fatal(err)
	}
	app := launch(t, exec.Command(path, "-c", reporting))
	app.expect(t, "ready")
	const script = `trap 'echo hup >> "$0/told"' HUP; echo ready >> "$0/ready"; while [ ! -e "$0/go" ]; do sleep 0.01; done`
	check := &notify.Command{Argv: []string{path, "-c", `"$1" -c "$2" "$0" & eval "$2"; wait`, dir, path, script}, Timeout: 30 * time.Second}
	checked := make(chan error, 1)
	go func() { checked <- check.Run(t.Context()) }()
	eventually(t, "the check and what it has started run", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "ready"))
		return string(b) == "ready\nready\n"
	})
	for _, p := range []notify.Process{{Exe: path}, {Argv0: path}} {
		if err := notify.Attempt(found(p), change("/a")); err != nil {
			t.Error(err)
		}
		app.expect(t, "SIGHUP")
	}
	app.untold(t)
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-checked; err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "told")); err == nil {
		t.Errorf("the check was told: %q", b)
	}
}

func TestAFoundPidThatWasTakenOverReachesNobody(t *testing.T) {
	path := program(t)
	heir := run(t, program(t), "heir", "count")
	for _, p := range []*notify.Process{{Exe: path}, {Argv0: "app"}, {Cgroup: "/app"}} {
		wantFailure(t, notify.SignalFound(p, []int{heir.pid()}, syscall.SIGTERM), "absent", "no process")
	}
	gone := run(t, path, "app", "count")
	_ = gone.Process.Kill()
	_ = gone.Wait()
	wantFailure(t, notify.SignalFound(&notify.Process{Exe: path}, []int{gone.pid()}, syscall.SIGTERM), "absent", "no process")
	heir.untold(t)
}

// sinceBoot is the time on the clock that processes are dated with.
func sinceBoot(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// An attempt that reaches some is made again for the others alone, until
// something newer is published.
func TestThoseWhoWereToldAreNotToldAgain(t *testing.T) {
	sh, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "app")
	if err := os.WriteFile(path, sh, 0o755); err != nil {
		t.Fatal(err)
	}
	ready := launch(t, exec.Command(path, "-c", reporting))
	ready.expect(t, "ready")
	slow := launch(t, exec.Command(path, "-c", `echo ready; read go; `+report+`echo trapped; `+forever))
	slow.expect(t, "ready")
	attempt := notify.Attempts(time.Second)
	target, c := found(notify.Process{Exe: path}), change("/a")
	c.At, c.Boottime = time.Now(), sinceBoot(t)
	for range 3 {
		wantFailure(t, attempt(target, c), "unready", "1 of 2 processes were not told: process")
	}
	ready.expect(t, "SIGHUP")
	c.Boottime++
	wantFailure(t, attempt(target, c), "unready", "does not handle SIGHUP")
	if _, err := io.WriteString(slow.in, "go\n"); err != nil {
		t.Fatal(err)
	}
	slow.expect(t, "trapped")
	if err := attempt(target, c); err != nil {
		t.Fatal(err)
	}
	slow.expect(t, "SIGHUP")
	slow.untold(t)
	ready.expect(t, "SIGHUP")
	ready.untold(t)
	if err := attempt(target, c); err != nil {
		t.Fatal(err)
	}
	ready.expect(t, "SIGHUP")
}

// nextTick returns when the kernel dates processes later than now: it does so in
// hundredths of a second, rounded down.
func nextTick() {
	for began := time.Now(); time.Since(began) < 20*time.Millisecond; {
		runtime.Gosched()
	}
}

func TestProcessesThatBeganAfterPublishingAreLeftOut(t *testing.T) {
	path := program(t)
	old := run(t, path, "x", "count")
	nextTick()
	c := change("/a")
	c.At = time.Now()
	nextTick()
	young := run(t, path, "x", "count")
	if err := notify.Attempt(found(notify.Process{Exe: path}), c); err != nil {
		t.Fatal(err)
	}
	old.expect(t, "SIGHUP")
	young.untold(t)
	_ = old.Process.Kill()
	_ = old.Wait()
	if err := notify.Attempt(found(notify.Process{Exe: path}), c); !errors.Is(err, notify.ErrUnneeded) {
		t.Errorf("got %v, want nothing to tell", err)
	}
}

// A process that began after the publication has read the files, and does not
// confirm all the same: the ladder is for it too.
func TestTheLadderIsForProcessesOfAnyAge(t *testing.T) {
	path := program(t)
	published := time.Now()
	nextTick()
	p := run(t, path, "x", "count")
	app := found(notify.Process{Exe: path})
	app.Confirm, app.Ladder = &notify.Probe{TCP: "127.0.0.1:1"}, []notify.Step{app.Step}
	c := notify.Change{At: published}
	if err := notify.AttemptStep(app, 0, c); !errors.Is(err, notify.ErrUnneeded) {
		t.Errorf("its own way: got %v, want nothing to tell", err)
	}
	if err := notify.AttemptStep(app, 1, c); err != nil {
		t.Fatal(err)
	}
	p.expect(t, "SIGHUP")
	p.untold(t)
}

// A program in a container has the path of its namesake outside, and is another.
func TestProcessesOfOtherPidNamespaces(t *testing.T) {
	needRoot(t)
	path := program(t)
	cmd := &exec.Cmd{Path: path, Args: []string{"inside", "notify-child", "count"}, SysProcAttr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}}
	inside := launch(t, cmd)
	inside.expect(t, "ready")
	wantFailure(t, notify.Attempt(found(notify.Process{Exe: path}), change("/a")), "absent", "no process runs")
	wantFailure(t, notify.Attempt(found(notify.Process{Argv0: "inside"}), change("/a")), "absent", "no process has")
	inside.untold(t)
}

// Where the agent has joined the pid namespace of an application, pid 1 is that
// application if its program says so, but not because a pid file does.
func TestPidOneOfASharedNamespace(t *testing.T) {
	needRoot(t)
	path, teller := program(t), program(t)
	file := pidFile(t, "1\n")
	cmd := &exec.Cmd{
		Path: path, Args: []string{path, "notify-child", "first", teller, path, file},
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS},
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := strings.Split(strings.TrimSpace(string(out)), "\n")
	want := []string{"exe: <nil>", "SIGHUP", "argv0: <nil>", "SIGHUP"}
	if len(got) != 5 || !slices.Equal(got[:4], want) || !strings.HasPrefix(got[4], "pid_file: pid 1 is the first process") {
		t.Errorf("pid 1: %q", got)
	}
}

// controlGroup makes a control group and returns its path and its directory.
func controlGroup(t *testing.T) (path, dir string) {
	t.Helper()
	needRoot(t)
	name := fmt.Sprintf("secretsd-test-%d", os.Getpid())
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} {
		if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
			continue
		}
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		t.Cleanup(func() {
			eventually(t, "the control group to go", func() bool { return os.Remove(dir) == nil })
		})
		return "/" + name, dir
	}
	lacking(t, "a hierarchy of control groups that can be written")
	return "", ""
}

func TestProcessesOfAControlGroup(t *testing.T) {
	path, dir := controlGroup(t)
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eventually(t, "the group below to go", func() bool { return os.Remove(below) == nil }) })
	sort := func(dir string, p *process) *process {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, p.pid()), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	exe := program(t)
	in := sort(dir, run(t, exe, "x", "count"))
	deep := sort(below, run(t, exe, "x", "count"))
	contained := launch(t, &exec.Cmd{Path: exe, Args: []string{"x", "notify-child", "count"}, SysProcAttr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}})
	contained.expect(t, "ready")
	sort(below, contained)
	out := run(t, exe, "x", "count")
	for _, group := range []string{path, path + "/below"} {
		if err := notify.Attempt(found(notify.Process{Cgroup: group}), change("/a")); err != nil {
			t.Fatal(err)
		}
		deep.expect(t, "SIGHUP")
		contained.expect(t, "SIGHUP")
	}
	in.expect(t, "SIGHUP")
	for _, p := range []*process{in, deep, contained} {
		p.untold(t)
	}
	out.untold(t)
	wantFailure(t, notify.Attempt(found(notify.Process{Cgroup: path + "/bel"}), change("/a")), "absent", "no process is in cgroup")
	for _, p := range []*process{in, deep, contained} {
		_ = p.Process.Kill()
		_ = p.Wait()
	}
}

func TestProgramsOfOthersTakeARight(t *testing.T) {
	needRoot(t)
	path := program(t)
	name := fmt.Sprintf("app %d", os.Getpid())
	p := run(t, path, name, "count")
	var byExe, byArgv0 error
	asNobody(t, func() {
		byExe = notify.Attempt(found(notify.Process{Exe: path}), change("/a"))
		byArgv0 = notify.Attempt(found(notify.Process{Argv0: name}), change("/a"))
	})
	wantFailure(t, byExe, "absent", "no process runs")
	if hint := notify.HintOf(byExe); !strings.Contains(hint, "processes of other users could not be looked at") || !strings.Contains(hint, "CAP_SYS_PTRACE") {
		t.Errorf("hint: %q", hint)
	}
	wantFailure(t, byArgv0, "failed", "send SIGHUP to process")
	p.untold(t)
}

func TestTheSupervisedChildIsTold(t *testing.T) {
	child := run(t, program(t), "x", "count")
	pid := 0
	attempt := notify.AttemptsWithChild(time.Second, func() (int, time.Time) { return pid, time.Time{} })
	target := found(notify.Process{Child: true})
	wantFailure(t, attempt(target, change("/a")), "absent", "the supervised child is not running")
	pid = child.pid()
	if err := attempt(target, change("/a")); err != nil {
		t.Fatal(err)
	}
	child.expect(t, "SIGHUP")
	if err := attempt(target, notify.Change{At: time.Now().Add(-time.Hour)}); !errors.Is(err, notify.ErrUnneeded) {
		t.Errorf("a child that began after publishing: got %v, want nothing to tell", err)
	}
	// One that was started for the same change, too soon for the kernel's clock.
	fresh := notify.AttemptsWithChild(time.Second, func() (int, time.Time) { return pid, time.Now() })
	if err := fresh(target, change("/a")); !errors.Is(err, notify.ErrUnneeded) {
		t.Errorf("a child that was started after publishing: got %v, want nothing to tell", err)
	}
	// Between the question who it is and the pidfd it may have ended, and its pid be
	// another's.
	for heir, part := range map[int]string{0: "the supervised child is not running", os.Getpid(): "no process"} {
		asked := 0
		replaced := notify.AttemptsWithChild(time.Second, func() (int, time.Time) {
			if asked++; asked <= 2 {
				return child.pid(), time.Time{}
			}
			return heir, time.Time{}
		})
		wantFailure(t, replaced(target, change("/a")), "absent", part)
	}
	wantFailure(t, notify.Attempt(target, change("/a")), "failed", "there is no supervised child")
	child.untold(t)
}

// BenchmarkFind measures one attempt that looks through all processes.
func BenchmarkFind(b *testing.B) {
	target := found(notify.Process{Exe: "/no/such/program"})
	for b.Loop() {
		_ = notify.Attempt(target, change("/a"))
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	b.ReportMetric(float64(len(dirs)), "processes")
}
