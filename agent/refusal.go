package agent

import (
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"time"

	"secretsd/agent/notify"
	"secretsd/agent/secret"
	"secretsd/agent/store"
	"secretsd/templates"
)

// refusal is what a rollback has taken back from an output. It ends when the versions
// taken are not current any more, or when a template of an output that lacks the same
// has changed: all of these then get them, together.
type refusal struct {
	// taken are the versions that the output does not get, and without any, where only
	// its template was taken back, versions are those that it was rendered from.
	taken, versions []notify.SecretVersion
	source          [sha256.Size]byte
	reason          error
	// pins are what is used in the place of the versions taken, so that what else the
	// output is made of goes on changing. They are nil where a template was taken back
	// too, and after a restart, which forgets values: the output then stays as it is until
	// any of its secrets moves on.
	pins map[string]step
	// behind says that the output itself did not go back, for it had not had the
	// versions taken.
	behind bool
}

// step is what a rollback takes a secret back from, and to.
type step struct{ from, to *secret.Version }

// names returns the versions of the content that is refused.
func (r *refusal) names() []notify.SecretVersion {
	if len(r.taken) > 0 {
		return r.taken
	}
	return r.versions
}

// concerns reports whether content of these versions is refused.
func (r *refusal) concerns(o *output, v versions) bool {
	if r == nil || r.source != o.source {
		return false
	}
	named := v.named()
	if len(r.taken) == 0 {
		return slices.Equal(r.versions, named)
	}
	return slices.ContainsFunc(r.taken, func(t notify.SecretVersion) bool { return slices.Contains(named, t) })
}

// pinned returns what o is rendered from in place of snap, with the versions that a
// rollback went back to, or false if there are none.
func (o *output) pinned(snap *store.Snapshot) (rendering, bool) {
	r := o.refused
	if r == nil || len(r.pins) == 0 {
		return rendering{}, false
	}
	base := lookup(snap)
	pinned := func(name string) (*secret.Version, error) {
		if p, ok := r.pins[name]; ok {
			return versions{name: p.to}.lookup(name)
		}
		return base(name)
	}
	return rendering{templates.NewPass(pinned), pinned}, true
}

// pin puts the versions that o was rendered from in the place of those of a snapshot.
func (o *output) pin(v versions) versions {
	if o.refused != nil {
		for name, p := range o.refused.pins {
			if _, ok := v[name]; ok {
				v[name] = p.to
			}
		}
	}
	return v
}

// refuses reports whether c must not be published. Nothing can be published of an output
// that is behind the others since before a restart, and could be brought on: then all of
// them try again what was refused, in the pass that follows at once.
func (a *applier) refuses(c candidate) bool {
	o := c.output
	if !o.refused.concerns(o, c.versions) {
		return false
	}
	a.resume(o, namesOf(o.refused.names()))
	o.dirty, o.inPlace = false, o.inPlace || o.placed == nil && !o.lost && o.place.exists()
	if o.refused.behind && o.refused.pins == nil {
		a.forgive(o)
		o.retryAt = a.clock()
	}
	return true
}

// forgive is called where the template of o is another one. What was refused to it is
// tried again, and by all who share a target with it or were refused the same: one
// file alone would have a target with files of two versions.
func (a *applier) forgive(o *output) {
	for _, other := range a.outputs {
		if other.refused != nil && (other == o || slices.ContainsFunc(other.notify, func(t string) bool { return slices.Contains(o.notify, t) }) || o.refused.shares(other.refused)) {
			other.refused, other.dirty, other.retryAt = nil, true, 0
			a.noteSoon()
		}
	}
}

// followMoved ends what is refused where a secret has moved on. One that is pinned is
// then pinned no more. Where nothing is known to go on with, the output would be left
// behind by the other files of its target, whichever of its secrets has moved: all of
// them try again what was refused.
func (a *applier) followMoved(snap *store.Snapshot) {
	for _, o := range a.outputs {
		r := o.refused
		if r == nil {
			continue
		}
		moved := func(v notify.SecretVersion) bool {
			e, _ := snap.Get(v.Name)
			shown := e.Shown()
			return shown != nil && shown.VersionID != v.VersionID
		}
		if r.pins == nil {
			if slices.ContainsFunc(r.versions, moved) || slices.ContainsFunc(r.taken, moved) {
				a.forgive(o)
			}
			continue
		}
		before := len(r.taken)
		r.taken = slices.DeleteFunc(slices.Clone(r.taken), moved)
		maps.DeleteFunc(r.pins, func(name string, _ step) bool {
			return !slices.ContainsFunc(r.taken, func(v notify.SecretVersion) bool { return v.Name == name })
		})
		if len(r.pins) == 0 {
			o.refused = nil
		}
		if len(r.taken) < before {
			o.dirty, o.retryAt = true, 0
			a.noteSoon()
		}
	}
}

func (r *refusal) shares(other *refusal) bool {
	return r != nil && slices.ContainsFunc(other.taken, func(t notify.SecretVersion) bool { return slices.Contains(r.taken, t) })
}

// refuse notes that back have their previous content, and refuses what they had, to
// the other files of their targets too, which may not have had it yet. All of that is
// written down at once, so that no crash leaves a part of it behind.
func (a *applier) refuse(target string, back []going) {
	at, why := time.Now(), rolledBack(target)
	all, targets, gone := a.stepsOf(back), map[string]bool{}, map[*output]bool{}
	for _, g := range back {
		o := g.output
		gone[o] = true
		for _, name := range o.notify {
			targets[name] = true
		}
		r := o.refused.and(o.concerning(all))
		r.versions, r.source, r.reason = o.named, o.good.source, why
		if o.good.source != g.before.source {
			r.pins = nil
		}
		o.refused = r
		o.good, o.named, o.at = g.before, g.before.versions.named(), at
		o.previous, o.former, o.doubts, o.gate.passed = nil, nil, nil, nil
		o.inPlace, o.written, o.expires = true, true, earliestExpiry(g.to)
		o.recovered()
		a.counted.publishes++
		a.published(o, o.good)
		a.log.Error("rolled back what a target did not confirm", "path", o.path, "target", target, "versions", o.named, "refused", r.names())
	}
	for _, o := range a.outputs {
		if gone[o] || !slices.ContainsFunc(o.notify, func(name string) bool { return targets[name] }) {
			continue
		}
		if steps := o.concerning(all); len(steps) > 0 {
			o.refused = o.refused.and(steps)
			o.refused.versions, o.refused.source, o.refused.reason, o.refused.behind = o.refused.taken, o.source, why, true
			o.dirty, o.retryAt = true, 0
		}
	}
	a.noteSoon()
	a.keep(a.named(nil))
	a.noteHeld()
}

// stepsOf returns by which step each secret goes back: from the version that is
// current, if any of back has it, to what was put in place last of what they go back
// to. A file that waited may have stayed behind the others.
func (a *applier) stepsOf(back []going) map[string]step {
	all, since := map[string]step{}, map[string]time.Time{}
	for _, g := range back {
		for name, from := range g.good.versions {
			to := g.before.versions[name]
			if from == nil || sameVersion(from, to) {
				continue // what was not there cannot be refused
			}
			s, ok := all[name]
			if !ok || sameVersion(from, a.applied[name]) {
				s.from = from
			}
			if !ok || g.before.since.After(since[name]) {
				s.to, since[name] = to, g.before.since
			}
			all[name] = s
		}
	}
	return all
}

// concerning returns the steps of secrets that o may be made of.
func (o *output) concerning(steps map[string]step) map[string]step {
	some := maps.Clone(steps)
	maps.DeleteFunc(some, func(name string, _ step) bool {
		return !slices.Contains(o.deps, name) && !slices.Contains(o.uses, name)
	})
	return some
}

// and returns a refusal of what r refuses and what steps come from.
func (r *refusal) and(steps map[string]step) *refusal {
	next := &refusal{pins: map[string]step{}}
	if r != nil {
		maps.Copy(next.pins, r.pins)
	}
	maps.Copy(next.pins, steps)
	taken := versions{}
	for name, p := range next.pins {
		taken[name] = p.from
	}
	next.taken = taken.named()
	if len(next.pins) == 0 {
		next.pins = nil
	}
	return next
}

func rolledBack(target string) error {
	return &fault{
		err:  errors.New("target " + target + " did not confirm it, and the file was rolled back"),
		hint: "mend the secret or the target; the next version or a changed template is tried again",
	}
}
