package notify

// The signals of Linux. The kernel's real-time signals begin at 32; the C
// library keeps two of them for threads (signal(7)).
const (
	maxSignal = 64
	rtMin     = 34
	rtMax     = 64
)
