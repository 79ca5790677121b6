//go:build !linux

package notify

// The signals of macOS and the BSDs, which have no real-time signals that a
// name could stand for.
const (
	maxSignal = 31
	rtMin     = 0
	rtMax     = 0
)
