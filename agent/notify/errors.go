package notify

import (
	"errors"
	"time"
)

// class says what an attempt that told nobody means for the next one.
type class int

const (
	// failed: somebody has to mend something, or it will pass. Said at once,
	// tried again at the target's own back-off.
	failed class = iota
	// absent: there is nobody to tell. That is a state and not an error, and
	// is not warned about.
	absent
	// unready: there is a process, but not one that can be told yet. A process
	// that is starting looks like that for a moment, so it is tried again soon
	// and warned about only if it lasts.
	unready
)

// First and longest wait for what will come by itself.
const (
	absentWait  = 100 * time.Millisecond
	unreadyWait = 50 * time.Millisecond
)

// errUnneeded is returned by an attempt that found nothing to do.
var errUnneeded = errors.New("nothing to tell")

// failure is an attempt that told nobody, or a target that cannot be used.
type failure struct {
	class class
	msg   string
	hint  string
	cause error
	// ran says that a command was started.
	ran bool
	// output is the end of what it printed, without secrets. It is for the log alone.
	output string
}

func (f *failure) Error() string {
	if f.cause == nil {
		return f.msg
	}
	return f.msg + ": " + f.cause.Error()
}

func (f *failure) Unwrap() error { return f.cause }

// Hint says how to mend it, or is empty.
func (f *failure) Hint() string {
	if f.hint == "" && f.cause != nil {
		return hintOf(f.cause)
	}
	return f.hint
}

// classOf returns the class of a failed attempt.
func classOf(err error) class {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.class
	}
	return failed
}

// hintOf returns the hint of the first error in err's tree that has one.
func hintOf(err error) string {
	if h, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		return h.Hint()
	}
	return ""
}

// attrs returns what is logged of an error, after args: what it says and, if it
// has one, its hint. Without an error that is nothing.
func attrs(err error, args ...any) []any {
	if err == nil {
		return args
	}
	args = append(args, "error", err.Error())
	if hint := hintOf(err); hint != "" {
		args = append(args, "hint", hint)
	}
	if output := OutputOf(err); output != "" {
		args = append(args, "output", output)
	}
	return args
}

// OutputOf returns the end of what the command that err is about printed, without
// secrets, if that was asked for, or "". It is for a log and nothing that is kept.
func OutputOf(err error) string {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.output
	}
	return ""
}
