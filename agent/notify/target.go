package notify

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Defaults of a [Target]. A configuration that says nothing about debounce
// takes DefaultDebounce; in a Target itself zero means none.
const (
	DefaultDebounce = time.Second
	DefaultTimeout  = 30 * time.Second
)

// Target is who is told, and how. It is plain data and is not written to once
// it has been given to a [Notifier]. Exactly one of PidFile and Command is
// set.
type Target struct {
	// Name is how files refer to the target, and the key of its debts.
	Name string

	// PidFile is the absolute path of the file that names the process. It is
	// read again for each attempt. Its first line is the pid, in decimal; what
	// follows is ignored (PostgreSQL's postmaster.pid has more lines). It must
	// be a regular file that belongs to root or to the process's own user, and
	// not everybody may write it. Pids are those of the agent's own namespace.
	PidFile string
	// Signal is what the process is sent. Other than TERM, INT, QUIT and KILL
	// it is sent only if the process catches, ignores or blocks it: a process
	// that is still starting has no handler, and SIGHUP would end it. A program
	// written in Go catches every signal from its first moment on, so it should
	// write its pid file after its call of signal.Notify.
	Signal syscall.Signal

	// Command is run without a shell, in its own process group and in /, with
	// no input. An argument that is exactly {} is replaced by the paths that
	// changed, one argument each, as find's -exec {} + does. Its environment is
	// PATH, HOME and LANG of the agent and SECRETSD_REASON (start, change, heal
	// or manual), SECRETSD_TARGET, SECRETSD_SECRETS and SECRETSD_VERSION_IDS
	// (both with commas between, in one order), and SECRETSD_PATHS (newlines
	// between). SECRETSD_TRUNCATED=1 is added if a list was cut because it
	// would not have fitted.
	//
	// Exit status 0 means that the target has been told; everything else is
	// tried again. Processes that it leaves behind are its own affair, unless
	// it runs into its time-out.
	Command []string
	// Timeout is how long one run of Command may take. Then its process group
	// gets SIGTERM and two seconds later SIGKILL. Zero means DefaultTimeout.
	Timeout time.Duration
	// OnFirst makes a Command hear of first publications too. A process hears
	// of them anyway, unless it started after them.
	OnFirst bool

	// Debounce is how long after being told of a change further changes are
	// gathered into one notification. Zero tells each one as soon as the one
	// before it has been told.
	Debounce time.Duration
	// Retry is the back-off after failed attempts.
	Retry Retry
}

// Retry is a back-off: the first wait is at most Initial, each further one at
// most twice as long as the one before, up to Max. Every wait is drawn from
// the upper half of what it may be, so that many targets do not fail in step.
// Zero fields mean a second up to a minute, for a signal up to five seconds:
// there an attempt costs next to nothing.
type Retry struct {
	Initial, Max time.Duration
}

// The longest wait of a back-off, by what is waited for.
const (
	maxCommandWait = time.Minute
	maxProcessWait = 5 * time.Second
)

func (t Target) withDefaults() Target {
	if t.Timeout <= 0 {
		t.Timeout = DefaultTimeout
	}
	if t.Retry.Initial <= 0 {
		t.Retry.Initial = time.Second
	}
	if t.Retry.Max <= 0 {
		t.Retry.Max = maxCommandWait
		if t.PidFile != "" {
			t.Retry.Max = maxProcessWait
		}
	}
	t.Retry.Max = max(t.Retry.Max, t.Retry.Initial)
	return t
}

// ignores reports whether the target does not want to hear of c at all.
func (t Target) ignores(c Change) bool {
	return c.First && t.PidFile == "" && !t.OnFirst
}

// kind names what the target is in status.
func (t Target) kind() string {
	if t.PidFile != "" {
		return "signal"
	}
	return "command"
}

// Validate returns the first thing that is wrong with t, or nil. It touches no
// file; [CheckCommand] does.
func (t Target) Validate() error {
	switch {
	case t.Name == "":
		return fmt.Errorf("target: name is missing")
	case (t.PidFile == "") == (len(t.Command) == 0):
		return fmt.Errorf("target %s: give either a pid file or a command", t.Name)
	case t.Timeout < 0 || t.Debounce < 0 || t.Retry.Initial < 0 || t.Retry.Max < 0:
		return fmt.Errorf("target %s: durations cannot be negative", t.Name)
	case t.PidFile != "":
		return t.validateSignal()
	}
	return t.validateCommand()
}

func (t Target) validateSignal() error {
	if !filepath.IsAbs(t.PidFile) {
		return fmt.Errorf("target %s: pid file %q is not an absolute path", t.Name, t.PidFile)
	}
	if t.Signal == 0 {
		return fmt.Errorf("target %s: signal is missing", t.Name)
	}
	if _, err := signalNumber(int(t.Signal)); err != nil {
		return fmt.Errorf("target %s: %w", t.Name, err)
	}
	return nil
}

func (t Target) validateCommand() error {
	if err := commandName(t.Command[0]); err != nil {
		return fmt.Errorf("target %s: %w", t.Name, err)
	}
	for _, arg := range t.Command {
		if strings.ContainsRune(arg, 0) {
			return fmt.Errorf("target %s: a command's argument cannot hold a NUL byte", t.Name)
		}
	}
	return nil
}
