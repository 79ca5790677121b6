package notify

import (
	"context"
	"iter"
	"time"

	"secretsd/agent/secret"
)

// world is what a queue acts on.
type world interface {
	// tell tells t of c by its nth step. It returns nil if t has been told,
	// errUnneeded if there was nothing to tell, and else an error with a class. It
	// may take as long as the step's time-out, and is never called twice at a time.
	tell(ctx context.Context, t Target, n int, c Change) error
	// probe asks whether t works with c, until ctx is done. It may be called beside
	// tell, but never twice at a time.
	probe(ctx context.Context, t Target, c Change) error
}

// tellers are the world as it is. Each step has a teller of its own: what a
// command of one has left behind does not keep back another.
type tellers struct {
	// fresh is what each of them begins as.
	fresh teller
	steps map[int]*teller
	asker *teller
}

func newTellers(fresh *teller) *tellers {
	w := &tellers{fresh: *fresh, steps: map[int]*teller{}}
	w.asker = w.one()
	return w
}

func (w *tellers) one() *teller {
	t := w.fresh
	return &t
}

func (w *tellers) tell(ctx context.Context, t Target, n int, c Change) error {
	if w.steps[n] == nil {
		w.steps[n] = w.one()
	}
	if n > 0 {
		// Somebody who began after c was published has read it and does not
		// confirm all the same.
		c.Boottime = 0
	}
	return w.steps[n].tell(ctx, t.Name, t.step(n), c)
}

func (w *tellers) probe(ctx context.Context, t Target, c Change) error {
	return w.asker.ask(ctx, t.Name, t.Confirm, c)
}

// teller tells by one step of one target and remembers what that left behind.
// The kind of step decides how; every kind has its own file.
type teller struct {
	grace time.Duration // between SIGTERM and SIGKILL
	// child returns the supervised child's pid and start; nil if there is none.
	child func() (int, time.Time)
	// variables and secrets are those of [Options].
	variables func(env string) ([]string, error)
	secrets   func() iter.Seq[secret.Value]
	// stray is closed when a command has ended that could not be ended; nil if
	// there is none.
	stray <-chan struct{}
	// told are those who were reached by an attempt that did not reach all.
	told told
}

func (w *teller) tell(ctx context.Context, target string, s Step, c Change) error {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	switch {
	case s.Process != nil && s.Process.Child && w.childHasRead(c):
		return errUnneeded
	case s.Process != nil:
		return w.signalProcess(ctx, s, c)
	case s.HTTP != nil:
		return post(ctx, target, s.HTTP, c)
	case s.Unit != nil:
		return s.Unit.act(ctx, s.Timeout)
	}
	return w.run(ctx, target, s, c)
}

// childPid returns the pid of the supervised child.
func (w *teller) childPid() (int, error) {
	if w.child == nil {
		return 0, &failure{msg: "there is no supervised child", hint: "say in exec what is to be run, or find the process in another way"}
	}
	pid, _ := w.child()
	if pid <= 0 {
		return 0, &failure{class: absent, msg: "the supervised child is not running"}
	}
	return pid, nil
}

// childHasRead reports whether the child began after c was published. The kernel's
// start times are too coarse for a child that is started for the same change; we
// know better when we started it.
func (w *teller) childHasRead(c Change) bool {
	if w.child == nil || c.Boottime == 0 {
		return false
	}
	pid, since := w.child()
	return pid > 0 && since.After(c.At)
}
