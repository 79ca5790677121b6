package notify

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// synonyms are the names of signal(7) that the name table lists under another.
var synonyms = map[string]string{"SIGIOT": "SIGABRT", "SIGCLD": "SIGCHLD", "SIGPOLL": "SIGIO"}

// ParseSignal returns the signal that s names: any name, in any case, with or
// without SIG, or a number; on Linux also RTMIN, RTMIN+n, RTMAX-n and RTMAX as
// the C library counts them (RTMIN is 34). STOP is refused: a process can
// neither catch nor ignore nor block it, so by the rule of [Target.Signal] it
// would never be sent.
func ParseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		return signalNumber(n)
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if known, ok := synonyms[name]; ok {
		name = known
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return signalNumber(int(sig))
	}
	if sig, ok := realtimeSignal(name); ok {
		return sig, nil
	}
	return 0, &failure{
		msg:  fmt.Sprintf("parse signal %q: no such signal", s),
		hint: `write a name or a number, for example HUP, SIGHUP or 1`,
	}
}

// signalNumber returns signal n if it may be a target's signal.
func signalNumber(n int) (syscall.Signal, error) {
	switch {
	case n < 1 || n > maxSignal:
		return 0, &failure{
			msg:  fmt.Sprintf("parse signal %d: not a signal", n),
			hint: fmt.Sprintf("signals are 1 to %d, for example 1 or HUP", maxSignal),
		}
	case syscall.Signal(n) == syscall.SIGSTOP:
		return 0, &failure{
			msg:  "parse signal STOP: no process can handle it",
			hint: "choose one that the process handles, for example HUP",
		}
	}
	return syscall.Signal(n), nil
}

func realtimeSignal(name string) (syscall.Signal, bool) {
	var base, sign int
	rest, ok := strings.CutPrefix(name, "SIGRTMIN")
	if base, sign = rtMin, +1; !ok {
		if rest, ok = strings.CutPrefix(name, "SIGRTMAX"); !ok {
			return 0, false
		}
		base, sign = rtMax, -1
	}
	offset := 0
	if rest != "" {
		// One digit string behind one sign: Atoi alone would take "+-1".
		n, err := strconv.ParseUint(rest[1:], 10, 8)
		if err != nil || rest[0] != "-+"[(sign+1)/2] {
			return 0, false
		}
		offset = sign * int(n)
	}
	n := base + offset
	if rtMax == 0 || n < rtMin || n > rtMax {
		return 0, false
	}
	return syscall.Signal(n), true
}

// SignalName returns the name that ParseSignal takes back, with SIG, or the
// number of a signal that has none.
func SignalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	if rtMax > 0 && int(sig) >= rtMin && int(sig) <= rtMax {
		if int(sig) == rtMin {
			return "SIGRTMIN"
		}
		return fmt.Sprintf("SIGRTMIN+%d", int(sig)-rtMin)
	}
	return strconv.Itoa(int(sig))
}
