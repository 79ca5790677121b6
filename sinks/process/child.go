package process

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"secretsd/agent/disposition"
)

// scope is whom a signal to the child goes to.
type scope int

const (
	leader   scope = iota // the process that was started
	group                 // its process group
	rest                  // all that is left of it once the leader has ended
	everyone              // all of these
)

// child is one program that was started. What it does is functions, so that tests
// of the schedule need no process.
type child struct {
	pid   int
	since time.Time // when its start began
	// exited is closed when the leader has ended; it is not reaped then.
	exited <-chan struct{}
	// stops receives the signals that have stopped it.
	stops <-chan syscall.Signal
	send  func(syscall.Signal, scope) error
	// family takes down who descends from the child, as long as that can be seen.
	family func()
	// others reports whether anything is left of the child beside the leader.
	others func() bool
	// handling returns what the child would do with a signal.
	handling func(syscall.Signal) disposition.Disposition
	// reap gives the child's number back and returns how it has ended.
	reap func() Exit

	// audience says who is meant by a signal that the agent was sent.
	audience func() scope
	// suspend is called after a stop. It stops the agent too where a shell can
	// continue both, and reports whether the child is to be continued.
	suspend func(syscall.Signal) bool
	// foreground hands the terminal over, if it is the agent's.
	foreground func()
}

// launcher starts children, one after the other.
type launcher struct {
	opts  Options
	ready bool
	tty   *terminal
	// crowded says that the agent starts other processes too.
	crowded *atomic.Bool
}

// close lets the terminal go.
func (l *launcher) close() {
	if l.tty != nil {
		_ = l.tty.close()
		l.tty, l.ready = nil, false
	}
}

// start starts p with the agent's own standard streams, working directory, mask
// and umask, and the limits that the agent was started with.
func (l *launcher) start(p *Program) (*child, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if !l.ready {
		adopt()
		l.tty, l.ready = openTerminal(l.opts.Once), true
	}
	l.tty.remember()
	w, err := watch(func() (int, error) {
		defer l.limits()()
		return syscall.ForkExec(p.Path, p.Args, &syscall.ProcAttr{
			Env: *p.Env.vars, Files: []uintptr{0, 1, 2}, Sys: attributes(!l.tty.shared()),
		})
	})
	if err != nil {
		return nil, &StartError{Path: p.Path, Err: err}
	}
	return l.child(w), nil
}

// limits gives the process the limit of core dumps that the child is to have,
// until the function it returns is called: there is no other moment at which it
// can be set before the child's first instruction. The agent itself cannot be
// dumped meanwhile, because it is not dumpable (prctl(2), PR_SET_DUMPABLE).
func (l *launcher) limits() (restore func()) {
	var own syscall.Rlimit
	if l.opts.Core == nil || syscall.Getrlimit(syscall.RLIMIT_CORE, &own) != nil || syscall.Setrlimit(syscall.RLIMIT_CORE, l.opts.Core) != nil {
		return func() {}
	}
	return func() { _ = syscall.Setrlimit(syscall.RLIMIT_CORE, &own) } // lowering it always works
}

func (l *launcher) child(w *watched) *child {
	pid, k := w.pid, newKin(w, l.crowded, !l.tty.shared())
	l.tty.give(pid)
	return &child{
		pid: pid, exited: w.exited, stops: w.stops,
		send: k.send, family: k.note, others: k.others,
		handling: func(sig syscall.Signal) disposition.Disposition { return handling(pid, sig) },
		reap: func() Exit {
			l.tty.take(pid)
			exit := exitOf(w.reap())
			if exit.Signal != 0 {
				l.tty.reset()
			}
			return exit
		},
		audience: func() scope {
			if l.tty.ours() {
				return group // the keyboard means the whole job
			}
			return leader
		},
		suspend:    func(sig syscall.Signal) bool { return l.tty.suspend(pid, sig) },
		foreground: func() { l.tty.give(pid) },
	}
}

// watched is the wait for one process. It is reaped by reap alone, so that its
// number stays its own until then.
type watched struct {
	pid    int
	exited chan struct{}
	stops  chan syscall.Signal

	mu     sync.Mutex
	reaped bool
	status syscall.WaitStatus
}

// watch starts a process and waits for it, on one thread: the child is to die with
// this process, and the kernel takes the end of the thread that has started it for
// that (prctl(2), PR_SET_PDEATHSIG).
func watch(fork func() (pid int, err error)) (*watched, error) {
	w := &watched{exited: make(chan struct{}), stops: make(chan syscall.Signal, 1)}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var err error
		w.pid, err = fork()
		started <- err
		if err == nil {
			w.run()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return w, nil
}

// reap reaps the process if it has ended, and returns how. One that cannot be
// killed counts as killed.
func (w *watched) reap() syscall.WaitStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reaped {
		return w.status
	}
	w.reaped = true
	if w.wait(syscall.WNOHANG) != w.pid {
		w.status = syscall.WaitStatus(syscall.SIGKILL)
	}
	return w.status
}

// kill signals the process, or with pid negative its group. Nothing is sent once
// its number may be somebody else's.
func (w *watched) kill(pid int, sig syscall.Signal) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reaped {
		return nil
	}
	if err := syscall.Kill(pid, sig); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// wait is wait4(2) for the process. It returns 0 if there is nothing to report.
func (w *watched) wait(options int) int {
	for {
		pid, err := syscall.Wait4(w.pid, &w.status, options, nil)
		if err != syscall.EINTR { // system calls return bare numbers
			return pid
		}
	}
}
