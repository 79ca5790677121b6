package agent

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
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
	// included are the files that templates of vars include.
	included []string
}

// childVar is one variable and the template of its value.
type childVar struct {
	name string
	tmpl *templates.Template
	// uses are the secrets that it names, and tested those of which it asks whether
	// they are there.
	uses   []string
	tested map[string]bool
}

// newChild builds the child that the configuration asks for; nil if it asks for
// none.
func (p *plan) newChild() (*childSpec, error) {
	e := p.cfg.Exec
	if e == nil {
		return nil, nil
	}
	c := &childSpec{from: e.EnvFrom, allow: e.EnvAllow, deny: e.EnvDeny}
	c.program.Args, c.program.KillTimeout = e.Command, e.KillTimeout.Std()
	errs := []error{p.childCommand(c), p.childSignals(c)}
	for _, name := range e.EnvNames() {
		errs = append(errs, p.childVar(c, name))
	}
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
	v := childVar{name: name, tmpl: tmpl, tested: map[string]bool{}}
	var errs []error
	for _, use := range tmpl.Secrets() {
		v.tested[use.Name] = v.tested[use.Name] || use.Test
		v.uses = append(v.uses, use.Name)
		if !p.configured(use.Name) {
			errs = append(errs, p.unknownSecret(use))
		}
	}
	v.uses = slices.Compact(v.uses) // they are sorted
	c.vars = append(c.vars, v)
	for _, name := range tmpl.Files() {
		c.included = append(c.included, filepath.Join(p.cfg.TemplateDir, filepath.FromSlash(name)))
	}
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

// names returns the secrets that the environment is made of, as far as the
// configuration names them.
func (c *childSpec) names() []string {
	var list []string
	for _, f := range c.from {
		list = append(list, f.Secret)
	}
	for _, v := range c.vars {
		list = append(list, v.uses...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func (c *childSpec) outlook() *PlannedChild {
	p := &PlannedChild{Program: c.program.Path, OnChange: c.program.OnChange.String()}
	for _, v := range c.vars {
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
	// deps are the versions of the secrets that the outcome depends on, nil for
	// one that was never read.
	deps versions
	// waiting names a secret that was never read, and that is needed.
	waiting string
	err     error
}

// render works out the environment from one snapshot. A variable that uses a
// secret which may be absent, and is, is left out, unless it asks for that itself.
func (c *childSpec) render(snap *store.Snapshot, optional func(name string) bool, environ []string) *childEnv {
	m := &childMaking{childEnv: childEnv{deps: versions{}}, snap: snap, optional: optional}
	for _, f := range c.from {
		if m.missing(f.Secret) {
			continue
		}
		keys, err := process.Keys("exec.env_from, secret "+f.Secret, f.Prefix, f.Upper, m.depend(f.Secret).Version.Text)
		m.vars, m.errs = append(m.vars, keys...), append(m.errs, err)
	}
	pass := templates.NewPass(lookup(snap))
	for _, v := range c.vars {
		m.add(pass, &v)
	}
	out := &m.childEnv
	if out.err = errors.Join(m.errs...); out.err == nil && out.waiting == "" {
		out.env, out.err = process.NewEnvironment(process.Inherit(environ, c.allow, c.deny), m.vars)
	}
	return out
}

// childMaking is an environment in the making.
type childMaking struct {
	childEnv
	snap     *store.Snapshot
	optional func(name string) bool
	vars     []process.Var
	errs     []error
}

// depend notes that the outcome depends on a secret.
func (m *childMaking) depend(name string) store.Entry {
	e, _ := m.snap.Get(name)
	m.deps[name] = e.Version
	return e
}

// missing reports whether a secret has no version, and notes it if it is needed.
func (m *childMaking) missing(name string) bool {
	e := m.depend(name)
	if e.Version == nil && !(m.optional(name) && absent(e.Err)) && m.waiting == "" {
		m.waiting = name
	}
	return e.Version == nil
}

// add renders one variable.
func (m *childMaking) add(pass *templates.Pass, v *childVar) {
	missing := false
	for _, name := range v.uses {
		doesWithout := v.tested[name] && m.optional(name) && absent(m.depend(name).Err)
		missing = m.missing(name) && !doesWithout || missing
	}
	if missing {
		return
	}
	res, err := pass.Render(v.tmpl)
	for _, name := range res.Used {
		m.depend(name)
	}
	var notRead *notReadError
	switch {
	case errors.As(err, &notRead): // a name that the template computed
		m.missing(notRead.name)
	case err != nil:
		m.errs = append(m.errs, keyed("exec.env."+v.name, err))
	default:
		m.vars = append(m.vars, process.Var{Name: v.name, Value: secret.NewValue(string(res.Content)), From: "exec.env." + v.name})
	}
}
