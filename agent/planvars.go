package agent

import (
	"errors"
	"maps"
	"os"
	"slices"

	"secretsd/agent/config"
	"secretsd/templates"
)

// readVars reads what templates get by var. An environment variable that is not
// set is an error: a template would be rendered without it for ever.
func (p *plan) readVars() error {
	p.vars = make(map[string]string, len(p.cfg.Vars))
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(p.cfg.Vars)) {
		v := p.cfg.Vars[name]
		if v.Env == "" {
			p.vars[name] = v.Text
			continue
		}
		value, found := os.LookupEnv(v.Env)
		if !found {
			errs = append(errs, p.cfg.Errorf([]any{"vars." + name}, "set it for the agent, or write the value itself", "vars.%s: the environment variable %s is not set", name, v.Env))
		}
		p.vars[name] = value
	}
	return errors.Join(errs...)
}

// freshLibrary forgets the files that templates include, so that they are read
// again.
func (p *plan) freshLibrary() {
	dir := p.cfg.TemplateDir
	p.library = templates.NewLibrary(dir, func(name string) ([]byte, error) { return config.ReadIncluded(dir, name) })
}
