package notify_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"secretsd/agent/notify"
)

func TestSignalsThatEndAProcessNeedNoHandler(t *testing.T) {
	p := shell(t, `echo ready; read x`, 0)
	target := hup(pidFileOf(t, p))
	target.Signal = syscall.SIGUSR2
	wantFailure(t, notify.Attempt(target, change("/a")), "unready", "does not handle SIGUSR2")
	target.Signal = syscall.SIGTERM
	if err := notify.Attempt(target, change("/a")); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait()
	if ws := p.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGTERM {
		t.Errorf("process ended by %v", p.ProcessState)
	}
}

func TestIgnoredAndBlockedSignalsCountAsTold(t *testing.T) {
	const env = "/usr/bin/env"
	if err := exec.Command(env, "--block-signal=HUP", "true").Run(); err != nil {
		lacking(t, "env --block-signal (coreutils 8.31): "+err.Error())
	}
	for _, how := range []string{"--ignore-signal=HUP", "--block-signal=HUP", "--default-signal=HUP"} {
		p := launch(t, exec.Command(env, how, "/bin/sh", "-c", `echo ready; read x; echo alive`))
		p.expect(t, "ready")
		err := notify.Attempt(hup(pidFileOf(t, p)), change("/a"))
		if how == "--default-signal=HUP" {
			wantFailure(t, err, "unready", "does not handle SIGHUP")
		} else if err != nil {
			t.Errorf("%s: %v", how, err)
		}
		if _, err := io.WriteString(p.in, "\n"); err != nil {
			t.Fatal(err)
		}
		p.expect(t, "alive")
	}
}

// A shell blocks all signals whenever it starts a program. One that is blocked then
// is not handled: it would end the shell a moment later.
func TestAProcessThatBlocksSignalsForMomentsLives(t *testing.T) {
	p := launch(t, exec.Command("/bin/sh", "-c", `trap 'echo SIGUSR1; exec sleep 600' USR1; echo ready; while :; do /bin/true; done`))
	p.expect(t, "ready")
	byFile, byName := hup(pidFileOf(t, p)), &notify.Process{Argv0: "/bin/sh"}
	for range 100 {
		wantFailure(t, notify.Attempt(byFile, change("/a")), "unready", "does not handle SIGHUP")
		wantFailure(t, notify.SignalFound(byName, []int{p.pid()}, syscall.SIGHUP), "unready", "does not handle SIGHUP")
	}
	p.mark(t)
	p.expect(t, "SIGUSR1")
}

// One that was stopped while it starts a program has all signals blocked until that
// one is continued: it waits for the program to run, and not for a signal.
func TestAProcessThatHangsInVforkIsNotTold(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", `echo ready; while :; do /bin/true; done`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := launch(t, cmd)
	p.expect(t, "ready")
	send := func(sig syscall.Signal) {
		if err := syscall.Kill(-p.pid(), sig); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = syscall.Kill(-p.pid(), syscall.SIGKILL) })
	state := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid()))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		return rest[:1]
	}
	eventually(t, "the shell to be met in vfork", func() bool {
		send(syscall.SIGCONT)
		send(syscall.SIGTSTP)
		for range 20 {
			<-time.After(time.Millisecond)
			if state() != "D" {
				return false
			}
		}
		return true
	})
	target := hup(pidFileOf(t, p))
	target.Timeout = 500 * time.Millisecond
	wantFailure(t, notify.Attempt(target, change("/a")), "unready", "does not handle SIGHUP")
	if state() != "D" {
		t.Fatal("the shell did not hang for as long as it was looked at")
	}
	send(syscall.SIGCONT)
	eventually(t, "the shell to go on", func() bool { return state() != "D" })
	if !alive(p.pid()) {
		t.Error("the shell was ended by the signal that it was to be told by")
	}
}
