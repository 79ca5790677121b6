package agent

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"secretsd/agent/secret"
	"secretsd/agent/source"
	"secretsd/sinks/endpoint"
)

const (
	// defaultMaxEntries and defaultMaxRoles bound the table where on_demand does
	// not.
	defaultMaxEntries, defaultMaxRoles = 1000, 20
	// negativeAge is how long a failure is remembered, so that clients asking
	// for what does not exist do not cost a call each.
	negativeAge = 2 * time.Second
	// earliest is the part of the interval after which an entry may be read again.
	earliest = 0.8
	// maxSecretID is the longest id the service takes (GetSecretValue, API
	// reference: SecretId).
	maxSecretID = 2048
	// And the longest staging label and version id.
	maxStageLen, maxVersionIDLen = 256, 64
	// demandReads and roleReads bound the reads under way, together below what the
	// source has connections for: refreshes of what is configured go before them.
	// A role that takes its time to be assumed keeps only others waiting.
	demandReads, roleReads = 2, 1
)

// onDemand has what is read because a client asked: secrets that are not
// configured, and other versions and staging labels of those that are. They live
// outside snapshots and never wake a pass.
//
// An entry is read again in the background before it is one interval old if
// anybody has asked for it since, and dropped then if nobody has.
type onDemand struct {
	clock func() time.Duration
	log   *slog.Logger
	// source returns the source in use.
	source func() fetcher
	wake   chan struct{}
	// slots are taken by reads without a role, roleSlots by those with one.
	slots, roleSlots chan struct{}

	mu     sync.Mutex // never held across a read
	known  map[secret.Ref]*demanded
	limits demandLimits
	// latest are the versions that went out of use last.
	latest *superseded
	// holders counts, for each role, the entries and the reads under way that
	// need it.
	holders map[string]int
}

// demandLimits are what a configuration says about the table.
type demandLimits struct {
	entries, roles int
	stale          time.Duration
	// ownRoles are those that the configuration itself names. They are not
	// counted, and stay when nobody asks for them. It is not written to.
	ownRoles map[string]bool
}

// demanded is one entry. All of it is guarded by the table's mu.
type demanded struct {
	ref      secret.Ref
	interval time.Duration
	// reading is closed when the read under way has ended; nil if there is none.
	reading chan struct{}
	// version is the last one read; confirmed and confirmedAt are when that read
	// began.
	version     *secret.Version
	body        *endpoint.Body
	confirmed   time.Duration
	confirmedAt time.Time
	// triedAt is when the last read began, the one under way too.
	triedAt time.Time
	// err is of the last read, at failedAt, or nil where it went well.
	err      error
	failedAt time.Duration
	failures int
	asked    time.Duration
	due      time.Duration
}

func newOnDemand(clock func() time.Duration, log *slog.Logger, src func() fetcher) *onDemand {
	return &onDemand{clock: clock, log: log, source: src, wake: make(chan struct{}, 1),
		slots: make(chan struct{}, demandReads), roleSlots: make(chan struct{}, roleReads),
		known: map[secret.Ref]*demanded{}, latest: &superseded{}, holders: map[string]int{},
		limits: demandLimits{entries: defaultMaxEntries, roles: defaultMaxRoles, stale: 24 * time.Hour}}
}

// configure sets the limits and drops the entries that keep refuses. It is
// given the version, which may be nil.
func (o *onDemand) configure(limits demandLimits, keep func(secret.Ref, *secret.Version) (time.Duration, bool)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := o.limits.ownRoles
	o.limits = limits
	for role := range before {
		o.releaseUnused(role)
	}
	for ref, e := range o.known {
		interval, ok := keep(ref, e.version)
		if !ok {
			o.drop(e)
			continue
		}
		e.interval = interval
		e.due = min(e.due, o.clock()+interval)
	}
	o.poke()
}

// size returns how many entries there are.
func (o *onDemand) size() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.known)
}

// versions returns those that are known, and what those that go out of use can be
// reached from.
func (o *onDemand) versions() (known []*secret.Version, latest *superseded) {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := make([]*secret.Version, 0, len(o.known))
	for _, e := range o.known {
		list = append(list, e.version)
	}
	return list, o.latest
}

func (o *onDemand) poke() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// read answers for ref from what is known, or by one read that all who ask
// meanwhile share. It waits only where nothing is known, or for a refresh.
func (o *onDemand) read(ctx context.Context, ref secret.Ref, interval time.Duration, refresh bool) (endpoint.Answer, error) {
	if len(ref.Stage) > maxStageLen || len(ref.VersionID) > maxVersionIDLen {
		return endpoint.Answer{}, &secret.Error{Kind: secret.Invalid, Op: "GetSecretValue", ID: ref.ID, Status: 400,
			Code: "ValidationException", Message: "versionStage or versionId is longer than the service allows."}
	}
	o.mu.Lock()
	return o.await(ctx, ref, interval, refresh)
}

// readBeside answers for ref by what was read since another stage of the secret
// was, or by a read of its own: at most one for each of the other's.
func (o *onDemand) readBeside(ctx context.Context, ref secret.Ref, interval time.Duration, other time.Time) (endpoint.Answer, error) {
	o.mu.Lock()
	if e := o.known[ref]; e != nil && e.reading == nil && !e.triedAt.Before(other) {
		defer o.mu.Unlock()
		e.asked = o.clock()
		if e.err != nil {
			return endpoint.Answer{}, e.err
		}
		return e.answer(o.clock(), o.limits.stale)
	}
	return o.await(ctx, ref, interval, true)
}

// await joins or starts the read that the answer needs, and waits for it. It
// unlocks o.mu, which is held.
func (o *onDemand) await(ctx context.Context, ref secret.Ref, interval time.Duration, refresh bool) (endpoint.Answer, error) {
	e, done, err := o.join(ref, interval, refresh)
	if done != nil {
		o.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			return endpoint.Answer{}, ctx.Err()
		}
		o.mu.Lock()
	}
	defer o.mu.Unlock()
	switch {
	case err != nil:
		return endpoint.Answer{}, err
	case refresh && e.err != nil:
		return endpoint.Answer{}, e.err
	}
	return e.answer(o.clock(), o.limits.stale)
}

// join returns the entry of ref, and what is closed at the end of the read that
// the answer has to wait for, which join starts if none is under way; nil if it
// has not to wait. o.mu is held.
func (o *onDemand) join(ref secret.Ref, interval time.Duration, refresh bool) (*demanded, <-chan struct{}, error) {
	e, now := o.known[ref], o.clock()
	if e != nil {
		e.asked = now
		if !refresh && e.answerable(now, o.limits.stale) {
			return e, nil, nil
		}
	}
	switch {
	case e != nil && e.reading != nil:
		return e, e.reading, nil
	case !o.roomForRole(ref.RoleARN):
		return nil, nil, o.tooManyRoles(ref)
	case e == nil && !o.makeRoom():
		return nil, nil, &secret.Error{Kind: secret.Throttled, Op: "GetSecretValue", ID: ref.ID, Status: 400,
			Code: "ThrottlingException", Message: "Too many secrets are being asked for at once."}
	case e == nil:
		e = &demanded{ref: ref, interval: interval, asked: now}
		o.known[ref] = e
		o.holdRole(ref.RoleARN)
	}
	o.start([]*demanded{e})
	return e, e.reading, nil
}

// drop takes e out of the table. A read of it that is under way ends all the
// same, and then lets go of its role. o.mu is held.
func (o *onDemand) drop(e *demanded) {
	delete(o.known, e.ref)
	o.latest = o.latest.then(e.version)
	o.leaveRole(e.ref.RoleARN)
}

// answerable reports whether e has an answer: a version that is not too old, or
// a failure just remembered.
func (e *demanded) answerable(now, maxStale time.Duration) bool {
	if e.version != nil && now-e.confirmed <= maxStale {
		return true
	}
	return e.reading == nil && e.err != nil && now-e.failedAt < negativeAge
}

func (e *demanded) answer(now, maxStale time.Duration) (endpoint.Answer, error) {
	if e.version == nil || e.err != nil && now-e.confirmed > maxStale {
		return endpoint.Answer{}, e.err
	}
	return endpoint.Answer{Version: e.version, Body: e.body, Confirmed: e.confirmedAt, Stale: e.err != nil}, nil
}

// start reads entries, those of one role together. The reads outlive the client
// that caused them, since others may have joined. o.mu is held.
func (o *onDemand) start(entries []*demanded) {
	groups := map[string][]*demanded{}
	at := time.Now()
	for _, e := range entries {
		e.reading, e.triedAt = make(chan struct{}), at
		groups[e.ref.RoleARN] = append(groups[e.ref.RoleARN], e)
	}
	for role, group := range groups {
		o.holdRole(role)
		go o.fetch(o.source(), role, group, o.clock(), at)
	}
}

// fetch reads entries, which have one role; at and wall are when that began.
func (o *onDemand) fetch(src fetcher, role string, entries []*demanded, at time.Duration, wall time.Time) {
	refs := make([]secret.Ref, len(entries))
	for i, e := range entries {
		refs[i] = e.ref
	}
	slots := o.slots
	if role != "" {
		slots = o.roleSlots
	}
	slots <- struct{}{}
	results := src.Fetch(context.Background(), refs) // which has limits of its own
	<-slots
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, e := range entries {
		had := e.version
		if e.finish(results[i], at, wall, o.clock()); had != nil && had != e.version {
			o.latest = o.latest.then(had)
		}
		if e.err != nil && e.version != nil && e.failures == 1 {
			o.log.Warn("cannot refresh secret read on demand, keeping its version", "id", e.ref.ID,
				"kind", secret.KindOf(e.err).String(), "error", e.err, "version_id", e.version.VersionID)
		}
	}
	o.leaveRole(role)
	o.poke()
}

// finish enters the outcome of a read that began at at.
func (e *demanded) finish(res source.Result, at time.Duration, wall time.Time, now time.Duration) {
	close(e.reading)
	e.reading = nil
	if e.err = res.Err; e.err != nil {
		e.failures++
		e.failedAt = now
		// An entry without a version is only remembered; clients' asking reads it.
		e.due = now + negativeAge
		if e.version != nil {
			e.due = now + min(time.Second<<min(e.failures-1, 20), e.interval)
		}
		return
	}
	e.version, e.body = res.Version, endpoint.NewBody(res.Version)
	e.confirmed, e.confirmedAt, e.failures = at, wall, 0
	// Before the interval is over, so that no answer is older than it; spread, so
	// that entries that came together do not stay together.
	e.due = at + time.Duration(float64(e.interval)*(earliest+0.15*rand.Float64()))
}

// run reads what is due again until ctx is done.
func (o *onDemand) run(ctx context.Context) {
	for {
		timer := time.NewTimer(o.readDue())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-o.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// readDue starts the reads that are due, drops what nobody asks for any more,
// and returns the time until the next is due.
func (o *onDemand) readDue() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	now, wait := o.clock(), time.Hour
	var due []*demanded
	for _, e := range o.known {
		switch {
		case e.reading != nil:
		case e.due > now:
			wait = min(wait, e.due-now)
		case e.version == nil, e.forgotten(now), now-e.asked > o.limits.stale:
			o.drop(e)
		default:
			due = append(due, e)
		}
	}
	if len(due) > 0 {
		o.start(due)
	}
	return wait
}

// forgotten reports whether nobody has asked for e since it was read, for as
// long as it takes until it is read again. A retry after a failure may be due
// before that.
func (e *demanded) forgotten(now time.Duration) bool {
	return e.asked <= e.confirmed && now-e.confirmed >= time.Duration(float64(e.interval)*earliest)
}

// makeRoom makes room for an entry that is yet to be read. Those without a
// version have half of the table, so that whoever asks for what does not exist
// crowds out nobody's secrets. When the half or the whole is full the entry goes
// that was asked for longest ago, failures that are only remembered first; it
// returns false if all are being read. o.mu is held.
func (o *onDemand) makeRoom() bool {
	unread := 0
	for _, e := range o.known {
		if e.version == nil {
			unread++
		}
	}
	full := unread >= max(o.limits.entries/2, 1)
	if !full && len(o.known) < o.limits.entries {
		return true
	}
	var oldest *demanded
	for _, e := range o.known {
		if e.reading == nil && (e.version == nil || !full) && (oldest == nil || e.before(oldest)) {
			oldest = e
		}
	}
	if oldest != nil {
		o.drop(oldest)
	}
	return oldest != nil
}

func (e *demanded) before(other *demanded) bool {
	if (e.version == nil) != (other.version == nil) {
		return e.version == nil
	}
	return e.asked < other.asked
}
