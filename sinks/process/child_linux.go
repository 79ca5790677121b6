package process

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"secretsd/agent/disposition"
)

// cldStopped is CLD_STOPPED of siginfo_t (sigaction(2)).
const cldStopped = 5

// attributes are those of a child. Whoever kills us with SIGKILL means the program
// that we stand for.
func attributes(group bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: group, Pdeathsig: syscall.SIGKILL}
}

// run waits for stops and the end of the process, and reaps nothing: WNOWAIT
// leaves what it reports to be waited for.
func (w *watched) run() {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, w.pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err == nil && info.Code == cldStopped:
			w.stop()
		default:
			close(w.exited)
			return
		}
	}
}

// stop takes the stop that is there to be waited for.
func (w *watched) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reaped || w.wait(syscall.WNOHANG|syscall.WUNTRACED) != w.pid {
		return // it has been continued
	}
	if !w.status.Stopped() {
		w.reaped = true // it has ended instead
		return
	}
	select {
	case w.stops <- w.status.StopSignal():
	default: // the last one has not been looked at
	}
}

// kin is the child and its descendants.
type kin struct {
	leader  *watched
	grouped bool
	// crowded says that an orphan may be another's.
	crowded *atomic.Bool

	mu sync.Mutex
	// known are descendants that were seen, by their numbers, with when they
	// were started.
	known map[int]uint64
}

func newKin(w *watched, crowded *atomic.Bool, grouped bool) *kin {
	return &kin{leader: w, crowded: crowded, grouped: grouped}
}

// note takes down the descendants of the child. Those who leave its group can be
// told from others only as long as the processes between live.
func (k *kin) note() { k.living() }

// others reports whether anybody but the leader lives.
func (k *kin) others() bool { return len(k.living()) > 0 }

// living returns the living descendants of the child and members of its group,
// the leader left out.
func (k *kin) living() []stat {
	all, self, own := processes(), os.Getpid(), unix.Getpgrp()
	// Asked afterwards: it is said before the first of the others is started.
	crowded := k.crowded.Load()
	k.mu.Lock()
	defer k.mu.Unlock()
	mine := map[int]bool{k.leader.pid: true}
	for _, p := range all {
		started, known := k.known[p.pid]
		// What is in our own group is a program that a library of ours has started,
		// such as the credential_process of AWS's.
		orphan := !crowded && p.parent == self && p.group != own
		if k.grouped && p.group == k.leader.pid || orphan || known && p.started == started {
			mine[p.pid] = true
		}
	}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if mine[p.parent] && !mine[p.pid] {
				mine[p.pid], grown = true, true
			}
		}
	}
	k.known = map[int]uint64{}
	var list []stat
	for _, p := range all {
		if mine[p.pid] && p.pid != k.leader.pid && p.pid != self && !p.dead {
			k.known[p.pid] = p.started
			list = append(list, p)
		}
	}
	return list
}

// send sends a signal.
func (k *kin) send(sig syscall.Signal, to scope) error {
	pid := k.leader.pid
	if k.grouped && to != leader {
		pid = -pid
	}
	var errs []error
	if to != rest {
		errs = append(errs, k.leader.kill(pid, sig))
	}
	if to == rest || to == everyone {
		for _, p := range k.living() {
			errs = append(errs, p.send(sig))
		}
	}
	return errors.Join(errs...)
}

// stat is what counts of /proc/PID/stat (proc_pid_stat(5)).
type stat struct {
	pid, parent, group int
	started            uint64 // in clock ticks since boot
	dead               bool
}

// send signals the process if it is still the one that was seen.
func (p stat) send(sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return nil //nolint:nilerr // it has ended
	}
	defer unix.Close(fd)
	if now, ok := readStat(p.pid); !ok || now.started != p.started {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// processes returns all processes that can be seen.
func processes() []stat {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what could be read will do
	var list []stat
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if p, ok := readStat(pid); ok {
				list = append(list, p)
			}
		}
	}
	return list
}

func readStat(pid int) (stat, bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, false
	}
	return parseStat(pid, data)
}

// parseStat reads /proc/PID/stat. The second field, the command's name in
// parentheses, may itself hold anything; nothing after it can hold one.
func parseStat(pid int, data []byte) (stat, bool) {
	const state, parent, group, started = 0, 1, 2, 19 // behind the name
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) <= started {
		return stat{}, false
	}
	p := stat{pid: pid, dead: fields[state] == "Z" || fields[state] == "X"}
	var errs [3]error
	p.parent, errs[0] = strconv.Atoi(fields[parent])
	p.group, errs[1] = strconv.Atoi(fields[group])
	p.started, errs[2] = strconv.ParseUint(fields[started], 10, 64)
	return p, errs == [3]error{}
}

// handling returns what the process would do with sig.
func handling(pid int, sig syscall.Signal) disposition.Disposition {
	if asksToEnd(sig) && sig != syscall.SIGHUP || sig == syscall.SIGKILL {
		return disposition.Handled // it is meant to end the child
	}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return disposition.Default
	}
	masks, err := disposition.Parse(status)
	if err != nil {
		return disposition.Default
	}
	return masks.Of(sig)
}

// argumentLimit is what arguments and environment may take together: a quarter
// of the stack's limit, but 128 KiB at least and 6 MiB at most (execve(2)). Some
// of it is left to what the kernel adds.
func argumentLimit() int {
	const least, most, reserve = 128 << 10, 6 << 20, 4 << 10
	var stack unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_STACK, &stack); err != nil {
		return least - reserve
	}
	return int(max(min(stack.Cur/4, most), least)) - reserve
}

// adopt makes the agent the parent of what its children leave behind, in place of
// pid 1 (prctl(2), PR_SET_CHILD_SUBREAPER). [ReapOrphans] then has to run.
func adopt() {
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // since Linux 3.4
}

// ReapOrphans reaps processes that the agent has not started and yet is the
// parent of: as pid 1, or because its children have left them behind. It looks
// after each value from died, which is to receive SIGCHLD, and never returns.
//
// It is called on the process's first thread, to which the goroutine has to be
// locked since the program's initialization, so that no process is ever started
// on it. Children belong to the thread that has started
// them, and orphans are given to the first (kernel/exit.c, find_new_reaper), so
// that __WNOTHREAD (wait(2)) tells the two apart: nobody who waits for what he
// has started can be robbed of it. On another thread nothing is reaped.
func ReapOrphans(died <-chan os.Signal) {
	first := unix.Gettid() == os.Getpid()
	for range died {
		for first && reapOrphan() {
		}
	}
	select {}
}

func reapOrphan() bool {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WNOTHREAD, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && pid > 0
		}
	}
}
