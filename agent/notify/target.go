package notify

import (
	"slices"
	"syscall"
	"time"
)

// Defaults of a [Target]. A configuration that says nothing about debounce
// takes DefaultDebounce; in a Target itself zero means none.
const (
	DefaultDebounce       = time.Second
	DefaultTimeout        = 30 * time.Second
	DefaultConfirmTimeout = 30 * time.Second
	DefaultConfirmDelay   = time.Second
)

// Target is who is told, and how. It is plain data and is not written to once
// it has been given to a [Notifier].
type Target struct {
	// Name is how files refer to the target, and the key of its debts.
	Name string
	// Step is how it is told.
	Step

	// OnFirst makes a command, an HTTP request or a unit hear of first
	// publications too. A process hears of them anyway, unless it started after
	// them.
	OnFirst bool
	// Debounce is how long after being told of a change further changes are
	// gathered into one notification. Zero tells each one as soon as the one
	// before it has been told.
	Debounce time.Duration
	// Splay is the most that a change waits, a random time, when nothing was
	// owed before it, so that not all machines tell their targets at once. What
	// somebody asked for by hand does not wait. Zero means none.
	Splay time.Duration
	// Retry is the back-off after failed attempts.
	Retry Retry

	// Confirm is asked after the target was told; nil if nobody is.
	Confirm *Probe
	// Ladder is what is done, one step after another and each followed by
	// Confirm, as long as the target does not confirm. A step that fails leads
	// to the next at once.
	Ladder []Step
	// Rollback reports, in the [Outcome], that the target's files should get
	// their previous content back, if Confirm fails after the last step.
	Rollback bool
}

// Step is one way of telling. Exactly one of Process, Command, HTTP and Unit is
// set.
type Step struct {
	// Process is sent Signal. Other than TERM, INT, QUIT and KILL it is sent only
	// if the process catches or ignores it, or has it blocked for more than the
	// moment in which a program is started: a process that is still starting has no
	// handler, and SIGHUP would end it. A program written in Go
	// catches every signal from its first moment on, so it should write its pid
	// file after its call of signal.Notify.
	Process *Process
	Signal  syscall.Signal

	// Command is run without a shell, in its own process group and in /, with
	// no input. An argument that is exactly {} is replaced by the paths that
	// changed, one argument each, as find's -exec {} + does. Its environment is
	// PATH, HOME and LANG of the agent and SECRETSD_REASON (start, change, heal
	// or manual), SECRETSD_TARGET, SECRETSD_SECRETS and SECRETSD_VERSION_IDS
	// (both with commas between, in one order), and SECRETSD_PATHS (newlines
	// between). SECRETSD_TRUNCATED=1 is added if a list was cut because it
	// would not have fitted, and SECRETSD_ROLLBACK=1 if the paths have got their
	// previous content back.
	//
	// Exit status 0 means that the target has been told; everything else is
	// tried again. Processes that it leaves behind are its own affair, unless
	// it runs into its time-out.
	Command []string
	// User is whom Command runs as, by name or number, with that user's groups
	// and HOME. Empty means the agent's own user.
	User string
	// Env is what [Options.Variables] is asked for further variables of Command by.
	// Empty means that there are none.
	Env string
	// Output has the end of what Command prints logged if it fails, without what
	// is in it of secrets. Else all of it goes to /dev/null.
	Output bool

	// HTTP is a request to a program on this machine.
	HTTP *HTTP
	// Unit is a systemd unit that is reloaded or restarted.
	Unit *Unit

	// Timeout is how long Command, HTTP and Unit may take. The process group of a
	// command then gets SIGTERM and two seconds later SIGKILL; the job of a unit
	// goes on. Zero means DefaultTimeout, and in a ladder that of the target.
	Timeout time.Duration
}

// Process says which process is signalled. Exactly one field is set. Each time
// it is looked for anew, pinned by a pidfd, and looked at once more before the
// signal is sent, so that none reaches a process that has taken over the pid.
//
// Exe, Argv0 and Cgroup may fit several processes. A process and what it has
// forked count as one, of which the topmost is told: a server's workers are its
// own affair, and many of them would end. If several are left each of them is
// told, and the target has been told when all of them have. The commands that the
// agent runs are none of them.
type Process struct {
	// PidFile is the absolute path of the file that names the process. Its first
	// line is the pid, in decimal; what follows is ignored (PostgreSQL's
	// postmaster.pid has more lines). It must be a regular file that belongs to
	// root or to the process's own user, and not everybody may write it. Pids are
	// those of the agent's own namespace; 1 is refused, because in a file that
	// was written in another container it is another process.
	PidFile string
	// Exe is the absolute path of the program that the process runs, as in
	// /proc/PID/exe: with the path that a container has it at, and for a script
	// that of its interpreter. It is found also after the file was replaced. To
	// look at the programs of other users the agent needs CAP_SYS_PTRACE. Only
	// processes of the agent's own pid namespace are found.
	Exe string
	// Argv0 is the first of the process's arguments, whole, as in
	// /proc/PID/cmdline. Everybody can read it, but a process can call itself
	// whatever it likes. Only processes of the agent's own pid namespace are
	// found.
	Argv0 string
	// Cgroup is the path of a control group, as in /proc/PID/cgroup. Processes in
	// it and below it are found, those of other pid namespaces too.
	Cgroup string
	// Unit is the name of a systemd service, whose main process is meant.
	Unit string
	// Child is the child that the agent supervises, of which [Options.Child] says
	// the pid.
	Child bool
}

// HTTP is a request to a loopback address.
type HTTP struct {
	// URL is http or https, with a loopback address or localhost for its host,
	// which is never looked up. Redirects are not followed and no proxy is used.
	URL string
	// Method is POST, PUT or PATCH, whose body says in JSON why and what, or GET,
	// without a body. Empty means POST, in a [Probe] GET.
	Method string
	// Status is the status code that is expected; 0 means any from 200 to 299.
	Status int
}

// Unit is a systemd unit and what is done to it.
type Unit struct {
	// Name is the unit's full name, such as nginx.service.
	Name string
	// Action is one of [Actions].
	Action string
}

// Actions are what can be done to a unit, by the names that systemctl(1) has for
// them. The first is the gentlest that works for every unit: it does nothing to
// one that is not running.
var Actions = []string{"try-reload-or-restart", "reload", "restart", "try-restart", "reload-or-restart"}

// Probe finds out whether a target works with what it was told of. Exactly one
// of HTTP, Command and TCP is set.
type Probe struct {
	// HTTP is a request, by GET.
	HTTP *HTTP
	// Command, User, Env and Output are those of a [Step].
	Command []string
	User    string
	Env     string
	Output  bool
	// TCP is a loopback address, host:port, that takes a connection.
	TCP string
	// Delay is how long the target gets before it is asked first, because one
	// that has not begun to reload looks as well as ever.
	Delay time.Duration
	// Timeout is how long after it was told the target must have confirmed. Until
	// then it is asked again and again, at least once a second. Zero means
	// DefaultConfirmTimeout.
	Timeout time.Duration
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
		if t.Process != nil {
			t.Retry.Max = maxProcessWait
		}
	}
	t.Retry.Max = max(t.Retry.Max, t.Retry.Initial)
	if t.Confirm != nil {
		confirm := *t.Confirm
		if confirm.Timeout <= 0 {
			confirm.Timeout = DefaultConfirmTimeout
		}
		t.Confirm = &confirm
	}
	steps := make([]Step, len(t.Ladder))
	for i, s := range t.Ladder {
		if s.Timeout <= 0 {
			s.Timeout = t.Timeout
		}
		steps[i] = s
	}
	t.Ladder = steps
	return t
}

// LogsOutput reports whether the output of any of the target's commands is logged.
func (t Target) LogsOutput() bool {
	return t.Output || t.Confirm != nil && t.Confirm.Output || slices.ContainsFunc(t.Ladder, func(s Step) bool { return s.Output })
}

// ignores reports whether the target does not want to hear of c at all.
func (t Target) ignores(c Change) bool {
	return c.First && t.Process == nil && !t.OnFirst
}

// step returns the nth way of telling: 0 is the target's own, what follows is
// its ladder.
func (t Target) step(n int) Step {
	if n == 0 {
		return t.Step
	}
	return t.Ladder[n-1]
}

// kind names what the step is in status and logs.
func (s Step) kind() string {
	switch {
	case s.Process != nil:
		return "signal"
	case s.HTTP != nil:
		return "http"
	case s.Unit != nil:
		return "unit"
	}
	return "command"
}
