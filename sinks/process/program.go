package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// OnChange is what becomes of a running child when what it was started with has
// changed.
type OnChange int

// What a change does.
const (
	// Restart ends the child and starts it again.
	Restart OnChange = iota
	// Signal sends the program's signal; a new environment waits for the next
	// start.
	Signal
	// Leave does nothing; the next start has what is new.
	Leave
)

var onChanges = []string{"restart", "signal", "none"}

// String returns the word of the configuration.
func (o OnChange) String() string { return onChanges[o] }

// ParseOnChange returns what one of the words restart, signal and none means.
func ParseOnChange(s string) (OnChange, error) {
	i := slices.Index(onChanges, s)
	if i < 0 {
		return 0, fmt.Errorf("want restart, signal or none, not %q", s)
	}
	return OnChange(i), nil
}

// Program is what the child runs. It is not written to once it has been given to
// a [Supervisor].
type Program struct {
	// Path is the file that is run, and Args are the arguments, its name first.
	Path string
	Args []string
	Env  *Environment
	// OnChange and Signal say what a change does to a running child.
	OnChange OnChange
	Signal   syscall.Signal
	// KillSignal asks the child to end, and after KillTimeout SIGKILL ends it.
	KillSignal  syscall.Signal
	KillTimeout time.Duration
}

// Check returns why the kernel would not run the program, as far as that can be
// told without doing so: nothing is to happen to a running child for the sake of
// one that cannot be started.
func (p *Program) Check() error {
	if err := unix.Access(p.Path, unix.X_OK); err != nil {
		return &StartError{Path: p.Path, Err: err}
	}
	for _, arg := range p.Args {
		if strings.ContainsRune(arg, 0) {
			return fmt.Errorf("start %s: an argument holds a NUL byte", p.Path)
		}
		if len(arg)+1 > maxString {
			return fmt.Errorf("start %s: an argument is longer than %d KiB, the most that the kernel takes", p.Path, maxString>>10)
		}
	}
	if most := argumentLimit(); p.Env.size()+argumentSize(p.Args) > most {
		return &StartError{Path: p.Path, Err: unix.E2BIG,
			hint: fmt.Sprintf("arguments and environment together may have %d KiB: put what is long into files, or inherit less (env_allow)", most>>10)}
	}
	return nil
}

// Find returns the path of the program that a command names, as the shell finds
// it: a name without a slash is looked for in PATH.
func Find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil || errors.Is(err, exec.ErrDot) {
		return path, nil
	}
	for cause := err; cause != nil; cause = errors.Unwrap(cause) {
		err = cause // what is wrapped names the file once more
	}
	return "", &StartError{Path: name, Err: err}
}

// StartError is a program that cannot be run. It holds no argument and no
// variable.
type StartError struct {
	Path string
	Err  error
	hint string
}

func (e *StartError) Error() string { return "start " + e.Path + ": " + e.Err.Error() }

// Unwrap returns what the system said.
func (e *StartError) Unwrap() error { return e.Err }

// Hint says how to mend it, or "".
func (e *StartError) Hint() string {
	switch {
	case e.hint != "":
		return e.hint
	case errors.Is(e.Err, unix.ENOENT):
		return "the path is wrong, or the program's interpreter is not there"
	case errors.Is(e.Err, exec.ErrNotFound):
		return "write its path, or add its directory to PATH"
	case errors.Is(e.Err, unix.EACCES), errors.Is(e.Err, fs.ErrPermission):
		return "make it a file that this user may execute"
	}
	return ""
}

// Status is the exit status that a shell gives for a program that it cannot run:
// 127 if it is not found, 126 if it cannot be executed (POSIX.1-2017, Shell and
// Utilities, 2.8.2).
func (e *StartError) Status() int {
	if errors.Is(e.Err, unix.ENOENT) || errors.Is(e.Err, exec.ErrNotFound) {
		return 127
	}
	return 126
}

// Exit is how a child has ended.
type Exit struct {
	// Code is its exit status, and Signal the signal that ended it, or 0.
	Code   int
	Signal syscall.Signal
}

// Status returns the exit status as a shell gives it: 128 and the signal's number
// for a child that a signal has ended.
func (e Exit) Status() int {
	if e.Signal != 0 {
		return 128 + int(e.Signal)
	}
	return e.Code
}

// String returns words such as "status 7" or "signal SIGTERM".
func (e Exit) String() string {
	if e.Signal == 0 {
		return fmt.Sprintf("status %d", e.Code)
	}
	return "signal " + signalName(e.Signal)
}

func exitOf(ws syscall.WaitStatus) Exit {
	if ws.Signaled() {
		return Exit{Signal: ws.Signal()}
	}
	return Exit{Code: ws.ExitStatus()}
}

func signalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return fmt.Sprint(int(sig))
}
