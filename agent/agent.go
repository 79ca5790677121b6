// Package agent is the heart of secretsd: it decides when secrets are read,
// renders and publishes what they changed, and has the targets told.
//
//	refresh ──Put──▶ store ──Changed──▶ apply ──▶ files, endpoint, notify
//
// One goroutine applies, from one snapshot a pass, so that everything rendered
// together comes from the same generation. Nothing flows backwards.
package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"secretsd/agent/config"
	"secretsd/agent/notify"
	"secretsd/agent/store"
	"secretsd/sinks/endpoint"
)

// shutdownGrace is how long requests under way may take after the agent was
// told to end.
const shutdownGrace = 5 * time.Second

// tokenInterval is how often token files are looked at. Polling costs a stat for
// each, sees every way a file is replaced, and needs no watch for each
// directory.
const tokenInterval = 3 * time.Second

// Agent is one running configuration. Make it with [New], and call
// [Agent.Run] once.
type Agent struct {
	opts  Options
	log   *slog.Logger
	clock func() time.Duration

	store    *store.Store
	refresh  *refresher
	notifier *notify.Notifier
	state    *stateDir
	apply    *applier
	onDemand *onDemand
	limits   *limits
	// saidPending is what was said of reads of AWSPENDING, and refused what programs
	// were refused with, as it was written down last.
	saidPending said
	refused     atomic.Pointer[[]refusedState]
	watcher     *watcher
	child       *supervised
	// open are the connections of all listeners but the control socket, which
	// must answer also when others are flooded.
	open    *endpoint.Connections
	reloads chan reload
	replies *replies

	// What follows belongs to the applying goroutine once Run has begun.
	build     *build
	listeners listeners
	view      *endpoint.View
	viewed    view
	ready     bool
	// expiredSaid are the secrets of which the log says that they are too old.
	expiredSaid map[string]bool

	// reloading lets one Reload at a time look at build.
	reloading sync.Mutex
	// pending is what the pass under way owes if it is cut off, and restored
	// what the last agent owed, until the notifier has taken it over.
	pending, restored atomic.Pointer[[]notify.Debt]
	// held is what checks have refused.
	held atomic.Pointer[[]heldState]
	// outputs names what outputs hold that may be rolled back.
	outputs atomic.Pointer[[]outputState]
	// placed says what outputs hold of which something newer is held.
	placed atomic.Pointer[[]placedState]
	health health
	// served and noted are the generations that the endpoint serves and that
	// Status shows.
	served, noted generations
	seen          *seen
	// commands is what commands of targets are given.
	commands atomic.Pointer[commandView]
	recorded commandRecords
	audit    auditor
	control  struct {
		server *http.Server
		net.Listener
	}
	asked asked
	// resolve is what the endpoint's ids mean in the generation being served.
	resolve atomic.Pointer[resolver]
}

// reload is a new build on its way to the applying goroutine.
type reload struct {
	next *build
	done chan error
}

// New builds an agent for cfg. All that is wrong with it, its faults included,
// is a [ConfigError], and then nothing was touched. Otherwise New takes the lock
// of the state directory, makes a missing token file and binds the listeners;
// it reads no secret and writes no file yet. The caller calls Run, or Close.
func New(ctx context.Context, cfg *config.Config, opts Options) (*Agent, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Ready == nil {
		opts.Ready = func(Counts) {}
	}
	b, err := newBuild(ctx, cfg, opts, nil)
	if err != nil {
		return nil, &ConfigError{err}
	}
	if opts.clock == nil {
		opts.clock = bootClock
	}
	a := &Agent{opts: opts, log: opts.Logger, clock: opts.clock, reloads: make(chan reload), replies: newReplies(), expiredSaid: map[string]bool{}}
	a.health.clock, a.seen = a.clock, newSeen()
	a.limits, a.audit.strangers = newLimits(a.clock), newStrangers()
	a.open = endpoint.NewConnections(openLimit(0))
	if a.state, err = openState(cfg.StateDir); err != nil {
		b.close()
		return nil, err
	}
	if err := a.bind(ctx, b); err != nil {
		b.close()
		a.state.close()
		return nil, err
	}
	a.start(b)
	a.loadState()
	return a, nil
}

// bind binds the control socket and what b listens on.
func (a *Agent) bind(ctx context.Context, b *build) error {
	listen := a.opts.listenControl
	if listen == nil {
		listen = listenControl
	}
	ln, err := listen(b.cfg.StateDir)
	if err != nil {
		return err
	}
	if err := a.listeners.prepare(ctx, a, b); err != nil {
		_ = ln.Close()
		return err
	}
	a.control.server, a.control.Listener = a.newControl(), ln
	return nil
}

// start wires the parts together. Nothing runs yet.
func (a *Agent) start(b *build) {
	a.build = b
	a.store = store.New(nil)
	a.pending.Store(&[]notify.Debt{})
	a.restored.Store(&[]notify.Debt{})
	a.held.Store(&[]heldState{})
	a.outputs.Store(&[]outputState{})
	a.placed.Store(&[]placedState{})
	a.refresh = newRefresher(a.store, b.source, b.secrets, a.clock, a.log)
	a.refresh.wrapper = a.opts.Child.Once
	a.refused.Store(&[]refusedState{})
	a.onDemand = newOnDemand(a.clock, a.log, a.refresh.fetcher)
	a.configureOnDemand(b, true)
	a.notifier = notify.New(b.targets, notify.Options{Logger: a.log, Settled: a.settled, Child: a.childProcess,
		Variables: a.commandVariables, Secrets: a.secretValues})
	a.apply = newApplier(a.log, a.clock)
	a.apply.tell, a.apply.owe, a.apply.serve = a.notifier.Notify, a.owe, a.publish
	a.apply.keep = func(list []outputState) { a.outputs.Store(&list) }
	a.apply.keepPlaced = func(list []placedState) { a.placed.Store(&list) }
	a.apply.published, a.apply.remember, a.apply.asked = a.published, a.remember, a.asked.isFor
	a.apply.give, a.apply.secretValues = a.giveCommands, a.secretValues
	a.apply.configure(b.plan)
	a.child = newSupervised(a.log, a.opts.Child)
	a.child.share(b.cfg)
	a.child.configure(b.child)
	a.watcher = newWatcher(a.log)
	a.watcher.follow(b.templateFiles())
	a.sweep(b)
	a.listeners.commit(nil)
	a.note(a.store.Snapshot())
}

// Close gives back what New took, for an agent that is not run.
func (a *Agent) Close() {
	_ = a.control.Close()
	a.listeners.shutdown(context.Background())
	closeAudit(a.audit.log.Swap(nil))
	a.build.close()
	a.state.close()
}

// Run serves, refreshes and applies until ctx is done, then drains: a child is
// ended, while everything else is still there for it; then reads are cut off, a
// pass and notifications under way are finished, requests under way get some
// seconds. Files stay as they are, unless the configuration says that they are to
// go. It returns nil after a drain, and an error only if a listener breaks or a
// child that it depends on cannot be started.
func (a *Agent) Run(ctx context.Context) error {
	defer a.state.close()
	end := ctx
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer cancel()
		return a.child.run(end, ctx, a.overdue)
	})
	g.Go(func() error { a.refresh.run(ctx); return nil })
	g.Go(func() error { a.onDemand.run(ctx); return nil })
	g.Go(func() error { return a.notifier.Run(ctx) })
	g.Go(func() error { a.watcher.run(ctx); return nil })
	a.listeners.serve(ctx, g)
	a.serveControl(g)
	g.Go(func() error {
		a.loop(ctx, g)
		a.apply.checker.running.Wait()
		if a.build.cfg.OnExit == "remove" {
			a.apply.noteHeld()
		} else {
			a.apply.noteAll()
		}
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		_ = a.control.Close()
		_ = a.control.server.Shutdown(drain) // a request that outlasts drain is cut off
		a.listeners.shutdown(drain)
		closeAudit(a.audit.log.Swap(nil))
		if a.build.cfg.OnExit == "remove" {
			a.apply.remove(a.build.outputs...)
		}
		a.build.close()
		return nil
	})
	return g.Wait()
}

// loop is the applying goroutine. It is level-triggered: however often
// something changed, a pass looks at the latest snapshot.
func (a *Agent) loop(ctx context.Context, g *errgroup.Group) {
	a.apply.reread = func(r reply, needed []notify.SecretVersion) { a.startReread(ctx, g.Go, r, needed) }
	a.health.watch(func() { a.pass(ctx, false) })
	giveBack()
	heal := time.NewTicker(a.build.cfg.HealInterval.Std())
	defer heal.Stop()
	tokens := time.NewTicker(tokenInterval)
	defer tokens.Stop()
	for {
		step := func() { a.pass(ctx, false) }
		select {
		case <-ctx.Done():
			return
		case <-a.store.Changed():
		case <-a.retryTimer():
		case <-heal.C:
			step = func() {
				a.pass(ctx, true)
				giveBack()
			}
		case <-a.child.sup.Changed():
		case <-a.watcher.changed:
			step = func() {
				a.apply.retemplate()
				a.retemplate()
				a.retemplateCommands()
				a.pass(ctx, false)
			}
		case <-a.replies.came:
			step = func() {
				if a.apply.heed(a.replies.take()) {
					a.pass(ctx, false)
				}
			}
		case v := <-a.apply.checker.done:
			step = func() {
				if a.apply.judge(v) {
					a.pass(ctx, false)
				}
			}
		case <-tokens.C:
			step = func() { a.listeners.followTokens(a.log) }
		case r := <-a.reloads:
			step = func() {
				err := a.activate(ctx, g, r.next)
				if err == nil {
					heal.Reset(a.build.cfg.HealInterval.Std())
					a.pass(ctx, false)
				}
				r.done <- err
			}
		}
		a.health.watch(step)
	}
}

// retryTimer fires when a degraded output is to be tried again, or when a value
// becomes too old to be served; it is nil if neither is ahead.
func (a *Agent) retryTimer() <-chan time.Time {
	next, ok := a.apply.nextTry()
	maxStale := a.build.cfg.Refresh.MaxStale.Std()
	for _, e := range a.store.Snapshot().Entries() {
		if at := e.Confirmed + maxStale; e.Version != nil && e.Err != nil && at > a.clock() && (!ok || at < next) {
			next, ok = at, true
		}
	}
	if !ok {
		return nil
	}
	return time.After(max(next-a.clock(), 0) + time.Millisecond)
}

func (a *Agent) pass(ctx context.Context, heal bool) {
	a.apply.heed(a.replies.take())
	snap := a.store.Snapshot()
	a.rememberRefused()
	a.apply.pass(ctx, snap, heal)
	if a.apply.heedLate() {
		a.apply.pass(ctx, snap, false)
	}
	// After the pass, so that what it changes and what was owed before are told
	// together.
	a.restoreDebts(snap)
	a.assess(snap)
	a.note(snap)
}

// Reload replaces the running configuration by cfg. Everything that can fail is done first; with an error nothing
// has changed. It returns when the new configuration has been applied, as far
// as its secrets are known by then.
func (a *Agent) Reload(ctx context.Context, cfg *config.Config) error {
	err := a.reload(ctx, cfg)
	a.seen.reloaded(err)
	return err
}

func (a *Agent) reload(ctx context.Context, cfg *config.Config) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	next, err := newBuild(ctx, cfg, a.opts, a.build)
	if err != nil {
		return &ConfigError{err}
	}
	r := reload{next: next, done: make(chan error, 1)}
	select {
	case a.reloads <- r:
	case <-ctx.Done():
		next.close()
		return fmt.Errorf("reload: %w", context.Cause(ctx))
	}
	return <-r.done
}

// activate puts next in place of what runs.
func (a *Agent) activate(ctx context.Context, g *errgroup.Group, next *build) error {
	if err := a.listeners.prepare(ctx, a, next); err != nil {
		next.close()
		return err
	}
	prev := a.build
	a.build = next
	if prev.cfg.StateDir != next.cfg.StateDir {
		a.log.Warn("state_dir changes at the next start, keeping it", "state_dir", prev.cfg.StateDir)
	}
	a.child.share(next.cfg)
	a.apply.retire(next.plan)
	a.apply.configure(next.plan)
	a.watcher.follow(next.templateFiles())
	a.child.configure(next.child)
	a.refresh.configure(next.source, next.secrets)
	a.giveCommands()
	a.recorded.forget(next.commands)
	a.notifier.Reconfigure(next.targets)
	a.configureOnDemand(next, prev.source == next.source)
	prev.close() // which lets go of bundles, so that the next one may write to them
	a.sweep(next)
	// Clients and what they may read change in one step with what names mean.
	a.look(a.store.Snapshot())
	a.listeners.commit(a.view)
	a.listeners.serve(ctx, g)
	a.restoreControl(g)
	return nil
}
