package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"secretsd/agent/notify"
	"secretsd/agent/secret"
)

// former is what an output held before it was in doubt, as an agent before has written
// it down: names, for a restart forgets values. A version without an id is of a secret
// that was not there.
type former struct {
	versions []notify.SecretVersion
	source   [sha256.Size]byte
	since    time.Time
}

// formerState is a former in the state.
type formerState struct {
	Path     string                 `json:"path"`
	Versions []notify.SecretVersion `json:"versions"`
	Source   string                 `json:"source"`
	Since    time.Time              `json:"since,omitzero"`
}

// rereadWait is between two attempts to read former versions.
const rereadWait = 30 * time.Second

// formers returns what the outputs in doubt held before, when the content of todo will
// be in doubt too: that has to be written down before any of it is in place.
func (a *applier) formers(todo []candidate) []formerState {
	soon := map[*output]bool{}
	for _, c := range todo {
		if c.reason != notify.ReasonHeal && slices.ContainsFunc(c.output.notify, func(t string) bool { return a.doubters[t] }) {
			soon[c.output] = true
		}
	}
	var list []formerState
	for _, o := range a.outputs {
		before := o.previous
		if len(o.doubts) == 0 && soon[o] {
			before = o.good
		}
		switch {
		case before != nil && (len(o.doubts) > 0 || soon[o]):
			list = append(list, formerState{o.path, before.versions.all(), hex.EncodeToString(before.source[:]), before.since})
		case len(o.doubts) > 0 && o.former != nil:
			list = append(list, formerState{o.path, o.former.versions, hex.EncodeToString(o.former.source[:]), o.former.since})
		}
	}
	return list
}

// all returns the versions in the order of their names, and those that were not there
// without an id.
func (v versions) all() []notify.SecretVersion {
	list := make([]notify.SecretVersion, 0, len(v))
	for _, name := range slices.Sorted(maps.Keys(v)) {
		s := notify.SecretVersion{Name: name}
		if v[name] != nil {
			s.VersionID = v[name].VersionID
		}
		list = append(list, s)
	}
	return list
}

// recallFormers takes over what the last agent has written down of outputs that are
// still in doubt.
func (a *applier) recallFormers(list []formerState) {
	for _, st := range list {
		source, err := hex.DecodeString(st.Source)
		i := slices.IndexFunc(a.outputs, func(o *output) bool { return o.path == st.Path })
		if err == nil && len(source) == sha256.Size && i >= 0 && len(a.outputs[i].doubts) > 0 {
			a.outputs[i].former = &former{st.Versions, [sha256.Size]byte(source), st.Since}
		}
	}
}

// needed returns the versions whose values a rollback would need, where nothing is
// known but their names. The template has to be the same: that of before is not kept.
func (a *applier) needed(target string, told notify.Change) []notify.SecretVersion {
	var list []notify.SecretVersion
	for _, o := range a.outputs {
		if !o.concernedBy(target, told) || o.good == nil || o.previous != nil || o.former == nil || o.former.source != o.source {
			continue
		}
		for _, v := range o.former.versions {
			if !slices.Contains(list, v) {
				list = append(list, v)
			}
		}
	}
	return list
}

// concernedBy reports whether o may have to go back because target does not confirm
// what it was told of.
func (o *output) concernedBy(target string, told notify.Change) bool {
	return o.doubts[target] && slices.Contains(told.Paths, o.path) && !o.at.After(told.At)
}

// values are versions as they were read, by their names; nil for a secret that was not
// there.
type values map[notify.SecretVersion]*secret.Version

// remind gives outputs what they held before, as far as it was read.
func (a *applier) remind(read values) {
	for _, o := range a.outputs {
		f := o.former
		if f == nil || o.previous != nil || f.source != o.source || len(o.doubts) == 0 {
			continue
		}
		v := versions{}
		for _, name := range f.versions {
			if version, ok := read[name]; ok {
				v[name.Name] = version
			}
		}
		if len(v) == len(f.versions) {
			o.previous, o.former = &content{recipe: o.recipe, versions: v, since: f.since}, nil
		}
	}
}

// postpone keeps r for when all outputs that it is about are known, which after a start
// they are not before their secrets were read, and reports whether that is so.
func (a *applier) postpone(r reply) bool {
	for _, o := range a.outputs {
		if o.concernedBy(r.target, r.told) && o.good == nil {
			if !r.late {
				a.log.Warn("rolling back as soon as it is known what the files hold", "target", r.target, "path", o.path)
			}
			r.late = true
			a.late = append(a.late, r)
			return true
		}
	}
	return false
}

// heedLate acts on replies that had to wait, and reports whether a pass has to follow.
// What was put in place since the start is concerned too if it is of the versions that
// the target could not use: a crash amid a rollback has left it behind.
func (a *applier) heedLate() bool {
	list := a.late
	a.late = nil
	for i, r := range list {
		for _, o := range a.outputs {
			named := func(v notify.SecretVersion) bool { return !slices.Contains(r.told.Secrets, v) }
			if o.doubts[r.target] && slices.Contains(r.told.Paths, o.path) && o.at.After(list[i].told.At) && !slices.ContainsFunc(o.named, named) {
				list[i].told.At = o.at
			}
		}
	}
	return a.heed(list)
}

// reread reads former versions for a rollback, which then goes on. It is tried until
// there is an answer: the target is unconfirmed meanwhile.
func (a *Agent) reread(ctx context.Context, r reply, refs map[notify.SecretVersion]secret.Ref) {
	a.log.Info("reading what the files held before, to roll back", "target", r.target)
	names, list := make([]notify.SecretVersion, 0, len(refs)), make([]secret.Ref, 0, len(refs))
	for name, ref := range refs {
		names, list = append(names, name), append(list, ref)
	}
	for {
		again := false
		for i, res := range a.refresh.fetcher().Fetch(ctx, list) {
			switch {
			case res.Err == nil:
				r.read[names[i]] = res.Version
			case definite(secret.KindOf(res.Err)):
				a.log.Error("cannot read what a file held before", attrs(res.Err, "secret", names[i].Name, "version_id", names[i].VersionID)...)
			default:
				again = true
				a.log.Warn("cannot read what a file held before, trying again", attrs(res.Err, "secret", names[i].Name, "version_id", names[i].VersionID, "in", rereadWait)...)
			}
		}
		if ctx.Err() != nil {
			return
		}
		if !again {
			a.replies.add(r)
			return
		}
		if pause(ctx, rereadWait) != nil {
			return
		}
	}
}

// startReread has the versions needed for the rollback of r read by one of start's
// goroutines. A secret that was not there is not read.
func (a *Agent) startReread(ctx context.Context, start func(func() error), r reply, needed []notify.SecretVersion) {
	refs := map[notify.SecretVersion]secret.Ref{}
	r.read = values{}
	for _, v := range needed {
		if v.VersionID == "" {
			r.read[v] = nil
		}
	}
	for _, s := range a.build.secrets {
		for _, v := range needed {
			if v.Name == s.name && v.VersionID != "" {
				ref := s.ref
				ref.Stage, ref.VersionID = "", v.VersionID
				refs[v] = ref
			}
		}
	}
	start(func() error {
		a.reread(ctx, r, refs)
		return nil
	})
}

// cutOff removes from debts what an agent that was killed in the middle of a rollback
// owed for it, and notes which of them a rollback is behind. Files are written down as
// refused when all of them went back: until then the target cannot be told that they
// did, and the rollback is to be done again.
func (a *applier) cutOff(debts []notify.Debt) []notify.Debt {
	undone := map[string]bool{}
	for i := range debts {
		d := &debts[i]
		if !d.Unconfirmed || d.Rollback || !a.doubters[d.Target] {
			continue
		}
		if a.tookBack(d.Change) {
			d.Rollback = true // it is not to be done again
			continue
		}
		for _, path := range d.Paths {
			undone[path] = true
		}
	}
	return slices.DeleteFunc(debts, func(d notify.Debt) bool {
		cut := d.Rollback && !d.Unconfirmed && d.Told == 0 && slices.ContainsFunc(d.Paths, func(path string) bool { return undone[path] })
		if cut {
			a.log.Warn("a rollback was cut off, and is done again unless the target confirms after all", "target", d.Target, "paths", d.Paths)
		}
		return cut
	})
}

// tookBack reports whether a rollback has taken back what c is about.
func (a *applier) tookBack(c notify.Change) bool {
	return slices.ContainsFunc(a.outputs, func(o *output) bool {
		return slices.Contains(c.Paths, o.path) && o.refused != nil && !o.refused.behind &&
			slices.ContainsFunc(o.refused.names(), func(v notify.SecretVersion) bool { return slices.Contains(c.Secrets, v) })
	})
}

// unknownFormer is why a rollback cannot be of an output whose former content is not
// known.
func unknownFormer(o *output) error {
	return &fault{
		err:  fmt.Errorf("no earlier content of %s is known that the target can work with", o.path),
		hint: "put a right value into the secret",
	}
}
