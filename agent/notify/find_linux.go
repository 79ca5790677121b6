package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// finder looks for the processes of a target.
type finder interface {
	// find returns the pids of those that are to be told, or why there is none.
	find(ctx context.Context) ([]int, error)
	// still reports whether pid is one of them; it is asked when it is pinned.
	still(ctx context.Context, pid int) (bool, error)
}

// finderOf returns what finds the processes that p describes, other than by a
// pid file.
func (w *teller) finderOf(p *Process) finder {
	switch {
	case p.Exe != "":
		return &scan{what: "no process runs " + p.Exe, ours: true, fits: program(p.Exe)}
	case p.Argv0 != "":
		return &scan{what: fmt.Sprintf("no process has the argv0 %q", p.Argv0), ours: true, fits: func(pid int) (bool, error) { return calls(pid, p.Argv0) }}
	case p.Cgroup != "":
		return &scan{what: "no process is in cgroup " + p.Cgroup, fits: func(pid int) (bool, error) { return member(pid, p.Cgroup) }}
	case p.Unit != "":
		return mainProcess(p.Unit)
	}
	return named{pid: func(context.Context) (int, error) { return w.childPid() }}
}

// named is a process of which somebody knows the pid: as long as he says the
// same of it before and after it was pinned, it is that one.
type named struct {
	pid func(context.Context) (int, error)
}

func (n named) find(ctx context.Context) ([]int, error) {
	pid, err := n.pid(ctx)
	if err != nil {
		return nil, err
	}
	if err := refused(pid); err != nil {
		return nil, err
	}
	return []int{pid}, nil
}

func (n named) still(ctx context.Context, pid int) (bool, error) {
	now, err := n.pid(ctx)
	return now == pid, err
}

// scan looks through all processes.
type scan struct {
	what string // what there is if there is none
	fits func(pid int) (bool, error)
	// ours leaves out the processes of nested pid namespaces: a program in a
	// container has the same path as its namesake outside.
	ours bool
}

// scans bounds how many look through /proc at a time, for many targets may be
// told at once and each holds descriptors.
var scans = make(chan struct{}, 8)

func (s *scan) find(ctx context.Context) ([]int, error) {
	select {
	case scans <- struct{}{}:
	case <-ctx.Done():
		return nil, &failure{msg: "look through processes", cause: ctx.Err()}
	}
	defer func() { <-scans }()
	pids, err := processes()
	if err != nil {
		return nil, &failure{msg: "look through processes", cause: err}
	}
	fit := map[int]bool{}
	unseen := 0
	for _, pid := range pids {
		ok, err := s.still(ctx, pid)
		if errors.Is(err, fs.ErrPermission) {
			unseen++
		}
		if ok {
			fit[pid] = true
		}
	}
	if top := topmost(fit); len(top) > 0 {
		return top, nil
	}
	f := &failure{class: absent, msg: s.what, hint: "if there is one, /proc hides it from the agent: check hidepid and systemd's ProtectProc="}
	if unseen > 0 {
		f.hint = fmt.Sprintf("%d processes of other users could not be looked at: give the agent their user or CAP_SYS_PTRACE, or find the process by argv0", unseen)
	}
	return nil, f
}

func (s *scan) still(_ context.Context, pid int) (bool, error) {
	// In a container that shares the pid namespace of an application's, pid 1 may
	// be that application; one that is only in the same group is somebody else.
	if pid == os.Getpid() || pid == 1 && !s.ours {
		return false, nil
	}
	ok, err := s.fits(pid)
	if !ok || err != nil {
		return ok, err
	}
	if !elsewhere(pid) {
		return false, nil
	}
	if !s.ours {
		return true, nil
	}
	status, err := os.ReadFile(procFile(pid, "status"))
	return err == nil && !nested(status), quiet(err)
}

// elsewhere reports whether pid is a process that lives and is none of the agent's
// commands, nor descends from one.
func elsewhere(pid int) bool {
	const deep = 100 // pids that are taken over meanwhile could make a ring
	at := pid
	for range deep {
		above, err := parentOf(at)
		switch {
		case err == nil && above == os.Getpid():
			return !commands.has(at)
		case err == nil && above <= 1:
			return true
		case err == nil:
			at = above
		case at == pid:
			return false
		default:
			at = pid // an ancestor has ended, so that it has another parent now
		}
	}
	return true
}

// parentOf returns the pid of a process's parent; 0 is nobody's.
func parentOf(pid int) (int, error) {
	stat, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return 0, err
	}
	return parseParent(stat)
}

func procFile(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// processes returns the pids of all processes, in order.
func processes() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// topmost returns, in order, those of the processes fit that none of fit has
// forked, itself or through others. What has ended meanwhile is left out: it may have
// been forked to run another program.
func topmost(fit map[int]bool) []int {
	parents := map[int]int{}
	parent := func(pid int) int {
		above, known := parents[pid]
		if !known {
			var err error
			if above, err = parentOf(pid); err != nil {
				above = -1
			}
			parents[pid] = above
		}
		return above
	}
	var top []int
	for _, pid := range slices.Sorted(maps.Keys(fit)) {
		above, steps := parent(pid), 0
		// Pids that are taken over meanwhile could make a ring.
		for above > 0 && !fit[above] && steps < len(parents)+1 {
			above, steps = parent(above), steps+1
		}
		if !fit[above] && parent(pid) >= 0 {
			top = append(top, pid)
		}
	}
	return top
}

// program returns what reports whether a pid runs the program at path, or at
// what path leads to. The kernel appends " (deleted)" once the file was replaced
// (proc_pid_exe(5)).
func program(path string) func(pid int) (bool, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		real = path // in a container of its own it is not for us to look
	}
	return func(pid int) (bool, error) {
		exe, err := os.Readlink(procFile(pid, "exe"))
		bare := strings.TrimSuffix(exe, " (deleted)")
		return err == nil && (exe == path || bare == path || bare == real), quiet(err)
	}
}

// calls reports whether the first argument of pid is argv0.
func calls(pid int, argv0 string) (bool, error) {
	f, err := os.Open(procFile(pid, "cmdline"))
	if err != nil {
		return false, quiet(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(len(argv0))+1))
	if err != nil {
		return false, quiet(err)
	}
	got, ok := parseArgv0(b)
	return ok && got == argv0, nil
}

// member reports whether pid is in the control group at path or below it.
func member(pid int, path string) (bool, error) {
	b, err := os.ReadFile(procFile(pid, "cgroup"))
	return err == nil && within(b, path), quiet(err)
}

// quiet drops the errors of a process that has gone, and of kernel threads,
// which have no program.
func quiet(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}
