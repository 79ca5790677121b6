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

func FuzzParseParent(f *testing.F) {
	f.Add([]byte("8200 (a) R 1 2 (b)) S 8196 8196 5457 0 -1"))
	f.Add([]byte("8200 (cat"))
	f.Fuzz(func(t *testing.T, b []byte) {
		pid, err := notify.ParseParent(b)
		if err == nil && (pid < 0 || !bytes.Contains(b, []byte(strconv.Itoa(pid)))) {
			t.Fatalf("%q: parent %d", b, pid)
		}
	})
}

// FuzzCmdline: an argv0 is what comes before the first NUL, and nothing is none.
func FuzzCmdline(f *testing.F) {
	f.Add([]byte("nginx: master process nginx\x00\x00"))
	f.Add([]byte("\x00"))
	f.Add([]byte("no end"))
	f.Fuzz(func(t *testing.T, b []byte) {
		argv0, ok := notify.ParseArgv0(b)
		if ok != (argv0 != "") || strings.ContainsRune(argv0, 0) || !bytes.HasPrefix(b, []byte(argv0)) ||
			len(b) > len(argv0) && b[len(argv0)] != 0 {
			t.Fatalf("%q: argv0 %q, %v", b, argv0, ok)
		}
	})
}

func FuzzCgroup(f *testing.F) {
	f.Add([]byte("0::/system.slice/app.service\n"), "/system.slice/app.service")
	f.Add([]byte("12:pids:/a:b\n1:name=systemd:/a/b/c\n"), "/a/b")
	f.Add([]byte("0::/ab"), "/a")
	f.Add([]byte("::\n\n:"), "/")
	f.Fuzz(func(t *testing.T, b []byte, path string) {
		if notify.Within(b, path) && !bytes.Contains(b, []byte(":"+path)) {
			t.Fatalf("%q is within %q", b, path)
		}
	})
}

func TestWithinAControlGroup(t *testing.T) {
	file := "13:memory:/docker/1:2/app\n1:name=systemd:/user.slice\n0::/system.slice/app.service\n"
	for path, want := range map[string]bool{
		"/system.slice/app.service": true, "/system.slice": true, "/docker/1:2": true, "/user.slice": true,
		"/system.slice/app": false, "/system.slice/app.service/x": false, "app.service": false, "/docker/1": false,
	} {
		if notify.Within([]byte(file), path) != want {
			t.Errorf("within %s: want %v", path, want)
		}
	}
}

func TestNested(t *testing.T) {
	for status, want := range map[string]bool{
		"Name:\tx\nNSpid:\t7\n": false, "Name:\tx\nNSpid:\t7\t1\n": true, "Name:\tx\n": false, "": false,
	} {
		if notify.Nested([]byte(status)) != want {
			t.Errorf("%q: want %v", status, want)
		}
	}
}
