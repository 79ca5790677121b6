package agent

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"secretsd/agent/config"
	"secretsd/agent/notify"
	"secretsd/agent/secret"
	"secretsd/agent/store"
	"secretsd/sinks/process"
	"secretsd/templates"
)

// childSpec is what the configuration asks of the child.
type childSpec struct {
	// program lacks its environment.
	program     process.Program
	vars        []childVar
	from        []config.EnvFrom
	allow, deny []string
	// uses are the secrets that vars and from name.
	uses []string
}

// childVar is one variable and the template of its value.
type childVar struct {
	name string
	tmpl *templates.Template
	uses []string
}

// newChild builds the child that the configuration asks for; nil if it asks for
// none.
func (p *plan) newChild() (*childSpec, error) {
	e := p.cfg.Exec
	if e == nil {
		return nil, nil
	}
	c := &childSpec{from: e.EnvFrom, allow: e.EnvAllow, deny: e.EnvDeny}
	c.program.Args, c.program.KillTimeout, c.program.Alone = e.Command, e.KillTimeout.Std(), !startsProcesses(p.cfg)
	errs := []error{p.childCommand(c), p.childSignals(c)}
	for _, name := range e.EnvNames() {
		errs = append(errs, p.childVar(c, name))
	}
	for i := range e.EnvFrom {
		f := &e.EnvFrom[i]
		if !slices.ContainsFunc(p.secrets, func(s *schedule) bool { return s.name == f.Secret }) && f.Secret != "" {
			err := p.unknownSecret(templates.SecretUse{Name: f.Secret})
			errs = append(errs, p.cfg.Errorf([]any{&f.Secret, f}, hintOf(err), "exec.env_from: there is no secret %q", f.Secret))
		}
		if f.Prefix != "" && !process.IsName(f.Prefix) {
			errs = append(errs, p.cfg.Errorf([]any{&f.Prefix, f}, "", "exec.env_from: no variable's name can begin with %q", f.Prefix))
		}
		c.use(f.Secret)
	}
	return c, errors.Join(errs...)
}

// startsProcesses reports whether the agent starts programs beside the child.
func startsProcesses(cfg *config.Config) bool {
	return slices.ContainsFunc(cfg.Targets, func(t config.Target) bool { return len(t.Command) > 0 })
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

func (p *plan) childVar(c *childSpec, name string) error {
	text, key := p.cfg.Exec.Env[name], "exec.env."+name
	if text == nil {
		return nil // the configuration's own check has said so
	}
	if !process.IsName(name) {
		return p.cfg.Errorf([]any{key}, "", "exec.env: %q cannot be the name of a variable", name)
	}
	tmpl, err := templates.Parse(templates.Options{Name: p.cfg.Path(), Line: p.cfg.TextLine(text), Text: *text, Vars: p.vars, Library: p.library})
	if err != nil {
		return keyed(key, err)
	}
	v := childVar{name: name, tmpl: tmpl}
	var errs []error
	for _, use := range tmpl.Secrets() {
		v.uses = append(v.uses, use.Name)
		c.use(use.Name)
		if !slices.ContainsFunc(p.secrets, func(s *schedule) bool { return s.name == use.Name }) {
			errs = append(errs, p.unknownSecret(use))
		}
	}
	v.uses = slices.Compact(v.uses) // they are sorted
	c.vars = append(c.vars, v)
	return errors.Join(errs...)
}

// keyed puts the key of the configuration into the errors of a template, behind
// their place.
func keyed(key string, err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, e := range joined.Unwrap() {
			errs = append(errs, keyed(key, e))
		}
		return errors.Join(errs...)
	}
	var t *templates.Error
	if !errors.As(err, &t) {
		return fmt.Errorf("%s: %w", key, err)
	}
	named := *t
	named.Msg = key + ": " + t.Msg
	return &named
}

func (c *childSpec) use(name string) {
	if !slices.Contains(c.uses, name) {
		c.uses = append(c.uses, name)
	}
}

// childEnv is what the environment came to.
type childEnv struct {
	env *process.Environment
	// deps are the versions of the secrets that the outcome depends on, nil for
	// one that was never read.
	deps map[string]*secret.Version
	// waiting names a secret that was never read, and that is needed.
	waiting string
	err     error
}

// current reports whether the outcome would be the same from snap.
func (e *childEnv) current(snap *store.Snapshot) bool {
	for name, v := range e.deps {
		if now, _ := snap.Get(name); now.Version != v {
			return false
		}
	}
	return true
}

// render works out the environment from one snapshot. A variable that uses a
// secret which may be absent, and is, is left out.
func (c *childSpec) render(snap *store.Snapshot, optional func(name string) bool, environ []string) *childEnv {
	out := &childEnv{deps: map[string]*secret.Version{}}
	depend := func(name string) store.Entry {
		e, _ := snap.Get(name)
		out.deps[name] = e.Version
		return e
	}
	// unread reports whether name has no version, and notes it if it is needed.
	unread := func(name string) bool {
		e := depend(name)
		if e.Version == nil && !(optional(name) && absent(e.Err)) && out.waiting == "" {
			out.waiting = name
		}
		return e.Version == nil
	}
	var vars []process.Var
	var errs []error
	for _, f := range c.from {
		if unread(f.Secret) {
			continue
		}
		keys, err := process.Keys("exec.env_from, secret "+f.Secret, f.Prefix, f.Upper, depend(f.Secret).Version.Text)
		vars = append(vars, keys...)
		errs = append(errs, err)
	}
	pass := templates.NewPass(lookup(snap))
	for _, v := range c.vars {
		missing := false
		for _, name := range v.uses {
			missing = unread(name) || missing
		}
		if missing {
			continue
		}
		res, err := pass.Render(v.tmpl)
		for _, name := range res.Used {
			depend(name)
		}
		var notRead *notReadError
		switch {
		case errors.As(err, &notRead): // a name that the template computed
			unread(notRead.name)
		case err != nil:
			errs = append(errs, keyed("exec.env."+v.name, err))
		default:
			vars = append(vars, process.Var{Name: v.name, Value: secret.NewValue(string(res.Content)), From: "exec.env." + v.name})
		}
	}
	if out.err = errors.Join(errs...); out.err != nil || out.waiting != "" {
		return out
	}
	out.env, out.err = process.NewEnvironment(process.Inherit(environ, c.allow, c.deny), vars)
	return out
}
