package process

import (
	"errors"
	"fmt"
)

// hinted is an error with a line on how to mend it.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

// Hint returns how to mend the error.
func (e *hinted) Hint() string { return e.hint }

func withHint(hint, format string, args ...any) error {
	return &hinted{err: fmt.Errorf(format, args...), hint: hint}
}

// attrs returns err, and its hint if it has one, for a log line.
func attrs(err error) []any {
	list := []any{"error", err}
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" {
		list = append(list, "hint", h.Hint())
	}
	return list
}
