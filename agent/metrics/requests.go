package metrics

import (
	"strconv"
	"sync/atomic"
	"time"
)

// buckets are the upper bounds of the latency histogram: a hit, a hit under
// load, a read from AWS, a slow one, and one that ran into its limit.
var buckets = [...]time.Duration{
	500 * time.Microsecond, 5 * time.Millisecond, 50 * time.Millisecond, 500 * time.Millisecond, 5 * time.Second,
}

// Requests counts the requests to the endpoint. Its methods may be called from
// any goroutine, and wait for nothing.
type Requests struct {
	outcomes []string
	counts   []atomic.Uint64
	// took counts by bucket, each request in one of them; the last has no
	// bound.
	took [len(buckets) + 1]atomic.Uint64
	// sum is in nanoseconds.
	sum atomic.Uint64
}

// NewRequests returns counters for the outcomes, which are all there are.
func NewRequests(outcomes ...string) *Requests {
	return &Requests{outcomes: outcomes, counts: make([]atomic.Uint64, len(outcomes))}
}

// Observe counts one request. An outcome that [NewRequests] was not given
// enters the histogram only.
func (r *Requests) Observe(outcome string, took time.Duration) {
	for i, o := range r.outcomes {
		if o == outcome {
			r.counts[i].Add(1)
			break
		}
	}
	r.took[bucketOf(took)].Add(1)
	r.sum.Add(uint64(max(took, 0)))
}

func bucketOf(took time.Duration) int {
	for i, bound := range buckets {
		if took <= bound {
			return i
		}
	}
	return len(buckets)
}

func (r *Requests) expose(e *exposition) {
	e.family("secretsd_endpoint_requests_total", counter, "Requests to the endpoint by what they were answered.")
	for i, outcome := range r.outcomes {
		e.sample(float64(r.counts[i].Load()), "outcome", outcome)
	}
	e.family("secretsd_endpoint_request_duration_seconds", histogram, "Time from a request's head to its answer.")
	// What is counted while this runs may be missing from the sum; within the
	// buckets, which are read once, everything adds up.
	var total uint64
	for i := range r.took {
		total += r.took[i].Load()
		bound := "+Inf"
		if i < len(buckets) {
			bound = strconv.FormatFloat(buckets[i].Seconds(), 'g', -1, 64)
		}
		e.part("_bucket", float64(total), "le", bound)
	}
	e.part("_sum", time.Duration(r.sum.Load()).Seconds())
	e.part("_count", float64(total))
}
