package notify

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"
)

// queue holds what one target is owed. Changes merge, so it never grows.
type queue struct {
	name    string
	log     *slog.Logger
	settled func(string, Outcome)
	world   world
	wake    chan struct{} // something changed; capacity 1
	gone    chan struct{} // closed when the target is no longer configured

	mu      sync.Mutex
	target  Target
	retired bool
	owed    *Change   // waits to be told
	telling *Change   // is being told
	due     time.Time // when owed may be told
	gate    time.Time // end of the debounce
	told    time.Time // last delivery
	last    string    // last outcome
	trouble trouble
	trial   trial
}

func newQueue(t Target, log *slog.Logger, settled func(string, Outcome), w world) *queue {
	return &queue{
		name:    t.Name,
		log:     log.With("target", t.Name),
		settled: settled,
		world:   w,
		wake:    make(chan struct{}, 1),
		gone:    make(chan struct{}),
		target:  t,
	}
}

// push merges c into what is owed and reports false if the target is gone.
func (q *queue) push(c Change) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.retired:
		return false
	case c.Told > 0 || c.Unconfirmed:
		q.resume(c)
		return true
	case q.owed != nil && q.target.ignores(c):
		return true
	case q.owed == nil:
		q.owed = &c
		q.due = later(q.gate, time.Now().Add(q.target.splayed(c)))
	default:
		merged := q.owed.merge(c)
		q.owed = &merged
		// A newer change does not wait for the back-off of the older one.
		if q.trouble.err != nil || c.Reason == ReasonManual {
			q.trouble.tries = 0
			q.due = earlier(q.due, q.gate)
		}
	}
	q.signal()
	return true
}

// splayed draws how long c waits because of the target's splay.
func (t Target) splayed(c Change) time.Duration {
	if t.Splay <= 0 || c.Reason == ReasonManual || t.ignores(c) {
		return 0
	}
	return rand.N(t.Splay)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// signal wakes the target's goroutine.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// retarget gives the queue a new definition of its target.
func (q *queue) retarget(t Target) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if reflect.DeepEqual(q.target, t) {
		return
	}
	q.target = t
	if q.trouble.err != nil {
		q.due = earlier(q.due, q.gate)
	}
	q.trouble = trouble{}
	q.trial.retarget(t, time.Now())
	q.signal()
}

// retire ends the queue. An attempt under way ends by itself.
func (q *queue) retire() {
	q.mu.Lock()
	q.retired = true
	c, ok := united(q.trial.change, q.owed)
	q.owed, q.trial = nil, trial{}
	close(q.gone)
	q.mu.Unlock()
	if ok {
		q.drop(c)
	}
}

func (q *queue) drop(c Change) {
	if c.Told > 0 {
		q.log.Info("no longer waiting for the target to confirm, it is no longer configured", "reason", c.Reason.String())
	} else {
		q.log.Warn("owed notification dropped, its target is no longer configured", "reason", c.Reason.String())
	}
	q.settled(q.name, Outcome{Kind: Dropped, Change: c})
}

// run tells the target what it is owed until ctx is done or the target gone.
func (q *queue) run(ctx context.Context) {
	var ask asking
	defer ask.end()
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.gone:
			return
		default:
		}
		now := time.Now()
		next := q.next(now, ask.answer != nil)
		switch next.do {
		case tellOwed:
			ask.cut()
			q.finish(next.target, next.change, now, q.tell(ctx, next.target, next.change))
		case askTarget:
			ask = q.ask(ctx, next)
		case climb:
			q.climb(ctx, next, now)
		case rest:
			q.sleep(ctx, next.wait, &ask)
		}
	}
}

// tell makes one attempt. It is not cut short by ctx: a command that has been
// started has its time-out to end in.
func (q *queue) tell(ctx context.Context, t Target, c Change) error {
	if t.ignores(c) {
		return errUnneeded
	}
	return q.world.tell(context.WithoutCancel(ctx), t, 0, c)
}

// task is what the target's goroutine does next.
type task struct {
	do     doing
	wait   time.Duration // of rest; negative means until something changes
	target Target
	change Change
	n      int // the step to climb to, or the round of a question
	limit  time.Duration
}

type doing int

const (
	rest      doing = iota
	tellOwed        // what is owed is due
	askTarget       // whether it works with what it was told
	climb           // it does not: on to the next step of the ladder
)

// next returns what to do now.
func (q *queue) next(now time.Time, asking bool) task {
	q.mu.Lock()
	defer q.mu.Unlock()
	wait := time.Duration(-1)
	if q.owed != nil {
		if !q.due.After(now) {
			q.telling, q.owed = q.owed, nil
			return task{do: tellOwed, target: q.target, change: *q.telling}
		}
		wait = q.due.Sub(now)
	}
	// A change that is about to be told makes the answer to the one before
	// worthless; one that could not be told does not.
	superseded := q.owed != nil && q.trouble.err == nil
	if t, ok := q.trial.next(now, asking, superseded); ok {
		t.target = q.target
		if t.do != rest {
			return t
		}
		if wait < 0 || t.wait >= 0 && t.wait < wait {
			wait = t.wait
		}
	}
	return task{do: rest, wait: wait}
}

func (q *queue) sleep(ctx context.Context, wait time.Duration, ask *asking) {
	var due <-chan time.Time
	if wait >= 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
	case <-q.wake:
	case a := <-ask.answer:
		round := ask.round
		*ask = asking{}
		q.answered(round, a.err)
	case <-q.gone:
	case <-ctx.Done():
	}
}

// finish books the end of an attempt and then reports it.
func (q *queue) finish(t Target, c Change, began time.Time, err error) {
	now := time.Now()
	o := Outcome{Kind: Delivered, Change: c, Took: now.Sub(began)}
	switch {
	case err == nil:
		total := q.paid(t, c, began.Add(t.Debounce), now)
		q.log.Info("target told", "reason", c.Reason.String(), "paths", len(c.Paths),
			"attempts", total+1, "took", o.Took)
	case errors.Is(err, errUnneeded):
		q.unneeded()
		o.Kind = Unneeded
		q.log.Debug("notification not needed", "reason", c.Reason.String())
	default:
		o.Kind, o.Err = Failed, err
		kept, say := q.keep(t, c, now, began, err)
		say()
		if !kept {
			q.drop(c)
			return
		}
		if classOf(err) != failed {
			return
		}
	}
	q.report(o)
}

// report notes and reports an outcome.
func (q *queue) report(o Outcome) {
	q.mu.Lock()
	q.last = o.Kind.String()
	q.mu.Unlock()
	q.settled(q.name, o)
}

// paid books that the target was told of c, and returns how many attempts had
// failed before. From here on its confirmation is awaited, if it has one.
func (q *queue) paid(t Target, c Change, gate, told time.Time) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	total := q.trouble.total
	q.telling, q.trouble = nil, trouble{}
	q.gate, q.told = gate, told
	q.due = later(q.due, q.gate)
	if t.Confirm != nil && q.target.Confirm != nil && !q.retired {
		q.trial.begin(q.target, c, told)
	}
	return total
}

// unneeded ends a debt of which nobody had to be told, which opens no debounce.
func (q *queue) unneeded() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.telling, q.trouble = nil, trouble{}
}
