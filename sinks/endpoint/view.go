package endpoint

import (
	"cmp"
	"net/http"
	"slices"
	"sync"
	"time"

	"secretsd/agent/secret"
)

// Entry is one configured secret as it is to be served.
type Entry struct {
	// Name is the configured name. A request for it gets this entry, whatever
	// its stage. Where Name is also one of the IDs of any entry it means that
	// id, so that clients of the peer get what the service would give them.
	Name string
	// IDs are the ids of the service that mean this secret: the id configured
	// first, then its ARN, partial ARN and friendly name, as far as they are
	// known. See [Index].
	IDs []string
	// Stage is the staging label the entry follows, or empty for an entry
	// pinned to a version id.
	Stage string
	// Role is the ARN of the role that it alone is read with, or empty. A request
	// with roleArn gets this entry if its role is the same, and one without it
	// gets an entry of that id that has none, if there is such a one.
	Role string
	// Version is the value to be served, or nil if there is none to serve:
	// never read, or past max_stale. It is shared and never written to.
	Version *secret.Version
	// Confirmed is when the source last said that Version is the current one.
	Confirmed time.Time
	// Stale says that a due refresh has failed since; the answer then carries
	// Age and X-Secretsd-Stale.
	Stale bool
	// Err is answered at once where Version is nil. With both nil the request
	// goes to the [Reader], so that it can join the read under way.
	Err error
}

// View is an immutable set of entries, ready to be served. Any number of
// goroutines may use it.
type View struct {
	// Of is what the Reader made the view of, for it to find in [Query]. It
	// is set before the view is published, and then never again.
	Of any

	byID   map[string][]*served
	byName map[string]*served
	// entries are all of them, in their order.
	entries []*served
	// bodies is kept for the next view, which encodes only versions that are
	// not in it.
	bodies map[*secret.Version][]byte
}

// served is an entry with its answer.
type served struct {
	version *secret.Version
	stage   string
	role    string
	// name and ids are what rights are decided by.
	name string
	ids  []string
	// decided has what was decided for each [Rights] that asked.
	decided sync.Map
	// response has status 0 where only the Reader can answer.
	response response
	// err is what response was made of where there is no version.
	err error
}

// Index returns which of entries each id means, by their places and in their
// order. An id that is configured means, to one role, the entries that have it,
// and others of the same secret only: a friendly name is also that of other
// accounts' and Regions' secrets, which somebody has configured by their ARNs.
func Index(entries []Entry) map[string][]int {
	index := make(map[string][]int, 3*len(entries))
	type key struct{ id, role string }
	configured := make(map[key][]int, len(entries))
	for i := range entries {
		if e := &entries[i]; len(e.IDs) > 0 {
			k := key{e.IDs[0], e.Role}
			configured[k] = append(configured[k], i)
		}
	}
	for i := range entries {
		for n, id := range entries[i].IDs {
			own := configured[key{id, entries[i].Role}]
			if n == 0 || own == nil || slices.ContainsFunc(own, func(j int) bool { return entries[i].sameAs(&entries[j]) }) {
				index[id] = append(index[id], i)
			}
		}
	}
	return index
}

// sameAs reports whether two entries are known to be of one secret.
func (e *Entry) sameAs(other *Entry) bool {
	return e.Version != nil && other.Version != nil && e.Version.ARN == other.Version.ARN
}

// NewView returns a view of entries. It keeps their IDs, not the slice itself. Where two entries
// have the same id and stage, or the same name, the first is served. Bodies of
// versions that prev holds, by pointer, are taken from it; prev may be nil.
func NewView(prev *View, entries []Entry) *View {
	v := &View{
		byID:   map[string][]*served{},
		byName: make(map[string]*served, len(entries)),
		bodies: make(map[*secret.Version][]byte, len(entries)),
	}
	for i := range entries {
		e := &entries[i]
		s := v.serve(prev, e)
		v.entries = append(v.entries, s)
		if _, taken := v.byName[e.Name]; !taken && e.Name != "" {
			v.byName[e.Name] = s
		}
	}
	for id, places := range Index(entries) {
		for _, i := range places {
			v.byID[id] = append(v.byID[id], v.entries[i])
		}
	}
	return v
}

func (v *View) serve(prev *View, e *Entry) *served {
	s := &served{version: e.Version, stage: e.Stage, role: e.Role, name: e.Name, ids: e.IDs}
	switch {
	case e.Version != nil:
		s.response = response{status: http.StatusOK, body: v.body(prev, e.Version), json: true, version: e.Version, stale: e.Stale, confirmed: e.Confirmed,
			subject: subject{secret: cmp.Or(e.Name, e.Version.ARN), version: e.Version.VersionID}}
	case e.Err != nil:
		s.response, s.err = errorResponse(e.Err), e.Err
	}
	return s
}

func (v *View) body(prev *View, version *secret.Version) []byte {
	b, ok := v.bodies[version]
	if !ok && prev != nil {
		b, ok = prev.bodies[version]
	}
	if !ok {
		b = encodeVersion(version)
	}
	v.bodies[version] = b
	return b
}

// find returns the entry that p asks for, or nil if none of the view is it.
// Without stage and version an id means AWSCURRENT (GetSecretValue, API
// reference) and a configured name the stage of its entry.
func (v *View) find(p *params) *served {
	if same, ok := v.byID[p.id]; ok {
		return first(same, p)
	}
	if s, ok := v.byName[p.id]; ok && (p.role == "" || p.role == s.role) && s.matches(p, s.stage) {
		return s
	}
	return nil
}

// versionsOf returns the entries that have a version of the secret with that id
// or name and that a client with these rights may read. Where the id means
// several secrets, in several Regions or by several roles, it is the first of
// them, and one without a role before those.
func (v *View) versionsOf(id string, rights *Rights) []*served {
	named := v.byID[id]
	if s, ok := v.byName[id]; ok && named == nil {
		named = []*served{s}
	}
	readable := func(s *served) bool { return s.version != nil && s.allowed(rights) }
	i := slices.IndexFunc(named, func(s *served) bool { return s.role == "" && readable(s) })
	if i < 0 {
		i = slices.IndexFunc(named, readable)
	}
	if i < 0 {
		return nil
	}
	var list []*served
	for _, s := range v.byID[named[i].version.ARN] {
		if s.role == named[i].role && readable(s) {
			list = append(list, s)
		}
	}
	return list
}

// first returns the first of the entries of one id that p asks for. What is read
// with another role may be another account's secret: only where the id has no
// other entries does it mean them without a role.
func first(same []*served, p *params) *served {
	var other *served
	alone := p.role == ""
	for _, s := range same {
		matches := s.matches(p, secret.StageCurrent)
		switch {
		case s.role == p.role && matches:
			return s
		case s.role == p.role:
			alone = false
		case matches && other == nil:
			other = s
		}
	}
	if !alone {
		return nil
	}
	return other
}

// answers reports whether the entry has the answer for p. The peer's answer for
// a role that cannot be assumed names it, so that the Reader has to say what
// went wrong.
func (s *served) answers(p *params) bool {
	return s.response.status != 0 && (p.role == "" || s.version != nil)
}

// allowed reports whether a client with these rights may read the entry. What
// it finds is remembered, since both are immutable.
func (s *served) allowed(r *Rights) bool {
	if r == nil {
		return true
	}
	if known, ok := s.decided.Load(r); ok {
		return known.(bool) //nolint:errcheck // nothing else is stored
	}
	ok := r.Configured(s.name, s.ids...)
	s.decided.Store(r, ok)
	return ok
}

func (s *served) matches(p *params, defaultStage string) bool {
	if p.versionID != "" {
		return s.version != nil && s.version.VersionID == p.versionID &&
			(p.stage == "" || s.version.HasStage(p.stage))
	}
	if p.stage != "" {
		return s.stage == p.stage
	}
	return s.stage == defaultStage
}
