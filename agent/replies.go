package agent

import (
	"sync"

	"secretsd/agent/notify"
)

// reply is what a target has made of what it was told.
type reply struct {
	target string
	told   notify.Change
	// rollback says that it has not confirmed it, and that its files are to go back;
	// else it works with it.
	rollback bool
	// read are the versions read for the rollback; nil if none were.
	read values
	// late says that the rollback has waited.
	late bool
}

// replies are on their way to the goroutine that applies. There are never more of
// them than targets were told of changes meanwhile, and none is ever lost.
type replies struct {
	// came receives when there are any; one signal stands for any number.
	came chan struct{}

	mu   sync.Mutex
	list []reply
}

func newReplies() *replies { return &replies{came: make(chan struct{}, 1)} }

// add does not block.
func (s *replies) add(r reply) {
	s.mu.Lock()
	s.list = append(s.list, r)
	s.mu.Unlock()
	select {
	case s.came <- struct{}{}:
	default:
	}
}

func (s *replies) take() []reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.list
	s.list = nil
	return list
}

// replied hands on what the goroutine that applies has to know of an outcome.
func (a *Agent) replied(target string, o notify.Outcome) {
	switch {
	case o.Kind == notify.Confirmed || o.Kind == notify.Unneeded:
		a.replies.add(reply{target: target, told: o.Change})
	case o.Rollback:
		a.replies.add(reply{target: target, told: o.Change, rollback: true})
	}
}

// heed acts on what targets have replied, and reports whether a pass has to follow.
func (a *applier) heed(list []reply) (rolledBack bool) {
	for _, r := range list {
		if r.rollback {
			rolledBack = true
			a.rollBack(r)
		} else {
			a.trust(r.target, r.told)
		}
	}
	return rolledBack
}
