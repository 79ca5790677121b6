package endpoint

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	// strangerBurst wrong tokens are refused at once, as happens after a token
	// was changed, and then strangerRate a second. The others wait for their turn,
	// but not longer than maxStrangerWait.
	strangerBurst   = 20
	strangerRate    = 10
	maxStrangerWait = time.Second
	// maxStrangers wait at a time, for each holds a connection.
	maxStrangers = idleSlack / 2
)

// strangers are the requests without a token that is known. Refusals are slowed
// down for all of them together, since a stranger can come from as many
// connections as he likes.
type strangers struct {
	badTokens atomic.Uint64
	slowed    atomic.Uint64
	waiting   atomic.Int64
	limiter   *rate.Limiter // of [newLimiter]
}

func newLimiter() *rate.Limiter { return rate.NewLimiter(strangerRate, strangerBurst) }

// refuse returns the answer to a stranger, whatever he came with. It blocks for a
// second at most. When too many wait already it does not, but then the connection
// is closed, so that the next try costs him a new one.
func (s *strangers) refuse(ctx context.Context, resp response) response {
	s.badTokens.Add(1)
	turn := s.limiter.Reserve()
	wait := turn.Delay()
	if wait == 0 {
		return resp
	}
	s.slowed.Add(1)
	resp.closes = true
	if wait > maxStrangerWait {
		turn.Cancel() // or a flood would have those after it wait for hours
		wait = maxStrangerWait
	}
	if s.waiting.Add(1) <= maxStrangers {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	s.waiting.Add(-1)
	return resp
}
