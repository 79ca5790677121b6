package endpoint

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"time"
)

const (
	// maxWait is how long a request may wait for a version to change, and what
	// it waits where it does not say.
	maxWait = time.Minute
	// askAgain is how often a waiting request looks at a secret that is not
	// configured, for those wake nobody.
	askAgain = time.Second
	// writeReserve is what is left of a server's timeouts for writing.
	writeReserve = 5 * time.Second
)

// parseWait reads a timeout: a duration such as 30s, or seconds.
func parseWait(s string) (time.Duration, bool) {
	d, err := time.ParseDuration(s)
	if n, numErr := strconv.ParseUint(s, 10, 16); numErr == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	return min(d, maxWait), err == nil && d >= 0
}

// enterPoll counts a request as one that waits, which has a limit of its own
// beside that of requests in flight. It returns false above it.
func (c *core) enterPoll(s *settings) bool {
	if c.polls.Add(1) > s.maxInFlight {
		c.polls.Add(-1)
		return false
	}
	return true
}

func (c *core) leavePoll() { c.polls.Add(-1) }

// poll answers p as soon as its version is not the one the client has, or with
// that one after the time it gives or when the server ends. Rights are looked at
// whenever it wakes.
func (c *core) poll(ctx context.Context, s *settings, r *request, p *params) response {
	if !c.enterPoll(s) {
		return respOverLimit
	}
	defer c.leavePoll()
	wait := maxWait
	if p.hasWait {
		wait = p.wait
	}
	deadline := time.NewTimer(r.longer(wait))
	defer deadline.Stop()
	for last := false; ; {
		changed := c.viewChanged()
		now := c.now.Load()
		r.view = now.view
		who := now.settings.identify(r)
		if who == nil {
			return respBadToken
		}
		resp, fromView := c.find(ctx, who, r, p)
		if last || resp.status != http.StatusOK || resp.subject.version != p.waitVersion {
			return resp
		}
		p.refresh = false
		var again <-chan time.Time
		if !fromView {
			again = time.After(askAgain)
		}
		select {
		case <-changed:
		case <-again:
		case <-deadline.C:
			last = true
		case <-c.ended:
			last = true
		case <-ctx.Done():
			return resp
		}
	}
}

// longer has the server give the request that much more time, and returns how
// much of it there is.
func (r *request) longer(d time.Duration) time.Duration {
	if r.extend == nil {
		return min(d, defaultTimeouts.Write-writeReserve)
	}
	r.extend(d + readLimit + writeReserve)
	return d
}

// viewChanged returns a channel that is closed when the next view is published.
func (c *core) viewChanged() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		c.next = make(chan struct{})
	}
	return c.next
}

// replace has s and v in force from the next request on, in one step. What is
// nil stays as it is.
func (c *core) replace(s *settings, v *View) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := &moment{s, v}
	if old := c.now.Load(); old != nil {
		next.settings, next.view = cmp.Or(s, old.settings), cmp.Or(v, old.view)
	}
	c.now.Store(next)
	if v != nil && c.next != nil {
		close(c.next)
		c.next = nil
	}
}
