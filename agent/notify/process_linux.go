package notify

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// writtenTolerance is how much later than its pid file's mtime a process may
// seem to have started: both are rounded, on different clocks.
const writtenTolerance = time.Second

// boottime returns CLOCK_BOOTTIME, which the kernel dates processes with. In a
// time namespace both are shifted alike.
func boottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// signalProcess sends t.Signal to the process that t.PidFile names, if it is
// the process that wrote the file and has not seen c yet.
func signalProcess(t Target, c Change) error {
	file, err := readPidFile(t.PidFile)
	if err != nil {
		return err
	}
	if err := refused(file.pid); err != nil {
		return err
	}
	p, err := pin(file.pid)
	if err != nil {
		return err
	}
	defer p.close()
	id, err := p.identify()
	if err != nil {
		return err
	}
	if err := file.vouchesFor(p.pid, id); err != nil {
		return err
	}
	// The start time is rounded down, so a process that seems to have started
	// later has; where the rounding leaves it open the signal is sent.
	if c.Boottime > 0 && id.start >= c.Boottime {
		return errUnneeded
	}
	return p.tell(t.Signal, id)
}

// refused keeps the agent from signalling itself and pid 1, which in a shared
// pid namespace is no application either.
func refused(pid int) error {
	if pid != 1 && pid != os.Getpid() {
		return nil
	}
	who := "the agent itself"
	if pid == 1 {
		who = "the first process of the pid namespace"
	}
	return &failure{
		msg:  fmt.Sprintf("pid %d is %s, which is never signalled", pid, who),
		hint: "pids are those of the agent's own pid namespace; a pid file written in another container names another process here",
	}
}

// vouchesFor checks that the process is the one the file was written for.
func (f pidFile) vouchesFor(pid int, id identity) error {
	started := time.Now().Add(id.start - boottime())
	if started.After(f.written.Add(writtenTolerance)) {
		return &failure{
			class: unready,
			msg:   fmt.Sprintf("process %d started after the pid file was written", pid),
			hint:  "the file is stale, or the clock has been set since: restart the application, or touch the file if it is right",
		}
	}
	if f.owner != 0 && !id.mayBeSignalledBy(f.owner) {
		return &failure{
			msg:  fmt.Sprintf("process %d runs as uid %d, but the pid file belongs to uid %d", pid, id.real, f.owner),
			hint: "the pid file must belong to root or to the process's own user",
		}
	}
	return nil
}

// identity is what /proc says of a process that is pinned.
type identity struct {
	procStatus
	start time.Duration // since boot
}

// pinned is a process held by a pidfd: as long as it lives its pid is its own,
// and a signal sent through the descriptor can reach no other.
type pinned struct {
	pid int
	fd  int
}

func pin(pid int) (*pinned, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case err == nil:
		return &pinned{pid: pid, fd: fd}, nil
	case errors.Is(err, unix.ESRCH):
		return nil, gone(pid)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
		return nil, &failure{
			msg:   fmt.Sprintf("pin process %d", pid),
			cause: err,
			hint:  "pidfd_open and pidfd_send_signal need Linux 5.3 and a seccomp profile that allows them",
		}
	}
	// EINVAL and, on newer kernels, ENOENT: the id of a thread.
	return nil, &failure{msg: fmt.Sprintf("pin process %d", pid), cause: err, hint: "the pid file must name a process, not one of its threads"}
}

func (p *pinned) close() { _ = unix.Close(p.fd) }

func gone(pid int) error {
	return &failure{class: absent, msg: fmt.Sprintf("no process %d", pid)}
}

// ended reports whether the whole process has exited; a zombie has. A pidfd
// becomes readable then (pidfd_open(2)).
func (p *pinned) ended() (bool, error) {
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if !errors.Is(err, unix.EINTR) {
			return n > 0, err
		}
	}
}

// identify reads /proc for the pinned process. The pid cannot have passed to
// another while it was read if the process is alive afterwards.
func (p *pinned) identify() (identity, error) {
	id, readErr := readIdentity(p.pid)
	ended, err := p.ended()
	switch {
	case err != nil:
		return identity{}, &failure{msg: fmt.Sprintf("poll process %d", p.pid), cause: err}
	case ended:
		return identity{}, gone(p.pid)
	case errors.Is(readErr, fs.ErrNotExist):
		return identity{}, &failure{
			msg:   fmt.Sprintf("identify process %d", p.pid),
			cause: readErr,
			hint:  "/proc hides it from the agent: check hidepid and systemd's ProtectProc=",
		}
	case readErr != nil:
		return identity{}, &failure{msg: fmt.Sprintf("identify process %d", p.pid), cause: readErr}
	case id.tgid != p.pid:
		return identity{}, &failure{msg: fmt.Sprintf("%d is a thread of process %d", p.pid, id.tgid)}
	}
	return id, nil
}

func readIdentity(pid int) (identity, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return identity{}, err
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return identity{}, err
	}
	var id identity
	if id.start, err = parseStat(stat); err != nil {
		return identity{}, err
	}
	id.procStatus, err = parseStatus(status)
	return id, err
}

// endsProcess reports whether sig is meant to end a process, so that there is
// no need for a handler.
func endsProcess(sig syscall.Signal) bool {
	switch sig {
	case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL:
		return true
	}
	return false
}

// tell sends sig. A process that ignores it counts as told: it has said that
// it does not want to know, and nothing that could be retried would change it.
func (p *pinned) tell(sig syscall.Signal, id identity) error {
	if !endsProcess(sig) && !id.handles(sig) {
		return &failure{
			class: unready,
			msg:   fmt.Sprintf("process %d does not handle %s", p.pid, SignalName(sig)),
			hint:  "it would not be told but ended; choose the signal that makes it reload",
		}
	}
	err := unix.PidfdSendSignal(p.fd, sig, nil, 0)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ESRCH):
		return gone(p.pid)
	case errors.Is(err, unix.EPERM):
		return &failure{
			msg:   fmt.Sprintf("send %s to process %d", SignalName(sig), p.pid),
			cause: err,
			hint:  fmt.Sprintf("it runs as uid %d: give the agent that user, or CAP_KILL", id.real),
		}
	}
	return &failure{msg: fmt.Sprintf("send %s to process %d", SignalName(sig), p.pid), cause: err}
}
