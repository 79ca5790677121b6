package process

import (
	"context"
	"log/slog"
	"syscall"
	"time"

	"secretsd/agent/disposition"
)

const (
	// A child that has ended by itself is started again after minBackoff, and
	// after twice as long each time, up to maxBackoff. One that has run for
	// steadyAfter counts as new.
	minBackoff  = time.Second
	maxBackoff  = time.Minute
	steadyAfter = time.Minute

	// pollEvery is how often is looked whether all that the child has left
	// behind is gone, and whether it handles the signal that it is owed.
	pollEvery = 20 * time.Millisecond
	// killWait is how long is waited for processes that SIGKILL was sent to. One
	// that hangs in the kernel takes longer, and is not waited for.
	killWait = 5 * time.Second
	// unhandledAfter is when is said that the child does not handle the signal
	// that it is owed.
	unhandledAfter = 10 * time.Second
	// secondAfter is how much later than the first a request to end has to come
	// to count as a second one: whoever signals a whole tree of processes means
	// one request and not two.
	secondAfter = time.Second
)

// next is what comes after a child.
type next int

const (
	none    next = iota // no child, until one is wanted
	restart             // another child
	backOff             // another child, in a while
	finish              // the end of Run
)

// runner is the goroutine of a supervisor.
type runner struct {
	s   *Supervisor
	log *slog.Logger

	cur     *child
	program *Program // what cur was started with, or adopted since
	// gone says that the leader has ended, and left that what it has left behind
	// has been asked to end.
	gone, left bool
	stopped    bool
	ending     bool // cur has been asked to end
	killed     bool
	next       next
	failures   int
	// asked is when the first request to end was forwarded.
	asked time.Time
	// owed is a signal that cur is sent once it handles it, since owedSince.
	owed      syscall.Signal
	owedSince time.Time
	owedSaid  bool
	// watch is what the looks at it have shown.
	watch disposition.Watch

	deadline *time.Timer
	poll     *time.Ticker
	exit     Exit
	err      error
	over     bool
}

func newRunner(s *Supervisor) *runner {
	r := &runner{s: s, log: s.log, deadline: time.NewTimer(time.Hour), poll: time.NewTicker(time.Hour)}
	r.deadline.Stop()
	r.poll.Stop()
	return r
}

func (r *runner) run(ctx context.Context) (Exit, error) {
	defer r.deadline.Stop()
	defer r.poll.Stop()
	done := ctx.Done()
	for !r.over {
		var exited <-chan struct{}
		var stops <-chan syscall.Signal
		if r.cur != nil && !r.gone {
			exited, stops = r.cur.exited, r.cur.stops
		}
		select {
		case <-done:
			done = nil
			r.finish(r.kill())
		case <-r.s.wake:
			r.follow()
		case sig := <-r.s.forwarded:
			r.forward(sig)
		case <-exited:
			r.ended()
		case sig := <-stops:
			r.stop(sig)
		case <-r.deadline.C:
			r.late()
		case <-r.poll.C:
			r.look()
		}
	}
	return r.exit, r.err
}

// follow brings the child in line with what is wanted.
func (r *runner) follow() {
	p, act := r.s.wanted()
	switch {
	case r.next == finish:
	case r.cur == nil && p == nil:
		r.next = none
		r.deadline.Stop()
		r.s.note(func(st *Status) { st.State, st.NextStart = Waiting, time.Time{} })
	case r.cur == nil:
		if r.next != backOff || act {
			r.launch()
		}
	case p == nil:
		r.next = none
		r.end(r.program.KillSignal)
	case r.ending:
		if act || r.next == none {
			r.next = restart // with what is wanted then
		}
	case !act:
		r.program = p
	default:
		r.change(p)
	}
}

func (r *runner) change(p *Program) {
	r.program = p
	switch p.OnChange {
	case Restart:
		r.log.Info("restarting the child for what has changed", "pid", r.cur.pid)
		r.next = restart
		r.end(p.KillSignal)
	case Signal:
		r.log.Info("telling the child of what has changed", "pid", r.cur.pid, "signal", signalName(p.Signal))
		r.owed, r.owedSince, r.owedSaid, r.watch = p.Signal, time.Now(), false, disposition.Watch{}
		r.look()
	case Leave:
		r.log.Info("leaving the child as it is; what has changed counts from its next start", "pid", r.cur.pid)
	}
}

// launch starts what is wanted.
func (r *runner) launch() {
	p, _ := r.s.wanted()
	if p == nil {
		r.next = none
		return
	}
	since := time.Now()
	c, err := r.s.start(p)
	if err != nil {
		if r.s.opts.Once {
			r.err, r.over = err, true
			return
		}
		r.log.Error("cannot start the child, trying again", attrs(err)...)
		r.s.note(func(st *Status) { st.Error = err.Error() })
		r.backOff()
		return
	}
	c.since = since
	r.cur, r.program, r.next = c, p, none
	r.gone, r.left, r.stopped, r.ending, r.killed, r.owed = false, false, false, false, false, 0
	r.deadline.Stop()
	r.poll.Stop()
	r.s.note(func(st *Status) {
		r.s.cur, r.s.replacing = c, r.s.replacing && r.s.acting
		st.State, st.PID, st.StartedAt, st.NextStart, st.Error = Running, c.pid, since, time.Time{}, ""
		st.Starts++
	})
	r.log.Info("started the child", "pid", c.pid, "program", p.Path)
}

// kill returns the signal that asks the child to end.
func (r *runner) kill() syscall.Signal {
	if r.program == nil {
		return syscall.SIGTERM
	}
	return r.program.KillSignal
}

// finish ends the child, if there is one, and then Run.
func (r *runner) finish(sig syscall.Signal) {
	r.next = finish
	if r.cur == nil {
		r.over = true
		return
	}
	r.end(sig)
}

// end asks the child to end, once.
func (r *runner) end(sig syscall.Signal) {
	if r.ending {
		return
	}
	r.ending, r.owed = true, 0
	r.s.note(func(st *Status) { st.State = Ending })
	r.deadline.Reset(r.program.KillTimeout)
	if r.gone {
		return // what it has left behind is asked by look
	}
	r.cur.family() // while it still can be seen who belongs to it
	r.send(sig, leader)
	if r.stopped {
		r.send(syscall.SIGCONT, group)
	}
}

func (r *runner) send(sig syscall.Signal, to scope) {
	if err := r.cur.send(sig, to); err != nil {
		r.log.Warn("cannot signal the child", "pid", r.cur.pid, "signal", signalName(sig), "error", err)
	}
}

// ended is called when the leader has ended.
func (r *runner) ended() {
	r.gone, r.owed = true, 0
	if r.ending {
		r.look()
		return
	}
	if r.s.opts.Once {
		r.next = finish
		r.reap() // what it has left behind is its own affair
		return
	}
	r.next = backOff
	r.end(r.program.KillSignal)
	r.look()
}

// look sees to what has no event of its own: whether what the child has left
// behind has ended, and whether it handles the signal that it is owed.
func (r *runner) look() {
	switch {
	case r.cur == nil:
		r.poll.Stop()
		return
	case r.gone && !r.cur.others():
		r.reap()
		return
	case r.killed:
		r.send(syscall.SIGKILL, everyone) // among them what was started meanwhile
	case r.gone && !r.left:
		// They had nobody to tell them, if the leader did not.
		r.left = true
		r.send(r.program.KillSignal, rest)
	case r.owed != 0:
		r.tell()
	}
	if r.gone || r.killed || r.owed != 0 {
		r.poll.Reset(pollEvery)
	} else {
		r.poll.Stop()
	}
}

// tell sends the signal that is owed if the child handles it: one that is still
// starting would be ended by it.
func (r *runner) tell() {
	if r.watch.Look(r.cur.handling(r.owed)) {
		r.send(r.owed, leader)
		r.owed = 0
		return
	}
	if !r.owedSaid && time.Since(r.owedSince) > unhandledAfter {
		r.owedSaid = true
		r.log.Warn("the child does not handle the signal, which would end it; waiting until it does", "pid", r.cur.pid,
			"signal", signalName(r.owed), "hint", "choose the signal that makes it reload, or on_change: restart")
	}
}

// late is called when the time for what is under way is over.
func (r *runner) late() {
	switch {
	case r.cur == nil:
		r.launch()
	case !r.killed:
		r.log.Warn("the child did not end in time and is killed", "pid", r.cur.pid, "kill_timeout", r.program.KillTimeout.String())
		r.killNow()
	case r.gone || r.next == finish:
		r.log.Error("processes of the child cannot be killed and are left behind", "pid", r.cur.pid)
		r.reap()
	default:
		r.deadline.Reset(killWait) // a second child beside it would be worse
	}
}

func (r *runner) killNow() {
	r.killed, r.ending = true, true
	r.send(syscall.SIGKILL, everyone)
	r.deadline.Reset(killWait)
	r.poll.Reset(pollEvery)
}

// reap is the end of a child and the beginning of what comes next.
func (r *runner) reap() {
	pid, since, exit := r.cur.pid, r.cur.since, r.cur.reap()
	r.deadline.Stop()
	r.poll.Stop()
	r.cur, r.exit = nil, exit
	crashed := r.next == backOff
	if time.Since(since) >= steadyAfter {
		r.failures = 0
	}
	r.s.note(func(st *Status) {
		r.s.cur = nil
		st.State, st.PID, st.LastExit = Waiting, 0, exit.String()
		if crashed {
			st.Crashes++
		}
	})
	switch r.next {
	case finish:
		r.over = true
	case backOff:
		r.backOff()
		r.log.Error("the child has ended by itself, starting it again", "pid", pid, "exit", exit.String(), "wait", r.wait().String())
	case restart:
		r.log.Info("the child has ended", "pid", pid, "exit", exit.String())
		r.launch()
	default:
		r.log.Info("the child has ended", "pid", pid, "exit", exit.String())
	}
}

func (r *runner) backOff() {
	r.next = backOff
	r.failures++
	r.deadline.Reset(r.wait())
	at := time.Now().Add(r.wait())
	r.s.note(func(st *Status) { st.State, st.NextStart = BackingOff, at })
}

func (r *runner) wait() time.Duration { return min(minBackoff<<min(r.failures-1, 10), maxBackoff) }
