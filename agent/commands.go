package agent

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"secretsd/agent/notify"
	"secretsd/agent/secret"
	"secretsd/agent/store"
	"secretsd/sinks/process"
)

// commandEnv are the variables of one command of a target.
type commandEnv struct {
	target string
	*variables
	// parse reads the templates again.
	parse func() (*variables, error)
	// broken is why a changed template is not used, as the log has said it.
	broken string
}

// commandView is what targets' commands are given, and what their output must not show.
// It is immutable, and is replaced before anybody is told of what has changed.
type commandView struct {
	build    *build
	snap     *store.Snapshot
	optional map[string]bool
	// envs are those of build, and before, for a while, those of the configuration
	// before: a command that it was about to start ends as it began.
	envs, before map[string]given
	beforeEnds   time.Duration
	// versions are those that outputs hold and held.
	versions []*secret.Version
	// latest is what was superseded last, before this view or by it.
	latest *superseded
}

// superseded are versions that went out of use in one step. A slow command may have
// seen what neither its beginning nor its end knows: from the latest of its beginning
// the later ones can be reached, and they last as long as somebody holds that.
type superseded struct {
	versions []*secret.Version
	next     atomic.Pointer[superseded]
}

// then returns what versions that go out of use after s are, and has s lead to it.
func (s *superseded) then(versions ...*secret.Version) *superseded {
	next := &superseded{versions: versions}
	s.next.Store(next)
	return next
}

// given is one entry of a commandView.
type given struct {
	target string
	*variables
	files *filesOf
}

// filesOf is what the files of one target show.
type filesOf struct {
	// held are the versions of the secrets that they are made of, the latest where they
	// differ, and since when they are.
	held  versions
	since map[string]time.Time
	// unknown are the secrets of which that is not known: of files that were found at
	// the start and are not of what is current, or not known to be, for it is refused,
	// is being checked, cannot be put in place or is not all there.
	unknown map[string]bool
}

// beforeLasts is how long it is known what commands of the configuration before are
// given: more than the time between the decision to start one and its start.
const beforeLasts = 10 * time.Second

// giveCommands has commands of targets be given what the files show by now. It is
// called by the goroutine that applies, before it has anybody told.
func (a *Agent) giveCommands() {
	last, now := a.commands.Load(), a.clock()
	// Where the configuration has had commands, one of them may still be running.
	if last == nil && len(a.build.commands) == 0 && !a.build.logsOutput {
		return
	}
	v := &commandView{build: a.build, snap: a.store.Snapshot(), optional: a.apply.optional, envs: map[string]given{}}
	switch {
	case last == nil:
	case last.build != v.build:
		v.before, v.beforeEnds = last.envs, now+beforeLasts
	case now < last.beforeEnds:
		v.before, v.beforeEnds = last.before, last.beforeEnds
	}
	files := a.apply.filesOf(a.build.commands)
	for id, c := range a.build.commands {
		v.envs[id] = given{target: c.target, variables: c.variables, files: files[c.target]}
	}
	for _, o := range a.apply.outputs {
		v.add(o.good, o.previous)
	}
	v.supersede(last)
	a.commands.Store(v)
}

// supersede notes what last had, if there was a last, and v has no more.
func (v *commandView) supersede(last *commandView) {
	if last == nil {
		v.latest = &superseded{}
		return
	}
	v.latest = last.latest
	var gone []*secret.Version
	for name, had := range last.snap.Entries() {
		e, _ := v.snap.Get(name)
		if had.Version != e.Version {
			gone = append(gone, had.Version)
		}
		if had.Pending != e.Pending {
			gone = append(gone, had.Pending)
		}
	}
	kept := map[*secret.Version]bool{}
	for _, version := range v.versions {
		kept[version] = true
	}
	for _, version := range last.versions {
		if !kept[version] {
			gone = append(gone, version)
		}
	}
	if len(gone) > 0 {
		v.latest = last.latest.then(gone...)
	}
}

func (v *commandView) add(contents ...*content) {
	for _, c := range contents {
		if c != nil {
			v.versions = slices.AppendSeq(v.versions, maps.Values(c.versions))
		}
	}
}

// filesOf returns what the files of the targets of commands show, by target.
func (a *applier) filesOf(commands map[string]*commandEnv) map[string]*filesOf {
	files := map[string]*filesOf{}
	for _, c := range commands {
		files[c.target] = &filesOf{held: versions{}, since: map[string]time.Time{}, unknown: map[string]bool{}}
	}
	if len(files) == 0 {
		return nil
	}
	for _, o := range a.outputs {
		for _, target := range o.notify {
			if f := files[target]; f != nil {
				f.add(o)
			}
		}
	}
	return files
}

func (f *filesOf) add(o *output) {
	if o.good == nil {
		unknown := o.gate.held != nil || o.refused != nil || o.place.exists()
		for _, name := range slices.Concat(o.uses, o.deps) {
			f.unknown[name] = f.unknown[name] || unknown
		}
		return
	}
	for name, v := range o.good.versions {
		if v != nil && (f.held[name] == nil || o.good.since.After(f.since[name])) {
			f.held[name], f.since[name] = v, o.good.since
		}
	}
}

// entry is what a command is to see of a secret.
func (v *commandView) entry(g given) entriesOf {
	return func(name string) (store.Entry, bool) {
		e, ok := v.snap.Get(name)
		if held := g.files.held[name]; held != nil {
			e.Version, e.Pending = held, nil
		}
		return e, ok
	}
}

// commandVariables returns the variables of a command, as [notify.Options.Variables]
// does.
func (a *Agent) commandVariables(id string) ([]string, error) {
	v := a.commands.Load()
	if v == nil {
		return nil, errors.New("nothing was read yet")
	}
	g, ok := v.envs[id]
	if !ok {
		g, ok = v.before[id]
	}
	if !ok {
		return nil, errors.New("the configuration has changed")
	}
	made := g.render(v.entry(g), func(name string) bool { return v.optional[name] })
	if err := v.unsure(g, made.deps); err != nil {
		return nil, err
	}
	switch {
	case made.err != nil:
		return nil, made.err
	case made.waiting != "":
		e, _ := v.snap.Get(made.waiting)
		return nil, fmt.Errorf("secret %s: %w", made.waiting, &notReadError{name: made.waiting, err: e.Err})
	}
	env, err := process.NewEnvironment(nil, made.vars)
	if err != nil {
		return nil, err
	}
	a.recordCommand(id, g.target, made.deps)
	return env.Reveal(), nil
}

// unsure returns why it is not known which version of one of the secrets is right, or
// nil.
func (v *commandView) unsure(g given, deps versions) error {
	for _, name := range slices.Sorted(maps.Keys(deps)) {
		e, _ := v.snap.Get(name)
		switch {
		case g.files.held[name] != nil:
		case e.Unsettled != nil:
			return unsettledError(name, e.Unsettled)
		case g.files.unknown[name]:
			return &fault{
				err:  fmt.Errorf("secret %s: the target's files could not be made of the current version since the start, and which one they show is not known", name),
				hint: "mend what keeps the files from the current version (secretsd status), or put a new one",
			}
		}
	}
	return nil
}

// secretValues returns all values that output must not show: those of now, and those
// that go out of use until the result is used.
func (a *Agent) secretValues() iter.Seq[secret.Value] {
	list, demanded := a.onDemand.versions()
	later := []*superseded{demanded}
	snaps := []*store.Snapshot{a.store.Snapshot()}
	if v := a.commands.Load(); v != nil {
		list, later, snaps = append(list, v.versions...), append(later, v.latest), append(snaps, v.snap)
	}
	for _, snap := range snaps {
		for _, e := range snap.Entries() {
			list = append(list, e.Version, e.Pending)
		}
	}
	return func(yield func(secret.Value) bool) {
		all := slices.Clip(list)
		for _, s := range later {
			for ; s != nil; s = s.next.Load() {
				all = append(all, s.versions...)
			}
		}
		seen := map[*secret.Version]bool{nil: true}
		for _, version := range all {
			if !seen[version] && (!yield(version.Text) || !yield(version.Binary)) {
				return
			}
			seen[version] = true
		}
	}
}

// commandRecords remembers which versions commands were given last, so that one that
// is run again and again has one line in the audit log.
type commandRecords struct {
	mu   sync.Mutex
	last map[string][]notify.SecretVersion
}

// isNew reports whether the command of id was given other versions last.
func (r *commandRecords) isNew(id string, versions []notify.SecretVersion) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if had, ok := r.last[id]; ok && slices.Equal(had, versions) {
		return false
	}
	if r.last == nil {
		r.last = map[string][]notify.SecretVersion{}
	}
	r.last[id] = versions
	return true
}

// forget lets go of the commands that the configuration has no more.
func (r *commandRecords) forget(commands map[string]*commandEnv) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.last, func(id string, _ []notify.SecretVersion) bool { return commands[id] == nil })
}

// retemplateCommands has included files of templates read again that have changed. What
// is wrong leaves the variables as they are, and is said once.
func (a *Agent) retemplateCommands() {
	fresh := false
	for _, c := range a.build.commands {
		if len(c.included) == 0 {
			continue
		}
		if !fresh {
			fresh = true
			a.build.freshLibrary()
		}
		next, err := c.parse()
		if err != nil {
			if c.broken != err.Error() {
				a.log.Error("cannot use a changed template of a command's environment, keeping the one in use", attrs(err, "target", c.target)...)
			}
			c.broken = err.Error()
			continue
		}
		c.variables, c.broken = next, ""
	}
}
