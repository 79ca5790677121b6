package agent

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"secretsd/agent/secret"
	"secretsd/agent/source"
	"secretsd/agent/store"
)

var processStart = time.Now()

// fetcher reads secrets: one result for each ref, in their order.
type fetcher interface {
	Fetch(ctx context.Context, refs []secret.Ref) []source.Result
}

const (
	// roundTimeout stands above the source's own limits, so that a read always
	// ends with the source's word on what went wrong.
	roundTimeout = 20 * time.Second
	// confirmDelay is how long after a version that was seen before the second
	// read comes. Secrets Manager is eventually consistent (ListSecrets, API
	// reference): one read may answer with the past.
	confirmDelay = time.Second
	// pinnedInterval is how often a pinned version is read again: its content
	// cannot change, only the right to read it.
	pinnedInterval = time.Hour
	// maxSeen bounds the version ids remembered of a secret.
	maxSeen = 32
)

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

	mu       sync.Mutex // guards what follows, never held across a read
	source   fetcher
	secrets  map[string]*schedule
	rounds   sync.WaitGroup
	draining bool
	base     context.Context //nolint:containedctx // the lifetime of the rounds that requests start, set by run
}

// schedule is when one secret is read next, and what its reads have shown.
type schedule struct {
	name     string
	ref      secret.Ref
	interval time.Duration
	required bool
	next     time.Duration
	failures int
	lastKind secret.Kind
	warned   bool
	// reading is closed when the read in flight has entered the store; nil when
	// there is none.
	reading chan struct{}
	// seen are the version ids that were current once, newest last.
	seen []string
	// confirming is the version id that a second read has to name again.
	confirming string
	// pair is the schedule of AWSCURRENT beside AWSPREVIOUS, or the other way
	// round, of the same secret; they are read together.
	pair *schedule
}

func newRefresher(st *store.Store, src fetcher, secrets []*schedule, clock func() time.Duration, log *slog.Logger) *refresher {
	r := &refresher{store: st, log: log, clock: clock, wake: make(chan struct{}, 1), started: make(chan struct{}), phase: 0.5 + 0.5*rand.Float64()}
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
	r.store.Configure(refs, func(string, store.Entry) bool { return same })
	snap := r.store.Snapshot()
	next := make(map[string]*schedule, len(secrets))
	now := r.clock()
	for _, s := range secrets {
		s.next = now
		if e, ok := snap.Get(s.name); ok && e.Version != nil {
			if old := r.secrets[s.name]; old != nil && old.ref == s.ref {
				s.seen, s.confirming, s.failures = old.seen, old.confirming, old.failures
				s.next = min(old.next, now+s.interval)
			}
		}
		next[s.name] = s
	}
	pairStages(next)
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
		if s.reading == nil && s.next <= now && s.failures == 0 && s.confirming == "" && len(s.seen) > 0 {
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

// early returns how long before its time s may be read along with those that
// are due, so that they share a batch. Secrets of one interval come together
// whatever had parted them: with half an interval one of two always reaches the
// other. Those of other intervals join for a fifth of theirs.
func (s *schedule) early(dueIntervals map[time.Duration]bool) time.Duration {
	switch {
	case len(dueIntervals) == 0 || s.failures > 0 || s.confirming != "":
		return 0
	case dueIntervals[s.interval]:
		return s.interval / 2
	default:
		return s.interval / 5
	}
}

// startRounds starts one round for each Region and role, so that a Region that
// hangs delays its own secrets only. r.mu is held.
func (r *refresher) startRounds(due []*schedule) {
	type group struct{ region, role string }
	groups := map[group][]*schedule{}
	add := func(s *schedule) {
		if s.reading == nil {
			s.reading = make(chan struct{})
			key := group{regionOf(s.ref), s.ref.RoleARN}
			groups[key] = append(groups[key], s)
		}
	}
	for _, s := range due {
		add(s)
		if s.pair != nil {
			add(s.pair)
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

func regionOf(ref secret.Ref) string {
	if parts := strings.Split(ref.ID, ":"); ref.Region == "" && len(parts) > 3 {
		return parts[3]
	}
	return ref.Region
}

// round reads the secrets of one group and enters all answers in one step.
func (r *refresher) round(ctx context.Context, src fetcher, group []*schedule) {
	at, wall := r.clock(), time.Now()
	readCtx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	refs := make([]secret.Ref, len(group))
	for i, s := range group {
		refs[i] = s.ref
	}
	results := readPairs(readCtx, src, group, src.Fetch(readCtx, refs), r.store.Snapshot())
	if ctx.Err() != nil {
		r.finish(group) // a read that the shutdown cut off says nothing
		return
	}
	updates := make([]store.Update, 0, len(group))
	r.mu.Lock()
	for i, s := range group {
		if r.source != src {
			break // a reload chose another source meanwhile: these are its predecessor's
		}
		if u, ok := r.judge(s, results[i]); ok {
			u.At, u.Wall = at, wall
			updates = append(updates, u)
		}
	}
	r.store.Put(updates)
	r.mu.Unlock()
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

// judge turns one result into an update and sets when s is read next. It
// returns false for a version that a second read has to confirm first. r.mu is
// held.
func (r *refresher) judge(s *schedule, res source.Result) (store.Update, bool) {
	now := r.clock()
	u := store.Update{Name: s.name, Ref: s.ref, Version: res.Version, Err: res.Err}
	e, _ := r.store.Snapshot().Get(s.name)
	if u.Err != nil {
		s.failures++
		s.next = now + s.backoff(secret.KindOf(u.Err), e.Version != nil)
		r.logFailure(s, u.Err, e.Version)
		return u, true
	}
	if e.Version != nil && e.Version.VersionID != u.Version.VersionID &&
		slices.Contains(s.seen, u.Version.VersionID) && s.confirming != u.Version.VersionID {
		s.confirming = u.Version.VersionID
		s.next = now + min(confirmDelay, s.interval)
		r.log.Info("secret answered with an earlier version, reading again before it counts", "secret", s.name, "version_id", u.Version.VersionID)
		return u, false
	}
	r.logSuccess(s, u.Version, e.Version)
	s.failures, s.warned, s.confirming = 0, false, ""
	s.remember(u.Version.VersionID)
	s.next = now + s.spread(r.phase, e.Version == nil)
	return u, true
}

func (s *schedule) remember(versionID string) {
	if slices.Contains(s.seen, versionID) {
		return
	}
	s.seen = append(s.seen, versionID)
	if len(s.seen) > maxSeen {
		s.seen = slices.Delete(s.seen, 0, 1)
	}
}

// spread returns the time to the next read: the interval, a tenth either way.
// The first one after the start is phase of it, which differs from agent to
// agent, so that those started together do not read together for ever.
func (s *schedule) spread(phase float64, first bool) time.Duration {
	d := s.interval
	if s.ref.VersionID != "" {
		d = max(d, pinnedInterval)
	}
	if first {
		return time.Duration(float64(d) * phase)
	}
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}

// backoff returns the time to the next try after a failure. It doubles with
// each, is spread over its upper half, and has a ceiling by kind: a throttled
// account is asked less often than the interval, a secret that was never read
// at least twice a minute.
func (s *schedule) backoff(kind secret.Kind, haveValue bool) time.Duration {
	base, ceiling := time.Second, s.interval
	switch {
	case kind == secret.Throttled:
		base, ceiling = min(5*time.Second, s.interval), max(2*s.interval, 15*time.Minute)
	case !haveValue:
		ceiling = min(s.interval, 30*time.Second)
	}
	base = min(base, s.interval)
	d := min(base<<min(s.failures-1, 20), ceiling)
	return time.Duration(float64(d) * (0.5 + 0.5*rand.Float64()))
}

// fetcher returns the source in use.
func (r *refresher) fetcher() fetcher {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.source
}

// readNow joins the read of name in flight, or starts one, and returns when its
// outcome is in the store or ctx is done.
func (r *refresher) readNow(ctx context.Context, name string) error {
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

func (r *refresher) logSuccess(s *schedule, got, had *secret.Version) {
	switch {
	case had == nil:
		r.log.Debug("secret read", "secret", s.name, "version_id", got.VersionID)
	case had.VersionID != got.VersionID:
		r.log.Info("secret changed", "secret", s.name, "version_id", got.VersionID, "previous_version_id", had.VersionID)
	}
	if s.failures > 0 {
		r.log.Info("secret readable again", "secret", s.name, "failures", s.failures)
	}
}

// logFailure says a failure once for each kind until the secret is read again.
func (r *refresher) logFailure(s *schedule, err error, had *secret.Version) {
	kind := secret.KindOf(err)
	if s.warned && s.lastKind == kind {
		r.log.Debug("secret still not readable", "secret", s.name, "kind", kind.String(), "failures", s.failures)
		return
	}
	s.warned, s.lastKind = true, kind
	args := []any{"secret", s.name, "kind", kind.String(), "error", err}
	if hint := hintOf(err); hint != "" {
		args = append(args, "hint", hint)
	}
	switch {
	case had != nil:
		r.log.Warn("cannot refresh secret, keeping its version", append(args, "version_id", had.VersionID)...)
	case !s.required && kind == secret.NotFound:
		r.log.Info("optional secret does not exist yet", args...)
	case kind == secret.Denied || kind == secret.Invalid || kind == secret.NotFound:
		r.log.Error("cannot read secret, trying again", args...)
	default:
		r.log.Warn("cannot read secret, trying again", args...)
	}
}
