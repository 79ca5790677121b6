package notify

import (
	"fmt"
	"time"
)

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
	// StateAbsent: there is nobody to tell: no pid file, no such process, or
	// nobody who listens.
	StateAbsent State = "absent"
	// StateUnready: there is a process, but it cannot be told yet: it has no
	// handler for the signal, or the pid file is older than it.
	StateUnready State = "unready"
	// StateFailing: the last attempt failed; degraded.
	StateFailing State = "failing"
	// StateConfirming: it was told, by LadderStep, and has not confirmed yet.
	StateConfirming State = "confirming"
	// StateUnconfirmed: nothing is owed, but it has not confirmed what it was told
	// last; degraded.
	StateUnconfirmed State = "unconfirmed"
)

// TargetStatus is the state of one target, for people and metrics.
type TargetStatus struct {
	Name string `json:"name"`
	// Kind is "signal", "command", "http" or "unit".
	Kind  string `json:"kind"`
	State State  `json:"state"`
	// OwedSince is when the last of the files was published that the target has
	// not been told of, or has yet to confirm; zero if nothing is owed.
	OwedSince time.Time `json:"owed_since,omitzero"`
	// Attempts that have failed since the last delivery.
	Attempts int `json:"attempts,omitempty"`
	// NextAttempt is when it is told or asked next; zero if nothing waits.
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	// LastTold is when the last delivery ended; zero if there was none since
	// the agent started.
	LastTold time.Time `json:"last_told,omitzero"`
	// LastOutcome is the last [OutcomeKind]; empty if there was none since the
	// agent started.
	LastOutcome string `json:"last_outcome,omitempty"`
	// LadderStep is the step by which it was told and which it is to confirm: 0 is
	// its own way, what follows is its ladder.
	LadderStep int `json:"ladder_step,omitempty"`
	// Unconfirmed says that it has gone up its whole ladder without confirming, and
	// has not confirmed anything since.
	Unconfirmed bool `json:"unconfirmed,omitempty"`
	// Error says why the last attempt told nobody, or why it does not confirm;
	// empty after a delivery or confirmation. Hint says how to mend it, or is
	// empty.
	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`
}

// Describe returns the state in words for people: which step of the ladder is to be
// confirmed, and that nothing was confirmed since the last change.
func (s *TargetStatus) Describe() string {
	text := string(s.State)
	if s.LadderStep > 0 {
		text += fmt.Sprintf(" step %d of its ladder", s.LadderStep)
	}
	if s.Unconfirmed && s.State != StateUnconfirmed {
		text += ", unconfirmed"
	}
	return text
}

// debts returns what has to survive a restart.
func (q *queue) debts() []Change {
	q.mu.Lock()
	defer q.mu.Unlock()
	var list []Change
	if q.trial.doubted != nil {
		c := q.trial.doubted.clone()
		c.Unconfirmed = true
		list = append(list, c)
	}
	if c, ok := q.debtLocked(); ok {
		list = append(list, c)
	}
	return list
}

func (q *queue) debtLocked() (Change, bool) {
	return united(q.trial.change, q.telling, q.owed)
}

// united returns one change that tells of all that are there, in the order they
// came, or false if none is.
func united(changes ...*Change) (Change, bool) {
	var sum Change
	found := false
	for _, c := range changes {
		switch {
		case c == nil:
		case !found:
			sum, found = c.clone(), true
		default:
			sum = sum.merge(*c)
		}
	}
	return sum, found
}

func (q *queue) status() TargetStatus {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := TargetStatus{
		Name:        q.name,
		Kind:        q.target.kind(),
		Attempts:    q.trouble.total,
		LastTold:    q.told,
		LastOutcome: q.last,
		Unconfirmed: q.trial.doubted != nil,
	}
	if owed, ok := q.debtLocked(); ok {
		s.OwedSince = owed.At
	}
	if c := q.trial.change; c != nil {
		s.LadderStep = c.Told - 1
	}
	why := q.trouble.err
	if why == nil {
		why = q.trial.err
	}
	if why != nil {
		s.Error, s.Hint = why.Error(), hintOf(why)
	}
	s.State, s.NextAttempt = q.state()
	return s
}

// state returns what the target does, and when it does something next.
func (q *queue) state() (State, time.Time) {
	tr := &q.trial
	switch {
	case q.telling != nil || tr.climbing:
		return StateTelling, time.Time{}
	case q.owed != nil && q.trouble.err == nil:
		return StateDue, q.due
	case q.owed != nil:
		return q.trouble.state(), q.due
	case tr.change != nil:
		return StateConfirming, tr.ask
	case tr.doubted != nil:
		return StateUnconfirmed, tr.ask
	}
	return StateIdle, time.Time{}
}

// state is that of a target that could not be told.
func (tr *trouble) state() State {
	switch tr.class {
	case absent:
		return StateAbsent
	case unready:
		return StateUnready
	default:
		return StateFailing
	}
}
