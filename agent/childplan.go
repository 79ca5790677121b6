package agent

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"

	"secretsd/agent/config"
	"secretsd/agent/notify"
	"secretsd/agent/store"
	"secretsd/sinks/process"
)

// childSpec is what the configuration asks of the child.
type childSpec struct {
	// program lacks its environment.
	program process.Program
	variables
	allow, deny []string
}

// newChild builds the child that the configuration asks for; nil if it asks for
// none.
func (p *plan) newChild() (*childSpec, error) {
	e := p.cfg.Exec
	if e == nil {
		return nil, nil
	}
	vars, err := p.newVariables("exec.env", e.Env)
	vars.from = e.EnvFrom
	c := &childSpec{variables: *vars, allow: e.EnvAllow, deny: e.EnvDeny}
	c.program.Args, c.program.KillTimeout = e.Command, e.KillTimeout.Std()
	errs := []error{p.childCommand(c), p.childSignals(c), err}
	for i := range e.EnvFrom {
		f := &e.EnvFrom[i]
		if f.Secret != "" && !p.configured(f.Secret) {
			errs = append(errs, p.cfg.Errorf([]any{&f.Secret, f}, p.configuredHint(), "exec.env_from: there is no secret %q", f.Secret))
		}
		if f.Prefix != "" && !process.IsName(f.Prefix) {
			errs = append(errs, p.cfg.Errorf([]any{&f.Prefix, f}, "", "exec.env_from: no variable's name can begin with %q", f.Prefix))
		}
	}
	return c, errors.Join(errs...)
}

// startsProcesses reports whether the agent starts programs beside the child: whether
// anybody but exec has a command.
func startsProcesses(cfg *config.Config) bool {
	beside := *cfg
	beside.Exec = nil
	return givesCommand(reflect.ValueOf(beside))
}

// givesCommand looks for a key called command that is given anywhere in v. Listed by
// hand one kind would be forgotten, and the child's end then kill those who belong
// to it.
func givesCommand(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return !v.IsNil() && givesCommand(v.Elem())
	case reflect.Slice:
		for i := range v.Len() {
			if givesCommand(v.Index(i)) {
				return true
			}
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			if givesCommand(v.MapIndex(key)) {
				return true
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if field.Tag.Get("yaml") == "command" && v.Field(i).Len() > 0 || field.IsExported() && givesCommand(v.Field(i)) {
				return true
			}
		}
	}
	return false
}

// childCommand finds the program. One that the configuration names has to be such
// that nobody else can write it.
func (p *plan) childCommand(c *childSpec) error {
	e := p.cfg.Exec
	if len(e.Command) == 0 || e.Command[0] == "" {
		return p.cfg.Errorf([]any{&e.Command, &p.cfg.Exec}, "give it here, or run: secretsd exec --config FILE -- COMMAND", "exec.command: missing")
	}
	name := e.Command[0]
	if !e.Typed {
		if strings.Contains(name, "/") && !filepath.IsAbs(name) {
			return p.cfg.Errorf([]any{&e.Command[0], &e.Command}, "write an absolute path, or a name to be found in PATH", "exec.command: %q is a relative path", name)
		}
		if err := notify.CheckCommand(name); err != nil {
			return placed(p.cfg, fmt.Errorf("exec.command: %w", err), &e.Command[0], &e.Command)
		}
	}
	path, err := process.Find(name)
	c.program.Path = path
	return placed(p.cfg, err, &e.Command, &p.cfg.Exec)
}

func (p *plan) childSignals(c *childSpec) error {
	e := p.cfg.Exec
	var errs [3]error
	c.program.OnChange, errs[0] = process.ParseOnChange(e.OnChange)
	if errs[0] != nil {
		errs[0] = nil // the configuration's own check has said so
	}
	c.program.Signal, errs[1] = notify.ParseSignal(e.Signal)
	c.program.KillSignal, errs[2] = notify.ParseSignal(e.KillSignal)
	return errors.Join(placed(p.cfg, errs[1], &e.Signal, &p.cfg.Exec), placed(p.cfg, errs[2], &e.KillSignal, &p.cfg.Exec))
}

func (c *childSpec) outlook() *PlannedChild {
	p := &PlannedChild{Program: c.program.Path, OnChange: c.program.OnChange.String()}
	for _, v := range c.list {
		p.Variables = append(p.Variables, v.name)
	}
	for _, f := range c.from {
		p.FromSecrets = append(p.FromSecrets, f.Secret)
	}
	return p
}

// childEnv is what the environment came to.
type childEnv struct {
	env *process.Environment
	made
}

// render works out the environment from one snapshot.
func (c *childSpec) render(snap *store.Snapshot, optional func(name string) bool, environ []string) *childEnv {
	out := &childEnv{made: c.variables.render(snap.Get, optional)}
	if out.err == nil && out.waiting == "" {
		out.env, out.err = process.NewEnvironment(process.Inherit(environ, c.allow, c.deny), out.vars)
	}
	out.vars = nil
	return out
}
