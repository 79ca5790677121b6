package agent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"secretsd/agent/secret"
	"secretsd/agent/source"
	"secretsd/agent/store"
)

// refusedState is what programs have said of the versions of one secret while it was
// rotated: ids, and nothing of a value. It is kept by ARN, for a secret that is made
// anew by the same name has another one.
type refusedState struct {
	ARN string `json:"arn"`
	// VersionID is the current version that was refused, and Pending the one that files
	// and environment show in its place. Both are empty if that is over.
	VersionID string `json:"version_id,omitempty"`
	Pending   string `json:"pending_version_id,omitempty"`
	// Spurned is the pending version that was refused last, a moment ago.
	Spurned   string    `json:"spurned_version_id,omitempty"`
	SpurnedAt time.Time `json:"spurned_at,omitzero"`
}

// spurn is a pending version that was refused while files and environment showed it.
type spurn struct {
	versionID string
	at        time.Duration
	wall      time.Time
}

// rememberRefused writes down what was refused and is shown, if that has changed: before
// a pass that shows it, for whoever starts after a crash has to know.
func (a *Agent) rememberRefused() {
	now := a.refresh.refusals()
	if slices.Equal(*a.refused.Load(), now) {
		return
	}
	a.refused.Store(&now)
	a.saveState()
}

// refusals returns what a later agent has to know of what was refused, in the order of
// the ARNs.
func (r *refresher) refusals() []refusedState {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.refused()
	for arn, s := range r.spurns {
		if !r.isFresh(s) {
			delete(r.spurns, arn)
			continue
		}
		st := now[arn]
		st.ARN, st.Spurned, st.SpurnedAt = arn, s.versionID, s.wall
		now[arn] = st
	}
	return slices.SortedFunc(maps.Values(now), func(a, b refusedState) int { return cmp.Compare(a.ARN, b.ARN) })
}

// refused returns by ARN which current versions were refused: those in whose place
// others are shown, and those of which it is not settled yet. r.mu is held.
func (r *refresher) refused() map[string]refusedState {
	now := maps.Clone(r.recalled)
	for _, e := range r.store.Snapshot().Entries() {
		if e.Pending != nil {
			now[e.Version.ARN] = refusedState{ARN: e.Version.ARN, VersionID: e.Version.VersionID, Pending: e.Pending.VersionID}
		}
	}
	return now
}

// recall takes over what the last agent knew of what was refused.
func (r *refresher) recall(list []refusedState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, st := range list {
		if st.Pending != "" {
			r.recalled[st.ARN] = refusedState{ARN: st.ARN, VersionID: st.VersionID, Pending: st.Pending}
		}
		if age := max(time.Since(st.SpurnedAt), 0); st.Spurned != "" && age < huntTime {
			r.spurns[st.ARN] = spurn{st.Spurned, r.clock() - age, st.SpurnedAt}
		}
	}
}

// keepRefused keeps what was refused of the entries that a reload has dropped: their
// secrets may be the same. r.mu is held.
func (r *refresher) keepRefused(before, after *store.Snapshot) {
	for name, e := range before.Entries() {
		if now, _ := after.Get(name); e.Pending != nil && now.Pending == nil {
			r.recalled[e.Version.ARN] = refusedState{ARN: e.Version.ARN, VersionID: e.Version.VersionID, Pending: e.Pending.VersionID}
		}
	}
}

// forgetRecalled forgets what nobody can ask for any more: all is settled once each
// secret that shows pending versions was read. r.mu is held.
func (r *refresher) forgetRecalled() {
	snap := r.store.Snapshot()
	for _, s := range r.secrets {
		if e, _ := snap.Get(s.name); s.pending && (e.Version == nil || e.Unsettled != nil) {
			return
		}
	}
	clear(r.recalled)
}

// unsettledError says why it is not known what to show of a secret.
func unsettledError(name string, u *store.Unsettled) error {
	return fmt.Errorf("secret %s: its current version was refused before, and AWSPENDING cannot be read: %w", name, u.Err)
}

// pendingRead is a read of AWSPENDING that a round makes of one secret, for all its
// names.
type pendingRead struct {
	// of are the names, by their place in the group, and current is what was read of
	// them.
	of      []int
	current *secret.Version
	// was is the id of the pending version that files and environment show or, before
	// a restart or a reload, have shown, and shown what they show now: nil where that
	// is to be settled.
	was   string
	shown *secret.Version
	res   source.Result
}

// readPendings reads AWSPENDING of those in group whose pending version is shown, or is
// to be again, in place of the current one, which has not moved. Where it is not what it
// was, AWSCURRENT is read once more: a rotation that has ended meanwhile would look like
// one that was taken back.
func (r *refresher) readPendings(ctx context.Context, src fetcher, group []*schedule, outcomes []outcome) []*pendingRead {
	reads := r.toRead(group, outcomes)
	refs := make([]secret.Ref, len(reads))
	for i, p := range reads {
		refs[i] = group[p.of[0]].ref
		refs[i].Stage = secret.StagePending
	}
	if len(refs) == 0 {
		return nil
	}
	var doubtful []*pendingRead
	var again []secret.Ref
	for i, res := range src.Fetch(ctx, refs) {
		p := reads[i]
		if p.res = res; p.withdrawn() {
			doubtful, again = append(doubtful, p), append(again, group[p.of[0]].ref)
		}
	}
	if len(again) == 0 {
		return reads
	}
	for i, res := range src.Fetch(ctx, again) {
		p := doubtful[i]
		switch {
		case res.Err != nil:
			p.res = source.Result{Ref: p.res.Ref, Err: &secret.Error{Kind: secret.Transient, Op: "GetSecretValue", ID: res.Ref.ID,
				Message: "AWSCURRENT could not be read again beside AWSPENDING", Err: res.Err}}
		case res.Version.VersionID != p.current.VersionID:
			for _, j := range p.of {
				outcomes[j].Version = res.Version
			}
			p.of = nil // nothing is asked of AWSPENDING any more
		}
	}
	return reads
}

// toRead returns the reads of AWSPENDING that a round has to make, one for each secret.
func (r *refresher) toRead(group []*schedule, outcomes []outcome) []*pendingRead {
	r.mu.Lock()
	defer r.mu.Unlock()
	type same struct{ arn, role string }
	refused, snap := r.refused(), r.store.Snapshot()
	reads := map[same]*pendingRead{}
	var list []*pendingRead
	for i, s := range group {
		v := outcomes[i].Version
		if !s.pending || outcomes[i].Err != nil || refused[v.ARN].VersionID != v.VersionID {
			continue
		}
		p := reads[same{v.ARN, s.ref.RoleARN}]
		if p == nil {
			p = &pendingRead{current: v, was: refused[v.ARN].Pending}
			reads[same{v.ARN, s.ref.RoleARN}] = p
			list = append(list, p)
		}
		p.of = append(p.of, i)
		if e, _ := snap.Get(s.name); e.Pending != nil && e.Ref == s.ref && known(snap, s, outcomes[i].Result) {
			p.shown, p.was = e.Pending, e.Pending.VersionID
		}
	}
	return list
}

// andUnsettled adds to refused, and to what p takes for refused, the current version of
// the secret that p is about, if that was refused before a restart or a reload and it is
// not settled yet what to show in its place: it is no answer to whoever was refused with
// what files show meanwhile.
func (r *refresher) andUnsettled(p *pendingHunt, refused []string) []string {
	if p == nil || !p.shown {
		return refused
	}
	e, _ := r.store.Snapshot().Get(p.secret.name)
	if e.Unsettled != nil && e.Version != nil && !slices.Contains(refused, e.Version.VersionID) {
		p.refused = append(refused, e.Version.VersionID)
		return p.refused
	}
	return refused
}

// unread reports whether AWSPENDING could not be read, and may be the next time.
func (p *pendingRead) unread() bool {
	return p.res.Err != nil && !definite(secret.KindOf(p.res.Err))
}

// withdrawn reports whether AWSPENDING is not what it was any more, which a read that
// failed for another reason does not say.
func (p *pendingRead) withdrawn() bool {
	return !p.unread() && (p.res.Err != nil || p.res.Version.VersionID != p.was)
}

// next returns what is to be shown by what was read, or nil if there is nothing. r.mu
// is held.
func (r *refresher) next(p *pendingRead, s *schedule) *secret.Version {
	if p.res.Err != nil || !mayReplace(p.res.Version, p.current) || r.isSpurned(p.current.ARN, p.res.Version.VersionID) {
		return nil
	}
	names, ok := r.shownAs(s, p.res.Version)
	if !ok || len(names) == 0 {
		return nil
	}
	return p.res.Version
}

// mayReplace reports whether a pending version may be tried in place of the current one.
func mayReplace(v, current *secret.Version) bool {
	empty := v.Text.Reveal() == "" && v.Binary.Reveal() == ""
	return !empty && v.ARN == current.ARN && v.VersionID != current.VersionID
}

// follow has files and environment show what AWSPENDING is now, where they show what it
// was: another version that was put there, or else the current one again.
func (r *refresher) follow(group []*schedule, reads []*pendingRead) {
	for _, p := range reads {
		if len(p.of) == 0 || p.shown == nil || !p.withdrawn() {
			continue
		}
		s := group[p.of[0]]
		r.mu.Lock()
		next := r.next(p, s)
		r.mu.Unlock()
		if !r.setPending(s, next, func(e store.Entry) bool { return e.Pending == p.shown }) {
			continue
		}
		if next != nil {
			r.log.Info("secret's pending version was replaced, files and environment show the next one", "secret", s.name, "version_id", next.VersionID)
			continue
		}
		r.log.Warn("secret's pending version was withdrawn, files and environment show the current one again", "secret", s.name, "version_id", p.was)
	}
}

// settle enters into updates what is to be shown, in place of a current version that was
// refused before a restart or a reload. Where that cannot be read yet the secret is
// unsettled, and it is read again soon. r.mu is held.
func (r *refresher) settle(group []*schedule, reads []*pendingRead, updates []store.Update, say *[]func()) {
	read := make(map[string]*store.Update, len(updates))
	for i := range updates {
		u := &updates[i]
		if u.Version == nil {
			continue
		}
		read[u.Name] = u
		// What was refused is current no more, so that nothing is left to be settled.
		if s := r.secrets[u.Name]; s != nil && s.pending && r.recalled[u.Version.ARN].VersionID != u.Version.VersionID {
			delete(r.recalled, u.Version.ARN)
		}
	}
	for _, p := range reads {
		if p.shown == nil && len(p.of) > 0 {
			r.settleOne(group, p, read, say)
		}
	}
	for _, s := range group {
		if u := read[s.name]; u != nil && u.Unsettled == nil {
			s.unsettled = 0
		}
	}
	r.forgetRecalled()
}

// settleOne is settle for all names of one secret. r.mu is held.
func (r *refresher) settleOne(group []*schedule, p *pendingRead, read map[string]*store.Update, say *[]func()) {
	s := group[p.of[0]]
	next := r.next(p, s)
	for _, i := range p.of {
		u := read[group[i].name]
		if u == nil || u.Pending != nil {
			continue
		}
		if u.Pending = next; p.unread() {
			u.Unsettled = &store.Unsettled{Since: r.clock(), Err: p.res.Err}
			r.againSoon(group[i])
		}
	}
	if p.unread() && s.unsettled > 1 {
		return // it was said
	}
	if !p.unread() {
		delete(r.recalled, p.current.ARN)
	}
	*say = append(*say, func() { r.logSettled(s, p, next) })
}

// againSoon has s read again as if it had failed.
func (r *refresher) againSoon(s *schedule) {
	s.unsettled++
	s.next = r.clock() + retryAfter(s.unsettled, time.Second, min(s.interval, unreadCeiling))
}

func (r *refresher) logSettled(s *schedule, p *pendingRead, next *secret.Version) {
	switch {
	case p.unread():
		r.log.Warn("secret's current version was refused before, and AWSPENDING cannot be read: files stay as they are until it can",
			attrs(p.res.Err, "secret", s.name, "version_id", p.current.VersionID)...)
	case next != nil:
		r.log.Info("secret's current version was refused before, files and environment show the pending one", "secret", s.name, "version_id", next.VersionID)
	default:
		r.log.Warn("secret's pending version is there no more, files and environment show the current one", "secret", s.name, "version_id", p.current.VersionID)
	}
}
