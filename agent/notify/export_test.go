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

// FakeWorld stands in for everything that can be told and asked. Neither field
// may be nil if it is needed.
type FakeWorld struct {
	Tell  func(ctx context.Context, t Target, step int, c Change) error
	Probe func(ctx context.Context, t Target, c Change) error
}

func (w FakeWorld) tell(ctx context.Context, t Target, n int, c Change) error {
	return w.Tell(ctx, t, n, c)
}

func (w FakeWorld) probe(ctx context.Context, t Target, c Change) error { return w.Probe(ctx, t, c) }

// NewFake returns a Notifier whose targets are in w.
func NewFake(targets []Target, opts Options, w FakeWorld) *Notifier {
	return newNotifier(targets, opts, func() world { return w })
}

// Attempts makes real attempts, one after another.
func Attempts(grace time.Duration) func(Target, Change) error {
	return AttemptsWithChild(grace, nil)
}

// AttemptsWithChild makes real attempts beside a supervised child.
func AttemptsWithChild(grace time.Duration, child func() (pid int, since time.Time)) func(Target, Change) error {
	w := newTellers(&teller{grace: grace, child: child})
	return func(t Target, c Change) error {
		return w.tell(context.Background(), t.withDefaults(), 0, c.stamped())
	}
}

// AttemptGiven makes one real attempt whose command is given what opts say.
func AttemptGiven(t Target, c Change, opts Options) error {
	w := newTellers(&teller{grace: 100 * time.Millisecond, variables: opts.Variables, secrets: opts.Secrets})
	return w.tell(context.Background(), t.withDefaults(), 0, c.stamped())
}

// Attempt makes one real attempt.
func Attempt(t Target, c Change) error { return Attempts(100*time.Millisecond)(t, c) }

// AttemptStep makes one real attempt by the nth step of t.
func AttemptStep(t Target, n int, c Change) error {
	return newTellers(&teller{grace: time.Second}).tell(context.Background(), t.withDefaults(), n, c.stamped())
}

// Ask asks once, within limit.
func Ask(p *Probe, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	w := newTellers(&teller{grace: 100 * time.Millisecond})
	return w.probe(ctx, Target{Name: "app", Confirm: p}, Change{Reason: ReasonChange, Paths: []string{"/a"}})
}

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
	ParseParent = parseParent
	ParseArgv0  = parseArgv0
	Within      = within
	Nested      = nested
	Environment = environment
	MaxList     = maxList
)
