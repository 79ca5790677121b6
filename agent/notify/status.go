package notify

import "time"

// State is what a target's queue is doing.
type State string

// The states of a target.
const (
	// StateIdle: nothing is owed.
	StateIdle State = "idle"
	// StateDue: something is owed and waits for the end of the debounce, or
	// for its turn.
	StateDue State = "due"
	// StateTelling: an attempt is under way.
	StateTelling State = "telling"
	// StateAbsent: there is no pid file or no such process.
	StateAbsent State = "absent"
	// StateUnready: there is a process, but it cannot be told yet: it has no
	// handler for the signal, or the pid file is older than it.
	StateUnready State = "unready"
	// StateFailing: the last attempt failed; degraded.
	StateFailing State = "failing"
)

// TargetStatus is the state of one target, for people and metrics.
type TargetStatus struct {
	Name string `json:"name"`
	// Kind is "signal" or "command".
	Kind  string `json:"kind"`
	State State  `json:"state"`
	// OwedSince is when the last of the files the target has not been told of
	// was published; zero if nothing is owed.
	OwedSince time.Time `json:"owed_since,omitzero"`
	// Attempts that have failed since the last delivery.
	Attempts int `json:"attempts,omitempty"`
	// NextAttempt is when it is tried next; zero if nothing waits.
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	// LastTold is when the last delivery ended; zero if there was none since
	// the agent started.
	LastTold time.Time `json:"last_told,omitzero"`
	// Error says why the last attempt told nobody; empty after a delivery.
	Error string `json:"error,omitempty"`
}

func (q *queue) debt() (Change, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.debtLocked()
}

func (q *queue) debtLocked() (Change, bool) {
	switch {
	case q.telling != nil && q.owed != nil:
		return q.telling.merge(*q.owed), true
	case q.telling != nil:
		return q.telling.clone(), true
	case q.owed != nil:
		return q.owed.clone(), true
	}
	return Change{}, false
}

func (q *queue) status() TargetStatus {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := TargetStatus{
		Name:     q.name,
		Kind:     q.target.kind(),
		State:    StateIdle,
		Attempts: q.trouble.total,
		LastTold: q.told,
	}
	if q.trouble.err != nil {
		s.Error = q.trouble.err.Error()
	}
	owed, ok := q.debtLocked()
	if !ok {
		return s
	}
	s.OwedSince = owed.At
	switch {
	case q.telling != nil:
		s.State = StateTelling
		return s
	case q.trouble.err == nil:
		s.State = StateDue
	case q.trouble.class == absent:
		s.State = StateAbsent
	case q.trouble.class == unready:
		s.State = StateUnready
	default:
		s.State = StateFailing
	}
	s.NextAttempt = q.due
	return s
}
