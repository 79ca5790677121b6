package config

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"time"
)

// Exec is the child: one program that the agent starts once everything is in
// place, supervises, and starts again when what it was started with has changed.
type Exec struct {
	// Command is the program and its arguments, run without a shell. It has to be
	// given, except for "secretsd exec -- COMMAND".
	Command []string `yaml:"command"`
	// Env are variables of the child: templates, by the variables' names.
	Env map[string]*string `yaml:"env"`
	// EnvFrom are JSON secrets whose keys become variables.
	EnvFrom []EnvFrom `yaml:"env_from"`
	// EnvAllow are the variables of the agent's own environment that the child
	// inherits: names and globs; of [] none. Default: all of them.
	EnvAllow []string `yaml:"env_allow"`
	// EnvDeny are those that it does not inherit, whatever env_allow says.
	// Default: none.
	EnvDeny []string `yaml:"env_deny"`
	// OnChange says what happens to the running child when its environment has
	// changed, its command, or a file that tells no target: restart, signal, or
	// none. Default: restart.
	OnChange string `yaml:"on_change"`
	// Signal is what on_change: signal sends: a name with or without SIG, or a
	// number. The environment of a running process cannot be changed: what is new
	// in it waits for the next start. Default: HUP.
	Signal string `yaml:"signal"`
	// KillSignal asks the child to end. Default: TERM.
	KillSignal string `yaml:"kill_signal"`
	// KillTimeout is how long it may take to do so, before it and all that it has
	// started are killed. Default: 30s.
	KillTimeout Duration `yaml:"kill_timeout"`

	// Typed says that the command was given on the command line: whoever typed it
	// answers for who can write the program.
	Typed bool `yaml:"-"`
}

// EnvFrom is a JSON secret whose keys become variables: strings as their own
// text, everything else as the secret writes it.
type EnvFrom struct {
	// Secret is the configured name of the secret.
	Secret string `yaml:"secret"`
	// Prefix stands before the names of its keys. Default: none.
	Prefix string `yaml:"prefix"`
	// Upper turns the variables' names to capitals. Default: false.
	Upper bool `yaml:"upper"`
}

// DefaultKillTimeout is how long a child may take to end.
const DefaultKillTimeout = 30 * time.Second

// EnsureExec returns Exec, and makes one with its defaults if there is none.
func (c *Config) EnsureExec() *Exec {
	if c.Exec == nil {
		c.Exec = &Exec{}
		c.setExecDefaults()
	}
	return c.Exec
}

func (c *Config) setExecDefaults() {
	e := c.Exec
	if e == nil {
		return
	}
	setDefault(&e.OnChange, "restart")
	setDefault(&e.Signal, "HUP")
	setDefault(&e.KillSignal, "TERM")
	if c.lines[&e.KillTimeout] == 0 { // "0s" is a choice, not an absence
		e.KillTimeout = Duration(DefaultKillTimeout)
	}
}

// EnvNames returns the names of Env, sorted.
func (e *Exec) EnvNames() []string { return slices.Sorted(maps.Keys(e.Env)) }

func (v *validator) exec() {
	e := v.c.Exec
	if e == nil {
		return
	}
	up := []any{&v.c.Exec}
	for _, name := range e.EnvNames() {
		if e.Env[name] == nil {
			v.fault("exec.env."+name, up, `write "" for an empty variable`, "exec.env.%s: no value", name)
		}
	}
	for i := range e.EnvFrom {
		f := &e.EnvFrom[i]
		if f.Secret == "" {
			v.fault(&f.Secret, []any{f, &v.c.Exec}, "name the secret as secrets does", "exec.env_from[%d].secret: missing", i)
		}
	}
	v.globs(e.EnvAllow, up, "exec.env_allow")
	v.globs(e.EnvDeny, up, "exec.env_deny")
	if !slices.Contains([]string{"restart", "signal", "none"}, e.OnChange) {
		v.fault(&e.OnChange, up, "", "exec.on_change: want restart, signal or none, not %q", e.OnChange)
	}
	if v.c.lines[&e.Signal] != 0 && e.OnChange != "signal" {
		v.fault(&e.Signal, up, "give on_change: signal, or take the key away", "exec.signal: it is not sent with on_change: %s", e.OnChange)
	}
}

func (v *validator) globs(list []string, up []any, key string) {
	for i := range list {
		if _, err := path.Match(list[i], ""); err != nil || list[i] == "" {
			v.fault(&list[i], up, "write a name, or a glob such as AWS_*", "%s: %q is no glob", fmt.Sprintf("%s[%d]", key, i), list[i])
		}
	}
}
