package agent

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"secretsd/agent/secret"
	"secretsd/agent/store"
)

const (
	// confirmDelay is how long after a version that was seen before the second
	// read comes. Secrets Manager is eventually consistent (ListSecrets, API
	// reference): one read may answer with the past.
	confirmDelay = time.Second
	// unreadCeiling is the longest time between two tries at what files wait for.
	unreadCeiling = 30 * time.Second
	// maxSeen bounds the version ids remembered of a secret.
	maxSeen = 32
)

// schedule is when one secret is read next, and what its reads have shown.
type schedule struct {
	name     string
	ref      secret.Ref
	interval time.Duration
	required bool
	// region is where the secret is read, whether its ref says so or the source.
	region   string
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
	// pending says that files and environment show the pending version once the
	// current one was refused.
	pending bool
	// unsettled counts in how many reads on end it could not be settled which version
	// they show.
	unsettled int
	// expect is what a version has to be, or nil. held is the last version id that
	// was not, of which the log says so.
	expect *expectation
	held   string
	// arn is the one that its reads have brought, or empty, and links are what that
	// tells of others.
	arn   string
	links atomic.Pointer[links]
	// unfitSaid is why pending cannot be, as the log has said it.
	unfitSaid string
}

// early returns how long before its time s may be read along with those that
// are due, so that they share a batch. Secrets of one interval come together
// whatever had parted them: with half an interval one of two always reaches the
// other. Those of other intervals join for a fifth of theirs.
func (s *schedule) early(dueIntervals map[time.Duration]bool) time.Duration {
	switch {
	case len(dueIntervals) == 0 || s.failures > 0 || s.confirming != "" || s.unsettled > 0:
		return 0
	case dueIntervals[s.interval]:
		return s.interval / 2
	default:
		return s.interval / 5
	}
}

// judge turns one result into an update and sets when s is read next. It
// returns false for a version that a second read has to confirm first, unless it
// is confirmed already. What there is to log is added to say. r.mu is held.
func (r *refresher) judge(s *schedule, res outcome, say *[]func()) (store.Update, bool) {
	now := r.clock()
	u := store.Update{Name: s.name, Ref: s.ref, Version: res.Version, Err: res.Err, Drop: res.drop}
	e, _ := r.store.Snapshot().Get(s.name)
	if u.Err != nil {
		s.failures++
		s.failed[secret.KindOf(u.Err)]++
		s.next = now + s.backoff(secret.KindOf(u.Err), e.Version != nil)
		r.logFailure(s, u.Err, e.Version, say)
		return u, true
	}
	if !res.confirmed && e.Version != nil && e.Version.VersionID != u.Version.VersionID &&
		slices.Contains(s.seen, u.Version.VersionID) && s.confirming != u.Version.VersionID {
		s.confirming = u.Version.VersionID
		s.next = now + min(confirmDelay, s.interval)
		*say = append(*say, func() {
			r.log.Info("secret answered with an earlier version, reading again before it counts", "secret", s.name, "version_id", u.Version.VersionID)
		})
		return u, false
	}
	if e.Version == nil || e.Version.VersionID != u.Version.VersionID {
		if err := s.expect.check(u.Version, time.Now()); err != nil {
			return r.hold(s, u, err, e.Version, say), true
		}
	}
	r.logSuccess(s, u.Version, e.Version, say)
	s.failures, s.warned, s.confirming, s.held = 0, false, "", ""
	s.remember(u.Version.VersionID)
	s.next = now + s.spread(r.phase, e.Version == nil)
	return u, true
}

// hold returns the update for a version that is not what the configuration
// expects. AWSPREVIOUS gives way to AWSCURRENT, as where it cannot be read.
func (r *refresher) hold(s *schedule, u store.Update, why error, had *secret.Version, say *[]func()) store.Update {
	id := u.Version.VersionID
	err := &secret.Error{Kind: secret.Invalid, Op: "GetSecretValue", ID: s.ref.ID, Status: 400, Code: "InvalidRequestException",
		Message: "version " + id + " is not what the configuration expects: " + strings.ReplaceAll(why.Error(), "\n", ", "),
		Remedy:  "put a right value into the secret, or change what expect says"}
	r.answered(s)
	if said := s.held == id; !said {
		s.held = id
		*say = append(*say, func() {
			args := attrs(err, "secret", s.name, "version_id", id)
			if had != nil {
				args = append(args, "keeping_version_id", had.VersionID)
			}
			r.log.Error("secret has a version that is not what is expected, holding it", args...)
		})
	}
	u.Version = nil
	if s.pair() != nil && s.ref.Stage == secret.StagePrevious {
		u.Err, u.Drop = err, true
		return u
	}
	u.Held = &store.Held{VersionID: id, Err: err}
	return u
}

// answered notes that s could be read, and comes to nothing new.
func (r *refresher) answered(s *schedule) {
	s.failures, s.warned, s.confirming = 0, false, ""
	s.next = r.clock() + s.spread(r.phase, false)
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
	base, ceiling := time.Second, min(s.interval, 5*time.Minute)
	switch {
	case !haveValue:
		ceiling = min(s.interval, unreadCeiling)
	case kind == secret.Throttled:
		base, ceiling = 5*time.Second, max(2*s.interval, 15*time.Minute)
	}
	return retryAfter(s.failures, min(base, s.interval), ceiling)
}

// retryAfter returns the time to the next try after so many failures on end.
func retryAfter(failures int, base, ceiling time.Duration) time.Duration {
	d := min(base<<min(failures-1, 20), ceiling)
	return time.Duration(float64(d) * (0.5 + 0.5*rand.Float64()))
}

func (r *refresher) logSuccess(s *schedule, got, had *secret.Version, say *[]func()) {
	failures := s.failures
	*say = append(*say, func() {
		switch {
		case had == nil:
			r.log.Debug("secret read", "secret", s.name, "version_id", got.VersionID)
		case had.VersionID != got.VersionID:
			r.log.Info("secret changed", "secret", s.name, "version_id", got.VersionID, "previous_version_id", had.VersionID)
		}
		if failures > 0 {
			r.log.Info("secret readable again", "secret", s.name, "failures", failures)
		}
	})
}

// logFailure says a failure once for each kind until the secret is read again.
func (r *refresher) logFailure(s *schedule, err error, had *secret.Version, say *[]func()) {
	kind, failures := secret.KindOf(err), s.failures
	if s.warned && s.lastKind == kind {
		*say = append(*say, func() {
			r.log.Debug("secret still not readable", "secret", s.name, "kind", kind.String(), "failures", failures)
		})
		return
	}
	s.warned, s.lastKind = true, kind
	if r.wrapper && had == nil && definite(kind) {
		return // it ends the agent, which says why
	}
	args := attrs(err, "secret", s.name, "kind", kind.String())
	*say = append(*say, func() {
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
	})
}
