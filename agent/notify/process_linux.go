package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"secretsd/agent/disposition"
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

// signalProcess sends s.Signal to the processes that s.Process describes and that
// have not seen c yet.
func (w *teller) signalProcess(ctx context.Context, s Step, c Change) error {
	if s.Process.PidFile != "" {
		return signalPidFile(ctx, s, c)
	}
	find := w.finderOf(s.Process)
	pids, err := find.find(ctx)
	if err != nil {
		return err
	}
	return w.signalEach(ctx, find, pids, s.Signal, c)
}

// signalPidFile signals the process that a pid file names, if it is the one that
// wrote the file.
func signalPidFile(ctx context.Context, s Step, c Change) error {
	file, err := readPidFile(s.Process.PidFile)
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
	if id.hasRead(c) {
		return errUnneeded
	}
	if _, err := p.await(ctx, s.Signal, id); err != nil {
		return err
	}
	return p.tell(s.Signal, id)
}

// hasRead reports whether the process began after c was published. The start
// time is rounded down, so a process that seems to have started later has; where
// the rounding leaves it open it has not.
func (id identity) hasRead(c Change) bool { return c.Boottime > 0 && id.start >= c.Boottime }

// told says that a process was told of what was published at a time since boot,
// so that an attempt that did not reach all processes can be made again for the
// others alone.
type told map[life]time.Duration

// life is one process, whoever gets its pid after it.
type life struct {
	pid   int
	start time.Duration
}

// signalEach signals each of pids that find still finds.
func (w *teller) signalEach(ctx context.Context, find finder, pids []int, sig syscall.Signal, c Change) error {
	before := w.told
	w.told = told{}
	var missed []error
	for _, pid := range pids {
		err := w.signalOne(ctx, find, pid, sig, c, before)
		if err != nil && !errors.Is(err, errUnneeded) {
			missed = append(missed, err)
		}
	}
	if len(missed) > 0 {
		return worst(missed, len(pids))
	}
	reached := len(w.told)
	w.told = nil
	if reached == 0 {
		return errUnneeded
	}
	return nil
}

// signalOne signals pid, if find finds it when it is pinned, and if it was not
// told before.
func (w *teller) signalOne(ctx context.Context, find finder, pid int, sig syscall.Signal, c Change, before told) error {
	p, err := pin(pid)
	if err != nil {
		return err
	}
	defer p.close()
	still, findErr := find.still(ctx, pid)
	id, err := p.identify()
	switch {
	case err != nil:
		return err
	case findErr != nil:
		return findErr
	case !still:
		return gone(pid)
	case id.hasRead(c):
		return errUnneeded
	}
	is := life{pid, id.start}
	if at, ok := before[is]; !ok || at < c.Boottime || c.Boottime == 0 {
		waited, err := p.await(ctx, sig, id)
		if err != nil {
			return err
		}
		if waited {
			// It may be another's program by now.
			if still, err := find.still(ctx, pid); err != nil || !still {
				return cmp.Or(err, gone(pid))
			}
		}
		if err := p.tell(sig, id); err != nil {
			return err
		}
	}
	w.told[is] = c.Boottime
	return nil
}

// worst returns the error that somebody can do most about, of an attempt that
// missed some of n processes. One that has ended meanwhile needs nothing more if
// others are there; but whatever has taken its place is looked for again.
func worst(missed []error, n int) error {
	slices.SortStableFunc(missed, func(a, b error) int { return cmp.Compare(rank(a), rank(b)) })
	if n == 1 {
		return missed[0]
	}
	f := &failure{class: classOf(missed[0]), msg: fmt.Sprintf("%d of %d processes were not told", len(missed), n), cause: missed[0]}
	f.hint = hintOf(missed[0])
	return f
}

// rank orders the classes of failures by how much somebody can do about them.
func rank(err error) int {
	return map[class]int{failed: 0, unready: 1, absent: 2}[classOf(err)]
}

// refused keeps the agent from signalling itself and pid 1, when all that is
// known of a process is its pid.
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
	return nil, &failure{msg: fmt.Sprintf("pin process %d", pid), cause: err, hint: "it must be the id of a process, not of one of its threads"}
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
	stat, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return identity{}, err
	}
	status, err := os.ReadFile(procFile(pid, "status"))
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

// lookEvery is how often a process is looked at that has a signal blocked, so
// that nobody knows yet whether it handles it.
const lookEvery = 10 * time.Millisecond

// await returns when the process, which id was read of, would not be ended by sig,
// or why that cannot be said of it. It reports whether that took further looks.
func (p *pinned) await(ctx context.Context, sig syscall.Signal, id identity) (waited bool, err error) {
	if endsProcess(sig) {
		return false, nil
	}
	var watch disposition.Watch
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for !watch.Look(id.signals.Of(sig)) {
		unhandled := &failure{
			class: unready,
			msg:   fmt.Sprintf("process %d does not handle %s", p.pid, SignalName(sig)),
			hint:  "it would not be told but ended; choose the signal that makes it reload",
		}
		if !watch.Undecided() {
			return waited, unhandled
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return waited, unhandled
		}
		waited = true
		if id, err = p.identify(); err != nil {
			return waited, err
		}
	}
	return waited, nil
}

// tell sends sig. A process that ignores it counts as told: it has said that
// it does not want to know, and nothing that could be retried would change it.
func (p *pinned) tell(sig syscall.Signal, id identity) error {
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
