package notify

import (
	"context"
	"time"
)

// teller tells one target and remembers what a command left behind. The kind
// of target decides how; every kind has its own file.
type teller struct {
	grace time.Duration // between SIGTERM and SIGKILL
	// stray is closed when a command has ended that could not be ended; nil if
	// there is none.
	stray <-chan struct{}
}

// tell is an [attemptFunc].
func (w *teller) tell(ctx context.Context, t Target, c Change) error {
	if t.PidFile != "" {
		return signalProcess(t, c)
	}
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	return w.run(ctx, t, c)
}
