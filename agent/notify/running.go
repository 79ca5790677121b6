package notify

import (
	"maps"
	"os/exec"
	"slices"
	"sync"
	"time"
)

// commands are the commands that run: hooks, checks and what confirms. A check of a
// server's files is often the server's own program, and none of its processes.
var commands = running{pids: map[int]bool{}, starts: map[chan struct{}]bool{}}

// startPatience is how long a start that hangs keeps others from being found.
const startPatience = 100 * time.Millisecond

// running is a set of processes that the agent has started and not reaped.
type running struct {
	mu   sync.Mutex
	pids map[int]bool
	// starts are those under way: a program may run before we know its pid.
	starts map[chan struct{}]bool
}

// start starts cmd, whose process is in the set until remove.
func (r *running) start(cmd *exec.Cmd) error {
	done := make(chan struct{})
	defer close(done)
	r.mu.Lock()
	r.starts[done] = true
	r.mu.Unlock()
	err := cmd.Start()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.starts, done)
	if err == nil {
		r.pids[cmd.Process.Pid] = true
	}
	return err
}

func (r *running) remove(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pids, pid)
}

// has reports whether pid, a child of the agent, is one of them. If that is not known
// in time it is.
func (r *running) has(pid int) bool {
	r.mu.Lock()
	known, starts := r.pids[pid], slices.Collect(maps.Keys(r.starts))
	r.mu.Unlock()
	if known || len(starts) == 0 {
		return known
	}
	late := time.NewTimer(startPatience)
	defer late.Stop()
	for _, done := range starts {
		select {
		case <-done:
		case <-late.C:
			return true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pids[pid]
}
