package main

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
)

// signals are what the process is told from outside.
type signals struct {
	// reload receives for every SIGHUP; several in a row count as one.
	reload <-chan os.Signal
	// child receives what is passed on to a child.
	child chan os.Signal
	// died receives after a child of this process, or an orphan, has died.
	died <-chan os.Signal
	// last is done before the exit that a second SIGINT or SIGTERM means.
	last atomic.Pointer[func()]
}

// watchSignals returns a context that ends with the first SIGINT or SIGTERM;
// the second ends the process at once. SIGHUP is a reload for the commands that
// run an agent, from the first moment on: one that arrives during the start
// must not end the process. With exec all signals are the child's, and end
// nothing.
func watchSignals(ctx context.Context, args []string) (context.Context, *signals) {
	reload, died := make(chan os.Signal, 1), make(chan os.Signal, 1)
	s := &signals{reload: reload, died: died, child: make(chan os.Signal, 64)}
	command := ""
	if i := slices.IndexFunc(args, func(arg string) bool { return !strings.HasPrefix(arg, "-") }); i >= 0 {
		command = args[i]
	}
	if slices.Contains([]string{"run", "dev", "exec"}, command) {
		signal.Notify(died, syscall.SIGCHLD)
		// Whoever read the log may have gone; that ends no agent. Notify and not
		// Ignore: an ignored signal would be ignored by every hook, too.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	}
	if command == "exec" {
		s.forward(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
		s.forwardRest()
		return ctx, s
	}
	ctx, cancel := context.WithCancel(ctx)
	ending := make(chan os.Signal, 2)
	signal.Notify(ending, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-ending
		cancel()
		<-ending
		if last := s.last.Load(); last != nil {
			(*last)()
		}
		os.Exit(exitFailed)
	}()
	if command == "run" || command == "dev" {
		signal.Notify(reload, syscall.SIGHUP)
	}
	return ctx, s
}

// forward passes these signals on to the child. One that this process was started
// to ignore, as nohup does, stays ignored, and so by the child.
func (s *signals) forward(list ...os.Signal) {
	for _, sig := range list {
		if !signal.Ignored(sig) {
			signal.Notify(s.child, sig)
		}
	}
}

// forwardRest passes on to the child all signals but HUP, INT and TERM, those that
// are about this process itself (CHLD, URG, which Go's scheduler uses, and PIPE),
// and those that cannot be caught: KILL, STOP, PROF, and 32 to 34, which C
// libraries keep to themselves.
func (s *signals) forwardRest() {
	const last = 64
	own := []syscall.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPIPE,
		syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGPROF, 32, 33, 34,
	}
	for sig := syscall.Signal(1); sig <= last; sig++ {
		if !slices.Contains(own, sig) {
			s.forward(sig)
		}
	}
}
