package agent

import (
	"iter"
	"slices"

	"secretsd/agent/notify"
	"secretsd/agent/secret"
	"secretsd/agent/store"
	"secretsd/sinks/files"
)

// placedState says what an output holds while something newer is held, as it survives a
// restart: an agent that starts then cannot make it anew, for a source gives the current
// version. The mark tells whether it is still there, and comes from no content.
type placedState struct {
	Path     string                 `json:"path"`
	Bundle   bool                   `json:"bundle,omitempty"`
	Versions []notify.SecretVersion `json:"versions"`
	// Refs are what the names in Versions meant, in their order.
	Refs []secret.Ref `json:"refs"`
	Mark files.Mark   `json:"mark"`
}

// placed returns what outputs hold for which something newer is held, or all of them.
// What others hold is made anew by a start, and need not be written down with each
// change.
func (a *applier) placed(all bool) []placedState {
	var list []placedState
	for _, o := range a.outputs {
		switch {
		case o.good == nil && o.placed != nil:
			list = append(list, *o.placed)
		case o.good != nil && o.inPlace && (all || a.holds(o)):
			st := placedState{Path: o.path, Bundle: o.bundle, Versions: o.named, Mark: o.trace.mark()}
			for _, v := range o.named {
				st.Refs = append(st.Refs, a.refs[v.Name])
			}
			list = append(list, st)
		}
	}
	return list
}

// holds reports whether something newer than o shows is held.
func (a *applier) holds(o *output) bool {
	return o.gate.held != nil || o.refused != nil || slices.ContainsFunc(o.deps, func(name string) bool { return a.unexpected[name] })
}

// noteUnexpected follows of which secrets a version is held, for it is not what is
// expected.
func (a *applier) noteUnexpected(name string, e store.Entry) {
	if held := e.Held != nil; held != a.unexpected[name] {
		a.unexpected[name] = held
		a.unnoted = true
	}
}

// recallPlaced takes over what the last agent has left in place.
func (a *applier) recallPlaced(list []placedState) {
	a.unnoted = a.unnoted || len(list) > 0
	byPath := make(map[string]*placedState, len(list))
	for i := range list {
		byPath[list[i].Path] = &list[i]
	}
	for _, o := range a.outputs {
		if st := byPath[o.path]; st != nil && st.Bundle == o.bundle {
			o.placed = st
		}
	}
}

// resume is called where new content of o is held, which is made of the secrets of those
// names: what an agent before has left in place is what o holds then, if it was made of
// one of them and is still there.
func (a *applier) resume(o *output, names iter.Seq[string]) {
	if o.inPlace || o.placed == nil || !o.placed.madeOf(names, a.refs) {
		return
	}
	if a.recollect(o, false) {
		o.inPlace, o.named = true, o.placed.Versions
		a.log.Info("keeping what was published before the start", "path", o.path, "versions", o.named)
	}
}

// resumeHeld does so where o waits for a secret whose current version is held.
func (a *applier) resumeHeld(o *output, snap *store.Snapshot, name string) {
	if e, _ := snap.Get(name); e.Version == nil && e.Held != nil {
		a.resume(o, slices.Values([]string{name}))
	}
}

// madeOf reports whether one of the secrets of those names is shown, and all that are
// shown mean by refs what they meant then.
func (st *placedState) madeOf(names iter.Seq[string], refs map[string]secret.Ref) bool {
	if len(st.Refs) != len(st.Versions) {
		return false
	}
	for i, v := range st.Versions {
		if refs[v.Name] != st.Refs[i] {
			return false
		}
	}
	for name := range names {
		if slices.ContainsFunc(st.Versions, func(v notify.SecretVersion) bool { return v.Name == name }) {
			return true
		}
	}
	return false
}

// namesOf returns the names of the secrets of list.
func namesOf(list []notify.SecretVersion) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, v := range list {
			if !yield(v.Name) {
				return
			}
		}
	}
}

// recollect reports whether what was left in place is there, and puts its mode and owner
// right, for which no value is needed. If it is not there it is forgotten; if that cannot
// be seen it is looked at again.
func (a *applier) recollect(o *output, healing bool) bool {
	pieces, there, err := o.trace.recollect(o.placed.Mark)
	change := files.None
	if err == nil && there && len(pieces) > 0 {
		if there = o.setModes(pieces); there {
			change, err = o.sink.inspect(pieces)
			there = change != files.Content
		}
	}
	switch {
	case err != nil:
		if o.unseen != err.Error() {
			a.log.Warn("cannot look at what was published before the start", attrs(err, "path", o.path)...)
		}
		o.unseen = err.Error()
	case !there:
		a.log.Warn("file is not as it was published before the start, and cannot be repaired while its content is held", "path", o.path)
		o.placed, o.lost, a.unnoted = nil, true, true
	}
	if err != nil || !there {
		if o.inPlace {
			o.inPlace, o.named = false, nil
		}
		return false
	}
	o.unseen = ""
	if change == files.Attributes {
		a.dress(o, pieces, healing)
	}
	return true
}

// dress puts mode and owner right of what was left in place.
func (a *applier) dress(o *output, pieces []piece, healing bool) {
	change, err := o.sink.publish(pieces)
	switch {
	case err != nil:
		a.counted.publishFailures++
		a.degrade(o, err)
		return
	case healing:
		a.repaired(o, change)
	default:
		a.log.Info("put mode and owner of file right", "path", o.path)
	}
	o.placed.Mark, a.unnoted = o.trace.mark(), true
}

// setModes gives the files the modes that they are to have, and reports whether they are
// those that the output is to have: other templates may have made it.
func (o *output) setModes(pieces []piece) bool {
	parts := 0
	for i := range pieces {
		p := &pieces[i]
		at := slices.IndexFunc(o.parts, func(made part) bool { return made.path == p.path })
		switch {
		case at >= 0:
			p.mode = o.parts[at].mode
			parts++
		case o.explode != nil:
			p.mode = o.explode.mode
		default:
			return false
		}
	}
	return parts == len(o.parts)
}

// isKept reports whether a secret that was never read, for its current version is not
// what is expected, keeps nobody waiting: all files that are made of it are in place
// since before the start. Where there are none the endpoint is all that has it.
func (p *plan) isKept(name string) bool {
	used := false
	for _, o := range p.outputs {
		if !slices.Contains(o.deps, name) {
			continue
		}
		if used = true; !o.inPlace {
			return false
		}
	}
	return used
}
