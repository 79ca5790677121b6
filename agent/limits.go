package agent

import (
	"sync"
	"time"

	"secretsd/agent/secret"
)

// refreshNow is answered by a read of its own refreshBurst times at once for one
// secret, and then once in each refreshEvery. More would let one client spend
// the account's rate limit, which all its secrets share.
const (
	refreshBurst = 5
	refreshEvery = time.Second
	maxBuckets   = 4096
)

// limits bound how often clients can have one secret read. The zero value is not
// ready: clock is needed.
type limits struct {
	clock func() time.Duration
	mu    sync.Mutex
	// full is when the bucket of a secret has all its reads again; one that is
	// full needs no entry.
	full map[secret.Ref]time.Duration
}

func newLimits(clock func() time.Duration) *limits {
	return &limits{clock: clock, full: map[secret.Ref]time.Duration{}}
}

// allow takes one read from ref's bucket, or returns false if it is empty.
func (l *limits) allow(ref secret.Ref) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock()
	full := max(l.full[ref], now) + refreshEvery
	if full-now > refreshBurst*refreshEvery {
		return false
	}
	if len(l.full) >= maxBuckets {
		l.sweep(now)
	}
	l.full[ref] = full
	return true
}

// sweep drops the buckets that are full again. l.mu is held.
func (l *limits) sweep(now time.Duration) {
	for ref, full := range l.full {
		if full <= now {
			delete(l.full, ref)
		}
	}
}
