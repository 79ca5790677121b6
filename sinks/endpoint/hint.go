package endpoint

import "fmt"

// hinted is an error with a line on how to mend it, for the command line to
// print below the error.
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
