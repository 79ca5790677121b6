// Package notify tells targets that their files have changed: a signal to a
// process, a command, a request to a program on this machine, or the reload of a
// systemd unit. Every target has a queue and a goroutine of its own, so a slow hook
// delays neither a file nor another target.
//
// What a target has not been told yet is owed. [Notifier.Owed] returns the
// debts as plain data that the agent writes to its state directory, and
// [Notifier.Notify] takes them back after a restart: delivery is exactly once,
// and at least once across a crash. The rules are those of section 10 of the
// design ("Who is told, when" and "Trust").
//
// A target may have to confirm that it works with what it was told of. If it does
// not, the steps of its ladder are taken one after another, and at the end it is
// unconfirmed: that is reported, with what it was told of, for a rollback.
//
// Secret values reach this package only as variables of a command that was given
// them, which are made for one run and kept nowhere, and to be taken out of what
// commands print. That goes to /dev/null unless the target wants the end of it
// logged: a hook that fails may print what it read, and no filter can promise to
// know every encoding of a secret.
package notify

import (
	"context"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"secretsd/agent/secret"
)

// Options are what a [Notifier] reports to, and learns from. All may be nil.
type Options struct {
	// Logger gets one line for each thing that changed; nil discards them.
	Logger *slog.Logger
	// Settled is called after each outcome, when [Notifier.Owed] already shows
	// it, so that the agent writes down what is still owed and counts. Calls
	// come from the targets' own goroutines, concurrently, and from within
	// Notify and Reconfigure for debts of targets that do not exist; no lock
	// of this package is held. It must not block: the target waits for it.
	Settled func(target string, o Outcome)
	// Child returns the pid of the supervised child, which must not have been
	// reaped, and when its start began, or 0 while there is none that could be told:
	// it is not running, or is about to be replaced anyway. Nil means that none is
	// supervised. It is called from many goroutines and must not block.
	Child func() (pid int, since time.Time)
	// Variables returns the variables, NAME=VALUE, that a [Step] or [Probe] asks for
	// by its Env. They replace those that a command has of itself. The caller may let
	// go of the result. An error fails the attempt. It is called from many goroutines
	// and must not block. Nil means that there are none.
	Variables func(env string) ([]string, error)
	// Secrets returns all values that output must not show, beside those of Variables.
	// It is called from many goroutines and must not block. Without it no output is
	// kept.
	Secrets func() iter.Seq[secret.Value]
}

// OutcomeKind says how an attempt, or a debt, ended.
type OutcomeKind int

// The kinds of outcome.
const (
	// Delivered: the target was told. Nothing is owed any more for the change,
	// unless the target has to confirm it.
	Delivered OutcomeKind = iota
	// Unneeded: the debt was settled unsent, because the process started after
	// the files were published, or the target does not hear of first
	// publications.
	Unneeded
	// Dropped: the target is no longer configured.
	Dropped
	// Failed: one attempt failed; the debt stays and is tried again. A step of the
	// ladder that failed is followed by the next.
	Failed
	// Escalated: the target had not confirmed, and a further step of its ladder
	// was taken.
	Escalated
	// Confirmed: the target works with what it was told of. Nothing is owed.
	Confirmed
	// Unconfirmed: the target has not confirmed after the last step of its ladder.
	// Nothing is owed, but the target goes on being asked, and if it confirms after
	// all there is a Confirmed for the same change.
	Unconfirmed
)

var outcomeKinds = []string{"delivered", "unneeded", "dropped", "failed", "escalated", "confirmed", "unconfirmed"}

// OutcomeKinds returns all kinds there are. The caller owns the result.
func OutcomeKinds() []OutcomeKind {
	kinds := make([]OutcomeKind, len(outcomeKinds))
	for i := range kinds {
		kinds[i] = OutcomeKind(i)
	}
	return kinds
}

// String returns the kind as it stands in logs and metrics.
func (k OutcomeKind) String() string {
	if k < 0 || int(k) >= len(outcomeKinds) {
		return "unknown"
	}
	return outcomeKinds[k]
}

// Outcome is what became of one change, or of several told together.
type Outcome struct {
	Kind OutcomeKind
	// Change is what it is about. Of Confirmed and Unconfirmed it is all that the
	// target was told and has not confirmed before: its paths, and the versions of
	// the secrets that they were made of.
	Change Change
	// Err is why an attempt failed, or the last answer of a target that does not
	// confirm; nil for all other kinds. It never holds what a command printed or
	// what a pid file contained.
	Err error
	// Took is how long the attempt lasted; of Confirmed and Unconfirmed, how long
	// it is since the target was told. 0 for Dropped.
	Took time.Duration
	// Step is which step it is about: 0 is the target's own way, what follows is
	// its ladder.
	Step int
	// Rollback says, of Unconfirmed, that the target's configuration wants its
	// files to get their previous content back. Whoever does that tells the target
	// by [Notifier.Notify] with [Change.Rollback]. If a newer change was published
	// meanwhile, the versions of Change are not those in place, and there is
	// nothing to roll back.
	Rollback bool
}

// Notifier holds the queues of all targets. Its methods may be called from any
// goroutine.
type Notifier struct {
	log     *slog.Logger
	settled func(string, Outcome)
	// world makes what tells one target, and so what a queue may remember
	// between attempts.
	world func() world
	// fresh wakes Run for queues that have no goroutine yet.
	fresh chan struct{}

	mu     sync.Mutex
	queues []*queue // in configured order
	idle   []*queue // not yet started by Run
}

// New returns a Notifier for targets, which have passed [Target.Validate].
// Notify may be called before Run; nothing is told until Run runs.
func New(targets []Target, opts Options) *Notifier {
	shared := &teller{grace: killGrace, child: opts.Child, variables: opts.Variables, secrets: opts.Secrets}
	return newNotifier(targets, opts, func() world { return newTellers(shared) })
}

func newNotifier(targets []Target, opts Options, w func() world) *Notifier {
	n := &Notifier{
		log:     opts.Logger,
		settled: opts.Settled,
		world:   w,
		fresh:   make(chan struct{}, 1),
	}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	if n.settled == nil {
		n.settled = func(string, Outcome) {}
	}
	n.Reconfigure(targets)
	return n
}

// Run tells targets until ctx is done, one goroutine for each, and returns nil
// when all of them have ended. After ctx is done no new attempt starts; a
// command that is running keeps its time-out, and what was not delivered stays
// in [Notifier.Owed]. Run is called once.
func (n *Notifier) Run(ctx context.Context) error {
	var g errgroup.Group
	for {
		for _, q := range n.unstarted() {
			g.Go(func() error {
				q.run(ctx)
				return nil
			})
		}
		select {
		case <-n.fresh:
		case <-ctx.Done():
			return g.Wait()
		}
	}
}

func (n *Notifier) unstarted() []*queue {
	n.mu.Lock()
	defer n.mu.Unlock()
	qs := n.idle
	n.idle = nil
	return qs
}

// Notify owes target the news of c, merged with what it is owed already, and
// returns at once. A change is told as soon as the target's debounce allows.
// A target that is not configured drops it with a warning.
//
// Notify is called after the files are in place. It is also how debts that
// survived a crash come back; if their files had not been published when they
// were written down, c.At is zero and becomes the time of this call.
func (n *Notifier) Notify(target string, c Change) {
	c = c.stamped()
	if q := n.find(target); q != nil && q.push(c) {
		return
	}
	if c.Unconfirmed {
		n.log.Info("no longer waiting for the target to confirm, it is no longer configured", "target", target)
	} else {
		n.log.Warn("notification dropped, its target is not configured", "target", target)
	}
	n.settled(target, Outcome{Kind: Dropped, Change: c})
}

func (n *Notifier) find(target string) *queue {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.IndexFunc(n.queues, func(q *queue) bool { return q.name == target })
	if i < 0 {
		return nil
	}
	return n.queues[i]
}

// Reconfigure replaces the targets, which have passed [Target.Validate]. Debts
// go to the target of the same name, which is then tried at once; those of
// targets that are gone are dropped with a warning. An attempt that is under
// way ends as it began.
func (n *Notifier) Reconfigure(targets []Target) {
	var gone []*queue
	n.mu.Lock()
	old := n.queues
	n.queues = nil
	for _, t := range targets {
		t = t.withDefaults()
		i := slices.IndexFunc(old, func(q *queue) bool { return q.name == t.Name })
		if i >= 0 {
			n.queues = append(n.queues, old[i])
			old[i].retarget(t)
			continue
		}
		q := newQueue(t, n.log, n.settled, n.world())
		n.queues = append(n.queues, q)
		n.idle = append(n.idle, q)
	}
	for _, q := range old {
		if !slices.Contains(n.queues, q) {
			gone = append(gone, q)
		}
	}
	n.mu.Unlock()
	for _, q := range gone {
		q.retire()
	}
	select {
	case n.fresh <- struct{}{}:
	default:
	}
}

// Owed returns what is owed now, one debt for each target that is owed
// anything, in configured order, with what is just being told included. Before it
// comes one with [Change.Unconfirmed] for a target that is unconfirmed, which is owed
// nothing for that, but goes on being asked after a restart. The caller owns the
// result.
//
// An agent that writes debts down before it publishes must keep those beside
// what Owed returns until it has called Notify for them.
func (n *Notifier) Owed() []Debt {
	var ds []Debt
	for _, q := range n.snapshot() {
		for _, c := range q.debts() {
			ds = append(ds, Debt{Target: q.name, Change: c})
		}
	}
	return ds
}

// Status returns the state of every target, in configured order. The caller
// owns the result.
func (n *Notifier) Status() []TargetStatus {
	qs := n.snapshot()
	ss := make([]TargetStatus, 0, len(qs))
	for _, q := range qs {
		ss = append(ss, q.status())
	}
	return ss
}

func (n *Notifier) snapshot() []*queue {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.queues)
}
