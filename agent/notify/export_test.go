package notify

import (
	"context"
	"time"
)

// ErrUnneeded and the classes of failure, for tests that stand in for the
// world.
var (
	ErrUnneeded       = errUnneeded
	ErrFailed   error = &failure{class: failed, msg: "failed", hint: "mend it"}
	ErrAbsent   error = &failure{class: absent, msg: "absent"}
	ErrUnready  error = &failure{class: unready, msg: "unready"}
)

// NewFake returns a Notifier whose targets are told by attempt.
func NewFake(targets []Target, opts Options, attempt func(context.Context, Target, Change) error) *Notifier {
	return newNotifier(targets, opts, func() attemptFunc { return attempt })
}

// Attempts makes real attempts, one after another.
func Attempts(grace time.Duration) func(Target, Change) error {
	w := &teller{grace: grace}
	return func(t Target, c Change) error {
		return w.tell(context.Background(), t.withDefaults(), c.stamped())
	}
}

// Attempt makes one real attempt.
func Attempt(t Target, c Change) error { return Attempts(100*time.Millisecond)(t, c) }

// ClassOf names the class of a failed attempt.
func ClassOf(err error) string { return [...]string{"failed", "absent", "unready"}[classOf(err)] }

// HintOf is what the command line would print.
func HintOf(err error) string { return hintOf(err) }

var (
	ParsePid    = parsePid
	ParseStat   = parseStat
	ParseStatus = func(b []byte) (tgid int, err error) {
		s, err := parseStatus(b)
		return s.tgid, err
	}
	Environment = environment
	MaxList     = maxList
)
