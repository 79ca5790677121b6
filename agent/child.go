package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"secretsd/agent/config"
	"secretsd/agent/secret"
	"secretsd/agent/store"
	"secretsd/sinks/process"
)

// ChildOptions say how the child of a configuration is supervised.
type ChildOptions struct {
	// Once makes a wrapper of the agent, as "secretsd exec" is: [Agent.Run] ends
	// with the child, and with a [NotStartedError] if the child cannot be started.
	// Without it a child that ends by itself is started again.
	Once bool
	// Wait is how long, with Once, is waited for what the child needs.
	Wait time.Duration
	// Core is the limit of core dumps that the child gets; nil means the agent's
	// own.
	Core *syscall.Rlimit
}

// NotStartedError says why there was never a child.
type NotStartedError struct {
	// Missing says that secrets could not be read.
	Missing bool
	err     error
}

// Error returns all reasons, one on a line.
func (e *NotStartedError) Error() string { return e.err.Error() }

// Unwrap returns the reasons, joined.
func (e *NotStartedError) Unwrap() error { return e.err }

// supervised is the child as the agent sees it. Unless said otherwise its fields
// belong to the applying goroutine.
type supervised struct {
	log  *slog.Logger
	opts ChildOptions
	sup  *process.Supervisor
	// failed receives why there will never be a child; it is for run.
	failed chan error
	// exit is how the child has ended, once Run has returned.
	exit process.Exit

	spec *childSpec
	made *childEnv
	// program is what the supervisor was told last; nil before.
	program *process.Program
	// given are the versions that its environment is made of.
	given versions
	// touched are the child's files that have changed since, and what they show.
	touched map[string]versions
	// held is why its environment is not that of now, or nil.
	held error
	// said is the error of the environment, and broken that of changed templates,
	// that was logged last.
	said, broken string
}

func newSupervised(log *slog.Logger, opts ChildOptions) *supervised {
	return &supervised{
		log: log, opts: opts, failed: make(chan error, 1),
		sup: process.New(process.Options{Logger: log, Once: opts.Once, Core: opts.Core}),
	}
}

// share tells the supervisor whether cfg has the agent start other processes than the
// child, before it does.
func (c *supervised) share(cfg *config.Config) {
	if startsProcesses(cfg) {
		c.sup.StartsOthers()
	}
}

// configure replaces what the configuration asks for. It counts from the next
// pass on.
func (c *supervised) configure(spec *childSpec) { c.spec, c.made = spec, nil }

// run supervises until end is done, and then ends the child while everything else
// is still working, for the child may need it. It returns when there will be no
// child any more, or when work, which is everything else, has broken.
func (c *supervised) run(end, work context.Context, overdue func() error) error {
	ctx, cancel := context.WithCancelCause(end)
	var guard sync.WaitGroup
	guard.Go(func() {
		var late <-chan time.Time
		if c.opts.Once {
			late = time.After(c.opts.Wait)
		}
		select {
		case err := <-c.failed:
			cancel(err)
		case <-late:
			if c.sup.Status().Starts == 0 {
				cancel(overdue())
			}
		case <-ctx.Done():
		}
	})
	stop := context.AfterFunc(work, func() { cancel(nil) })
	defer stop()
	exit, err := c.sup.Run(ctx)
	cause := context.Cause(ctx)
	cancel(nil)
	guard.Wait()
	c.exit = exit
	var not *NotStartedError
	if errors.As(cause, &not) {
		return not
	}
	return err
}

// waits says what the agent waits for before it is ready, or nil.
func (c *supervised) waits(snap *store.Snapshot) error {
	switch {
	case c.spec == nil || c.sup.Status().Starts > 0:
		return nil
	case c.made != nil && c.made.err != nil:
		return fmt.Errorf("the child cannot be started: %w", c.made.err)
	case c.made != nil && c.made.waiting != "":
		return fmt.Errorf("the child was not started yet: %w", c.made.waitsFor(snap))
	default:
		return errors.New("the child was not started yet")
	}
}

// published is told what a file is about to hold. A file that names no target is
// the child's affair. What was only put right is not: the child has read it, and may
// be the one who removes it.
func (c *supervised) published(o *output, made *content) {
	if len(o.notify) == 0 && (o.good == nil || o.good.source != made.source || !slices.Equal(o.named, made.versions.named())) {
		if c.touched == nil {
			c.touched = map[string]versions{}
		}
		c.touched[o.path] = made.versions
	}
}

// retemplate has the included files of templates read again that have changed. What
// is wrong leaves the child as it is, and is said once.
func (a *Agent) retemplate() {
	c := a.child
	if c.spec == nil || len(c.spec.included) == 0 {
		return
	}
	a.build.freshLibrary()
	next, err := a.build.newChild()
	if err != nil {
		if c.broken != err.Error() {
			c.broken = err.Error()
			c.log.Error("cannot use a changed template of the child's environment, keeping the one in use", attrs(err)...)
		}
		return
	}
	c.broken = ""
	c.configure(next)
}

// childProcess returns the pid and the start of a child that can be told something,
// or 0.
func (a *Agent) childProcess() (pid int, since time.Time) {
	pid, since, err := a.child.sup.Child()
	if err != nil {
		return 0, time.Time{}
	}
	return pid, since
}

// publish brings file views, the endpoint and the child in line with snap, in
// this order, before any target is told. Of the same snapshot the endpoint gets the
// same view, unless a value in it has become too old meanwhile.
func (a *Agent) publish(snap *store.Snapshot) {
	now := view{snap: snap, build: a.build}
	for _, e := range snap.Entries() {
		if e.Version != nil && a.expired(e) {
			now.expired++
		}
	}
	if now != a.viewed {
		a.viewed = now
		a.serve(snap)
	}
	a.applyChild(snap)
}

// view is what the endpoint's view is made of.
type view struct {
	snap    *store.Snapshot
	build   *build
	expired int
}

// published is told what a file now holds.
func (a *Agent) published(o *output, made *content) {
	a.recordPublished(o.path, made.versions.named())
	a.child.published(o, made)
}

// applyChild works out the child's environment and gives it to the supervisor.
// Whatever is wrong with it leaves a running child with the one that it has.
func (a *Agent) applyChild(snap *store.Snapshot) {
	c := a.child
	c.held = nil
	if c.spec == nil {
		c.touched = nil
		if c.program != nil {
			c.program = nil
			c.sup.Set(nil, true)
		}
		return
	}
	// That a secret which was waited for does not exist is no version either: who waits
	// looks again in every pass, as files do.
	if c.made == nil || c.made.waiting != "" || !c.made.deps.current(snap) {
		c.made = c.spec.render(snap, a.optional, os.Environ())
	}
	if name := a.unsettled(c, snap); name != "" {
		a.holdUnsettled(name, snap)
		return
	}
	next := c.spec.program
	next.Env = c.made.env
	if c.made.err == nil && c.made.waiting == "" {
		c.made.err = next.Check()
	}
	if c.program == nil && c.opts.Once {
		if err := a.hopeless(snap); err != nil {
			c.refuse(err)
			return
		}
	}
	if c.made.err != nil || c.made.waiting != "" {
		a.holdEnvironment(snap)
		return
	}
	if c.program == nil {
		if _, waits := a.inPlace(snap); waits != nil {
			return
		}
	}
	if c.set(&next) {
		a.recordEnvironment(c.made.deps)
	}
}

// optional reports whether a configured secret may be absent.
func (a *Agent) optional(name string) bool {
	return slices.ContainsFunc(a.build.secrets, func(s *schedule) bool { return s.name == name && !s.required })
}

// set hands a program to the supervisor, and reports whether its environment is
// another than before.
func (c *supervised) set(next *process.Program) (changed bool) {
	if c.said != "" {
		c.log.Info("the child's environment is right again")
		c.said = ""
	}
	prev := c.program
	changed = prev == nil || !prev.Env.Equal(next.Env)
	act := changed || len(c.touched) > 0 || prev.Path != next.Path || !slices.Equal(prev.Args, next.Args)
	c.program, c.given, c.touched = next, c.made.deps, nil
	c.sup.Set(next, act)
	return changed
}

// degrade says why the child stays as it is; the same reason only once.
func (c *supervised) degrade(err error) {
	if err.Error() == c.said {
		return
	}
	c.said = err.Error()
	c.log.Error("cannot bring the child's environment up to date, leaving the child as it is", attrs(err)...)
}

// hopeless returns why a child that has not been started yet never will be: an
// answer that asking again cannot change, or an environment that cannot be.
func (a *Agent) hopeless(snap *store.Snapshot) error {
	missing := a.build.unread(snap, func(name string, e store.Entry) bool {
		if _, needed := a.child.made.deps[name]; !needed && e.Held != nil && a.build.isKept(name) {
			return false // the files that it starts with are there
		}
		return definite(secret.KindOf(e.Err))
	})
	switch {
	case missing != nil:
		return &NotStartedError{Missing: true, err: missing}
	case a.child.made.err != nil:
		return &NotStartedError{err: a.child.made.err}
	}
	return nil
}

// definite reports whether asking again cannot change the answer, as long as nobody
// changes something at AWS.
func definite(kind secret.Kind) bool {
	return kind == secret.NotFound || kind == secret.Denied || kind == secret.Invalid
}

// unread joins the errors of the secrets that are needed and were never read, as
// far as they count.
func (p *plan) unread(snap *store.Snapshot, counts func(name string, e store.Entry) bool) error {
	var errs []error
	for _, s := range p.secrets {
		e, _ := snap.Get(s.name)
		if e.Version == nil && e.Err != nil && (s.required || !absent(e.Err)) && counts(s.name, e) {
			errs = append(errs, e.Err)
		}
	}
	return errors.Join(errs...)
}

// refuse ends an agent that is nothing but a wrapper.
func (c *supervised) refuse(err error) {
	select {
	case c.failed <- err:
	default: // one reason will do
	}
}

// overdue says what the child was waited for in vain.
func (a *Agent) overdue() error {
	snap, b := a.store.Snapshot(), a.seen.passed.Load().build
	errs := []error{b.unread(snap, func(string, store.Entry) bool { return true })}
	for _, s := range b.secrets {
		switch e, _ := snap.Get(s.name); {
		case e.Version == nil && e.Err == nil:
			errs = append(errs, fmt.Errorf("secret %s: no answer within %s", s.name, a.opts.Child.Wait))
		case e.Unsettled != nil:
			errs = append(errs, unsettledError(s.name, e.Unsettled))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return &NotStartedError{Missing: true, err: err}
	}
	return &NotStartedError{err: fmt.Errorf("start child: gave up after %s: %s", a.opts.Child.Wait, a.health.reason())}
}

// ForwardSignal passes a signal that the agent's process was sent on to the
// child. It returns false once there will be no child any more.
func (a *Agent) ForwardSignal(sig syscall.Signal) bool { return a.child.sup.Forward(sig) }

// KillChild ends the child and what it has started at once, before an exit that
// waits for nothing.
func (a *Agent) KillChild() { a.child.sup.Kill() }

// ChildStatus returns how the child has ended, as a shell gives it: its exit
// status, or 128 and the number of the signal that has ended it. It is called
// after Run.
func (a *Agent) ChildStatus() int { return a.child.exit.Status() }
