package agent

import (
	"errors"
	"slices"
)

// retire removes what next does not have any more: outputs that are still as
// they were published, and backups that are not kept any more. What somebody else
// has changed is his: it stays, with a warning.
func (a *applier) retire(next *plan) {
	for _, o := range a.outputs {
		i := slices.IndexFunc(next.outputs, func(n *output) bool { return n.path == o.path })
		switch {
		case i < 0:
			a.remove(o)
		case o.backup && !next.outputs[i].backup:
			if f, ok := o.sink.(fileSink); ok {
				if err := f.RemoveBackup(); err != nil {
					a.log.Warn("cannot remove backup", attrs(err, "path", o.path)...)
				}
			}
		}
	}
}

// remove removes outputs that are still as they were published, and what is left of
// those that somebody has removed: a backup holds a secret too.
func (a *applier) remove(outputs ...*output) {
	for _, o := range outputs {
		existed := o.place.exists()
		kept, err := o.place.removeOurs()
		switch {
		case err != nil:
			a.log.Warn("cannot remove output", attrs(err, "path", o.path)...)
		case kept:
			a.log.Warn("keeping an output that is not as it was published", "path", o.path)
		case existed:
			a.log.Info("removed output", "path", o.path)
		}
	}
}

// collect lets bundles remove generations whose grace has ended.
func (a *applier) collect() {
	now := a.clock()
	for _, o := range a.outputs {
		s, ok := o.sink.(bundleSink)
		if !ok {
			continue
		}
		next, more, err := s.Collect(now)
		o.collectAt = next
		if !more {
			o.collectAt = 0
		}
		if err != nil {
			a.log.Warn("cannot remove generations that were replaced", attrs(err, "path", o.path)...)
		}
	}
}

// sweep clears what a crash left beside our files.
func (a *Agent) sweep(b *build) {
	n, err := b.dirs.Sweep()
	for _, o := range b.outputs {
		if s, ok := o.sink.(bundleSink); ok {
			cleared, sweepErr := s.Sweep(a.clock())
			n, err = n+cleared, errors.Join(err, sweepErr)
		}
	}
	if err != nil {
		a.log.Warn("cannot clear leftovers beside files", "error", err)
	}
	if n > 0 {
		a.log.Info("cleared what a crash had left beside files", "leftovers", n)
	}
}
