package agent

import (
	"sync"
	"sync/atomic"
	"time"

	"secretsd/agent/metrics"
	"secretsd/sinks/endpoint"
)

// traffic counts what the endpoint has answered, all told and for each client.
// Its methods may be called from any goroutine.
type traffic struct {
	outcomes []endpoint.Outcome
	all      tally
	latency  *metrics.Latency

	mu      sync.Mutex
	callers map[string]*caller
}

// tally counts requests by the number of their outcome.
type tally []atomic.Uint64

// caller is what is counted of one client.
type caller struct {
	answers tally
	// seen is when it last came, in nanoseconds since the epoch and to within
	// seenEvery; 0 if it never has.
	seen atomic.Int64
}

// seenEvery spares the processors the fight over one more cache line for each
// request.
const seenEvery = time.Second

func newTraffic() *traffic {
	outcomes := endpoint.Outcomes()
	return &traffic{outcomes: outcomes, all: make(tally, len(outcomes)), latency: metrics.NewLatency(), callers: map[string]*caller{}}
}

// caller returns the counts of the client of that name. They outlive a reload.
func (t *traffic) caller(name string) *caller {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.callers[name]
	if c == nil {
		c = &caller{answers: make(tally, len(t.outcomes))}
		t.callers[name] = c
	}
	return c
}

// keep forgets all clients but those named.
func (t *traffic) keep(names map[string]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.callers {
		if !names[name] {
			delete(t.callers, name)
		}
	}
}

// count counts one request. It costs a few atomic operations, for it comes
// before every answer.
func (t *traffic) count(e *endpoint.Exchange) {
	if n := t.number(e.Outcome); n >= 0 {
		t.all[n].Add(1)
		if c, ok := e.Mark.(*caller); ok {
			c.answers[n].Add(1)
			if at := e.Began.UnixNano(); at-c.seen.Load() > int64(seenEvery) {
				c.seen.Store(at)
			}
		}
	}
	// Wrong tokens are answered late on purpose.
	if !e.Waited && e.Outcome != endpoint.OutcomeBadToken {
		t.latency.Observe(e.Took)
	}
}

func (t *traffic) number(o endpoint.Outcome) int {
	for i := range t.outcomes {
		if t.outcomes[i] == o {
			return i
		}
	}
	return -1
}

// counts returns a tally's counts by outcome, with those at zero.
func (t *traffic) counts(of tally) map[string]uint64 {
	m := make(map[string]uint64, len(of))
	for i := range of {
		m[string(t.outcomes[i])] = of[i].Load()
	}
	return m
}

// unknown are the outcomes of requests that no client is known for.
var unknown = []endpoint.Outcome{endpoint.OutcomePing, endpoint.OutcomeForwarded, endpoint.OutcomeBadToken}

// of returns what is counted of the client of that name: requests by outcome,
// without the outcomes that cannot be a client's, and when it last came.
func (t *traffic) of(name string) (counts map[string]uint64, seen time.Time) {
	c := t.caller(name)
	counts = t.counts(c.answers)
	for _, o := range unknown {
		delete(counts, string(o))
	}
	if at := c.seen.Load(); at != 0 {
		seen = time.Unix(0, at)
	}
	return counts, seen
}
