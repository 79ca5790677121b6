package agent

import (
	"errors"

	"secretsd/agent/notify"
)

// fault is an error with a hint on how to mend it.
type fault struct {
	err  error
	hint string
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }
func (f *fault) Hint() string  { return f.hint }

// attrs returns err, and its hint if it has one, for a log line.
func attrs(err error, more ...any) []any {
	list := append(more, "error", err)
	if hint := hintOf(err); hint != "" {
		list = append(list, "hint", hint)
	}
	if output := notify.OutputOf(err); output != "" {
		list = append(list, "output", output)
	}
	return list
}

// hintOf returns the first hint in err's chain, or "".
func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
