package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal with a program on it, which leads its session.
type terminal struct {
	*process
	keyboard *os.File
}

// onTerminal starts a program on a terminal of its own and ends it with the test.
func onTerminal(t *testing.T, name string, args ...string) terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	p := &process{t: t, cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.cmd.Env = append(cleanEnv(), "PS1=$ ", "TERM=dumb")
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			_, _ = p.out.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		// A test that failed may have left somebody there who does not mind a hangup.
		if pgrp, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPGRP); err == nil && pgrp > 1 && pgrp != p.cmd.Process.Pid {
			_ = syscall.Kill(-pgrp, syscall.SIGKILL)
		}
		_ = p.cmd.Process.Kill()
		<-p.done
		_ = master.Close() // which hangs up whoever is left
		if t.Failed() {
			t.Logf("the terminal showed:\n%s", p.out.String())
		}
	})
	return terminal{p, master}
}

// keys types.
func (term terminal) keys(s string) {
	term.t.Helper()
	if _, err := term.keyboard.WriteString(s); err != nil {
		term.t.Fatal(err)
	}
}

const (
	ctrlC = "\x03"
	ctrlZ = "\x1a"
)

// execOn starts a wrapper on a terminal, without a shell above it.
func (w wrapper) execOn(args ...string) terminal {
	w.t.Helper()
	path, err := binary()
	if err != nil {
		w.t.Fatal(err)
	}
	return onTerminal(w.t, path, append([]string{"exec", "--config", w.fixture.conf, "--"}, args...)...)
}

func TestTheKeyboardReachesTheChild(t *testing.T) {
	w := newWrapper(t)
	w.conf("  kill_timeout: 1s", "")
	out := w.path("signals")
	term := w.execOn(builtChild(t), "signals", out)
	eventually(t, "the child runs", func() bool { return content(out) == "ready\n" })
	// Ctrl-C, Ctrl-\ and Ctrl-Z, each to the child and once.
	want := "ready\n"
	for _, key := range []struct{ key, signal string }{{ctrlC, "2\n"}, {"\x1c", "3\n"}, {ctrlZ, "20\n"}, {ctrlC, "2\n"}} {
		term.keys(key.key)
		want += key.signal
		eventually(t, "the child is told", func() bool { return content(out) == want })
	}
	steady(t, "it was told once", func() bool { return content(out) == want })
}

func TestTheChildReadsTheTerminal(t *testing.T) {
	w := newWrapper(t)
	w.conf("  env: {DB: '{{ secret \"db\" }}'}", "")
	term := w.execOn("/bin/sh", "-c", `echo "started $DB"; while read -r line; do echo "got $line"; [ "$line" = end ] && exit 5; done`)
	term.until("started one")
	term.keys("hello\n")
	term.until("got hello")
	// So does the one that takes its place.
	w.set("db", "two")
	term.until("started two")
	term.keys("again\n")
	term.until("got again")
	term.keys("end\n")
	if _, code := term.wait(); code != 5 {
		t.Errorf("it ends with %d", code)
	}
}

// TestNobodyToContinueTheChild: without a shell above it, as in a container, a
// child that Ctrl-Z has stopped would never run again.
func TestNobodyToContinueTheChild(t *testing.T) {
	w := newWrapper(t)
	w.conf("  on_change: none", "")
	term := w.execOn(builtChild(t), "ticks", w.dir)
	pid := w.pid("pid")
	ticks := func() int { return strings.Count(content(w.path("ticks")), "tick") }
	for range 3 {
		term.keys(ctrlZ)
		eventually(t, "the keyboard is read", func() bool { return strings.Contains(term.out.String(), "^Z") })
		before := ticks()
		eventually(t, "the child goes on", func() bool { return ticks() > before+3 })
	}
	term.keys(ctrlC)
	if _, code := term.wait(); code != 130 || lives(pid) {
		t.Errorf("Ctrl-C ends it with %d", code)
	}
}

// foreground returns the process group that has the terminal.
func foreground(term terminal) int {
	pgrp, err := unix.IoctlGetInt(int(term.keyboard.Fd()), unix.TIOCGPGRP)
	if err != nil {
		term.t.Fatal(err)
	}
	return pgrp
}

// groupOf returns the process group of a process, or of an ancestor of it.
func groupOf(pid, up int) int {
	for ; up > 0; up-- {
		_, rest, _ := strings.Cut(content(fmt.Sprintf("/proc/%d/stat", pid)), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 {
			pid, _ = strconv.Atoi(fields[1])
		}
	}
	pgrp, _ := unix.Getpgid(pid)
	return pgrp
}

// TestJobControl is a wrapper in an interactive shell.
func TestJobControl(t *testing.T) {
	bash := need(t, "bash")
	w := newWrapper(t)
	w.conf("  on_change: none", "")
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	term := onTerminal(t, bash, "--norc", "--noprofile", "-i")
	term.keys(fmt.Sprintf("w='%s exec --config %s --'; D=%s; c=%s\n", path, w.fixture.conf, w.dir, builtChild(t)))
	step := 0
	// run runs a line that is done when the shell prints its number.
	run := func(line string) {
		step++
		term.keys(fmt.Sprintf("%s; echo done-$((%d))\n", line, step))
	}
	done := func() { term.until(fmt.Sprintf("done-%d\r", step)) }

	t.Run("stop, background, foreground, interrupt", func(t *testing.T) {
		run(`$w $c ticks $D`)
		pid := w.pid("pid")
		state := func() string {
			_, rest, _ := strings.Cut(content(fmt.Sprintf("/proc/%d/stat", pid)), ") ")
			return rest[:min(1, len(rest))]
		}
		ticks := func() int { return strings.Count(content(w.path("ticks")), "tick") }
		eventually(t, "it runs, and has the terminal", func() bool { return ticks() > 3 && foreground(term) == groupOf(pid, 0) })
		term.keys(ctrlZ)
		term.until("Stopped")
		done()
		eventually(t, "the child is stopped", func() bool { return state() == "T" })
		run("bg")
		done()
		before := ticks()
		eventually(t, "it goes on in the background", func() bool { return ticks() > before+3 })
		run("fg")
		// A shell gives the terminal to us and tells nobody: SIGCONT it sends only to
		// a job that is stopped (bash, jobs.c, start_job). So it is ours until the
		// child asks for it, and its own at once only if we hear so late of the
		// continuation by bg that the terminal is ours already.
		eventually(t, "it is in the foreground", func() bool { fg := foreground(term); return fg == groupOf(pid, 1) || fg == groupOf(pid, 0) })
		term.keys(ctrlC)
		eventually(t, "the child is dead", func() bool { return !lives(pid) })
		done()
	})

	t.Run("a child from the background reads the keyboard", func(t *testing.T) {
		run(`$w $c reader $D`)
		pid := w.pid("asking")
		eventually(t, "it has the terminal", func() bool { return foreground(term) == groupOf(pid, 0) })
		term.keys(ctrlZ)
		done()
		run("bg")
		done()
		run("fg")
		eventually(t, "it is in the foreground", func() bool { fg := foreground(term); return fg == groupOf(pid, 1) || fg == groupOf(pid, 0) })
		write(t, w.path("ask"), "")
		eventually(t, "it has the terminal again", func() bool { return foreground(term) == groupOf(pid, 0) })
		term.keys("typed\n")
		term.until("child-got typed <nil>")
		done()
	})

	t.Run("the terminal is the shell's again", func(t *testing.T) {
		run("$w sh -c 'exit 7'; echo code-$?")
		term.until("\ncode-7")
		done()
	})

	// less and the like read the keyboard while we are upstream of them.
	t.Run("somebody else in the pipeline reads the keyboard", func(t *testing.T) {
		run(`$w sh -c 'echo piped; exec sleep 600' | sh -c 'read -r y; echo "reader-has $y"; read -r x < /dev/tty; echo "reader-got $x"; kill -TERM 0'`)
		term.until("reader-has piped")
		term.keys("typed\n")
		term.until("reader-got typed")
		done()
	})

	t.Run("the child in a pipeline reads the keyboard", func(t *testing.T) {
		run(`$w sh -c 'read -r x; echo "child-got $x"' | cat`)
		term.keys("typed\n")
		term.until("child-got typed")
		done()
	})

	t.Run("interrupt of a pipeline", func(t *testing.T) {
		run(`$w sh -c 'echo $$ > "$1/piped"; exec sleep 600' sh $D | cat`)
		pid := w.pid("piped")
		term.keys(ctrlC)
		eventually(t, "the child is dead", func() bool { return !lives(pid) })
		// The shell drops the rest of a line whose cat was interrupted.
		run("echo next")
		done()
	})

	// The terminal stops whoever writes to it from the background.
	t.Run("a log while the child has the terminal", func(t *testing.T) {
		out := w.path("signals")
		run("stty tostop; " + path + " exec --log-level debug --config " + w.fixture.conf + " -- " + builtChild(t) + " signals " + out + "; stty -tostop")
		term.until("started the child")
		eventually(t, "the child runs", func() bool { return content(out) == "ready\n" })
		term.keys(ctrlC)
		eventually(t, "the child is told", func() bool { return content(out) != "ready\n" })
		steady(t, "it is told of nothing else", func() bool { return content(out) == "ready\n2\n" })
		pid := foreground(term)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		done()
	})
}
