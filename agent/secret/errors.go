package secret

import (
	"errors"
	"strings"
)

// Kind says what a failed read means for what happens next. It is the only
// thing about an error that behaviour depends on.
type Kind int

// The kinds of failed read.
const (
	// Transient is everything that may pass by itself: timeouts, broken
	// connections, answers of 5xx, no credentials yet. It is the kind of every
	// error that carries none.
	Transient Kind = iota
	// NotFound: the service knows no such secret or version.
	NotFound
	// Denied: IAM, a resource policy, an endpoint policy or KMS refuses.
	Denied
	// Throttled: the account's rate is used up.
	Throttled
	// Invalid: the service refuses the request as it is, for example for a
	// secret marked for deletion; asking again cannot help until somebody
	// changes something.
	Invalid
)

// String returns the kind as it stands in logs, metrics and status.
func (k Kind) String() string {
	switch k {
	case NotFound:
		return "not_found"
	case Denied:
		return "denied"
	case Throttled:
		return "throttled"
	case Invalid:
		return "invalid"
	default:
		return "transient"
	}
}

// Error is a failed read of one secret, or of a whole call. It never holds a
// secret value: Code and Message are the service's own words.
type Error struct {
	Kind Kind
	// Op is the operation, for example "GetSecretValue".
	Op string
	// ID is the secret id as it was asked for; empty when a whole call failed.
	ID string
	// Code is the service's error code, for example
	// "ResourceNotFoundException"; empty when the service gave no answer.
	Code string
	// Message is the service's message, or what went wrong on the way.
	Message string
	// Status is the HTTP status of the answer, or 0 if there was none.
	Status int
	// Remedy says how to mend it; empty if there is nothing to say.
	Remedy string
	// Err is the cause, for errors.Is and errors.As. It may be nil.
	Err error
}

// Hint returns Remedy, for the line that the command line prints below an error.
func (e *Error) Hint() string { return e.Remedy }

// Error returns "read secret ID: CODE: MESSAGE" in one line, without the remedy.
func (e *Error) Error() string {
	var b strings.Builder
	if e.ID != "" {
		b.WriteString("read secret " + e.ID)
	} else {
		b.WriteString("call " + e.Op)
	}
	if e.Code != "" {
		b.WriteString(": " + e.Code)
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first [Error] in err's tree, and [Transient]
// for every other error.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Transient
}
