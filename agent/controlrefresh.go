package agent

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"secretsd/agent/notify"
	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

// The outcomes of a refresh.
const (
	// RefreshPublished: there is another version, and all that shows the secret
	// shows that.
	RefreshPublished = "published"
	// RefreshHeld: there are files that could not be brought to the current
	// version and stay as they are; the endpoint serves it.
	RefreshHeld = "held"
	// RefreshPending: the version at the stage is one of those refused, and all files
	// show the pending one of its rotation.
	RefreshPending = "pending"
	// RefreshUnchanged: the version is the one that was refused, or that there was
	// before.
	RefreshUnchanged = "unchanged"
)

// MaxRefreshTimeout is how long a refresh looks for another version at most.
const MaxRefreshTimeout = huntTime

// RefreshResult is what the control socket answers to a refresh. It holds no
// value.
type RefreshResult struct {
	// Name is the configured name, or the ARN of a secret that has none.
	Name string `json:"name"`
	// State is one of the outcomes.
	State string `json:"state"`
	// VersionID is the version to use now, and PreviousVersionID the one before,
	// empty where it has not changed.
	VersionID         string `json:"version_id"`
	PreviousVersionID string `json:"previous_version_id,omitempty"`
	// Held are the files that do not show the version.
	Held []FileStatus `json:"held,omitempty"`
}

// refreshSecret answers with what a refresh has brought, once that is published.
func (a *Agent) refreshSecret(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	limit, err := time.ParseDuration(query.Get("timeout"))
	if err != nil || limit <= 0 || limit > MaxRefreshTimeout {
		writeJSON(w, http.StatusBadRequest, &ControlError{Message: fmt.Sprintf("timeout: want a time of at most %s", MaxRefreshTimeout)})
		return
	}
	// Longer than the server gives other requests; a test's has no deadlines.
	control, until := http.NewResponseController(w), time.Now().Add(limit+2*controlWait)
	_ = control.SetReadDeadline(until)
	_ = control.SetWriteDeadline(until)
	ctx, cancel := context.WithTimeout(r.Context(), limit+controlWait)
	defer cancel()
	res, err := a.refreshNow(ctx, query.Get("id"), query["refused"], limit)
	if err != nil {
		_ = a.auditControl(r, "refresh", nil, secret.KindOf(err).String()) // nothing is given
		refuseControl(w, err)
		return
	}
	_ = a.auditControl(r, "refresh", &secret.Version{VersionID: res.VersionID}, "ok") // nor here
	writeJSON(w, http.StatusOK, res)
}

func (a *Agent) refreshNow(ctx context.Context, id string, refused []string, limit time.Duration) (*RefreshResult, error) {
	q := endpoint.Query{ID: id}
	defer a.asking(q)()
	h, err := a.hunt(ctx, q, refused, hunting{limit: limit})
	if err != nil {
		return nil, err
	}
	// What status shows is a moment behind what is served.
	if err := a.noted.wait(ctx, a.store.Snapshot().Generation()); err != nil {
		return nil, fmt.Errorf("wait until secret %s is published: %w", id, err)
	}
	res := &RefreshResult{Name: h.name(), State: RefreshUnchanged, VersionID: h.versionID()}
	switch {
	case h.pending != nil:
		res.State = RefreshPending
	case h.changed:
		res.State = RefreshPublished
	}
	// What is read under another label than the configured one is in no file.
	s, want, ok := a.resolve.Load().find(q)
	inFiles := ok && want == s.ref
	if inFiles {
		// Whoever asks now may be another one than who was refused.
		if e, _ := a.store.Snapshot().Get(s.name); e.Pending != nil {
			res.State, res.VersionID = RefreshPending, e.Pending.VersionID
		}
	}
	if res.VersionID != h.before {
		res.PreviousVersionID = h.before
	}
	if inFiles {
		// A check may take a while. One that takes longer than we have is not over
		// when we answer, and the file is behind.
		_ = a.noted.until(ctx, func(uint64) bool {
			res.Held = a.seen.passed.Load().behind(s.name, res.VersionID)
			return !slices.ContainsFunc(res.Held, func(f FileStatus) bool { return f.State == FileChecking })
		})
	}
	if res.Held != nil {
		res.State = RefreshHeld
	}
	return res, nil
}

// behind returns the files that depend on the secret of that name and could not
// be brought to its version.
func (p *passed) behind(name, versionID string) []FileStatus {
	var list []FileStatus
	for _, f := range p.files {
		if f.State == FileInPlace || f.State == FileSkipped || !slices.Contains(f.deps, name) {
			continue
		}
		shows := func(v notify.SecretVersion) bool { return v.Name == name && v.VersionID == versionID }
		if !slices.ContainsFunc(f.Secrets, shows) {
			list = append(list, f)
		}
	}
	return list
}
