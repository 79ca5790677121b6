package notify

import (
	"math/rand/v2"
	"time"
)

const (
	// patience is how long a process may be unready before it is warned about.
	patience = 10 * time.Second
	// warnAgain is how often a target that keeps failing is warned about.
	warnAgain = 10 * time.Minute
)

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
			args := []any{"state", err.Error()}
			if hint := hintOf(err); hint != "" {
				args = append(args, "hint", hint)
			}
			q.log.Info("nobody to tell yet, keeping the notification", args...)
		}
	case tr.class == unready && now.Sub(tr.since) < patience:
		return func() {}
	case !tr.warned.IsZero() && now.Sub(tr.warned) < warnAgain && (err.Error() == tr.said || now.Sub(tr.warned) < patience):
		return func() {} // another fault than the one said is said sooner
	}
	tr.warned, tr.said = now, err.Error()
	return func() {
		q.log.Warn("telling a target failed, keeping the notification", attrs(err, "attempts", attempts)...)
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
