package process

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminal is the controlling terminal of the agent. A nil one is none; then all
// methods do nothing.
type terminal struct {
	fd int
	// eager hands the terminal to the child at its start.
	eager bool
	own   int // our process group
	modes *unix.Termios
}

// openTerminal returns the controlling terminal, or nil if there is none. With
// eager it is the child's from its start, unless our process group has other
// members: in "secretsd exec -- app | less" the terminal is what less reads the
// keyboard from. The child is handed it there when it asks, by reading from it.
func openTerminal(eager bool) *terminal {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	t := &terminal{fd: fd, eager: eager, own: unix.Getpgrp()}
	for _, p := range processes() {
		if p.group == t.own && p.pid != os.Getpid() && !p.dead {
			t.eager = false
		}
	}
	return t
}

func (t *terminal) close() error { return unix.Close(t.fd) }

// shared reports whether the child stays in our process group.
func (t *terminal) shared() bool { return false }

// foreground returns the process group that the terminal belongs to, or 0.
func (t *terminal) foreground() int {
	pgrp, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP)
	if err != nil {
		return 0
	}
	return pgrp
}

// ours reports whether the keyboard's signals come to us.
func (t *terminal) ours() bool { return t != nil && t.foreground() == t.own }

// remember keeps the terminal's modes, as they are before a child changes them.
func (t *terminal) remember() {
	if !t.ours() {
		return
	}
	if modes, err := unix.IoctlGetTermios(t.fd, unix.TCGETS); err == nil {
		t.modes = modes
	}
}

// give hands the terminal to the process group of a child, if it is ours to give.
func (t *terminal) give(pgrp int) {
	if t != nil && t.eager && t.ours() {
		t.assign(pgrp)
	}
}

// take takes the terminal back from a child that has ended.
func (t *terminal) take(pgrp int) {
	if t != nil && t.foreground() == pgrp {
		t.assign(t.own)
	}
}

// reset undoes what a child that was killed has done to the terminal's modes.
func (t *terminal) reset() {
	if t.ours() && t.modes != nil {
		t.shielded(func() { _ = unix.IoctlSetTermios(t.fd, unix.TCSETSW, t.modes) })
	}
}

func (t *terminal) assign(pgrp int) {
	t.shielded(func() { _ = unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, pgrp) })
}

// shielded does what only the foreground may do: with SIGTTOU blocked the
// terminal lets the background do it too (tcsetpgrp(3)). Ignored it could not be,
// for every child would ignore it, too.
func (t *terminal) shielded(do func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var ttou, before unix.Sigset_t
	ttou.Val[0] = 1 << (unix.SIGTTOU - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &ttou, &before); err != nil {
		return
	}
	do()
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) // it has just worked
}

// suspend is called when a child was stopped. A child that was stopped because it
// wants the terminal is handed it, if it is ours. Otherwise we stop ourselves,
// as whoever watches us expects of a job that was suspended, and return when we
// were continued, which SIGCONT says too. Where nobody could do that the child is
// to be continued at once, as the kernel does with an orphaned group (setpgid(2)).
// Both are reported as true.
func (t *terminal) suspend(pgrp int, sig syscall.Signal) bool {
	if t == nil {
		return false
	}
	if sig == syscall.SIGTTIN || sig == syscall.SIGTTOU {
		switch t.foreground() {
		case pgrp: // it was quicker than we were
			return true
		case t.own:
			t.assign(pgrp)
			return true
		}
	}
	if !t.watched() {
		return sig != syscall.SIGSTOP
	}
	t.take(pgrp)
	_ = syscall.Kill(0, syscall.SIGSTOP) // our own group is always there
	return false
}

// watched reports whether a shell could continue us: an ancestor is in our session
// and in another process group than we and those between.
func (t *terminal) watched() bool {
	session, err := unix.Getsid(0)
	if err != nil {
		return false
	}
	for pid := os.Getppid(); pid > 0; {
		p, ok := readStat(pid)
		if sid, err := unix.Getsid(pid); !ok || err != nil || sid != session {
			return false
		}
		if p.group != t.own {
			return true
		}
		pid = p.parent
	}
	return false
}
