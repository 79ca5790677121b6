package notify_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"secretsd/agent/notify"
)

const nobody = 65534

// process is a real program under test.
type process struct {
	*exec.Cmd
	out <-chan string
	in  io.WriteCloser
}

// launch starts a program that is killed when the test ends.
func launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &process{Cmd: cmd, out: lines(out), in: in}
}

func (p *process) pid() int { return p.Process.Pid }

// expect reads lines and fails unless they are want.
func (p *process) expect(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := within(t, p.out, w); got != w {
			t.Fatalf("process said %q, want %q", got, w)
		}
	}
}

// mark sends USR1 from the test itself: what the process reports before it is
// all that the notifier had sent.
func (p *process) mark(t *testing.T) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
}

// counter starts a process that reports its signals.
func counter(t *testing.T) *process {
	t.Helper()
	p := launch(t, exec.Command(os.Args[0], "notify-child", "count"))
	p.expect(t, "ready")
	return p
}

// shell starts a shell script that says ready.
func shell(t *testing.T, script string, uid uint32) *process {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Dir = "/"
	if uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	p := launch(t, cmd)
	p.expect(t, "ready")
	return p
}

// Scripts that report signals. A read that is interrupted runs the traps.
const (
	report    = `trap 'echo SIGHUP' HUP; trap 'echo SIGUSR1' USR1; `
	forever   = `while :; do read x || :; done`
	reporting = report + `echo ready; ` + forever
)

func pidFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.pid")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func pidFileOf(t *testing.T, p *process) string {
	t.Helper()
	return pidFile(t, strconv.Itoa(p.pid())+"\n")
}

func hup(path string) notify.Target {
	return notify.Target{Name: "app", Step: notify.Step{Process: &notify.Process{PidFile: path}, Signal: syscall.SIGHUP}, Debounce: 100 * time.Millisecond}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to run processes of other users")
	}
}

// started returns a Notifier that runs, and its outcomes.
func started(t *testing.T, targets ...notify.Target) (*notify.Notifier, <-chan event) {
	t.Helper()
	events := make(chan event, 100)
	n := notify.New(targets, notify.Options{Settled: func(target string, o notify.Outcome) {
		events <- event{target, o}
	}})
	runNotifier(t, n)
	return n, events
}

func wantOutcome(t *testing.T, events <-chan event, kind notify.OutcomeKind) event {
	t.Helper()
	e := within(t, events, kind.String())
	if e.Kind != kind {
		t.Fatalf("outcome %v (%v), want %v", e.Kind, e.Err, kind)
	}
	return e
}

func TestAProcessIsSignalledOncePerNotification(t *testing.T) {
	p := counter(t)
	n, events := started(t, hup(pidFileOf(t, p)))
	n.Notify("app", change("/a"))
	wantOutcome(t, events, notify.Delivered)
	p.expect(t, "SIGHUP")
	for range 20 {
		n.Notify("app", change("/a", "/b"))
	}
	wantOutcome(t, events, notify.Delivered)
	p.expect(t, "SIGHUP")
	if owed := n.Owed(); len(owed) != 0 {
		t.Errorf("still owed: %v", owed)
	}
	p.mark(t)
	p.expect(t, "SIGUSR1")
}

func TestAStartingProcessIsSignalledWhenItHasItsHandler(t *testing.T) {
	p := shell(t, `echo ready; read go; `+report+`echo trapped; `+forever, 0)
	path := pidFileOf(t, p)
	wantFailure(t, notify.Attempt(hup(path), change("/a")), "unready", "does not handle SIGHUP")
	n, events := started(t, hup(path))
	n.Notify("app", change("/a"))
	eventually(t, "three attempts in vain", func() bool {
		st := n.Status()[0]
		return st.State == notify.StateUnready && st.Attempts >= 3
	})
	if _, err := io.WriteString(p.in, "go\n"); err != nil {
		t.Fatal(err)
	}
	p.expect(t, "trapped")
	wantOutcome(t, events, notify.Delivered)
	p.expect(t, "SIGHUP")
	p.mark(t)
	p.expect(t, "SIGUSR1")
}

func TestAMissingPidFileKeepsTheDebt(t *testing.T) {
	p := counter(t)
	path := filepath.Join(t.TempDir(), "run", "app.pid")
	n, events := started(t, hup(path))
	n.Notify("app", change("/a"))
	eventually(t, "an attempt", func() bool { return n.Status()[0].State == notify.StateAbsent })
	if len(n.Owed()) != 1 {
		t.Error("nothing is owed while the pid file is missing")
	}
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(p.pid())), 0o644); err != nil {
		t.Fatal(err)
	}
	wantOutcome(t, events, notify.Delivered)
	p.expect(t, "SIGHUP")
	p.mark(t)
	p.expect(t, "SIGUSR1")
}

func TestAProcessThatStartedAfterPublishingIsNotSignalled(t *testing.T) {
	published := time.Now()
	// The kernel dates a process in hundredths of a second, rounded down.
	for time.Since(published) < 20*time.Millisecond {
		runtime.Gosched()
	}
	p := counter(t)
	target := hup(pidFileOf(t, p))
	for _, first := range []bool{true, false} {
		c := notify.Change{At: published, First: first}
		if err := notify.Attempt(target, c); !errors.Is(err, notify.ErrUnneeded) {
			t.Errorf("first=%v: got %v, want nothing to tell", first, err)
		}
	}
	n, events := started(t, target)
	n.Notify("app", notify.Change{At: published})
	wantOutcome(t, events, notify.Unneeded)
	n.Notify("app", notify.Change{First: true})
	wantOutcome(t, events, notify.Delivered)
	p.expect(t, "SIGHUP")
	p.mark(t)
	p.expect(t, "SIGUSR1")
}

func TestAProcessYoungerThanItsPidFileIsNotSignalled(t *testing.T) {
	p := counter(t)
	path := pidFileOf(t, p)
	set := func(ago time.Duration) {
		t.Helper()
		at := time.Now().Add(-ago)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	set(time.Hour)
	wantFailure(t, notify.Attempt(hup(path), change("/a")), "unready", "started after the pid file was written")
	// A file that is older cannot settle a debt either.
	wantFailure(t, notify.Attempt(hup(path), notify.Change{At: time.Now().Add(-time.Hour)}), "unready", "started after")
	set(0)
	if err := notify.Attempt(hup(path), change("/a")); err != nil {
		t.Error(err)
	}
	p.expect(t, "SIGHUP")
}

// takeOver runs cmd until it has the given pid.
func takeOver(t *testing.T, pid int, script string) *process {
	t.Helper()
	for range 500 {
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0); err != nil {
			lacking(t, "to choose the next pid: "+err.Error())
		}
		cmd := exec.Command("/bin/sh", "-c", script)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if cmd.Process.Pid == pid {
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			})
			return &process{Cmd: cmd, out: lines(out), in: in}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Fatal("the pid was never free when it was our turn")
	return nil
}

func TestAPidTakenOverBetweenReadAndSignalReachesNobody(t *testing.T) {
	needRoot(t)
	for _, identified := range []bool{true, false} {
		old := shell(t, reporting, 0)
		path := pidFileOf(t, old)
		past := time.Now().Add(-5 * time.Second)
		if err := os.Chtimes(path, past, past); err != nil {
			t.Fatal(err)
		}
		tell, identify, err := notify.Pin(old.pid())
		if err != nil {
			t.Fatal(err)
		}
		if identified {
			if err := identify(); err != nil {
				t.Fatal(err)
			}
		}
		_ = old.Process.Kill()
		_ = old.Wait()
		heir := takeOver(t, old.pid(), reporting)
		heir.expect(t, "ready")
		if !identified {
			// What /proc says now is the heir's.
			wantFailure(t, identify(), "absent", "no process")
		}
		wantFailure(t, tell(syscall.SIGTERM), "absent", "no process")
		wantFailure(t, notify.Attempt(hup(path), change("/a")), "unready", "started after the pid file was written")
		heir.mark(t)
		heir.expect(t, "SIGUSR1")
	}
}

func TestSomeProcessesAreNeverSignalled(t *testing.T) {
	// SIGHUP would end the test binary: each of these must be refused. Of two
	// threads one at least is not the main thread, whose id is the pid.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	second, done := make(chan int), make(chan struct{})
	defer close(done)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		second <- unix.Gettid()
		<-done
	}()
	thread := <-second
	if thread == os.Getpid() {
		thread = unix.Gettid()
	}
	for _, tc := range []struct {
		pid  int
		part string
	}{
		{1, "is the first process of the pid namespace"},
		{os.Getpid(), "is the agent itself"},
		{thread, fmt.Sprintf("pin process %d", thread)},
	} {
		target := hup(pidFile(t, strconv.Itoa(tc.pid)))
		wantFailure(t, notify.Attempt(target, change("/a")), "failed", tc.part)
	}
}

func TestDeadProcessesAndZombiesAreAbsent(t *testing.T) {
	p := shell(t, `echo ready; read x`, 0)
	target := hup(pidFileOf(t, p))
	_ = p.Process.Kill()
	if err := unix.Waitid(unix.P_PID, p.pid(), nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, notify.Attempt(target, change("/a")), "absent", "no process") // a zombie
	_ = p.Wait()
	wantFailure(t, notify.Attempt(target, change("/a")), "absent", "no process")
}

func TestTheNameOfAProcessCannotForgeWhatProcSays(t *testing.T) {
	sh, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), ") Z 1 (\nUid: 9")
	if err := os.WriteFile(path, sh, 0o755); err != nil {
		t.Fatal(err)
	}
	published := time.Now()
	for time.Since(published) < 20*time.Millisecond {
		runtime.Gosched()
	}
	p := launch(t, exec.Command(path, "-c", reporting))
	p.expect(t, "ready")
	target := hup(pidFileOf(t, p))
	// Fields counted from the wrong parenthesis make it look older than it is.
	if err := notify.Attempt(target, notify.Change{At: published}); !errors.Is(err, notify.ErrUnneeded) {
		t.Errorf("got %v, want nothing to tell", err)
	}
	if err := notify.Attempt(target, change("/a")); err != nil {
		t.Fatal(err)
	}
	p.expect(t, "SIGHUP")
}

// asNobody runs f on a thread of its own with the rights of nobody.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		// The thread is never unlocked, so it ends with the goroutine.
		runtime.LockOSThread()
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			done <- errno
			return
		}
		f()
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestAProcessThatTheAgentMayNotSignal(t *testing.T) {
	needRoot(t)
	p := counter(t)
	target := hup(pidFileOf(t, p))
	if err := os.Chmod(filepath.Dir(filepath.Dir(target.Process.PidFile)), 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	asNobody(t, func() { err = notify.Attempt(target, change("/a")) })
	wantFailure(t, err, "failed", "send SIGHUP to process")
	if hint := notify.HintOf(err); !strings.Contains(hint, "uid 0") {
		t.Errorf("hint: %q", hint)
	}
	p.mark(t)
	p.expect(t, "SIGUSR1")
}

func TestDescriptorsAndGoroutinesAreGivenBack(t *testing.T) {
	p := counter(t)
	hangingBus(t)
	well, requests := server(t, 200)
	silent := wild(t, silence)
	unit, cut := reload(), request("http://"+silent, "")
	unit.Timeout, cut.Timeout = 5*time.Millisecond, 5*time.Millisecond
	targets := []notify.Target{
		unit, cut, request(well, ""), request("http://127.0.0.1:1", ""),
		found(notify.Process{Exe: "/no/such/program"}), found(notify.Process{Argv0: "app"}), found(notify.Process{Cgroup: "/none"}),
		hup(pidFileOf(t, p)),
		hup(filepath.Join(t.TempDir(), "none")),
		hup(pidFile(t, "rubbish")),
		hup(pidFile(t, "1")),
		hook("true"),
		hook("false"),
		{Name: "slow", Step: notify.Step{Command: []string{"sleep", "60"}, Timeout: time.Millisecond}},
	}
	count := func() (fds, goroutines int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries), runtime.NumGoroutine()
	}
	all := func(rounds int) {
		attempt := notify.Attempts(time.Millisecond)
		for range rounds {
			for _, target := range targets {
				_ = attempt(target, change("/a"))
			}
			<-requests
		}
	}
	all(1)
	fds, goroutines := count()
	all(20)
	eventually(t, "descriptors and goroutines to be given back", func() bool {
		f, g := count()
		return f <= fds && g <= goroutines
	})
}

// BenchmarkSignal measures one attempt: pid file, pidfd, /proc, signal.
func BenchmarkSignal(b *testing.B) {
	p := exec.Command("sh", "-c", `trap "" HUP; echo ready; read x`)
	in, err := p.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := p.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := p.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		_ = p.Wait()
	}()
	<-lines(out)
	path := filepath.Join(b.TempDir(), "app.pid")
	if err := os.WriteFile(path, []byte(strconv.Itoa(p.Process.Pid)), 0o644); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := notify.Attempt(hup(path), change("/a")); err != nil {
			b.Fatal(err)
		}
	}
}
