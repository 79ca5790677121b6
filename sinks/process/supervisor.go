package process

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Options are what a [Supervisor] needs.
type Options struct {
	// Logger takes what there is to say of the child: never an argument beside
	// the program, nor a variable. Nil discards it.
	Logger *slog.Logger
	// Once makes a wrapper of the supervisor: a child that ends by itself is not
	// started again but ends [Supervisor.Run], and a signal that asks to end,
	// forwarded to it, does so too. The terminal, if there is one, is handed to
	// the child at its start.
	Once bool
	// Core is the limit of core dumps that children get; nil means the process's
	// own. The other limits, the signal mask and the umask are those of the
	// process; that Go has raised its limit of descriptors the syscall package
	// takes back. HUP, INT, QUIT, ABRT and TERM are never blocked: Go unblocks
	// them at its start (os/signal), and nobody knows any more that they were.
	Core *syscall.Rlimit
}

// ErrNoChild says that no child is running, or that the one running is about to
// be replaced, and so will not need to be told anything.
var ErrNoChild = errors.New("no child is running")

// Supervisor runs one child at a time. Its methods may be called from any
// goroutine, and block for nothing, except Run and Kill.
type Supervisor struct {
	opts Options
	log  *slog.Logger
	// start starts a program and close ends starting them; tests of the schedule
	// start none.
	start func(*Program) (*child, error)
	close func()
	// wake, forwarded and changed are read by Run, Run and the agent.
	wake      chan struct{}
	forwarded chan syscall.Signal
	changed   chan struct{}
	over      chan struct{}
	crowded   atomic.Bool

	mu     sync.Mutex
	want   *Program // nil: there is to be no child
	acting bool     // what is wanted has changed since Run has looked
	// replacing says that the child is about to be replaced, from the change on
	// until the next one runs.
	replacing bool
	cur       *child
	status    Status
}

// State is what a supervisor is about.
type State string

// The states of a supervisor.
const (
	// Waiting: there is nothing to run yet.
	Waiting State = "waiting"
	// Running: the child runs.
	Running State = "running"
	// Ending: the child has been asked to end.
	Ending State = "ending"
	// BackingOff: the child has ended by itself and is started again in a while.
	BackingOff State = "backing_off"
	// Ended: there will be no child any more.
	Ended State = "ended"
)

// Status is the state of the child. It holds no argument and no variable.
type Status struct {
	State State `json:"state"`
	// PID is the child's, or 0.
	PID int `json:"pid,omitempty"`
	// StartedAt is when the start of the child that runs, or ran last, began.
	StartedAt time.Time `json:"started_at,omitzero"`
	// Starts counts all children, and Crashes those that have ended by
	// themselves.
	Starts  uint64 `json:"starts"`
	Crashes uint64 `json:"crashes"`
	// LastExit is how the last one has ended, such as "status 7".
	LastExit string `json:"last_exit,omitempty"`
	// NextStart is when it is started again; zero if it is not waited for.
	NextStart time.Time `json:"next_start,omitzero"`
	// Error is why it could not be started.
	Error string `json:"error,omitempty"`
}

// New returns a supervisor without a child. The caller calls Run.
func New(opts Options) *Supervisor {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Supervisor{
		opts: opts, log: opts.Logger, status: Status{State: Waiting},
		wake: make(chan struct{}, 1), forwarded: make(chan syscall.Signal, 64), changed: make(chan struct{}, 1), over: make(chan struct{}),
	}
	l := &launcher{opts: opts, crowded: &s.crowded}
	s.start, s.close = l.start, l.close
	return s
}

// Set says what the child is to run. The first program is started; with nil the
// child is ended and none is started. With act p counts as a change, and a child
// that runs is treated as p.OnChange says; without it only the rest of p, such as
// the kill timeout, counts from now on.
//
// Several calls before Run looks are one change.
func (s *Supervisor) Set(p *Program, act bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want = p
	s.acting = s.acting || act
	s.replacing = s.replacing || p == nil || act && p.OnChange == Restart
	poke(s.wake)
}

// StartsOthers says that from now on the agent starts other processes beside the
// child. Until then every orphan that it is given is a descendant of the child;
// afterwards descendants that have left the child's group and lost their parents
// are left alone when the child is ended. It is not taken back, for what others
// leave behind stays.
func (s *Supervisor) StartsOthers() { s.crowded.Store(true) }

// wanted returns what is to run, and whether it has changed.
func (s *Supervisor) wanted() (p *Program, act bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, act = s.want, s.acting
	s.acting = false
	return p, act
}

// Forward passes a signal that the agent itself was sent on to the child. It
// returns false once there will be no child any more. Signals that come while
// there is none yet are lost, except that with Options.Once one that asks to end
// ends Run.
func (s *Supervisor) Forward(sig syscall.Signal) bool {
	select {
	case <-s.over:
		return false
	default:
	}
	select {
	case s.forwarded <- sig:
	default: // so many at once are one, as for the kernel
	}
	return true
}

// Child returns the child's process id and when its start began, for somebody who
// looks closer before telling it something. The error is [ErrNoChild] if there is
// nobody to tell.
func (s *Supervisor) Child() (pid int, since time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == nil || s.status.State != Running || s.replacing {
		return 0, time.Time{}, ErrNoChild
	}
	return s.cur.pid, s.cur.since, nil
}

// Kill ends the child and all that it has started with SIGKILL, at once, for an
// agent that is about to exit itself.
func (s *Supervisor) Kill() {
	s.mu.Lock()
	c := s.cur
	s.mu.Unlock()
	if c != nil {
		_ = c.send(syscall.SIGKILL, everyone) // there is nothing left that could be done
	}
}

// Status returns the state of the child.
func (s *Supervisor) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Changed receives after Status has changed; several changes may be one.
func (s *Supervisor) Changed() <-chan struct{} { return s.changed }

// note changes the status, and what stands beside it under s.mu.
func (s *Supervisor) note(change func(*Status)) {
	s.mu.Lock()
	change(&s.status)
	s.mu.Unlock()
	poke(s.changed)
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Run supervises until ctx is done, and then ends the child, which takes as long
// as its kill timeout. With Options.Once it returns when the child has ended; the
// error is a [*StartError] if it could not be started. Run is called once.
func (s *Supervisor) Run(ctx context.Context) (Exit, error) {
	defer func() {
		s.note(func(st *Status) { st.State, st.NextStart = Ended, time.Time{} })
		close(s.over)
		s.close()
	}()
	return newRunner(s).run(ctx)
}
