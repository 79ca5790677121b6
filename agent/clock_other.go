//go:build !linux

package agent

import "time"

// bootClock is Go's monotonic clock: outside Linux the agent serves developers,
// and a suspended machine makes values look younger than they are.
func bootClock() time.Duration { return time.Since(processStart) }
