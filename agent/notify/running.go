package notify

import "sync"

// commands are the commands that run: hooks, checks and what confirms. A check of a
// server's files is often the server's own program, and none of its processes.
var commands running

// running is a set of processes that the agent has started and not reaped.
type running struct {
	mu   sync.Mutex
	pids map[int]bool
}

func (r *running) add(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pids == nil {
		r.pids = map[int]bool{}
	}
	r.pids[pid] = true
}

func (r *running) remove(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pids, pid)
}

func (r *running) has(pid int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pids[pid]
}
