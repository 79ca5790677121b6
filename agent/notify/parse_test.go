package notify_test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"secretsd/agent/notify"
)

func TestParseSignal(t *testing.T) {
	for in, want := range map[string]syscall.Signal{
		"HUP": unix.SIGHUP, "SIGHUP": unix.SIGHUP, "hup": unix.SIGHUP, "sigHup": unix.SIGHUP, "1": 1,
		"USR1": unix.SIGUSR1, "winch": unix.SIGWINCH, "KILL": 9, "9": 9, "iot": unix.SIGABRT, "CLD": unix.SIGCHLD,
	} {
		if got, err := notify.ParseSignal(in); err != nil || got != want {
			t.Errorf("ParseSignal(%q) = %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "SIG", "0", "-1", "65", "128", "HUPP", "SIGSIGHUP", " HUP", "STOP", "sigstop", "19x",
		"RTMIN-1", "RTMIN+31", "RTMIN+", "RTMIN++1", "RTMIN+-1", "RTMAX+1", "RTMAX-31", "RTMINX", "NULL",
		strconv.Itoa(int(unix.SIGSTOP)),
	} {
		got, err := notify.ParseSignal(in)
		if err == nil {
			t.Errorf("ParseSignal(%q) = %d, want an error", in, got)
		} else if notify.HintOf(err) == "" || !strings.Contains(notify.HintOf(err), "HUP") {
			t.Errorf("ParseSignal(%q): no example in the hint %q", in, notify.HintOf(err))
		}
	}
}

func FuzzParseSignal(f *testing.F) {
	for _, s := range []string{"HUP", "sigterm", "64", "RTMIN+3", "RTMAX-30", "RTMIN+", "SIGRTMIN", "999999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		sig, err := notify.ParseSignal(s)
		if err != nil {
			return
		}
		if sig < 1 || sig > 64 || sig == syscall.SIGSTOP {
			t.Fatalf("ParseSignal(%q) = %d", s, sig)
		}
		if again, err := notify.ParseSignal(notify.SignalName(sig)); err != nil || again != sig {
			t.Fatalf("%q is %d, its name %q is %d, %v", s, sig, notify.SignalName(sig), again, err)
		}
	})
}

func FuzzParsePid(f *testing.F) {
	for _, s := range []string{"", "1", "42\n", " 7 \r\n", "42\nmore", "-1", "0", "99999999999", "\n1", "\x00", "１"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		pid, err := notify.ParsePid(b)
		if err != nil {
			return
		}
		line, _, _ := bytes.Cut(b, []byte("\n"))
		if pid < 1 || pid > 1<<31-1 || strings.TrimLeft(string(bytes.TrimSpace(line)), "0") != strconv.Itoa(pid) {
			t.Fatalf("%q is pid %d", b, pid)
		}
	})
}

func FuzzParseStat(f *testing.F) {
	f.Add("cat", "R", uint64(82090))
	f.Add("a) R 1 2 (b", "S", uint64(0))
	f.Add("new\nline)", "Z", uint64(1)<<62)
	f.Fuzz(func(t *testing.T, name, state string, ticks uint64) {
		if strings.ContainsAny(state, ") \t\n\v\f\r\u0085\u00a0") || len(strings.Fields(state)) != 1 {
			t.Skip("not a state")
		}
		line := fmt.Sprintf("8200 (%s) %s 8196 8196 5457 0 -1 4194304 102 0 0 0 0 0 0 0 20 0 1 0 %d 3133440 382 1\n", name, state, ticks)
		got, err := notify.ParseStat([]byte(line))
		if fits := ticks <= (1<<63-1)/10_000_000; fits != (err == nil) {
			t.Fatalf("%q: %v", line, err)
		}
		if err == nil && got != time.Duration(ticks)*10*time.Millisecond {
			t.Fatalf("%q: start %v", line, got)
		}
		_, _ = notify.ParseStat([]byte(name))
	})
}

func FuzzParseStatus(f *testing.F) {
	if b, err := os.ReadFile("/proc/self/status"); err == nil {
		f.Add(b)
	}
	f.Add([]byte("Name:\tx\\nUid:\t0\nTgid:\t7\nUid:\t1\t2\t3\t4\nSigBlk:\t0\nSigIgn:\t1\nSigCgt:\tffffffffffffffff\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tgid, err := notify.ParseStatus(b)
		if err == nil && (tgid < 0 || !bytes.Contains(b, []byte("SigCgt:")) || !bytes.Contains(b, []byte("Uid:"))) {
			t.Fatalf("accepted %q", b)
		}
	})
}

func TestTargetsAreValidated(t *testing.T) {
	for name, tc := range map[string]struct {
		target notify.Target
		part   string
	}{
		"signal":        {notify.Target{Name: "a", PidFile: "/run/a", Signal: 1}, ""},
		"command":       {notify.Target{Name: "a", Command: []string{"true", "{}"}}, ""},
		"no name":       {notify.Target{Command: []string{"true"}}, "name is missing"},
		"nothing":       {notify.Target{Name: "a"}, "either a pid file or a command"},
		"both":          {notify.Target{Name: "a", PidFile: "/x", Signal: 1, Command: []string{"true"}}, "either a pid file or a command"},
		"relative":      {notify.Target{Name: "a", PidFile: "run/a", Signal: 1}, "not an absolute path"},
		"no signal":     {notify.Target{Name: "a", PidFile: "/run/a"}, "signal is missing"},
		"wrong signal":  {notify.Target{Name: "a", PidFile: "/run/a", Signal: 99}, "not a signal"},
		"stop":          {notify.Target{Name: "a", PidFile: "/run/a", Signal: syscall.SIGSTOP}, "no process can handle it"},
		"relative hook": {notify.Target{Name: "a", Command: []string{"bin/x"}}, "is a relative path"},
		"empty hook":    {notify.Target{Name: "a", Command: []string{""}}, "command is empty"},
		"NUL":           {notify.Target{Name: "a", Command: []string{"true", "a\x00b"}}, "NUL"},
		"negative":      {notify.Target{Name: "a", Command: []string{"true"}, Debounce: -1}, "cannot be negative"},
	} {
		err := tc.target.Validate()
		if tc.part == "" && err != nil || tc.part != "" && (err == nil || !strings.Contains(err.Error(), tc.part)) {
			t.Errorf("%s: got %v, want %q", name, err, tc.part)
		}
	}
}
