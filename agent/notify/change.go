package notify

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Reason is why a target is told. Of several reasons told together the
// greatest is given.
type Reason int

// The reasons, from the least to the most telling.
const (
	// ReasonStart: the agent published for the first time since it started.
	ReasonStart Reason = iota
	// ReasonHeal: somebody else had changed a file and it was put right.
	ReasonHeal
	// ReasonManual: somebody asked whether there is a newer version, and there was.
	ReasonManual
	// ReasonChange: a secret, or how it is rendered, has changed.
	ReasonChange
)

var reasons = []string{"start", "heal", "manual", "change"}

// String returns the reason as it stands in SECRETSD_REASON, logs and debts.
func (r Reason) String() string {
	if r < 0 || int(r) >= len(reasons) {
		return "unknown"
	}
	return reasons[r]
}

// MarshalText implements [encoding.TextMarshaler].
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]; it accepts what String
// returns and nothing else.
func (r *Reason) UnmarshalText(b []byte) error {
	i := slices.Index(reasons, string(b))
	if i < 0 {
		return fmt.Errorf("unknown reason %q", b)
	}
	*r = Reason(i)
	return nil
}

// SecretVersion names a version of a secret; it holds no value.
type SecretVersion struct {
	// Name is the secret's name in the configuration.
	Name      string `json:"name"`
	VersionID string `json:"version_id,omitempty"`
}

// Change is what a target is told about. It holds names only and marshals to
// JSON.
type Change struct {
	Reason  Reason          `json:"reason"`
	Secrets []SecretVersion `json:"secrets,omitempty"`
	// Paths are the files and bundle directories that were published.
	Paths []string `json:"paths,omitempty"`
	// At is when the last of the files was in place. Zero means not yet:
	// [Notifier.Notify] then takes the time it is called.
	At time.Time `json:"at,omitzero"`
	// Boottime is At on CLOCK_BOOTTIME, the clock that dates the start of a
	// process. Notify works it out from At if it is zero. It is kept beside At
	// because the wall clock may be set between publishing and telling, and
	// then a process that has old content could look like a later one. After a
	// reboot every process is later than the publication; one that does not
	// look so gets a needless signal, and none is lost. It stays zero where
	// there is no such clock.
	Boottime time.Duration `json:"boottime,omitempty"`
	// First says that none of the files had been there before.
	First bool `json:"first,omitempty"`
	// Rollback says that the files have got their previous content back, because
	// the target did not confirm the new. It is told once, by the target's own way:
	// if it does not confirm that either, there is neither a ladder nor a further
	// rollback.
	Rollback bool `json:"rollback,omitempty"`
	// Told is how many steps the target has been told by, its own being the first,
	// when only its confirmation is still awaited. It comes from [Notifier.Owed];
	// whoever makes a change leaves it 0.
	Told int `json:"told,omitempty"`
	// Unconfirmed says that the target has not confirmed after the last step, and is
	// only asked now and then whether it does by now. It comes from [Notifier.Owed],
	// too.
	Unconfirmed bool `json:"unconfirmed,omitempty"`
}

// Debt is a change that a target has not been told yet.
type Debt struct {
	Target string `json:"target"`
	Change
}

// stamped returns c with At and Boottime filled in and slices of its own.
func (c Change) stamped() Change {
	if c.At.IsZero() {
		c.At = time.Now()
	}
	if c.Boottime == 0 {
		// The order matters: a delay between the two readings makes the
		// publication look later, and then at worst a signal is sent that was
		// not needed.
		ago := max(time.Since(c.At), 0)
		if now := boottime(); now > 0 {
			c.Boottime = max(now-ago, 1)
		}
	}
	return c.clone()
}

// clone returns c with slices of its own.
func (c Change) clone() Change {
	c.Secrets = slices.Clone(c.Secrets)
	c.Paths = slices.Clone(c.Paths)
	return c
}

// merge returns one change that tells of both c and the newer one, and that has
// not been told. A process has read both only if it started after the later of the
// two.
func (c Change) merge(newer Change) Change {
	versions := make(map[string]string, len(c.Secrets)+len(newer.Secrets))
	for _, s := range slices.Concat(c.Secrets, newer.Secrets) {
		versions[s.Name] = s.VersionID
	}
	m := Change{
		Reason:   max(c.Reason, newer.Reason),
		At:       newer.At,
		Boottime: max(c.Boottime, newer.Boottime),
		First:    c.First && newer.First,
		Rollback: c.Rollback && newer.Rollback,
	}
	if c.At.After(m.At) {
		m.At = c.At
	}
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		m.Secrets = append(m.Secrets, SecretVersion{Name: name, VersionID: versions[name]})
	}
	m.Paths = slices.Concat(c.Paths, newer.Paths)
	slices.Sort(m.Paths)
	m.Paths = slices.Compact(m.Paths)
	return m
}
