//go:build !linux

package main

import (
	"log/slog"
	"syscall"
)

// harden switches core dumps off and returns the limit that the process was
// started with. Outside Linux nothing more is done: other processes of the same
// user can read this one's memory.
func harden() (*syscall.Rlimit, error) { return limitCore() }

// warnSwap says nothing: macOS encrypts its swap.
func warnSwap(*slog.Logger) {}

// monotonicMicroseconds is only asked for where there is systemd.
func monotonicMicroseconds() int64 { return 0 }
