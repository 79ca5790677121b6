package agent

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"time"

	"secretsd/agent/notify"
	"secretsd/agent/secret"
	"secretsd/agent/store"
	"secretsd/sinks/files"
	"secretsd/templates"
)

// applier is the only code that changes the world: it renders, publishes and
// has targets told. It belongs to one goroutine.
type applier struct {
	log   *slog.Logger
	clock func() time.Duration
	// tell hands one change to a target's queue.
	tell func(target string, c notify.Change)
	// owe writes down what the pass is about to owe, before its first rename.
	owe func(debts []notify.Debt)
	// serve hands the generation to the endpoint.
	serve func(snap *store.Snapshot)
	// published is told what a file or bundle now holds.
	published func(o *output, made *content)
	// remember writes down what is held.
	remember func(held []heldState)
	// keepPlaced has what outputs hold written down with what is held next.
	keepPlaced func([]placedState)
	// keep has the names of what outputs hold written down with what is owed next.
	keep func([]outputState)
	// reread reads former versions for a rollback, which then comes as a reply again.
	reread func(r reply, needed []notify.SecretVersion)
	// recalled is when the debts of an agent before were taken over.
	recalled time.Time
	// late are rollbacks that wait until it is known what the files hold.
	late []reply
	// asked reports whether somebody is asking for a new version of a secret.
	asked func(secret string) bool
	// give is called when what files show has changed, before anybody is told.
	give func()
	// secretValues returns all values that output of commands must not show.
	secretValues func() iter.Seq[secret.Value]
	checker      *checker

	// freshLibrary has included files read again.
	freshLibrary func()
	outputs      []*output
	optional     map[string]bool
	refs         map[string]secret.Ref
	// doubters are the targets that roll back what they do not confirm.
	doubters map[string]bool
	// looked is how the template files were when they were looked at last.
	looked map[string]fs.FileInfo
	// index leads from a secret to the outputs that depend on it.
	index map[string]map[*output]bool
	// applied is the version of each secret that the last pass worked with.
	applied map[string]*secret.Version
	// byHand are the versions that came because somebody asked, by secret.
	byHand map[string]string
	// unexpected are the secrets of which a version is held.
	unexpected map[string]bool
	counted    counted
	// unnoted says that what is held is not written down yet, and noteAt when it
	// may be.
	unnoted bool
	noteAt  time.Duration
}

func newApplier(log *slog.Logger, clock func() time.Duration) *applier {
	return &applier{
		log: log, clock: clock,
		tell:  func(string, notify.Change) {},
		owe:   func([]notify.Debt) {},
		serve: func(*store.Snapshot) {},

		published: func(*output, *content) {},
		remember:  func([]heldState) {},
		keep:      func([]outputState) {},

		keepPlaced: func([]placedState) {},
		reread:     func(reply, []notify.SecretVersion) {},
		asked:      func(string) bool { return false },
		give:       func() {},

		secretValues: func() iter.Seq[secret.Value] { return func(func(secret.Value) bool) {} },

		byHand:     map[string]string{},
		unexpected: map[string]bool{},
		checker:    newChecker(log),
	}
}

// configure replaces the outputs. All of them are looked at in the next pass.
func (a *applier) configure(p *plan) {
	had := map[string]*output{}
	for _, o := range a.outputs {
		had[o.path] = o
		a.unnoted = a.unnoted || o.gate.held != nil || o.refused != nil // it may not be held any more
	}
	defer func() {
		for _, old := range had {
			old.gate.forget() // the others' have passed on to those that take their place
		}
	}()
	a.outputs, a.freshLibrary = p.outputs, p.freshLibrary
	a.optional, a.refs = map[string]bool{}, map[string]secret.Ref{}
	for _, s := range p.secrets {
		a.optional[s.name], a.refs[s.name] = !s.required, s.ref
	}
	a.doubters = map[string]bool{}
	for _, t := range p.targets {
		a.doubters[t.Name] = t.Rollback
	}
	a.index = map[string]map[*output]bool{}
	a.applied = map[string]*secret.Version{}
	for _, o := range a.outputs {
		if old := had[o.path]; old != nil {
			o.inherit(old)
		}
		maps.DeleteFunc(o.doubts, func(name string, _ bool) bool { return !a.doubters[name] || !slices.Contains(o.notify, name) })
		if len(o.doubts) == 0 {
			o.previous = nil
		}
		o.dirty = true
		a.depend(o, nil)
	}
	for _, o := range a.outputs {
		if old := had[o.path]; old == nil || old.source != o.source {
			a.forgive(o)
		}
	}
}

// depend brings the index from the dependencies o had to those it has.
func (a *applier) depend(o *output, had []string) {
	if slices.Equal(had, o.deps) {
		return
	}
	for _, name := range had {
		delete(a.index[name], o)
	}
	for _, name := range o.deps {
		if a.index[name] == nil {
			a.index[name] = map[*output]bool{}
		}
		a.index[name][o] = true
	}
}

// candidate is content that differs from what a file holds.
type candidate struct {
	*content
	output *output
	pieces []piece
	change files.Change
	reason notify.Reason
	absent bool // there was no file before
}

// pass brings everything in line with snap: it renders, in memory, what a
// change concerns, then publishes, then has targets told. With heal it also
// compares every other file with what was published last.
func (a *applier) pass(ctx context.Context, snap *store.Snapshot, heal bool) {
	render := rendering{templates.NewPass(lookup(snap)), lookup(snap)}
	var todo []candidate
	a.followMoved(snap)
	concerned := a.concerned(snap)
	for _, o := range a.outputs {
		if ctx.Err() != nil {
			return
		}
		c, ok := candidate{}, false
		if concerned[o] {
			c, ok = a.prepare(render, o, snap)
			ok = ok && (c.change != files.Content || a.mayPublish(ctx, c))
		}
		// An output that waits for a secret is concerned for ever.
		if heal && (!concerned[o] || o.waiting != "") && o.healable(a.clock()) {
			c, ok = a.heal(render, o, snap)
		}
		if ok {
			todo = append(todo, c)
		}
	}
	owed := a.debts(todo)
	if len(owed) > 0 {
		a.keep(a.named(todo))
		a.owe(owed)
	}
	var done []candidate
	for _, c := range todo {
		if a.publish(c) {
			done = append(done, c)
		}
	}
	a.noteHeldDue()
	a.collect()
	at := time.Now()
	a.serve(snap)
	a.give()
	for _, c := range done {
		c.output.at = at
	}
	for _, d := range a.debts(done) {
		d.At = at
		a.tell(d.Target, d.Change)
	}
	if len(owed) > 0 {
		a.keep(a.named(nil))
		a.owe(nil) // what could not be published is not owed
	}
}

// concerned returns the outputs that a changed secret, a new configuration or
// an earlier failure concerns, and remembers the versions of snap.
func (a *applier) concerned(snap *store.Snapshot) map[*output]bool {
	now := a.clock()
	hit := map[*output]bool{}
	for name, e := range snap.Entries() {
		a.noteUnexpected(name, e)
		had, known := a.applied[name]
		shown := e.Shown()
		if known && had == shown {
			continue
		}
		a.applied[name] = shown
		if shown != nil && a.asked(name) {
			a.byHand[name] = shown.VersionID
		}
		if known && had != nil && shown != nil && had.VersionID == shown.VersionID && had.SameContent(shown) {
			continue // only its staging labels moved
		}
		maps.Copy(hit, a.index[name])
	}
	for _, o := range a.outputs {
		if (o.dirty && o.retryAt <= now) || o.waiting != "" {
			hit[o] = true
		}
	}
	return hit
}

// prepare renders o and compares the outcome with what is there. It returns
// false if there is nothing to publish.
func (a *applier) prepare(render rendering, o *output, snap *store.Snapshot) (candidate, bool) {
	o.kept = false
	if name, skip := o.missing(snap, a.optional); name != "" {
		o.wait(name, skip)
		a.resumeHeld(o, snap, name)
		return candidate{}, false
	}
	o.waiting, o.skipped, o.dirty = "", false, true
	had := o.deps
	a.counted.executions += uint64(len(o.parts))
	if pinned, ok := o.pinned(snap); ok {
		render = pinned
	}
	pieces, looked, err := o.render(render)
	if len(looked) > 0 || err == nil {
		o.deps = looked
	}
	a.depend(o, had)
	var notRead *notReadError
	if errors.As(err, &notRead) { // a name that the template computed
		o.wait(notRead.name, a.optional[notRead.name] && absent(notRead.err))
		a.resumeHeld(o, snap, notRead.name)
		return candidate{}, false
	}
	if name := o.unsettled(snap, looked, a.clock()); name != "" {
		o.wait(name, false)
		return candidate{}, false
	}
	if name := lacking(err, func(name string) bool { e, _ := snap.Get(name); return lacksLabel(e) && a.optional[name] }); name != "" {
		o.wait(name, true)
		return candidate{}, false
	}
	if err != nil {
		a.counted.templateFailures++
		a.holdUnrendered(o, &heldBack{versions: o.pin(used(snap, looked)).named(), source: o.source, reason: err, unrendered: true})
		return candidate{}, false
	}
	made := &content{recipe: o.recipe, versions: o.pin(used(snap, looked))}
	return a.inspect(candidate{output: o, pieces: pieces, content: made, reason: a.reason(o, made.versions)})
}

// reason returns why o is about to be made of versions.
func (a *applier) reason(o *output, versions versions) notify.Reason {
	if !o.inPlace {
		return notify.ReasonStart
	}
	for _, v := range versions.named() {
		if a.byHand[v.Name] == v.VersionID && !slices.Contains(o.named, v) {
			return notify.ReasonManual
		}
	}
	return notify.ReasonChange
}

func (a *applier) inspect(c candidate) (candidate, bool) {
	o := c.output
	change, err := o.sink.inspect(c.pieces)
	if err != nil {
		a.counted.publishFailures++
		a.overtake(c)
		a.degrade(o, err)
		return candidate{}, false
	}
	if change == files.None {
		if c.reason != notify.ReasonHeal {
			a.settle(c)
		}
		return candidate{}, false
	}
	c.change, c.absent = change, !o.place.exists()
	return c, true
}

// publish puts one candidate in place. It returns whether content changed.
func (a *applier) publish(c candidate) bool {
	o := c.output
	change, err := o.sink.publish(c.pieces)
	if err != nil {
		a.counted.publishFailures++
		a.overtake(c)
		a.degrade(o, err)
		return false
	}
	o.written = true
	a.unnoted = a.unnoted || a.holds(o) // the mark is another one
	if change == files.Content {
		a.published(o, c.content)
	}
	switch {
	case c.reason == notify.ReasonHeal:
		a.repaired(o, change)
	case change == files.Content:
		a.counted.publishes++
		o.doubt(a.doubters)
		if o.bundle {
			a.log.Info("published bundle", "path", o.path)
		} else {
			a.log.Info("published file", "path", o.path)
		}
		a.settle(c)
	default:
		a.log.Info("put mode and owner of file right", "path", o.path)
		a.settle(c)
	}
	return change == files.Content
}

// degrade notes and says why o stays as it is; the same reason only once.
func (a *applier) degrade(o *output, err error) {
	known := o.err != nil && o.err.Error() == err.Error()
	o.failed(err, a.clock())
	o.dirty = true
	if known {
		return
	}
	a.log.Error("cannot bring file up to date, keeping it as it is", attrs(err, "path", o.path)...)
}

// settle notes that an output is what it should be, and of which versions.
func (a *applier) settle(c candidate) {
	o := c.output
	o.expires = earliestExpiry(c.pieces)
	if o.err != nil {
		a.log.Info("file is right again", "path", o.path)
	}
	o.inPlace, o.good, o.named = true, c.content, c.versions.named()
	a.unnoted = a.unnoted || o.placed != nil
	o.placed, o.lost = nil, false
	o.good.since = time.Now()
	o.dirty, o.skipped, o.waiting = false, false, ""
	o.gate.forget() // what is asked about is not wanted any more
	a.hold(o, nil)
	if r := o.refused; r != nil && len(r.pins) == 0 {
		o.refused = nil
		a.noteSoon()
	}
	o.recovered()
}
