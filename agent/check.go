package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"secretsd/agent/notify"
	"secretsd/agent/secret"
)

// maxChecks is how many checks run at a time.
const maxChecks = 4

// check is a command that new content has to pass before it is published.
type check struct {
	command []string
	timeout time.Duration
	// user is whom it runs as, and uid that user's number; empty and -1 mean the
	// agent's own.
	user string
	uid  int
	// output has the end of what it prints logged if it says no.
	output bool
}

// gate is what is known of the content of one output that has to pass a check.
// It belongs to the goroutine that applies.
type gate struct {
	// asking is the content that is being checked, and passed the last that was
	// found right.
	asking, passed *[sha256.Size]byte
	// stop ends the check of asking; nil where none was begun.
	stop context.CancelFunc
	// held is why new content is not published, nil if nothing is held.
	held *heldBack
	// again says that what is held is to be checked once more: after a reload, for
	// the command may have been the fault.
	again bool
}

// forget has nobody wait for the check under way, so that it does not keep others
// from their turn.
func (g *gate) forget() {
	if g.stop != nil {
		g.stop()
	}
	g.asking, g.stop = nil, nil
}

// heldBack is new content that is not published until a version or a template
// changes: a check has refused it, or it could not be rendered.
type heldBack struct {
	// versions and source are what it was rendered from.
	versions []notify.SecretVersion
	source   [sha256.Size]byte
	reason   error
	// recalled says that an agent before has held it, and the log does not say so yet.
	recalled bool
	// unrendered says that it could not be rendered, which is found out again after
	// a restart.
	unrendered bool
}

// concerns reports whether what is held was rendered from the same.
func (h *heldBack) concerns(o *output, v versions) bool {
	return h != nil && !h.unrendered && h.source == o.source && slices.Equal(h.versions, v.named())
}

// verdict is what a check has said of some content.
type verdict struct {
	path    string
	content [sha256.Size]byte
	// held is what is held if err says that the content is not right.
	held *heldBack
	err  error
}

// checker runs checks beside the goroutine that applies.
type checker struct {
	slots   chan struct{}
	done    chan verdict
	running sync.WaitGroup
	log     *slog.Logger
}

func newChecker(log *slog.Logger) *checker {
	return &checker{log: log, slots: make(chan struct{}, maxChecks), done: make(chan verdict)}
}

// start runs command on what stage puts somewhere, which it calls only when it is
// the command's turn: however many wait, few take descriptors and space. The
// verdict comes through done; it is dropped if ctx is done before it is taken.
func (c *checker) start(ctx context.Context, command notify.Command, v verdict, stage func() (path string, unstage func() error, err error)) {
	c.running.Go(func() {
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		v.err = c.run(ctx, command, stage)
		<-c.slots
		if ctx.Err() != nil {
			return // a command that was ended with the agent has said nothing
		}
		select {
		case c.done <- v:
		case <-ctx.Done():
		}
	})
}

func (c *checker) run(ctx context.Context, command notify.Command, stage func() (string, func() error, error)) error {
	path, unstage, err := stage()
	if err != nil {
		return err
	}
	defer func() {
		if err := unstage(); err != nil {
			c.log.Warn("cannot remove what a check has looked at; the next start does", attrs(err)...)
		}
	}()
	command.Paths = []string{path}
	return command.Run(ctx)
}

// mayPublish reports whether new content may be published now. It starts the
// check where that has not been asked yet.
func (a *applier) mayPublish(ctx context.Context, c candidate) bool {
	o := c.output
	if a.refuses(c) {
		return false
	}
	if o.check == nil {
		return true
	}
	content := digest(c.pieces)
	if o.gate.passed != nil && *o.gate.passed == content {
		return true
	}
	o.dirty = false
	if o.gate.asking != nil && *o.gate.asking == content {
		return false
	}
	if !o.gate.again && o.gate.held.concerns(o, c.versions) {
		o.recovered()
		a.resume(o, namesOf(o.gate.held.versions))
		if h := o.gate.held; h.recalled {
			h.recalled = false
			a.log.Error("new content is held since before the start, keeping what is published", "path", o.path, "versions", h.versions, "error", h.reason)
		}
		return false
	}
	o.gate.forget()
	ctx, o.gate.stop = context.WithCancel(ctx)
	o.gate.asking, o.gate.again = &content, false
	a.hold(o, nil)
	held := &heldBack{versions: c.versions.named(), source: o.source}
	command := notify.Command{
		Argv: o.check.command, Timeout: o.check.timeout, User: o.check.user,
		Change: notify.Change{Reason: c.reason, Secrets: held.versions, Paths: []string{o.path}},
	}
	if o.check.output {
		command.Secrets = func() iter.Seq[secret.Value] { return c.versions.and(a.secretValues()) }
	}
	a.checker.start(ctx, command, verdict{path: o.path, content: content, held: held}, func() (string, func() error, error) {
		return o.place.stage(c.pieces, o.check.uid)
	})
	return false
}

// judge takes a verdict. Only that on the content asked about last counts. It reports
// whether a pass has something to do now: after a refusal it has not, so that many of
// them cost one pass and not one each.
func (a *applier) judge(v verdict) (act bool) {
	i := slices.IndexFunc(a.outputs, func(o *output) bool { return o.path == v.path })
	if i < 0 {
		return false
	}
	o := a.outputs[i]
	if o.gate.asking == nil || *o.gate.asking != v.content {
		return false
	}
	o.gate.forget()
	switch {
	case v.err == nil:
		o.gate.passed = &v.content
		o.dirty, o.retryAt = true, 0
	case notify.Refused(v.err):
		v.held.reason = v.err
		o.recovered() // an error of before was of other content
		a.hold(o, v.held)
		a.log.Error("check refused new content, keeping what is published", attrs(v.err, "path", o.path, "versions", v.held.versions)...)
		return false
	case errors.Is(v.err, fs.ErrClosed): // a reload came before the check's turn
		o.dirty, o.retryAt = true, 0
	default: // it could not be staged or run, which says nothing of the content
		a.counted.publishFailures++
		a.degrade(o, fmt.Errorf("check new content of %s: %w", o.path, v.err))
	}
	return true
}

// holdDelay is how long what checks have refused may wait to be written down, and
// shown, with more of it. A crash meanwhile costs nothing but that the checks run
// again.
const holdDelay = 200 * time.Millisecond

// hold notes what is held of o, nil for nothing. What is to survive a restart is
// written down by the pass under way, or with more of it somewhat later.
func (a *applier) hold(o *output, h *heldBack) {
	had := o.gate.held
	o.gate.held = h
	if h != nil {
		a.resume(o, namesOf(h.versions))
	}
	if had == nil && h == nil || had != nil && h != nil && had.unrendered && h.unrendered {
		return
	}
	a.unnoted = true
	if (had == nil || had.unrendered) && (h == nil || h.unrendered) {
		return
	}
	if h == nil || h.unrendered {
		a.noteSoon() // what is not held any more would be refused after a crash
	}
}

// holdUnrendered holds what could not be rendered, and says so once for the same
// versions and reason.
func (a *applier) holdUnrendered(o *output, h *heldBack) {
	had := o.gate.held
	known := had != nil && had.unrendered && had.reason.Error() == h.reason.Error() && slices.Equal(had.versions, h.versions)
	o.failed(h.reason, a.clock())
	o.dirty = false // the same secrets would render the same error
	o.gate.forget()
	a.hold(o, h)
	if !known {
		a.log.Error("cannot render new content, keeping what is published", attrs(h.reason, "path", o.path, "versions", h.versions)...)
	}
}

// overtake ends what is held of an output for which c is wanted by now: status would
// else give the reason and the versions of content that nobody wants any more. What a
// check has refused of the same versions stays held.
func (a *applier) overtake(c candidate) {
	if c.reason != notify.ReasonHeal && c.output.gate.held != nil && !c.output.gate.held.concerns(c.output, c.versions) {
		a.hold(c.output, nil)
	}
}

// noteSoon has what is held written down by the pass under way, or the next.
func (a *applier) noteSoon() { a.unnoted, a.noteAt = true, 0 }

// noteHeldDue has what is held written down when it is time to.
func (a *applier) noteHeldDue() {
	if now := a.clock(); a.unnoted && now >= a.noteAt {
		a.noteHeld()
		a.noteAt = now + holdDelay
	}
}

// noteHeld has what is held written down, if that is another than what is.
func (a *applier) noteHeld() {
	if !a.unnoted {
		return
	}
	a.unnoted = false
	a.keepPlaced(a.placed(false))
	a.remember(a.heldStates())
}

// noteAll is noteHeld at the end, for an agent that comes later: what is held by then is
// not known yet.
func (a *applier) noteAll() {
	a.unnoted = false
	a.keepPlaced(a.placed(true))
	a.remember(a.heldStates())
}

// heldStates returns what is held, as it survives a restart.
func (a *applier) heldStates() []heldState {
	list := []heldState{}
	for _, o := range a.outputs {
		if h := o.gate.held; h != nil && !h.unrendered {
			list = append(list, heldState{Path: o.path, Versions: h.versions, Source: hex.EncodeToString(h.source[:]), Reason: h.reason.Error()})
		}
		if r := o.refused; r != nil {
			list = append(list, heldState{Path: o.path, Versions: r.versions, Taken: r.taken, Behind: r.behind, Source: hex.EncodeToString(r.source[:]), Reason: r.reason.Error(), RolledBack: true})
		}
	}
	return list
}

// checking reports whether any output waits for a verdict.
func (a *applier) checking() bool {
	return slices.ContainsFunc(a.outputs, func(o *output) bool { return o.gate.asking != nil })
}

// heldState is what is held, as it survives a restart: names, and a digest of
// the template, which is no secret.
type heldState struct {
	Path     string                 `json:"path"`
	Versions []notify.SecretVersion `json:"versions"`
	Source   string                 `json:"source"`
	Reason   string                 `json:"reason"`
	// RolledBack says that it was published, and taken back, with the versions that
	// are not used any more; and Behind that this was so of other outputs only.
	RolledBack bool                   `json:"rolled_back,omitempty"`
	Taken      []notify.SecretVersion `json:"taken,omitempty"`
	Behind     bool                   `json:"behind,omitempty"`
}

// recall takes over what the last agent held, where the template is the same.
func (a *applier) recall(list []heldState) {
	a.unnoted = len(list) > 0
	var changed []*output
	for _, st := range list {
		source, err := hex.DecodeString(st.Source)
		i := slices.IndexFunc(a.outputs, func(o *output) bool { return o.path == st.Path })
		if err != nil || len(source) != sha256.Size || i < 0 {
			continue
		}
		o, same := a.outputs[i], [sha256.Size]byte(source)
		switch {
		case st.RolledBack:
			o.refused = &refusal{versions: st.Versions, taken: st.Taken, behind: st.Behind, source: same, reason: errors.New(st.Reason)}
			if o.source != same {
				changed = append(changed, o)
			}
		case o.check != nil && o.source == same:
			o.gate.held = &heldBack{versions: st.Versions, source: same, reason: errors.New(st.Reason), recalled: true}
		}
	}
	for _, o := range changed {
		a.forgive(o)
	}
}
