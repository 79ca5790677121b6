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
	// output is made of goes on changing. They are nil after a restart, which forgets
	// values: the output then stays as it is.
	pins map[string]step
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
// rollback went back to, or false if there are none. A secret that has moved on since
// is pinned no more.
func (a *applier) pinned(o *output, snap *store.Snapshot) (rendering, bool) {
	r := o.refused
	if r == nil || len(r.pins) == 0 {
		return rendering{}, false
	}
	for name, p := range r.pins {
		if e, _ := snap.Get(name); e.Version != nil && !sameVersion(e.Version, p.from) {
			delete(r.pins, name)
			r.taken = slices.DeleteFunc(slices.Clone(r.taken), func(t notify.SecretVersion) bool { return t.Name == name })
			a.noteSoon()
		}
	}
	if len(r.pins) == 0 {
		o.refused = nil
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

// forgive has o get what it was refused, and everything else that was refused the same:
// one of them alone would have a target with files of two versions.
func (a *applier) forgive(o *output) {
	r := o.refused
	if r == nil {
		return
	}
	for _, other := range a.outputs {
		if other == o || other.refused != nil && slices.ContainsFunc(other.refused.taken, func(t notify.SecretVersion) bool { return slices.Contains(r.taken, t) }) {
			other.refused, other.dirty, other.retryAt = nil, true, 0
		}
	}
	a.noteSoon()
}

// refuse notes that back have their previous content, and refuses what they had. All
// of that is written down at once, so that no crash leaves a part of them behind.
func (a *applier) refuse(target string, back []going) {
	at, why := time.Now(), rolledBack(target)
	for _, g := range back {
		o := g.output
		r := &refusal{versions: o.named, source: o.good.source, reason: why}
		if o.good.source == o.previous.source {
			r.pins = map[string]step{}
			if o.refused != nil {
				maps.Copy(r.pins, o.refused.pins)
			}
			for name, from := range o.good.versions {
				if to := o.previous.versions[name]; from != nil && !sameVersion(from, to) {
					r.pins[name] = step{from, to}
				}
			}
			taken := versions{}
			for name, p := range r.pins {
				taken[name] = p.from
			}
			r.taken = taken.named()
		}
		o.refused = r
		o.good, o.named, o.at = o.previous, o.previous.versions.named(), at
		o.previous, o.doubts, o.gate.passed = nil, nil, nil
		o.inPlace, o.written, o.expires = true, true, earliestExpiry(g.to)
		o.recovered()
		a.counted.publishes++
		a.published(o, o.named)
		a.log.Error("rolled back what a target did not confirm", "path", o.path, "target", target, "versions", o.named, "refused", r.names())
	}
	a.noteSoon()
	a.noteHeld()
}

func rolledBack(target string) error {
	return &fault{
		err:  errors.New("target " + target + " did not confirm it, and the file was rolled back"),
		hint: "mend the secret or the target; the next version or a changed template is tried again",
	}
}
