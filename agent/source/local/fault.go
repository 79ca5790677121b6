package local

import (
	"context"
	"time"
)

// Fault is what goes wrong with one call, or with one secret of a batch. The
// zero Fault does nothing. Its waits come first and then the answer: Drop,
// else Body, else Code; a Fault with none of them delays the real answer.
type Fault struct {
	// Delay is waited before anything else.
	Delay time.Duration
	// Until is waited for after Delay if it is not nil. A channel that is
	// never closed makes the call hang until its request's context ends.
	Until <-chan struct{}
	// Drop breaks the connection without an answer. In process the caller
	// gets io.ErrUnexpectedEOF.
	Drop bool
	// Body is answered as it is, with Status or 200. The service does not
	// keep or change it.
	Body []byte
	// Code is the error code answered, for example "ThrottlingException", with
	// Message.
	Code    string
	Message string
	// Status is the HTTP status; 0 means 200 for Body, and for Code what the
	// real service uses: 500 for InternalServiceError, else 400.
	Status int
}

// SetFault replaces the hook of [Options]; nil takes it away. The hook is
// called once for every request with the operation's name and the secret id as
// the request has it ("" where an operation takes none), and for
// BatchGetSecretValue once more for each secret with its id, or its name where
// filters chose it. There only the waits, Code and Message count: they become
// that secret's entry in Errors. The hook must be safe for concurrent use. It is
// called without the service's lock and may call the service's methods.
func (s *Service) SetFault(hook func(op, secretID string) *Fault) {
	if hook == nil {
		s.fault.Store(nil)
		return
	}
	s.fault.Store(&hook)
}

// faultFor asks the hook and waits as it says. It returns the context's error
// if that ends first.
func (s *Service) faultFor(ctx context.Context, op, id string) (*Fault, error) {
	hook := s.fault.Load()
	if hook == nil {
		return nil, nil
	}
	f := (*hook)(op, id)
	if f == nil {
		return nil, nil
	}
	return f, f.wait(ctx)
}

func (f *Fault) wait(ctx context.Context) error {
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if f.Until != nil {
		select {
		case <-f.Until:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Calls returns how many requests each operation has had, refused ones
// included. One BatchGetSecretValue counts as one. The caller owns the map.
func (s *Service) Calls() map[string]int {
	calls := make(map[string]int, len(operations))
	for op, n := range s.calls {
		if n := n.Load(); n > 0 {
			calls[op] = int(n)
		}
	}
	return calls
}
