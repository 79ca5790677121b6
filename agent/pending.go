package agent

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"secretsd/agent/secret"
	"secretsd/agent/store"
	"secretsd/sinks/endpoint"
)

// pendingHunt is the part of a hunt that looks at AWSPENDING. In a rotation of one
// user the database has the new password from setSecret on, and AWSCURRENT moves at
// finishSecret (Secrets Manager User Guide, "Lambda rotation functions"): between
// the two only AWSPENDING is right.
type pendingHunt struct {
	// ref is how AWSPENDING is read, with that interval.
	ref      secret.Ref
	interval time.Duration
	refused  []string
	// secret is the configured one, or nil; shown says that files and environment
	// show its pending version.
	secret *schedule
	shown  bool
	// asker says that whoever asks can use it though they do not.
	asker  bool
	denied bool
}

// pendingOf returns how to look for a pending version beside the one that q means,
// or nil where nobody could use it, and whether one read is all there is to a hunt:
// without a refused version, and for a pinned one, which no read can change. asker
// says that whoever asks can use it.
func (a *Agent) pendingOf(ctx context.Context, q endpoint.Query, refused []string, asker bool) (p *pendingHunt, once bool, err error) {
	r, err := a.resolver(ctx, q.Of)
	if err != nil {
		return nil, false, err
	}
	s, ref, configured := r.find(q)
	if !configured {
		ref = secret.Ref{ID: q.ID, Stage: cmp.Or(q.Stage, secret.StageCurrent), RoleARN: q.Role}
	}
	if len(refused) == 0 || ref.VersionID != "" {
		return nil, true, nil
	}
	p = &pendingHunt{ref: ref, refused: refused, asker: asker}
	switch {
	case configured:
		p.secret, p.interval, p.shown = s, s.interval, s.pending && ref == s.ref
	case r.onDemand != nil:
		p.interval = r.onDemand.Interval.Std()
	}
	if ref.Stage != secret.StageCurrent || !asker && !p.shown {
		return nil, false, nil
	}
	p.ref.Stage = secret.StagePending
	return p, false, nil
}

// readPending returns the version at AWSPENDING if it may be tried, else nil: it is
// another one than those refused, has a value, and is what the configuration
// expects. Where files and environment are to show it, they will. A nil p has none.
//
// current is the read of the version beside it, which has decided whether whoever
// asks may have the secret, and is counted where reads are limited; turn is when it
// was asked for.
func (a *Agent) readPending(ctx context.Context, p *pendingHunt, current endpoint.Answer, turn time.Time) *secret.Version {
	// Where the limit on reads is reached nothing is known of now. And for as long
	// it is remembered that there is no pending version.
	if p == nil || p.denied || turn.Sub(current.Confirmed) >= negativeAge {
		return nil
	}
	ans, err := a.onDemand.readBeside(ctx, p.ref, p.interval, current.Confirmed)
	key := p.ref.ID + "\x00" + p.ref.RoleARN
	switch {
	case err != nil && secret.KindOf(err) == secret.Denied:
		p.denied = true
		if a.saidPending.first(key, "") {
			a.log.Warn("cannot read AWSPENDING, so that who was refused waits for AWSCURRENT", attrs(err, "secret", p.ref.ID)...)
		}
		return nil
	case err != nil || ans.Stale:
		return nil
	}
	v := ans.Version
	if !mayReplace(v, current.Version) || slices.Contains(p.refused, v.VersionID) {
		return nil
	}
	if p.secret != nil {
		if err := p.secret.expect.check(v, time.Now()); err != nil {
			if a.saidPending.first(key, v.VersionID) {
				a.log.Warn("the pending version is not what the configuration expects, so that who was refused waits for AWSCURRENT",
					"secret", p.secret.name, "version_id", v.VersionID, "error", err)
			}
			return nil
		}
	}
	a.saidPending.forget(key)
	return a.show(p, v)
}

// show has files and environment show v where they are to, and returns it if whoever
// asks can use it then.
func (a *Agent) show(p *pendingHunt, v *secret.Version) *secret.Version {
	if p.shown && !a.refresh.showPending(p.secret, p.refused, v) && !p.asker {
		return nil
	}
	return v
}

// maxSaid bounds what a [said] remembers: clients choose the ids.
const maxSaid = 1000

// said remembers what was logged, so that it is logged once. The zero value has
// said nothing.
type said struct {
	mu   sync.Mutex
	what map[string]string
}

// first reports whether what was not the last thing said about key, and notes it.
func (s *said) first(key, what string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, ok := s.what[key]; ok && last == what {
		return false
	}
	if s.what == nil || len(s.what) >= maxSaid {
		s.what = map[string]string{}
	}
	s.what[key] = what
	return true
}

func (s *said) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.what, key)
}

// showPending has files and environment show v, until AWSCURRENT moves or AWSPENDING
// is not v's any more. It does nothing unless the version that is current by now is
// one of those refused, of the same secret, which it may not be any more after a
// reload, and unless v itself was refused a moment ago. It reports whether v is shown.
func (r *refresher) showPending(s *schedule, refused []string, v *secret.Version) bool {
	if r.setPending(s, v, func(e store.Entry) bool {
		return e.Version != nil && e.Version.ARN == v.ARN && slices.Contains(refused, e.Version.VersionID) &&
			(e.Pending == nil || e.Pending.VersionID != v.VersionID) && !r.isSpurned(v.ARN, v.VersionID)
	}) {
		r.log.Info("secret's current version was refused, files and environment show the pending one", "secret", s.name, "version_id", v.VersionID)
	}
	e, _ := r.store.Snapshot().Get(s.name)
	return e.Pending != nil && e.Pending.VersionID == v.VersionID
}

// isSpurned reports whether that pending version of a secret was refused a moment ago:
// clients of which one is refused with the current version and another with this one
// would have files move to and fro, and whoever uses them restart each time. r.mu is
// held.
func (r *refresher) isSpurned(arn, versionID string) bool {
	s, ok := r.spurns[arn]
	return ok && s.versionID == versionID && r.isFresh(s)
}

func (r *refresher) isFresh(s spurn) bool { return r.clock()-s.at < huntTime }

// shows reports whether files and environment show a pending version that is one of
// those refused.
func (r *refresher) shows(p *pendingHunt, refused []string) bool {
	if p == nil || !p.shown {
		return false
	}
	e, _ := r.store.Snapshot().Get(p.secret.name)
	return e.Pending != nil && slices.Contains(refused, e.Pending.VersionID)
}

// refusePending has files and environment show the current version again if the
// pending one that they show was refused.
func (r *refresher) refusePending(p *pendingHunt, refused []string) {
	if !r.shows(p, refused) {
		return
	}
	s := p.secret
	if r.setPending(s, nil, func(e store.Entry) bool {
		if e.Pending == nil || !slices.Contains(refused, e.Pending.VersionID) {
			return false
		}
		r.spurns[e.Version.ARN] = spurn{e.Pending.VersionID, r.clock(), time.Now().UTC().Round(0)}
		return true
	}) {
		r.log.Warn("secret's pending version was refused, files and environment show the current one again", "secret", s.name)
	}
}

// refuseUnread is refusePending where the current version could not be read, and
// another read would bring no other answer.
func (r *refresher) refuseUnread(p *pendingHunt, refused []string, err error) {
	if !worthAnother(err) {
		r.refusePending(p, refused)
	}
}

// setPending sets what is shown of a secret, if the configuration still wants that
// and the entry is one that when holds of, and reports whether it did. It is done under
// all names of the secret at once, for a file may be made of several.
func (r *refresher) setPending(s *schedule, v *secret.Version, when func(store.Entry) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	names, ok := r.shownAs(s, v)
	if !ok || !r.store.SetPending(names, v, when) {
		return false
	}
	if v != nil {
		delete(r.recalled, v.ARN)
	}
	return true
}

// shownAs returns all names under which the pending version of s is shown, and false if
// v cannot be under all of them. r.mu is held.
func (r *refresher) shownAs(s *schedule, v *secret.Version) (names map[string]secret.Ref, ok bool) {
	now := r.secrets[s.name]
	if now == nil || now.ref != s.ref || !now.pending || v != nil && now.unfit() != nil {
		return nil, false
	}
	names = map[string]secret.Ref{}
	for _, k := range now.kin() {
		if !k.pending || !now.is(k) {
			continue
		}
		if v != nil && k.expect.check(v, time.Now()) != nil {
			return nil, false
		}
		names[k.name] = k.ref
	}
	return names, true
}

// shownOf returns the pending version that other names of the secret show in place of
// the version of u, or nil: a name that a reload has brought is to show it too. r.mu
// is held.
func (r *refresher) shownOf(u *store.Update) *secret.Version {
	s, snap := r.secrets[u.Name], r.store.Snapshot()
	if s == nil || !s.pending || u.Version == nil {
		return nil
	}
	for _, k := range s.kin() {
		e, _ := snap.Get(k.name)
		if s.is(k) && e.Pending != nil && e.Version.VersionID == u.Version.VersionID {
			return e.Pending
		}
	}
	return nil
}
