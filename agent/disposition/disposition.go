// Package disposition finds out, from outside and on Linux, what a process would do
// with a signal, so that none is sent to a process that it would only end.
//
// A process that handles a signal catches it, ignores it, or has it blocked and
// waits for it by signalfd(2) or sigwait(3). Blocked it is too by whoever is about
// to start a program, for a moment and without any handler: dash and what uses
// posix_spawn(3) block all signals until the new program runs, and a signal that
// comes then ends them when the moment is over. One look cannot tell the two
// apart; [Watch] can.
package disposition

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

// Disposition is what a process was found to do with a signal.
type Disposition int

// The dispositions there are.
const (
	// Default is what signal(7) says, which most often ends the process.
	Default Disposition = iota
	// Unclear is a signal that is blocked by a process which cannot do anything
	// with it now: it is stopped, or in an uninterruptible wait, as everybody is who
	// waits in vfork(2) for the new program to run.
	Unclear
	// Blocked is a signal that is blocked by a process at work.
	Blocked
	// Awaited is a signal that is blocked by a process asleep. Who starts a program
	// is hardly ever found so.
	Awaited
	// Handled is a signal that is caught or ignored.
	Handled
)

// Masks are the dispositions of all signals of a process, and the state of its main
// thread.
type Masks struct {
	handled, blocked uint64 // bit n-1 is signal n
	state            string
}

// Parse reads /proc/PID/status (proc_pid_status(5)). All fields that count must be
// there. The kernel escapes newlines in the process's name, so a line is a field.
func Parse(status []byte) (Masks, error) {
	var m Masks
	missing := map[string]bool{"State": true, "SigBlk": true, "SigIgn": true, "SigCgt": true}
	for line := range strings.Lines(string(status)) {
		key, rest, _ := strings.Cut(line, ":")
		if !missing[key] {
			continue
		}
		delete(missing, key)
		value := strings.TrimSpace(rest)
		if key == "State" {
			m.state = value[:min(1, len(value))]
			continue
		}
		mask, err := strconv.ParseUint(value, 16, 64)
		if err != nil {
			return Masks{}, fmt.Errorf("parse status: %s is not a number", key)
		}
		if key == "SigBlk" {
			m.blocked = mask
		} else {
			m.handled |= mask
		}
	}
	for key := range missing {
		return Masks{}, fmt.Errorf("parse status: no %s", key)
	}
	return m, nil
}

// Of returns the disposition of sig.
func (m Masks) Of(sig syscall.Signal) Disposition {
	if sig < 1 || sig > 64 {
		return Default
	}
	bit := uint64(1) << (uint(sig) - 1)
	switch {
	case m.handled&bit != 0:
		return Handled
	case m.blocked&bit == 0:
		return Default
	}
	switch m.state {
	case "S":
		return Awaited
	case "R":
		return Blocked
	}
	return Unclear
}

const (
	// awaitedLooks is how often a signal has to be found awaited, and at no look
	// between at its default, to count as handled.
	awaitedLooks = 5
	// blockedLooks is how often in a row it has to be found blocked at work or
	// asleep, for a process that never seems to sleep. In a loop of dash that does
	// nothing but start programs it is at every tenth look.
	blockedLooks = 100
	// patience is after how many looks at a blocked signal nothing is expected of
	// further ones.
	patience = 200
)

// Watch judges a signal by looks at a process, one after another and some
// milliseconds apart. The zero value has not looked yet.
type Watch struct{ awaited, blocked, looks int }

// Look takes down one look, and reports whether the signal can be sent.
func (w *Watch) Look(d Disposition) bool {
	switch d {
	case Handled:
		return true
	case Default:
		*w = Watch{}
		return false
	case Awaited:
		w.awaited++
		w.blocked++
	case Blocked:
		w.blocked++
	}
	w.looks++
	return w.awaited >= awaitedLooks || w.blocked >= blockedLooks
}

// Undecided reports whether further looks may show the signal to be handled although
// nothing about the process changes.
func (w *Watch) Undecided() bool { return w.looks > 0 && w.looks < patience }
