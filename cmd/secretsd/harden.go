package main

import (
	"fmt"
	"syscall"
)

// limitCore switches core dumps off and returns the limit before. The hard limit
// stays: a child gets back what it would have had without us.
func limitCore() (*syscall.Rlimit, error) {
	var before syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_CORE, &before)
	if err == nil {
		err = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{Max: before.Max})
	}
	if err != nil {
		return nil, fmt.Errorf("switch off core dumps: %w", err)
	}
	return &before, nil
}
