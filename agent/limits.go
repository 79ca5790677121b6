package agent

import (
	"sync"
	"time"

	"secretsd/agent/secret"
)

// A refresh that a client asks for is a read of its own, refreshBurst times at
// once for one secret, and then once in each refreshEvery: more would let one
// client spend the account's rate limit, which all its secrets share. In the
// long run it is refreshStock times, and then once in each refreshRefill: a
// client that asks in a loop then costs 86,400 calls a month, less than half a
// dollar (Secrets Manager, "Pricing": $0.05 for 10,000 calls), or twice that if it
// hunts, where one of AWSPENDING comes with each, while the hunt for the new
// password of a rotation, some ten reads, never notices.
//
// Above either the answer comes from what is known.
const (
	refreshBurst  = 5
	refreshEvery  = time.Second
	refreshStock  = 100
	refreshRefill = 30 * time.Second
	maxBuckets    = 4096
	sweepEvery    = time.Second
)

// limits bound how often clients can have one secret read. The zero value is not
// ready: clock is needed.
type limits struct {
	clock func() time.Duration

	mu      sync.Mutex
	buckets map[secret.Ref]bucket
	swept   time.Duration
}

// bucket says when a secret has all its reads again, those of a burst and those
// of the long run; a secret that has them needs no bucket.
type bucket struct{ burst, stock time.Duration }

func newLimits(clock func() time.Duration) *limits {
	return &limits{clock: clock, buckets: map[secret.Ref]bucket{}}
}

// allow takes one read of ref's secret, whatever the stage and version, or
// returns false if there is none left.
func (l *limits) allow(ref secret.Ref) bool {
	ref.Stage, ref.VersionID = "", ""
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock()
	b := l.buckets[ref]
	b.burst, b.stock = max(b.burst, now)+refreshEvery, max(b.stock, now)+refreshRefill
	if b.burst-now > refreshBurst*refreshEvery || b.stock-now > refreshStock*refreshRefill {
		return false
	}
	if _, has := l.buckets[ref]; !has && len(l.buckets) >= maxBuckets {
		l.makeRoom(now)
	}
	l.buckets[ref] = b
	return true
}

// makeRoom drops the buckets that are full again, or any one if it has looked for
// them just now: who asks for that many secrets has paid with a read for each.
// l.mu is held.
func (l *limits) makeRoom(now time.Duration) {
	if now-l.swept >= sweepEvery {
		l.swept = now
		for ref, b := range l.buckets {
			if b.burst <= now && b.stock <= now {
				delete(l.buckets, ref)
			}
		}
	}
	for ref := range l.buckets {
		if len(l.buckets) < maxBuckets {
			return
		}
		delete(l.buckets, ref)
	}
}
