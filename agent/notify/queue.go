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

const (
	// patience is how long a process may be unready before it is warned about.
	patience = 10 * time.Second
	// warnAgain is how often a target that keeps failing is warned about.
	warnAgain = 10 * time.Minute
)

// attemptFunc tells t of c. It returns nil if t has been told, errUnneeded if
// there was nothing to tell, and else an error with a class. It may take as
// long as t's time-out, and it is never called twice at a time.
type attemptFunc func(ctx context.Context, t Target, c Change) error

// queue holds what one target is owed. Changes merge, so it never grows.
type queue struct {
	name    string
	log     *slog.Logger
	settled func(string, Outcome)
	attempt attemptFunc
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
	trouble trouble
}

// trouble is what stands between a target and what it is owed. It lasts until
// a delivery.
type trouble struct {
	err    error
	class  class
	tries  int       // attempts in a row that ended with class; a newer change starts again
	total  int       // attempts for this debt
	since  time.Time // when class began
	noted  bool      // absence has been logged
	said   string    // what it said
	warned time.Time // last warning
}

func newQueue(t Target, log *slog.Logger, settled func(string, Outcome), attempt attemptFunc) *queue {
	return &queue{
		name:    t.Name,
		log:     log.With("target", t.Name),
		settled: settled,
		attempt: attempt,
		wake:    make(chan struct{}, 1),
		gone:    make(chan struct{}),
		target:  t,
	}
}

// push merges c into what is owed and reports false if the target is gone.
func (q *queue) push(c Change) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.retired {
		return false
	}
	if q.owed != nil && q.target.ignores(c) {
		return true
	}
	if q.owed == nil {
		q.owed = &c
		q.due = q.gate
	} else {
		merged := q.owed.merge(c)
		q.owed = &merged
		// A newer change does not wait for the back-off of the older one.
		q.trouble.tries = 0
		q.due = earlier(q.due, q.gate)
	}
	q.signal()
	return true
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
	q.trouble = trouble{}
	q.due = earlier(q.due, q.gate)
	q.signal()
}

// retire ends the queue. An attempt under way ends by itself.
func (q *queue) retire() {
	q.mu.Lock()
	q.retired = true
	c := q.owed
	q.owed = nil
	close(q.gone)
	q.mu.Unlock()
	if c != nil {
		q.drop(*c)
	}
}

func (q *queue) drop(c Change) {
	q.log.Warn("owed notification dropped, its target is no longer configured", "reason", c.Reason.String())
	q.settled(q.name, Outcome{Kind: Dropped, Change: c})
}

// run tells the target what it is owed until ctx is done or the target gone.
func (q *queue) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.gone:
			return
		default:
		}
		t, c, wait := q.take(time.Now())
		if c != nil {
			began := time.Now()
			q.finish(t, *c, began, q.tell(ctx, t, *c))
			continue
		}
		q.sleep(ctx, wait)
	}
}

// tell makes one attempt. It is not cut short by ctx: a command that has been
// started has its time-out to end in.
func (q *queue) tell(ctx context.Context, t Target, c Change) error {
	if t.ignores(c) {
		return errUnneeded
	}
	return q.attempt(context.WithoutCancel(ctx), t, c)
}

// take returns what to tell now, or how long to wait for it; negative means
// until something changes.
func (q *queue) take(now time.Time) (Target, *Change, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.owed == nil:
		return Target{}, nil, -1
	case q.due.After(now):
		return Target{}, nil, q.due.Sub(now)
	}
	q.telling, q.owed = q.owed, nil
	return q.target, q.telling, 0
}

func (q *queue) sleep(ctx context.Context, wait time.Duration) {
	var due <-chan time.Time
	if wait >= 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
	case <-q.wake:
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
		total := q.paid(began.Add(t.Debounce), now)
		q.log.Info("target told", "reason", c.Reason.String(), "paths", len(c.Paths),
			"attempts", total+1, "took", o.Took)
	case errors.Is(err, errUnneeded):
		q.paid(time.Time{}, time.Time{})
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
	q.settled(q.name, o)
}

// paid ends a debt and returns how many attempts had failed before. A zero
// gate means that nobody was told, which opens no debounce.
func (q *queue) paid(gate, told time.Time) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	total := q.trouble.total
	q.telling, q.trouble = nil, trouble{}
	if !gate.IsZero() {
		q.gate, q.told = gate, told
	}
	q.due = q.gate
	return total
}

// keep puts a debt back whose attempt failed, behind what came meanwhile. It
// returns false if the target has gone, and what there is to log.
func (q *queue) keep(t Target, c Change, now, began time.Time, err error) (kept bool, say func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.telling = nil
	if q.retired {
		return false, func() {}
	}
	tr := &q.trouble
	if k := classOf(err); tr.err == nil || k != tr.class {
		tr.class, tr.tries, tr.since = k, 0, now
	}
	tr.err = err
	tr.tries++
	tr.total++
	if tr.class == failed {
		// A hook that failed may have told its target all the same.
		q.gate = began.Add(t.Debounce)
	}
	q.due = now.Add(backoff(tr.class, tr.tries, t.Retry))
	if q.owed != nil {
		c = c.merge(*q.owed)
		tr.tries = 0
		q.due = earlier(q.due, q.gate)
	}
	q.owed = &c
	return true, q.complaint(now)
}

// complaint returns what logs the present trouble, once it deserves it. The
// caller holds q.mu and calls the result without it.
func (q *queue) complaint(now time.Time) func() {
	tr := &q.trouble
	err, attempts := tr.err, tr.total
	switch {
	case tr.class == absent:
		if tr.noted {
			return func() {}
		}
		tr.noted = true
		return func() {
			q.log.Info("nobody to tell yet, keeping the notification", "state", err.Error())
		}
	case tr.class == unready && now.Sub(tr.since) < patience:
		return func() {}
	case !tr.warned.IsZero() && now.Sub(tr.warned) < warnAgain && (err.Error() == tr.said || now.Sub(tr.warned) < patience):
		return func() {} // another fault than the one said is said sooner
	}
	tr.warned, tr.said = now, err.Error()
	return func() {
		args := []any{"error", err.Error(), "attempts", attempts}
		if hint := hintOf(err); hint != "" {
			args = append(args, "hint", hint)
		}
		q.log.Warn("telling a target failed, keeping the notification", args...)
	}
}

// backoff returns the wait after the tries-th attempt in a row that ended with
// class k. It is drawn from the upper half of what it may be.
func backoff(k class, tries int, r Retry) time.Duration {
	first, limit := r.Initial, r.Max
	switch k {
	case absent:
		first, limit = absentWait, maxProcessWait
	case unready:
		first, limit = unreadyWait, maxProcessWait
	}
	wait := limit
	// 2^20 of the shortest first wait is beyond every limit in use, and a
	// larger shift could overflow.
	if tries <= 20 && first<<(tries-1)>>(tries-1) == first {
		wait = min(limit, first<<(tries-1))
	}
	return wait/2 + rand.N(wait/2+1)
}
