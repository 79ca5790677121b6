// Package store holds the versions of the configured secrets, and gives them
// out as snapshots. It knows nothing of templates, files or schedules.
package store

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"secretsd/agent/secret"
)

// Entry is what is known of one configured secret.
type Entry struct {
	// Ref is how it is read.
	Ref secret.Ref
	// Version is the last good version, or nil if none was ever read. It stays
	// whatever happens to later reads.
	Version *secret.Version
	// Confirmed is when Version was last confirmed to be the right one, on the
	// clock the caller of [Store.Put] uses: a time that counts on in suspend.
	Confirmed time.Duration
	// ConfirmedAt is the same moment on the wall clock, for people.
	ConfirmedAt time.Time
	// Pending is the version at AWSPENDING where files and environment show it in
	// place of Version, which was refused; else nil. A rotation that ends makes it
	// Version, and another Version ends it.
	Pending *secret.Version
	// Unsettled says that Version was refused once, and that it is not known yet what
	// to show in its place; else nil.
	Unsettled *Unsettled
	// Held is a version that was read but is not used, for it is not what the
	// configuration expects; nil where Version is the latest. Version then stays
	// as long as Held is current at the source, however old it gets.
	Held *Held
	// Err is why the last due read failed, or nil if it succeeded. With a
	// Version it means that the value is stale.
	Err error
}

// Shown returns the version that files and environment show, or nil if none was
// ever read.
func (e Entry) Shown() *secret.Version {
	if e.Pending != nil {
		return e.Pending
	}
	return e.Version
}

// Unsettled is why it is not known what to show of a secret.
type Unsettled struct {
	// Since is when that was noticed first, on the clock of [Entry.Confirmed].
	Since time.Duration
	// Err is why AWSPENDING could not be read.
	Err error
}

// Held is a version that is not used.
type Held struct {
	VersionID string
	// Err says why, without a value.
	Err error
}

// Snapshot is all secrets of one generation. It is immutable.
type Snapshot struct {
	generation uint64
	entries    map[string]Entry
}

// Generation counts the snapshots of a store; a later one is greater.
func (s *Snapshot) Generation() uint64 { return s.generation }

// Get returns the entry of the secret the configuration calls name.
func (s *Snapshot) Get(name string) (Entry, bool) {
	e, ok := s.entries[name]
	return e, ok
}

// Entries returns the entries by name. The caller must not write to the map.
func (s *Snapshot) Entries() map[string]Entry { return s.entries }

// Len returns how many secrets are configured.
func (s *Snapshot) Len() int { return len(s.entries) }

// Update is the outcome of one read of one configured secret.
type Update struct {
	// Name is what the configuration calls the secret.
	Name string
	// Ref is what was read. An update whose Ref is not the configured one any
	// more, because of a reload during the read, is dropped.
	Ref secret.Ref
	// Version is the version read, or nil when Err says why there is none.
	Version *secret.Version
	Err     error
	// Pending is what to show in place of Version, or nil to leave that as it is while
	// Version stays.
	Pending *secret.Version
	// Unsettled says that it is not known yet what to show in place of Version.
	Unsettled *Unsettled
	// Held says that the version read is not to be used. Version and Err are nil
	// then.
	Held *Held
	// Drop, with Err, says that the version held so far is not this secret's
	// any more.
	Drop bool
	// At and Wall are the moment the read began, as in [Entry].
	At   time.Duration
	Wall time.Time
}

// Store holds the current snapshot. Its methods may be called from any
// goroutine.
type Store struct {
	mu      sync.Mutex // held by writers only, never across I/O
	current atomic.Pointer[Snapshot]
	changed chan struct{}
}

// New returns a store with an entry, without a version, for each of refs by
// configured name.
func New(refs map[string]secret.Ref) *Store {
	s := &Store{changed: make(chan struct{}, 1)}
	s.current.Store(&Snapshot{})
	s.Configure(refs, func(string, Entry) bool { return true })
	return s
}

// Snapshot returns the current generation.
func (s *Store) Snapshot() *Snapshot { return s.current.Load() }

// Changed returns the channel that receives after a Put or Configure. It holds
// one signal however many there were: the receiver looks at the snapshot.
func (s *Store) Changed() <-chan struct{} { return s.changed }

// Put enters all outcomes of one round in one step, so that secrets read
// together become visible together.
func (s *Store) Put(updates []Update) {
	s.mu.Lock()
	old := s.current.Load()
	next := maps.Clone(old.entries)
	for _, u := range updates {
		e, ok := next[u.Name]
		if !ok || e.Ref != u.Ref {
			continue
		}
		next[u.Name] = e.with(u)
	}
	s.publish(old, next)
}

// with returns e after the outcome u.
func (e Entry) with(u Update) Entry {
	if u.Held != nil {
		e.Held, e.Err = u.Held, nil
		if e.Version == nil {
			e.Err = u.Held.Err
		}
		return e
	}
	if u.Err != nil {
		e.Err = u.Err
		if u.Drop {
			e.Version, e.Pending, e.Unsettled = nil, nil, nil
		}
		return e
	}
	if e.Version == nil || e.Version.VersionID != u.Version.VersionID {
		e.Pending = nil
	}
	if u.Pending != nil {
		e.Pending = u.Pending
	}
	switch had := e.Unsettled; {
	case e.Pending != nil:
		e.Unsettled = nil
	default:
		if e.Unsettled = u.Unsettled; had != nil && u.Unsettled != nil {
			e.Unsettled = &Unsettled{Since: had.Since, Err: u.Unsettled.Err}
		}
	}
	// An unchanged version keeps its pointer, which is what holders compare.
	if e.Version == nil || !same(e.Version, u.Version) {
		e.Version = u.Version
	}
	e.Confirmed, e.ConfirmedAt, e.Err, e.Held = u.At, u.Wall, nil, nil
	return e
}

func same(v, w *secret.Version) bool {
	return v.VersionID == w.VersionID && v.ARN == w.ARN && slices.Equal(v.Stages, w.Stages) && v.SameContent(w)
}

// SetPending sets [Entry.Pending] of the names of refs, which are one secret, where
// Ref is as given and when holds of the entry, in one step, and reports whether there
// was any. When v is nil the entries show Version again.
func (s *Store) SetPending(refs map[string]secret.Ref, v *secret.Version, when func(Entry) bool) bool {
	s.mu.Lock()
	old := s.current.Load()
	var next map[string]Entry
	for name, ref := range refs {
		e, ok := old.entries[name]
		if !ok || e.Ref != ref || !when(e) {
			continue
		}
		if next == nil {
			next = maps.Clone(old.entries)
		}
		e.Pending, e.Unsettled = v, nil
		next[name] = e
	}
	if next == nil {
		s.mu.Unlock()
		return false
	}
	s.publish(old, next)
	return true
}

// Configure replaces the set of configured secrets. An entry survives where
// its name and Ref stay the same and keep agrees; all others start without a
// version.
func (s *Store) Configure(refs map[string]secret.Ref, keep func(name string, e Entry) bool) {
	s.mu.Lock()
	old := s.current.Load()
	next := make(map[string]Entry, len(refs))
	for name, ref := range refs {
		next[name] = Entry{Ref: ref}
		if e, ok := old.entries[name]; ok && e.Ref == ref && keep(name, e) {
			next[name] = e
		}
	}
	s.publish(old, next)
}

// publish makes next the current generation and unlocks s.
func (s *Store) publish(old *Snapshot, next map[string]Entry) {
	s.current.Store(&Snapshot{generation: old.generation + 1, entries: next})
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
