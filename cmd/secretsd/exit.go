package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"secretsd/agent"
)

// The exit codes, documented in the README and held by testdata/exit.txtar.
const (
	exitDone    = 0
	exitFailed  = 1 // what only running can tell: a port in use, what AWS answers
	exitUsage   = 2
	exitConfig  = 3 // all that check finds without the network
	exitMissing = 4 // some secrets could not be read
)

// codedError is an error with the exit code it means. Without an error it is the
// code of a child, of which there is nothing to say.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *codedError) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return &codedError{exitUsage, fmt.Errorf(format, args...)}
}

// codeOf returns the exit code that err means.
func codeOf(err error) int {
	var coded *codedError
	var config *agent.ConfigError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &config):
		return exitConfig
	default:
		return exitFailed
	}
}

// finding is one error as it is shown.
type finding struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

// findings takes joined errors apart.
func findings(err error) []finding {
	if err == nil {
		return nil
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if joined, ok := e.(interface{ Unwrap() []error }); ok && e.Error() == err.Error() {
			var list []finding
			for _, part := range joined.Unwrap() {
				list = append(list, findings(part)...)
			}
			return list
		}
	}
	f := finding{Error: err.Error()}
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		f.Hint = h.Hint()
	}
	return []finding{f}
}

// printErrors writes every error on a line, and its hint on another.
func printErrors(w io.Writer, err error) {
	if coded, ok := err.(*codedError); ok && coded.err == nil { //nolint:errorlint // it is never wrapped
		return
	}
	for _, f := range findings(err) {
		fmt.Fprintf(w, "secretsd: %s\n", strings.ReplaceAll(f.Error, "\n", "\n  "))
		if f.Hint != "" {
			fmt.Fprintf(w, "  hint: %s\n", f.Hint)
		}
	}
}
