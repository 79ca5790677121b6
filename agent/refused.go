package agent

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

const (
	// huntTime is how long a refresh looks for another version than the one
	// refused: a rotation sets the new password first and moves AWSCURRENT
	// afterwards (Secrets Manager User Guide, "Lambda rotation functions":
	// setSecret, testSecret, finishSecret).
	huntTime = time.Minute
	// huntFirst is between its first two reads; it doubles up to huntMost.
	huntFirst = time.Second
	huntMost  = 8 * time.Second
)

// Refresh implements [endpoint.Refresher]. Any number of clients that look for a
// new version of one secret share the reads.
func (a *Agent) Refresh(ctx context.Context, q endpoint.Query, refused string) (endpoint.Refreshed, error) {
	// Decides rights and, for a secret never read, waits for its first read.
	q.Refresh = false
	had, err := a.Read(ctx, q)
	if err != nil {
		return endpoint.Refreshed{}, err
	}
	if refused != "" && had.Version.VersionID != refused {
		return a.refreshed(ctx, had, true)
	}
	before, end := had.Version.VersionID, a.clock()+huntTime
	for gap := huntFirst; ; gap = min(2*gap, huntMost) {
		// What another client's read has brought meanwhile is as good as one more.
		q.Refresh = false
		if had, err = a.Read(ctx, q); refused == "" || err != nil || time.Since(had.Confirmed) >= gap/2 {
			q.Refresh = true
			had, err = a.Read(ctx, q)
		}
		if err == nil && had.Version.VersionID != before {
			return a.refreshed(ctx, had, true)
		}
		if refused == "" || a.clock()+gap > end || !worthAnother(err) {
			break
		}
		if err := pause(ctx, gap); err != nil {
			return endpoint.Refreshed{}, fmt.Errorf("refresh secret %s: %w", q.ID, err)
		}
	}
	if err != nil {
		return endpoint.Refreshed{}, err
	}
	return a.refreshed(ctx, had, false)
}

// refreshed returns the outcome once all that is known has been published.
func (a *Agent) refreshed(ctx context.Context, ans endpoint.Answer, changed bool) (endpoint.Refreshed, error) {
	if err := a.served.wait(ctx, a.store.Snapshot().Generation()); err != nil {
		return endpoint.Refreshed{}, fmt.Errorf("wait until the secret is published: %w", err)
	}
	return endpoint.Refreshed{Name: cmp.Or(ans.Name, ans.Version.ARN), VersionID: ans.Version.VersionID, Changed: changed}, nil
}

// worthAnother reports whether a further read may bring what this one did not.
func worthAnother(err error) bool {
	if err == nil {
		return true
	}
	kind := secret.KindOf(err)
	return kind == secret.Transient || kind == secret.Throttled
}

// pause waits for d, or until ctx is done.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
