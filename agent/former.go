package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"secretsd/agent/notify"
	"secretsd/agent/secret"
	"secretsd/sinks/files"
)

// former is what a rollback leads to as it is known after a restart, which forgets
// values: by name. A version without an id is of a secret that was not there.
type former struct {
	versions []notify.SecretVersion
	source   [sha256.Size]byte
	since    time.Time
	// confirmed is what it leads to if the targets confirm before it is known what the
	// output holds; nil if that may be another thing than they were told of.
	confirmed *former
}

// outputState names what an output holds, in the state, if it is one of a target that
// rolls back.
type outputState struct {
	Path string `json:"path"`
	// Before is what it held before it was in doubt, if it is. Whether that is so is
	// told by the debts.
	Before *contentState `json:"before,omitempty"`
	Now    *contentState `json:"now,omitempty"`
}

type contentState struct {
	Versions []notify.SecretVersion `json:"versions"`
	Source   string                 `json:"source"`
	Since    time.Time              `json:"since,omitzero"`
}

func (c *content) state() *contentState {
	return &contentState{c.versions.all(), hex.EncodeToString(c.source[:]), c.since}
}

func (f *former) state() *contentState {
	return &contentState{f.versions, hex.EncodeToString(f.source[:]), f.since}
}

// former returns nil for what is not known, or no digest.
func (s *contentState) former() *former {
	if s == nil {
		return nil
	}
	source, err := hex.DecodeString(s.Source)
	if err != nil || len(source) != sha256.Size {
		return nil
	}
	return &former{versions: s.Versions, source: [sha256.Size]byte(source), since: s.Since}
}

// rereadWait is between two attempts to read former versions.
const rereadWait = 30 * time.Second

// named returns what the outputs hold that targets may have rolled back, when the
// content of todo is in place: that has to be written down before any of it is.
func (a *applier) named(todo []candidate) []outputState {
	next := map[*output]*content{}
	for _, c := range todo {
		if c.change == files.Content && c.reason != notify.ReasonHeal {
			next[c.output] = c.content
		}
	}
	var list []outputState
	for _, o := range a.outputs {
		if !slices.ContainsFunc(o.notify, func(t string) bool { return a.doubters[t] }) {
			continue
		}
		st := outputState{Path: o.path}
		before, now := o.previous, o.good
		if next[o] != nil {
			now = next[o]
			if len(o.doubts) == 0 {
				before = o.good
			}
		}
		if before != nil {
			st.Before = before.state()
		} else if o.former != nil {
			st.Before = o.former.state()
		}
		if now != nil {
			st.Now = now.state()
		} else {
			st.Now = st.Before
		}
		list = append(list, st)
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

// recallNamed takes over what the last agent has written down of what outputs held that
// was not in doubt.
func (a *applier) recallNamed(list []outputState) {
	for _, st := range list {
		i := slices.IndexFunc(a.outputs, func(o *output) bool { return o.path == st.Path })
		if i < 0 {
			continue
		}
		o, now := a.outputs[i], st.Now.former()
		if st.Before == nil && o.refused != nil && !o.refused.behind {
			o.doubts = nil // it was rolled back, and what is owed is to tell of that
		}
		if len(o.doubts) == 0 {
			o.former = now
		} else if o.former = st.Before.former(); o.former != nil {
			o.former.confirmed = now
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
		if _, err := pause(ctx, nil, rereadWait); err != nil {
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
// did, and the rollback is to be done again, as soon as it is known what the files hold.
func (a *applier) cutOff(debts []notify.Debt) []notify.Debt {
	a.recalled = time.Now()
	undone := pathSet{}
	for i := range debts {
		d := &debts[i]
		switch {
		case !d.Unconfirmed || d.Rollback || !a.doubters[d.Target]:
		case a.tookBack(d.Change):
			d.Rollback = true // it is not to be done again
		default:
			undone.add(d.Paths)
		}
	}
	begun := pathSet{}
	debts = slices.DeleteFunc(debts, func(d notify.Debt) bool {
		cut := d.Rollback && !d.Unconfirmed && d.Told == 0 && undone.hasAny(d.Paths)
		if cut {
			begun.add(d.Paths)
			a.log.Warn("a rollback was cut off, and is done again", "target", d.Target, "paths", d.Paths)
		}
		return cut
	})
	for _, d := range debts {
		if d.Unconfirmed && !d.Rollback && begun.hasAny(d.Paths) {
			told := d.Change
			told.Unconfirmed = false
			a.late = append(a.late, reply{target: d.Target, told: told, rollback: true, late: true})
		}
	}
	for _, d := range debts {
		if d.At.IsZero() { // a pass that was cut off leaves as much unknown
			begun.add(d.Paths)
		}
	}
	for _, o := range a.outputs {
		o.halfway = begun[o.path]
	}
	return debts
}

// pathSet is a set of paths of outputs.
type pathSet map[string]bool

func (s pathSet) add(paths []string) {
	for _, path := range paths {
		s[path] = true
	}
}

func (s pathSet) hasAny(paths []string) bool {
	return slices.ContainsFunc(paths, func(path string) bool { return s[path] })
}

// tookBack reports whether a rollback has taken back what c is about.
func (a *applier) tookBack(c notify.Change) bool {
	return slices.ContainsFunc(a.outputs, func(o *output) bool {
		return slices.Contains(c.Paths, o.path) && o.refused != nil && !o.refused.behind &&
			slices.ContainsFunc(o.refused.names(), func(v notify.SecretVersion) bool { return slices.Contains(c.Secrets, v) })
	})
}

// unknownFormer is why a rollback cannot be of the outputs at paths: their former
// content is not known. A log line bears only so many.
func unknownFormer(paths []string) error {
	const most = 3
	list := strings.Join(paths[:min(len(paths), most)], ", ")
	if n := len(paths) - most; n > 0 {
		list += fmt.Sprintf(" and %d more", n)
	}
	return &fault{
		err:  fmt.Errorf("no earlier content of %s is known that the target can work with", list),
		hint: "put a right value into the secret",
	}
}
