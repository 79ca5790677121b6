package main

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

// signals are what the process is told from outside.
type signals struct {
	// reload receives for every SIGHUP; several in a row count as one.
	reload <-chan os.Signal
}

// watchSignals returns a context that ends with the first SIGINT or SIGTERM;
// the second ends the process at once. SIGHUP is a reload for the commands that
// run an agent, from the first moment on: one that arrives during the start
// must not end the process.
func watchSignals(ctx context.Context, args []string) (context.Context, signals) {
	ctx, cancel := context.WithCancel(ctx)
	ending := make(chan os.Signal, 2)
	signal.Notify(ending, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-ending
		cancel()
		<-ending
		os.Exit(exitFailed)
	}()
	reload := make(chan os.Signal, 1)
	if slices.Contains(args, "run") || slices.Contains(args, "dev") {
		signal.Notify(reload, syscall.SIGHUP)
		// Whoever read the log may have gone; that ends no agent. Notify and not
		// Ignore: an ignored signal would be ignored by every hook, too.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	}
	return ctx, signals{reload: reload}
}
