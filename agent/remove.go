package agent

import (
	"slices"

	"secretsd/sinks/files"
	"secretsd/templates"
)

// dropped returns the outputs that next has no more.
func (a *applier) dropped(next *plan) []*output {
	return slices.DeleteFunc(slices.Clone(a.outputs), func(o *output) bool {
		return slices.ContainsFunc(next.outputs, func(n *output) bool { return n.path == o.path })
	})
}

// remove removes outputs that are still as they were published. What somebody
// else has changed, or what was never found right, is his: it stays, with a
// warning.
func (a *applier) remove(outputs ...*output) {
	for _, o := range outputs {
		if !o.sink.exists() {
			continue
		}
		if !a.asPublished(o) {
			a.log.Warn("keeping a "+o.kind()+" that is not as it was published", "path", o.path)
			continue
		}
		if err := o.sink.remove(); err != nil {
			a.log.Warn("cannot remove "+o.kind(), attrs(err, "path", o.path)...)
			continue
		}
		a.log.Info("removed "+o.kind(), "path", o.path)
	}
}

// asPublished reports whether o holds what was published last.
func (a *applier) asPublished(o *output) bool {
	if o.good == nil {
		return false
	}
	pieces, _, err := o.render(rendering{templates.NewPass(o.good.lookup), o.good.lookup})
	if err != nil {
		return false
	}
	change, err := o.sink.inspect(pieces)
	return err == nil && change != files.Content
}
