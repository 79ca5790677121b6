package agent

import (
	"math/rand/v2"
	"slices"
	"time"

	"secretsd/agent/secret"
	"secretsd/agent/source"
	"secretsd/agent/store"
)

const (
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

// schedule is when one secret is read next, and what its reads have shown.
type schedule struct {
	name     string
	ref      secret.Ref
	interval time.Duration
	required bool
	next     time.Duration
	failures int
	failed   failureCounts // since the start of the agent
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

// judge turns one result into an update and sets when s is read next. It
// returns false for a version that a second read has to confirm first. r.mu is
// held.
func (r *refresher) judge(s *schedule, res source.Result) (store.Update, bool) {
	now := r.clock()
	u := store.Update{Name: s.name, Ref: s.ref, Version: res.Version, Err: res.Err}
	e, _ := r.store.Snapshot().Get(s.name)
	if u.Err != nil {
		s.failures++
		s.failed[secret.KindOf(u.Err)]++
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
