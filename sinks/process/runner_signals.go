package process

import (
	"syscall"
	"time"
)

// forward passes on a signal that the agent was sent.
func (r *runner) forward(sig syscall.Signal) {
	switch {
	case r.cur == nil || r.ending && r.next == restart && asksToEnd(sig):
		if r.s.opts.Once && asksToEnd(sig) {
			r.exit, r.next, r.asked = Exit{Signal: sig}, finish, time.Now()
			r.over = r.cur == nil
		}
	case sig == syscall.SIGCONT:
		r.resume()
	case sig == syscall.SIGTERM && r.s.opts.Once:
		r.ask()
	default:
		r.send(sig, r.cur.audience())
	}
}

// ask passes on a request to end: from then on the child has its kill timeout.
func (r *runner) ask() {
	switch {
	case r.asked.IsZero():
		r.asked, r.next = time.Now(), finish
		r.end(syscall.SIGTERM)
	case time.Since(r.asked) >= secondAfter && !r.killed:
		r.log.Warn("told to end a second time, killing the child", "pid", r.cur.pid)
		r.killNow()
	default:
		r.send(syscall.SIGTERM, leader)
	}
}

// asksToEnd reports whether sig is meant to end a process that does nothing else
// with it.
func asksToEnd(sig syscall.Signal) bool {
	switch sig {
	case syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT:
		return true
	}
	return false
}

// stop is called when the child was stopped.
func (r *runner) stop(sig syscall.Signal) {
	r.stopped = true
	if r.ending {
		r.send(syscall.SIGCONT, group) // or it could not end
		return
	}
	if r.cur.suspend(sig) {
		r.resume()
	}
}

func (r *runner) resume() {
	r.stopped = false
	r.cur.foreground()
	r.send(syscall.SIGCONT, group)
}
