package agent

import (
	"fmt"
	"maps"
	"slices"

	"secretsd/agent/store"
	"secretsd/sinks/process"
)

// ChildStatus is the state of the child. It holds no argument and no variable.
type ChildStatus struct {
	process.Status
	// EnvironmentHeld says that no environment can be made of what there is now, so that
	// the child has that of before, or is not started. Error says why.
	EnvironmentHeld bool   `json:"environment_held,omitempty"`
	Hint            string `json:"hint,omitempty"`
}

// unsettled returns a secret of the environment of which it is not known yet what to
// show, if the child waits for that, or "": one that runs waits for as long as it takes,
// and one that is yet to be started as files do that are missing. A wrapper gives up
// instead of starting it with what is known to be wrong.
func (a *Agent) unsettled(c *supervised, snap *store.Snapshot) string {
	for _, name := range slices.Sorted(maps.Keys(c.made.deps)) {
		if e, _ := snap.Get(name); e.Unsettled != nil && (c.program != nil || c.opts.Once || a.clock()-e.Unsettled.Since < huntTime) {
			return name
		}
	}
	return ""
}

// holdUnsettled leaves a child alone whose environment needs a secret that is not
// settled.
func (a *Agent) holdUnsettled(name string, snap *store.Snapshot) {
	c := a.child
	if c.program == nil {
		return
	}
	e, _ := snap.Get(name)
	c.held = unsettledError(name, e.Unsettled)
	if len(c.touched) == 0 {
		return
	}
	if c.program.OnChange == process.Restart {
		c.held = fmt.Errorf("%w; a restart for %s waits for it, for it would start the child with what is known to be wrong", c.held, c.firstTouched())
		return
	}
	c.held = a.tellHeld(c.held)
}

// holdEnvironment leaves the child with the environment that it has, and says why.
func (a *Agent) holdEnvironment(snap *store.Snapshot) {
	c := a.child
	why := c.made.err
	if why == nil && c.program != nil { // else what it waits for is no news
		why = c.made.waitsFor(snap)
	}
	if c.program != nil {
		why = a.tellHeld(why)
	}
	c.held = why
	if c.made.err != nil {
		c.degrade(why)
	}
}

// tellHeld treats a change of the child's files as one, although the environment is held:
// one secret's fault must not keep the news of others from the child. It returns why,
// and why not if that cannot be: environment and files of one secret change together or
// not at all, and a program that cannot be started is not ended.
func (a *Agent) tellHeld(why error) error {
	c := a.child
	if len(c.touched) == 0 {
		return why
	}
	if path, name := a.apart(); name != "" {
		return fmt.Errorf("%w; the child is not told of %s until then, which shows another version of secret %s than its environment", why, path, name)
	}
	if err := c.program.Check(); err != nil {
		return fmt.Errorf("%w; the child is not told of %s until then: %w", why, c.firstTouched(), err)
	}
	c.touched = nil
	c.sup.Set(c.program, true)
	return why
}

// apart returns a file that shows another version of a secret than the environment that
// the child has, and the secret; both are empty if there is none. A child that is told
// looks at its files that have changed, and one that is started anew at all.
func (a *Agent) apart() (path, name string) {
	for _, o := range a.build.outputs {
		shown := a.child.touched[o.path]
		if shown == nil && a.child.program.OnChange == process.Restart && o.good != nil {
			shown = o.good.versions // a restart reads it too
		}
		for _, name := range slices.Sorted(maps.Keys(shown)) {
			if had, uses := a.child.given[name]; uses && !sameVersion(had, shown[name]) {
				return o.path, name
			}
		}
	}
	return "", ""
}

func (c *supervised) firstTouched() string { return slices.Min(slices.Collect(maps.Keys(c.touched))) }

// waitsFor says which secret a program's variables wait for, or nil.
func (m *made) waitsFor(snap *store.Snapshot) error {
	if m.waiting == "" {
		return nil
	}
	e, _ := snap.Get(m.waiting)
	return fmt.Errorf("secret %s: %w", m.waiting, &notReadError{name: m.waiting, err: e.Err})
}

// childState returns the state of the child for Status, or nil where the
// configuration has none.
func (a *Agent) childState(p *passed) *ChildStatus {
	if p.build.child == nil {
		return nil
	}
	st := ChildStatus{Status: a.child.sup.Status(), EnvironmentHeld: p.childHeld != nil}
	if st.Error == "" && p.childHeld != nil {
		st.Error, st.Hint = p.childHeld.Error(), hintOf(p.childHeld)
	}
	return &st
}
