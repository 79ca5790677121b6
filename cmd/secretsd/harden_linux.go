package main

import (
	"bufio"
	"fmt"
	"log/slog"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// harden keeps other processes of the same user, and core dumps, from the
// memory of this one (prctl(2), PR_SET_DUMPABLE; core(5)). It returns the limit of
// core dumps that the process was started with.
func harden() (*syscall.Rlimit, error) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("make process undumpable: %w", err)
	}
	return limitCore()
}

// warnSwap says once that memory may reach a disk. A cgroup without swap
// settles that, and cannot be told from here with certainty.
func warnSwap(log *slog.Logger) {
	f, err := os.Open("/proc/swaps")
	if err != nil {
		return
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Scan() // the heading
	if lines.Scan() {
		log.Warn("swap is active: secrets in memory and on tmpfs may be written to it",
			"hint", "switch swap off, encrypt it, or set MemorySwapMax=0 in the unit and mount the tmpfs with noswap")
	}
}

func monotonicMicroseconds() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail with this clock
	return ts.Nano() / 1000
}
