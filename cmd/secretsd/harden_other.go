//go:build !linux

package main

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"
)

// harden switches core dumps off. Outside Linux nothing more is done: other
// processes of the same user can read this one's memory.
func harden() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switch off core dumps: %w", err)
	}
	return nil
}

// warnSwap says nothing: macOS encrypts its swap.
func warnSwap(*slog.Logger) {}

// monotonicMicroseconds is only asked for where there is systemd.
func monotonicMicroseconds() int64 { return 0 }
