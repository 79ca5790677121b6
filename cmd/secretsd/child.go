package main

import (
	"context"
	"os"
	"syscall"

	"secretsd/agent"
	"secretsd/agent/config"
)

// supervise has signals reach the child that cfg asks for, and has it end with us
// whatever happens.
func (s *service) supervise(a *agent.Agent, cfg *config.Config) {
	if cfg.Exec == nil {
		return
	}
	last := func() {
		a.KillChild()
		s.leave()
	}
	s.signals.last.Store(&last)
	if !s.child.Once {
		s.signals.forwardRest()
	}
}

// passOn passes signals on to the child until ctx is done. Once a wrapper has no
// child any more they mean the wrapper itself.
func (s *service) passOn(ctx context.Context, a *agent.Agent) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-s.signals.child:
			n, ok := sig.(syscall.Signal)
			if ok && !a.ForwardSignal(n) && (n == syscall.SIGTERM || n == syscall.SIGINT) {
				s.leave()
				os.Exit(128 + int(n))
			}
		}
	}
}

// leave is what is done before an exit that waits for nothing.
func (s *service) leave() {
	if s.leaving != nil {
		s.leaving()
	}
}
