package notify_test

import (
	"syscall"
	"testing"

	"secretsd/agent/notify"
)

func TestRealtimeSignalsCountAsTheCLibraryDoes(t *testing.T) {
	for in, want := range map[string]syscall.Signal{
		"RTMIN": 34, "SIGRTMIN": 34, "rtmin+1": 35, "SIGRTMIN+30": 64, "RTMAX": 64, "RTMAX-1": 63, "sigrtmax-30": 34, "40": 40,
	} {
		if got, err := notify.ParseSignal(in); err != nil || got != want {
			t.Errorf("ParseSignal(%q) = %d, %v, want %d", in, got, err, want)
		}
	}
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if sig == syscall.SIGSTOP {
			continue
		}
		if got, err := notify.ParseSignal(notify.SignalName(sig)); err != nil || got != sig {
			t.Errorf("signal %d is called %q, which is %d, %v", sig, notify.SignalName(sig), got, err)
		}
	}
}
