package agent

import (
	"io/fs"
	"maps"
	"os"
	"slices"
)

// retemplate reads the templates again whose files have changed, and takes over
// those that are right. One that is not keeps the output as it is, and is said
// once.
func (a *applier) retemplate() {
	changed, fresh := a.touched(), false
	for _, o := range a.outputs {
		// One that is broken may be so for a file that was not known of.
		if o.templateErr == nil && !slices.ContainsFunc(o.templates, func(path string) bool { return changed[path] }) {
			continue
		}
		if !fresh {
			fresh = true
			a.freshLibrary()
		}
		next, err := o.parse()
		if err != nil {
			if o.templateErr == nil || o.templateErr.Error() != err.Error() {
				a.log.Error("cannot use a changed template, keeping the one in use", attrs(err, "path", o.path)...)
			}
			o.templateErr = err
			continue
		}
		mended := o.templateErr != nil
		o.templateErr = nil
		if next.source == o.source {
			if mended {
				a.log.Info("template can be used again, and is as it was", "path", o.path)
			}
			continue
		}
		a.log.Info("template changed", "path", o.path, "templates", o.templates)
		had := o.deps
		o.recipe, o.templates = next.recipe, next.templates
		o.uses, o.deps, o.tested = next.uses, next.deps, next.tested
		o.gate.passed = nil
		o.dirty, o.retryAt = true, 0
		a.depend(o, had)
		a.forgive(o)
	}
}

// touched returns the template files that are not as they were when it looked
// last, as far as that shows without reading them. One that is gone is looked for
// after events have settled, so that no editor is between two steps of saving it.
func (a *applier) touched() map[string]bool {
	touched, now := map[string]bool{}, map[string]fs.FileInfo{}
	for _, o := range a.outputs {
		for _, path := range o.templates {
			if _, done := now[path]; done {
				continue
			}
			info, _ := os.Stat(path) // nil where it is gone: reading it says why
			before, known := a.looked[path]
			now[path] = info
			touched[path] = !known || (before == nil) != (info == nil) || info != nil && !sameFile(before, info)
		}
	}
	a.looked = now
	return touched
}

func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// templateFiles returns the files that templates are in.
func (p *plan) templateFiles() []string {
	set := map[string]bool{}
	for _, o := range p.outputs {
		for _, path := range o.templates {
			set[path] = true
		}
	}
	if p.child != nil {
		for _, path := range p.child.included {
			set[path] = true
		}
	}
	for _, c := range p.commands {
		for _, path := range c.included {
			set[path] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}
