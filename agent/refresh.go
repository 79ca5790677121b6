package agent

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	"secretsd/agent/secret"
	"secretsd/agent/source"
	"secretsd/agent/store"
)

var processStart = time.Now()

// fetcher reads secrets: one result for each ref, in their order. Release lets go
// what it keeps for a role; it does not block.
type fetcher interface {
	Fetch(ctx context.Context, refs []secret.Ref) []source.Result
	Release(role string)
}

// refresher alone decides when a secret is read. It owns the schedule; its
// methods may be called from any goroutine.
type refresher struct {
	store *store.Store
	log   *slog.Logger
	clock func() time.Duration
	wake  chan struct{}
	// started is closed when reads may begin.
	started chan struct{}
	phase   float64 // between a half and one
	// wrapper says that a definite refusal of a secret never read ends the agent.
	wrapper bool

	mu       sync.Mutex // guards what follows, never held across a read
	source   fetcher
	secrets  map[string]*schedule
	rounds   sync.WaitGroup
	draining bool
	ended    chan struct{} // closed when no read begins any more
	// recalled is, by ARN, what was refused before a restart or a reload, as long as
	// it is not settled what is shown in its place.
	recalled map[string]refusedState
	// spurns are, by ARN, the pending versions that were refused last.
	spurns map[string]spurn
	base   context.Context //nolint:containedctx // the lifetime of the rounds that requests start, set by run
}

func newRefresher(st *store.Store, src fetcher, secrets []*schedule, clock func() time.Duration, log *slog.Logger) *refresher {
	r := &refresher{store: st, log: log, clock: clock, wake: make(chan struct{}, 1), started: make(chan struct{}), ended: make(chan struct{}), phase: 0.5 + 0.5*rand.Float64(),
		recalled: map[string]refusedState{}, spurns: map[string]spurn{}}
	r.configure(src, secrets)
	return r
}

// configure replaces source and schedule, in the store too. A secret whose name
// and ref stay keeps its version and its place in the schedule, unless the
// source is another one.
func (r *refresher) configure(src fetcher, secrets []*schedule) {
	r.mu.Lock()
	defer r.mu.Unlock()
	same := r.source == src
	r.source = src
	refs := make(map[string]secret.Ref, len(secrets))
	for _, s := range secrets {
		refs[s.name] = s.ref
	}
	before := r.store.Snapshot()
	r.store.Configure(refs, func(string, store.Entry) bool { return same })
	r.keepRefused(before, r.store.Snapshot())
	for _, s := range secrets {
		if !s.pending {
			r.store.SetPending(map[string]secret.Ref{s.name: s.ref}, nil, func(e store.Entry) bool { return e.Pending != nil || e.Unsettled != nil })
		}
	}
	snap := r.store.Snapshot()
	next := make(map[string]*schedule, len(secrets))
	now := r.clock()
	for _, s := range secrets {
		s.next = now
		if old := r.secrets[s.name]; old != nil {
			s.failed = old.failed
		}
		if e, ok := snap.Get(s.name); ok && e.Version != nil {
			s.arn = e.Version.ARN
			if old := r.secrets[s.name]; old != nil && old.ref == s.ref {
				s.seen, s.confirming, s.failures = old.seen, old.confirming, old.failures
				if reflect.DeepEqual(old.expect, s.expect) { // else what was held may be right now
					s.next, s.held = min(old.next, now+s.interval), old.held
				}
			}
		}
		next[s.name] = s
	}
	link(next)
	r.secrets = next
	r.poke()
}

func (r *refresher) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run reads what is due until ctx is done, and returns when the last read has
// ended.
func (r *refresher) run(ctx context.Context) {
	r.begin(ctx)
	defer r.drain()
	for {
		wait := r.startDue()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-r.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// begin sets the lifetime of all reads.
func (r *refresher) begin(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.base = ctx
	close(r.started)
}

func (r *refresher) drain() {
	r.mu.Lock()
	r.draining = true
	close(r.ended)
	r.mu.Unlock()
	r.rounds.Wait()
}

// startDue starts the reads that are due and returns the time until the next
// one is.
func (r *refresher) startDue() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock()
	wait := time.Hour
	var due []*schedule
	dueIntervals := map[time.Duration]bool{}
	for _, s := range r.secrets {
		// First reads, after a reload, and the retries of a failing secret pull
		// nobody along.
		if s.reading == nil && s.next <= now && s.failures == 0 && s.confirming == "" && s.unsettled == 0 && len(s.seen) > 0 {
			dueIntervals[s.interval] = true
		}
	}
	for _, s := range r.secrets {
		switch {
		case s.reading != nil:
		case s.next-now <= s.early(dueIntervals):
			due = append(due, s)
		default:
			wait = min(wait, s.next-now)
		}
	}
	r.startRounds(due)
	return wait
}

// startRounds starts one round for each Region and role, so that a Region that
// hangs delays its own secrets only. r.mu is held.
func (r *refresher) startRounds(due []*schedule) {
	type group struct{ region, role string }
	groups := map[group][]*schedule{}
	add := func(s *schedule) {
		if s.reading == nil {
			s.reading = make(chan struct{})
			key := group{s.region, s.ref.RoleARN}
			groups[key] = append(groups[key], s)
		}
	}
	for _, s := range due {
		add(s)
		for _, k := range s.kin() {
			add(k)
		}
	}
	for _, g := range groups {
		r.rounds.Add(1)
		ctx, src := r.base, r.source
		go func() {
			defer r.rounds.Done()
			r.round(ctx, src, g)
		}()
	}
}

// round reads the secrets of one group and enters all answers in one step. It
// has no limit of its own: every call of the source has one, and how many a
// round takes depends on how many secrets there are.
func (r *refresher) round(ctx context.Context, src fetcher, group []*schedule) {
	at, wall := r.clock(), time.Now()
	refs := make([]secret.Ref, len(group))
	for i, s := range group {
		refs[i] = s.ref
	}
	began := r.store.Snapshot()
	outcomes := readPairs(ctx, src, group, src.Fetch(ctx, refs), began)
	reads := r.readPendings(ctx, src, group, outcomes)
	if ctx.Err() != nil {
		r.finish(group) // a read that the shutdown cut off says nothing
		return
	}
	r.follow(group, reads)
	var updates []store.Update
	var say []func()
	r.mu.Lock()
	r.learn(group, outcomes, &say)
	if r.source == src { // else a reload chose another one meanwhile
		updates = r.judgeRound(group, outcomes, began, &say)
	}
	for i := range updates {
		updates[i].At, updates[i].Wall = at, wall
		updates[i].Pending = r.shownOf(&updates[i])
	}
	r.settle(group, reads, updates, &say)
	r.store.Put(updates)
	r.mu.Unlock()
	for _, line := range say {
		line() // whoever reads the log may be slow, and r.mu is not for waiting
	}
	r.finish(group)
}

// finish lets those go who wait for a read of group.
func (r *refresher) finish(group []*schedule) {
	r.mu.Lock()
	for _, s := range group {
		close(s.reading)
		s.reading = nil
	}
	r.mu.Unlock()
	r.poke()
}

// fetcher returns the source in use.
func (r *refresher) fetcher() fetcher {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.source
}

// readNow joins the read of name in flight, or starts one, and returns when its
// outcome is in the store or ctx is done. One that has ended will do as well if it has
// confirmed the version at since or later; where since is zero none will.
func (r *refresher) readNow(ctx context.Context, name string, since time.Time) error {
	select {
	case <-r.started:
	case <-ctx.Done():
		return ctx.Err()
	}
	r.mu.Lock()
	s := r.secrets[name]
	if s == nil || r.draining {
		r.mu.Unlock()
		return context.Canceled
	}
	if s.reading == nil {
		if e, _ := r.store.Snapshot().Get(name); !since.IsZero() && !e.ConfirmedAt.Before(since) {
			r.mu.Unlock()
			return nil
		}
		r.startRounds([]*schedule{s})
	}
	done := s.reading
	r.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reading returns the channel that is closed when the read of name in flight
// has ended, or nil if there is none.
func (r *refresher) reading(name string) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.secrets[name]; s != nil {
		return s.reading
	}
	return nil
}
