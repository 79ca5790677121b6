package agent

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"secretsd/agent/config"
	"secretsd/agent/secret"
	"secretsd/agent/store"
	"secretsd/sinks/endpoint"
)

// serve hands the generation of snap to the endpoint, in one step.
func (a *Agent) serve(snap *store.Snapshot) {
	a.look(snap)
	a.listeners.publish(a.view)
	a.served.reach(snap.Generation())
}

// look makes the view of snap, with what its ids mean.
func (a *Agent) look(snap *store.Snapshot) {
	entries := make([]endpoint.Entry, 0, snap.Len())
	res := &resolver{byID: map[string][]string{}, ids: map[string][]string{}, secrets: map[string]*schedule{}, region: a.build.region, maxStale: a.build.cfg.Refresh.MaxStale.Std()}
	for _, s := range a.build.secrets {
		e, _ := snap.Get(s.name)
		entry := a.entry(s, e)
		entries = append(entries, entry)
		res.secrets[s.name], res.ids[s.name] = s, entry.IDs
	}
	for id, places := range endpoint.Index(entries) {
		for _, i := range places {
			res.byID[id] = append(res.byID[id], entries[i].Name)
		}
	}
	if e := a.build.cfg.Endpoint; e != nil {
		res.onDemand = e.OnDemand
	}
	a.view = endpoint.NewView(a.view, entries)
	a.view.Of = res
	a.resolve.Store(res)
}

// entry returns what the endpoint serves for one configured secret.
func (a *Agent) entry(s *schedule, e store.Entry) endpoint.Entry {
	entry := endpoint.Entry{Name: s.name, IDs: ids(s.ref, e.Version), Stage: s.ref.Stage, Role: s.ref.RoleARN, Confirmed: e.ConfirmedAt}
	switch {
	case e.Version == nil:
		entry.Err = e.Err
	case e.Version.VersionID == "":
		entry.Err = noLabel(s.ref)
	case a.expired(e):
		entry.Err = e.Err
		if entry.Err == nil {
			entry.Err = &secret.Error{Kind: secret.Transient, ID: s.ref.ID, Message: "not confirmed for longer than max_stale"}
		}
	default:
		entry.Version, entry.Stale = e.Version, e.Err != nil
	}
	return entry
}

// noLabel is the service's answer for a label that no version carries.
func noLabel(ref secret.Ref) error {
	return &secret.Error{Kind: secret.NotFound, Op: "GetSecretValue", ID: ref.ID, Status: 400, Code: "ResourceNotFoundException",
		Message: "Secrets Manager can't find the specified secret value for staging label: " + ref.Stage}
}

// ids returns what the service knows a secret by: its id as configured, its
// ARN, whole and without the random suffix, and its name.
func ids(ref secret.Ref, v *secret.Version) []string {
	list := []string{ref.ID}
	if v == nil || v.ARN == "" {
		return list
	}
	partial := v.ARN[:max(strings.LastIndexByte(v.ARN, '-'), 0)]
	for _, id := range []string{v.ARN, partial, v.Name} {
		if id != "" && id != ref.ID {
			list = append(list, id)
		}
	}
	return list
}

// resolver leads from what a client asks for to a configured secret. It is
// immutable once it is being served.
type resolver struct {
	byID     map[string][]string // id to configured names, in configured order
	ids      map[string][]string // configured name to ids
	secrets  map[string]*schedule
	region   string // where names are read
	maxStale time.Duration
	// onDemand is nil where only configured secrets are served.
	onDemand *config.OnDemand
}

// find returns the configured secret that q means and the ref that answers it.
// As in the endpoint's view an id of the service goes before a configured name,
// the first of several secrets before the others, and what is read with another
// role than the one asked for is another secret.
func (r *resolver) find(q endpoint.Query) (s *schedule, want secret.Ref, ok bool) {
	names, isID := r.byID[q.ID]
	if !isID {
		if s, ok = r.secrets[q.ID]; !ok || q.Role != "" && q.Role != s.ref.RoleARN {
			return nil, secret.Ref{}, false
		}
		want = s.ref
		if q.Stage != "" || q.VersionID != "" {
			want.Stage, want.VersionID = q.Stage, q.VersionID
		}
		return s, want, true
	}
	stage := q.Stage
	if stage == "" && q.VersionID == "" {
		stage = secret.StageCurrent
	}
	names = r.readAs(q.Role, names)
	for i, name := range names {
		other := r.secrets[name]
		ref := other.ref
		ref.Stage, ref.VersionID = stage, q.VersionID
		if i == 0 || ref == other.ref {
			s, want = other, ref
		}
		if ref == other.ref {
			break
		}
	}
	return s, want, s != nil
}

// Read implements [endpoint.Reader]: it answers what the view cannot.
func (a *Agent) Read(ctx context.Context, q endpoint.Query) (endpoint.Answer, error) {
	r, err := a.resolver(ctx, q.Of)
	if err != nil {
		return endpoint.Answer{}, err
	}
	s, want, ok := r.find(q)
	if !ok {
		return a.readOnDemand(ctx, r, q)
	}
	if !q.Rights.MayAssume(q.Role) {
		return endpoint.Answer{}, endpoint.ErrForbidden
	}
	if !q.Rights.Configured(s.name, r.ids[s.name]...) {
		if err := a.identified(ctx, s, q.Rights); err != nil {
			return endpoint.Answer{}, err
		}
	}
	var ans endpoint.Answer
	refresh := q.Refresh && a.limits.allow(want)
	if want != s.ref {
		ans, err = a.onDemand.read(ctx, want, s.interval, refresh)
	} else {
		ans, err = a.readConfigured(ctx, r, s, refresh, q.Since)
	}
	if err == nil && !q.Rights.Configured(s.name, ids(s.ref, ans.Version)...) {
		return endpoint.Answer{}, endpoint.ErrForbidden
	}
	ans.Name = s.name
	return ans, err
}

// resolver returns what ids meant in the view that the client's rights were
// decided beside, if it says so. Else it is what they mean now, and before the
// first pass it waits for that.
func (a *Agent) resolver(ctx context.Context, of any) (*resolver, error) {
	if r, ok := of.(*resolver); ok {
		return r, nil
	}
	if a.resolve.Load() == nil {
		if err := a.served.wait(ctx, 1); err != nil {
			return nil, err
		}
	}
	return a.resolve.Load(), nil
}

// replaced is the error of a read during which a reload gave the secret's name to
// another one. Whoever asks again gets that, if he may have it.
func replaced(s *schedule) error {
	return &secret.Error{Kind: secret.Transient, ID: s.ref.ID, Message: "the configuration has changed while it was read"}
}

// identified decides about a secret that what the view knows of it does not
// allow: its ARN may, where that is known by now, or comes back from the first
// read that is under way. Nobody's waiting for it makes a read.
func (a *Agent) identified(ctx context.Context, s *schedule, rights *endpoint.Rights) error {
	e, _ := a.store.Snapshot().Get(s.name)
	switch {
	case e.Ref != s.ref:
		return endpoint.ErrForbidden
	case e.Version != nil:
		return configured(s, e, rights)
	case e.Err != nil:
		return endpoint.ErrForbidden
	}
	reading := a.refresh.reading(s.name)
	if reading == nil {
		return endpoint.ErrForbidden
	}
	select {
	case <-reading:
	case <-ctx.Done():
		return ctx.Err()
	}
	if e, _ = a.store.Snapshot().Get(s.name); e.Ref != s.ref {
		return endpoint.ErrForbidden
	}
	return configured(s, e, rights)
}

func configured(s *schedule, e store.Entry, rights *endpoint.Rights) error {
	if !rights.Configured(s.name, ids(s.ref, e.Version)...) {
		return endpoint.ErrForbidden
	}
	return nil
}

// readConfigured joins or starts a read of a configured secret, and answers
// with its outcome once the endpoint's view has it too.
func (a *Agent) readConfigured(ctx context.Context, r *resolver, s *schedule, refresh bool, since time.Time) (endpoint.Answer, error) {
	e, _ := a.store.Snapshot().Get(s.name)
	if e.Ref != s.ref {
		return endpoint.Answer{}, replaced(s)
	}
	if refresh || (e.Version == nil && e.Err == nil) || a.refresh.reading(s.name) != nil {
		if err := a.refresh.readNow(ctx, s.name, since); err != nil {
			return endpoint.Answer{}, fmt.Errorf("read secret %s: %w", s.name, err)
		}
		snap := a.store.Snapshot()
		if err := a.served.wait(ctx, snap.Generation()); err != nil {
			return endpoint.Answer{}, fmt.Errorf("read secret %s: %w", s.name, err)
		}
		e, _ = snap.Get(s.name)
	}
	switch {
	case e.Ref != s.ref:
		return endpoint.Answer{}, replaced(s)
	case e.Err != nil && (refresh || e.Version == nil || a.clock()-e.Confirmed > r.maxStale):
		return endpoint.Answer{}, e.Err
	case e.Version == nil:
		return endpoint.Answer{}, &secret.Error{Kind: secret.Transient, ID: s.ref.ID, Message: "not read yet"}
	case e.Version.VersionID == "":
		return endpoint.Answer{}, noLabel(s.ref)
	}
	return endpoint.Answer{Version: e.Version, Confirmed: e.ConfirmedAt, Stale: e.Err != nil}, nil
}

// generations lets readers wait until a generation of the store is served. The
// zero value has served none.
type generations struct {
	mu      sync.Mutex
	reached uint64
	next    chan struct{}
}

func (g *generations) reach(n uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reached = max(g.reached, n)
	if g.next != nil {
		close(g.next)
		g.next = nil
	}
}

// wait returns when generation n is served, or ctx is done.
func (g *generations) wait(ctx context.Context, n uint64) error {
	return g.until(ctx, func(reached uint64) bool { return reached >= n })
}

// until returns when done, which is asked each time that a generation is served, be it
// the same as before, or when ctx is done.
func (g *generations) until(ctx context.Context, done func(reached uint64) bool) error {
	for {
		g.mu.Lock()
		if g.next == nil {
			g.next = make(chan struct{})
		}
		next, reached := g.next, g.reached
		g.mu.Unlock()
		if done(reached) {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
