package agent

import (
	"time"

	"secretsd/agent/notify"
	"secretsd/agent/store"
	"secretsd/sinks/files"
	"secretsd/templates"
)

// An output that somebody else keeps changing is left alone after this many repairs
// within this time.
const (
	maxRepairs   = 3
	repairWindow = 10 * time.Minute
)

// heal compares o with what was published last, also by an agent before.
func (a *applier) heal(render rendering, o *output, snap *store.Snapshot) (candidate, bool) {
	if o.good != nil {
		return a.compare(render, o, snap)
	}
	if o.inPlace && o.placed != nil {
		a.recollect(o, true)
	}
	return candidate{}, false
}

// compare renders what o published last once more, from the same versions by the
// same templates, and compares it with what is there: a version or a template that
// cannot be rendered or is held must not keep the last good file from being put
// right.
func (a *applier) compare(render rendering, o *output, snap *store.Snapshot) (candidate, bool) {
	if !o.good.versions.current(snap) {
		render = rendering{templates.NewPass(o.good.versions.lookup), o.good.versions.lookup}
	}
	a.counted.executions += uint64(len(o.good.parts))
	pieces, _, err := o.good.render(render)
	if err != nil {
		return candidate{}, false // its own pass has said why
	}
	return a.inspect(candidate{output: o, pieces: pieces, content: o.good, reason: notify.ReasonHeal})
}

func (a *applier) repaired(o *output, change files.Change) {
	a.counted.repairs++
	o.repairs = append(o.repairs, a.clock())
	a.log.Warn("repaired a file that somebody else had changed", "path", o.path, "repaired", change.String())
	if !o.healable(a.clock()) {
		a.log.Error("file is changed by somebody else again and again, leaving it alone for a while",
			"path", o.path, "repairs", maxRepairs, "window", repairWindow.String())
	}
}

// healable says whether the output may be repaired at now, and forgets repairs
// that are long past.
func (o *output) healable(now time.Duration) bool {
	for len(o.repairs) > 0 && now-o.repairs[0] > repairWindow {
		o.repairs = o.repairs[1:]
	}
	return len(o.repairs) < maxRepairs
}

// nextTry returns when the next degraded output is to be tried again, or a bundle
// has something to remove; false if none waits for a time.
func (a *applier) nextTry() (time.Duration, bool) {
	next, found := a.noteAt, a.unnoted
	for _, o := range a.outputs {
		if o.dirty && o.retryAt > 0 && (!found || o.retryAt < next) {
			next, found = o.retryAt, true
		}
		if o.collectAt > 0 && (!found || o.collectAt < next) {
			next, found = o.collectAt, true
		}
	}
	return next, found
}
