package agent

import (
	"iter"
	"maps"
	"slices"
	"time"

	"secretsd/agent/notify"
	"secretsd/agent/secret"
	"secretsd/agent/store"
	"secretsd/sinks/files"
	"secretsd/templates"
)

// sink is where an output goes: a file or a bundle.
type sink interface {
	inspect(pieces []piece) (files.Change, error)
	publish(pieces []piece) (files.Change, error)
	close() error
}

// outputPlace is the same for all else that is done there.
type outputPlace interface {
	// stage puts pieces into a private directory beside the output, for a check
	// that runs as that user, and returns the path of the file or directory.
	stage(pieces []piece, uid int) (path string, unstage func() error, err error)
	// removeOurs removes the output if it is as it was published, or last found
	// right.
	removeOurs() (kept bool, err error)
	// exists reports whether there is anything of the output.
	exists() bool
}

// outputTrace is the same for what is to be known after a restart.
type outputTrace interface {
	// mark tells the output again as it was published, or last found right.
	mark() files.Mark
	// recollect reports whether it is still there, and what it holds where that can be
	// read. The pieces have no modes.
	recollect(m files.Mark) (pieces []piece, there bool, err error)
}

// output is one file or bundle with its templates, and what has become of it. All
// but the first group of fields belongs to the goroutine that applies.
type output struct {
	// path is that of the file, or the directory of the bundle.
	path   string
	bundle bool
	notify []string
	recipe
	sink  sink
	place outputPlace
	trace outputTrace
	// check decides whether new content may be published; nil where nothing does.
	check  *check
	backup bool
	// parse reads the templates again, into an output that goes nowhere.
	parse func() (*output, error)
	// templates are the files that the templates are in.
	templates []string
	// uses are the secrets that the template names in its text.
	uses []string

	// tested are those of them that the template asks for by has.
	tested map[string]bool

	// deps are the secrets whose change makes the template run again: those
	// the last rendering looked up, or uses before the first. Rendering depends
	// on nothing else, so that what it did not look up cannot matter.
	deps []string
	// dirty says that the output must be looked at whatever changed.
	dirty bool
	// inPlace says that the file is what the agent once made it.
	inPlace bool
	// written says that the agent has written the file, not only found it right.
	written bool
	// good is the published content, nil if that is not known. Its versions are
	// named, without their values, in named, which is never written to.
	good  *content
	named []notify.SecretVersion
	// at is when good was put in place, zero if an agent before did.
	at time.Time
	// doubts are the targets that roll back what they do not confirm, and have yet
	// to confirm good. previous is what the output held before there were any: the
	// last content that was not in doubt. It is nil if that is not known, or if
	// nobody could ask for it.
	doubts   map[string]bool
	previous *content
	// placed is what an agent before has left in place, as long as good is not known.
	placed *placedState
	// lost says that it is not there any more as that says, and unseen why it could not
	// be looked at, as the log has said it.
	lost   bool
	unseen string
	// former is previous as it is known after a restart: by name.
	former *former
	// halfway says that an agent before was killed while it wrote the output, or others:
	// it may be of another version than the others until good is known, and what a
	// target says of what it was told of before counts for nothing.
	halfway bool
	// refused is what a rollback has taken back, or nil.
	refused *refusal
	// skipped says that the output waits for a secret that may be absent.
	skipped bool
	// waiting names a secret that was never read or settled, and that the output needs.
	waiting string
	// kept says that it waits for one that is not settled, and that what an earlier
	// agent has left has to do.
	kept bool
	// gate is what is known of new content that a check has to pass.
	gate gate
	// expires is when the first of the certificates in it does, or zero.
	expires time.Time
	// collectAt is when a bundle has a generation to remove, or 0.
	collectAt time.Duration
	// templateErr is why the template, as it is on disk, is not used, as the log has
	// said it; nil while the one in use is that.
	templateErr error
	// err is why the output is degraded, nil if it is not.
	err      error
	failures int
	retryAt  time.Duration
	// repairs are the times of the latest repairs.
	repairs []time.Duration
}

// notReadError is what a template is told of a secret without a version.
type notReadError struct {
	name string
	err  error // why, or nil if the first read has not ended
}

func (e *notReadError) Error() string {
	if e.err == nil {
		return "not read yet"
	}
	return "not read yet: " + e.err.Error()
}

func (e *notReadError) Unwrap() error { return e.err }

const (
	minPublishRetry = time.Second
	maxPublishRetry = time.Minute
)

// inherit takes over what old, the same path in the configuration before a
// reload, knows of the file.
func (o *output) inherit(old *output) {
	o.inPlace, o.repairs, o.written, o.halfway = old.inPlace, old.repairs, old.written, old.halfway
	if o.bundle != old.bundle {
		return // what a file is made by makes no bundle
	}
	o.good, o.named, o.at, o.placed, o.lost = old.good, old.named, old.at, old.placed, old.lost
	o.doubts, o.previous, o.former, o.refused = old.doubts, old.previous, old.former, old.refused
	if o.source == old.source {
		o.gate = old.gate
		o.gate.again = true
		old.gate = gate{}
	}
}

// missing returns the first secret among uses that was never read, and whether
// all that were not may be absent and are. Both are empty if none is missing.
func (o *output) missing(snap *store.Snapshot, optional map[string]bool) (name string, skip bool) {
	skip = true
	for _, use := range o.uses {
		e, _ := snap.Get(use)
		empty := o.explode != nil && o.explode.secret == use && optional[use] && lacksLabel(e)
		if e.Version != nil && !empty || o.tested[use] && optional[use] && absent(e.Err) {
			continue
		}
		if name == "" {
			name = use
		}
		skip = skip && (empty || optional[use] && absent(e.Err))
	}
	return name, skip && name != ""
}

// unsettled returns the first secret among names of which it is not known yet what to
// show, if o waits for that: with what is there, for as long as it takes, for the
// current version is known to be wrong. Where there is nothing it waits for a while, in
// which an answer may come.
func (o *output) unsettled(snap *store.Snapshot, names []string, now time.Duration) string {
	for _, name := range names {
		e, _ := snap.Get(name)
		if e.Unsettled == nil || o.good != nil && o.good.versions[name] == e.Version {
			continue
		}
		late, there := now-e.Unsettled.Since >= huntTime, o.place.exists()
		if there || !late {
			o.kept = there && late
			return name
		}
	}
	return ""
}

// wait notes which secret o waits for. Every pass looks whether it is there, so that
// nothing is to be tried at some time.
func (o *output) wait(secret string, skip bool) {
	o.waiting, o.skipped = secret, skip
	o.dirty, o.retryAt = false, 0
}

// absent reports whether a read failed because there is no such secret.
func absent(err error) bool { return err != nil && secret.KindOf(err) == secret.NotFound }

// entriesOf returns what is known of a secret, and whether it is configured.
type entriesOf func(name string) (store.Entry, bool)

// lookup is a [templates.Lookup].
func (get entriesOf) lookup(name string) (*secret.Version, error) {
	e, ok := get(name)
	switch {
	case !ok:
		return nil, templates.ErrUnknown
	case e.Version != nil:
		return e.Shown(), nil
	default:
		return nil, &notReadError{name: name, err: e.Err}
	}
}

// lookup returns the Lookup of one pass over snap.
func lookup(snap *store.Snapshot) templates.Lookup { return entriesOf(snap.Get).lookup }

// versions are the versions of the secrets that one rendering used, by name; nil
// for one that was not there.
type versions map[string]*secret.Version

func used(snap *store.Snapshot, names []string) versions {
	v := make(versions, len(names))
	for _, name := range names {
		if e, ok := snap.Get(name); ok {
			v[name] = e.Shown()
		}
	}
	return v
}

// current reports whether snap holds the same versions.
func (v versions) current(snap *store.Snapshot) bool {
	for name, version := range v {
		if e, _ := snap.Get(name); e.Shown() != version {
			return false
		}
	}
	return true
}

// lookup is a [templates.Lookup] that knows these versions only.
func (v versions) lookup(name string) (*secret.Version, error) {
	switch version, ok := v[name]; {
	case !ok:
		return nil, &notReadError{name: name}
	case version == nil: // the rendering went on without it, so it does not exist
		return nil, &notReadError{name: name, err: &secret.Error{Kind: secret.NotFound, ID: name}}
	default:
		return version, nil
	}
}

// and returns the values of v, and then more.
func (v versions) and(more iter.Seq[secret.Value]) iter.Seq[secret.Value] {
	return func(yield func(secret.Value) bool) {
		for _, version := range v {
			if version != nil && (!yield(version.Text) || !yield(version.Binary)) {
				return
			}
		}
		for value := range more {
			if !yield(value) {
				return
			}
		}
	}
}

// named returns the versions in the order of their names.
func (v versions) named() []notify.SecretVersion {
	list := make([]notify.SecretVersion, 0, len(v))
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if v[name] != nil {
			list = append(list, notify.SecretVersion{Name: name, VersionID: v[name].VersionID})
		}
	}
	return list
}

// recovered notes that nothing is wrong with the output, nor to be tried again.
func (o *output) recovered() { o.err, o.failures, o.retryAt = nil, 0, 0 }

// failed notes why the output is degraded, and when publishing is tried again.
func (o *output) failed(err error, now time.Duration) {
	o.err = err
	o.failures++
	o.retryAt = now + min(minPublishRetry<<min(o.failures-1, 10), maxPublishRetry)
}
