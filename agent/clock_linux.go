package agent

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootClock counts on while the machine is suspended, so that a value read
// before a night's sleep is as old as it looks (clock_gettime(2),
// CLOCK_BOOTTIME). Go's own monotonic clock stands still meanwhile.
func bootClock() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Since(processStart)
	}
	return time.Duration(ts.Nano())
}
