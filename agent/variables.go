package agent

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"secretsd/agent/config"
	"secretsd/agent/secret"
	"secretsd/agent/store"
	"secretsd/sinks/process"
	"secretsd/templates"
)

// variables are those that the configuration gives a program.
type variables struct {
	// key is that of the configuration where they stand, for errors.
	key  string
	list []variable
	// from are JSON secrets whose keys are variables too.
	from []config.EnvFrom
	// included are the files that templates of list include.
	included []string
}

// variable is one variable and the template of its value.
type variable struct {
	name string
	tmpl *templates.Template
	// uses are the secrets that it names, and tested those of which it asks whether
	// they are there.
	uses   []string
	tested map[string]bool
	// decided are those that decide about a part of it, by has or by their value.
	decided map[string]bool
}

// newVariables parses the templates of env, which stands at key in the configuration.
func (p *plan) newVariables(key string, env map[string]*string) (*variables, error) {
	v := &variables{key: key}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if env[name] != nil { // else the configuration's own check has said so
			errs = append(errs, p.addVariable(v, name, env[name]))
		}
	}
	return v, errors.Join(errs...)
}

func (p *plan) addVariable(all *variables, name string, text *string) error {
	key := all.key + "." + name
	if !process.IsName(name) {
		return p.cfg.Errorf([]any{key}, "", "%s: %q cannot be the name of a variable", all.key, name)
	}
	tmpl, err := templates.Parse(templates.Options{Name: p.cfg.Path(), Place: p.cfg.Text(text).Place, Key: key, Text: *text, Vars: p.vars, Library: p.library})
	if err != nil {
		return keyed(key, err)
	}
	v := variable{name: name, tmpl: tmpl, tested: map[string]bool{}, decided: map[string]bool{}}
	var errs []error
	for _, use := range tmpl.Secrets() {
		v.tested[use.Name] = v.tested[use.Name] || use.Test
		v.decided[use.Name] = v.decided[use.Name] || use.Test || use.Decides
		v.uses = append(v.uses, use.Name)
		if !p.configured(use.Name) {
			errs = append(errs, p.unknownSecret(use))
		}
	}
	v.uses = slices.Compact(v.uses) // they are sorted
	all.list = append(all.list, v)
	for _, name := range tmpl.Files() {
		all.included = append(all.included, filepath.Join(p.cfg.TemplateDir, filepath.FromSlash(name)))
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
	if t.Within != "" { // it begins with the key
		return err
	}
	named := *t
	named.Msg = key + ": " + t.Msg
	return &named
}

// names returns the secrets that the variables are made of, as far as the
// configuration names them.
func (v *variables) names() []string {
	var list []string
	for _, f := range v.from {
		list = append(list, f.Secret)
	}
	for _, one := range v.list {
		list = append(list, one.uses...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// made is what variables came to.
type made struct {
	vars []process.Var
	// deps are the versions of the secrets that the outcome depends on, nil for
	// one that was never read.
	deps versions
	// waiting names a secret that was never read, and that is needed.
	waiting string
	err     error
}

// render works out all variables from one state of the secrets. One that uses a
// secret which may be absent, and is, is left out, unless it asks for that itself. So is
// one of AWSPREVIOUS of such a secret, where no version carries that.
func (v *variables) render(get entriesOf, optional func(name string) bool) made {
	m := &making{made: made{deps: versions{}}, get: get, optional: optional}
	for _, f := range v.from {
		if m.missing(f.Secret) || m.unlabelled(f.Secret) {
			continue
		}
		from, shown := v.key+"_from, secret "+f.Secret, m.depend(f.Secret).Shown()
		if shown.Unlabelled() {
			m.errs = append(m.errs, unlabelledError(from))
			continue
		}
		keys, err := process.Keys(from, f.Prefix, f.Upper, shown.Text)
		m.vars, m.errs = append(m.vars, keys...), append(m.errs, err)
	}
	pass := templates.NewPass(get.lookup)
	for i := range v.list {
		m.add(pass, v.key, &v.list[i])
	}
	m.err = errors.Join(m.errs...)
	return m.made
}

// making is variables in the making.
type making struct {
	made
	get      entriesOf
	optional func(name string) bool
	errs     []error
}

// depend notes that the outcome depends on a secret.
func (m *making) depend(name string) store.Entry {
	e, _ := m.get(name)
	m.deps[name] = e.Shown()
	return e
}

// missing reports whether a secret has no version, and notes it if it is needed.
func (m *making) missing(name string) bool {
	e := m.depend(name)
	if e.Version == nil && !(m.optional(name) && absent(e.Err)) && m.waiting == "" {
		m.waiting = name
	}
	return e.Version == nil
}

// unlabelled reports whether a secret that may be absent has no version with its label.
func (m *making) unlabelled(name string) bool {
	e, _ := m.get(name)
	return lacksLabel(e) && m.optional(name)
}

// add renders one variable.
func (m *making) add(pass *templates.Pass, key string, v *variable) {
	missing := false
	for _, name := range v.uses {
		doesWithout := v.tested[name] && m.optional(name) && absent(m.depend(name).Err)
		missing = m.missing(name) && !doesWithout || missing
		missing = missing || m.unlabelled(name) && !v.decided[name]
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
	case lacking(err, m.unlabelled) != "": // left out
	case err != nil:
		m.errs = append(m.errs, keyed(key+"."+v.name, err))
	default:
		m.vars = append(m.vars, process.Var{Name: v.name, Value: secret.NewValue(string(res.Content)), From: key + "." + v.name})
	}
}
