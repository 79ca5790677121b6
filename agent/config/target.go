package config

import "time"

// Target is somebody who is told of changes, in one of the ways of a [Step].
type Target struct {
	// Name is what files call it.
	Name string `yaml:"name"`
	Step
	// OnFirst tells a command, http or a unit of the first publication of a file
	// too.
	OnFirst bool `yaml:"on_first"`
	// Debounce gathers the changes that follow a first one within this time
	// into one further notification. Default: 1s.
	Debounce Duration `yaml:"debounce"`
	// Splay is the most that a change waits, a random time, before it is told, so
	// that not all machines tell their targets at once. Default: none.
	Splay Duration `yaml:"splay"`
	// Retry is how long to wait after an attempt that failed.
	Retry Retry `yaml:"retry"`
	// Confirm finds out whether the target works with what it was told of.
	// Default: it is taken to.
	Confirm *Confirm `yaml:"confirm"`
	// Ladder are further steps, each taken if the target has not confirmed after
	// the one before. Default: none.
	Ladder []Step `yaml:"ladder"`
	// Rollback gives the target's files back what it had confirmed last, all of them
	// or none, if it has not confirmed after the last step. Default: false.
	Rollback bool `yaml:"rollback"`
}

// Step is one way of telling: a signal to a process, a command, a request, or what
// is done to a systemd unit.
type Step struct {
	// Signal is sent to process: a name with or without SIG, or a number. In a
	// ladder it goes to the target's own process if none is given. Default: HUP.
	Signal string `yaml:"signal"`
	// Process says which process is signalled.
	Process *Process `yaml:"process"`
	// Command is a program and its arguments, run without a shell. Its
	// environment is PATH, HOME, LANG, SECRETSD_ variables and env. An argument {}
	// stands for the paths that changed.
	Command []string `yaml:"command"`
	// User runs the command as another user, by name or number. Default: the
	// agent's own.
	User string `yaml:"user"`
	Hook
	// HTTP is a request to a program on this machine: a URL, or a mapping.
	HTTP *HTTP `yaml:"http"`
	// Unit is a systemd unit: its name, or a mapping.
	Unit *Unit `yaml:"unit"`
	// Timeout ends what takes longer. Default: 30s, in a ladder the target's.
	Timeout Duration `yaml:"timeout"`
}

// Hook is what a target's command is given, and what becomes of what it prints.
type Hook struct {
	// Env are variables of the command, which may hold secrets: templates, by the
	// variables' names. A secret that the target's files show is given in the
	// version that they show. Default: none.
	Env map[string]*string `yaml:"env"`
	// Output is what becomes of what the command prints: discard, or log, which
	// has the end of it in the log if the command fails, without the words in which
	// there is anything of a secret. Default: discard.
	Output string `yaml:"output"`
}

// Process finds a process, by one of its fields. Of a process and what it has
// forked the topmost is told; of several that are left, each.
type Process struct {
	// PIDFile is an absolute path to a file with a process id, read anew each
	// time.
	PIDFile string `yaml:"pid_file"`
	// Exe is the absolute path of the program that it runs, as /proc/PID/exe has
	// it.
	Exe string `yaml:"exe"`
	// Argv0 is the first of its arguments, whole.
	Argv0 string `yaml:"argv0"`
	// Cgroup is the path of the control group that it is in or below, as
	// /proc/PID/cgroup has it.
	Cgroup string `yaml:"cgroup"`
	// Unit is the name of the systemd service whose main process it is.
	Unit string `yaml:"unit"`
	// Child is the child that exec supervises.
	Child bool `yaml:"child"`
}

// HTTP is a request, or a URL alone.
type HTTP struct {
	// URL is http or https, on localhost or a loopback address.
	URL string `yaml:"url"`
	// Method is POST, PUT, PATCH or GET; in confirm only GET. Default: POST, in
	// confirm GET.
	Method string `yaml:"method"`
	// Status is the status code that is expected. Default: any from 200 to 299.
	Status int `yaml:"status"`
}

// Unit is a systemd unit, or its name alone.
type Unit struct {
	// Name is its whole name, such as nginx.service.
	Name string `yaml:"name"`
	// Action is what systemctl calls reload, restart, try-restart,
	// reload-or-restart or try-reload-or-restart. Default:
	// try-reload-or-restart, which does nothing to a unit that is not running.
	Action string `yaml:"action"`
}

// Confirm asks whether a target works, in one of three ways.
type Confirm struct {
	// HTTP is a request by GET: a URL, or a mapping.
	HTTP *HTTP `yaml:"http"`
	// Command is a program and its arguments, run as that of a target is. Exit
	// code 0 means yes.
	Command []string `yaml:"command"`
	// User runs the command as another user. Default: the agent's own.
	User string `yaml:"user"`
	Hook
	// TCP is a loopback address, host:port, that has to take a connection.
	TCP string `yaml:"tcp"`
	// Delay is how long after it was told the target is asked first: one that has
	// not begun to reload looks as well as ever. Default: 1s, and not more than a
	// quarter of timeout.
	Delay Duration `yaml:"delay"`
	// Timeout is how long after it was told the target must have confirmed. It is
	// asked every second until then. Default: 30s.
	Timeout Duration `yaml:"timeout"`
}

// Retry is a back-off. Each wait is about twice as long as the one before.
type Retry struct {
	// Initial is the first wait. Default: 1s.
	Initial Duration `yaml:"initial"`
	// Max is the longest. Default: 1m, for a process 5s.
	Max Duration `yaml:"max"`
}

func (t *Target) setDefaults(c *Config) {
	setDefault(&t.Timeout, Duration(DefaultCommandTimeout))
	if c.lines[&t.Debounce] == 0 { // "0s" is a choice, not an absence
		t.Debounce = Duration(DefaultDebounce)
	}
	t.Step.setDefaults()
	for i := range t.Ladder {
		s := &t.Ladder[i]
		setDefault(&s.Timeout, t.Timeout)
		if s.Process == nil && s.Signal != "" && s.Ways() == 0 {
			s.Process = t.Process
		}
		s.setDefaults()
	}
	if f := t.Confirm; f != nil {
		setDefault(&f.Timeout, Duration(DefaultConfirmTimeout))
		if c.lines[&f.Delay] == 0 {
			f.Delay = Duration(min(DefaultConfirmDelay, f.Timeout.Std()/4).Round(time.Millisecond))
		}
	}
}

func (s *Step) setDefaults() {
	if s.Process != nil {
		setDefault(&s.Signal, "HUP")
	}
	if s.Unit != nil {
		setDefault(&s.Unit.Action, DefaultAction)
	}
}

// LogsOutput reports whether the end of what the command prints is to be logged.
func (h *Hook) LogsOutput() bool { return h.Output == outputLog }

// What becomes of what a command prints.
const (
	outputDiscard = "discard"
	outputLog     = "log"
)

// Ways returns how many ways of telling the step gives; 1 in a valid
// configuration.
func (s *Step) Ways() int {
	return count(s.Process != nil, len(s.Command) > 0, s.HTTP != nil, s.Unit != nil)
}

// Ways returns in how many ways p finds a process; 1 in a valid configuration.
func (p *Process) Ways() int {
	return count(p.PIDFile != "", p.Exe != "", p.Argv0 != "", p.Cgroup != "", p.Unit != "", p.Child)
}

// Ways returns in how many ways the target is asked; 1 in a valid configuration.
func (f *Confirm) Ways() int { return count(f.HTTP != nil, len(f.Command) > 0, f.TCP != "") }

func count(given ...bool) (n int) {
	for _, is := range given {
		if is {
			n++
		}
	}
	return n
}
