package agent

import (
	"cmp"
	"context"
	"fmt"
	"sync"
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
	defer a.asking(q)()
	h, err := a.hunt(ctx, q, refused, huntTime)
	if err == nil {
		err = a.isServed(ctx)
	}
	if err != nil {
		return endpoint.Refreshed{}, err
	}
	return endpoint.Refreshed{Name: h.name(), VersionID: h.found.Version.VersionID, Changed: h.changed}, nil
}

// asked counts who is asking for a new version of each configured secret, by name.
type asked struct {
	mu     sync.Mutex
	counts map[string]int
}

// begin notes that somebody asks for a secret, until done is called.
func (k *asked) begin(name string) (done func()) {
	k.add(name, 1)
	return func() { k.add(name, -1) }
}

func (k *asked) add(name string, n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.counts == nil {
		k.counts = map[string]int{}
	}
	if k.counts[name] += n; k.counts[name] == 0 {
		delete(k.counts, name)
	}
}

func (k *asked) isFor(name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.counts[name] > 0
}

// asking notes that somebody asks for what q means, until done is called: what a pass
// sees of it meanwhile is told as asked for.
func (a *Agent) asking(q endpoint.Query) (done func()) {
	s, want, ok := a.resolve.Load().find(q)
	if !ok || want != s.ref {
		return func() {} // no file is made of it
	}
	return a.asked.begin(s.name)
}

// hunted is what a hunt has brought.
type hunted struct {
	found endpoint.Answer
	// before is the version id that the agent had.
	before string
	// changed says that the version found is another one than refused or, where
	// that is empty, than before.
	changed bool
}

// name returns the configured name, or the ARN of a secret that has none.
func (h *hunted) name() string { return cmp.Or(h.found.Name, h.found.Version.ARN) }

// hunt reads a secret until its version is not refused any more, but not for
// longer than limit; with an empty refused it reads once. It does not wait until
// what it has found is published.
func (a *Agent) hunt(ctx context.Context, q endpoint.Query, refused string, limit time.Duration) (hunted, error) {
	// Decides rights and, for a secret never read, waits for its first read.
	q.Refresh = false
	had, err := a.Read(ctx, q)
	if err != nil {
		return hunted{}, err
	}
	h := hunted{found: had, before: had.Version.VersionID}
	if refused != "" && h.before != refused {
		h.changed = true
		return h, nil
	}
	once := refused == "" || a.pinned(q)
	end := a.clock() + limit
	for gap := huntFirst; ; gap = min(2*gap, huntMost) {
		// What another client's read has brought meanwhile is as good as one more.
		q.Refresh = false
		if had, err = a.Read(ctx, q); once || err != nil || time.Since(had.Confirmed) >= gap/2 {
			q.Refresh = true
			had, err = a.Read(ctx, q)
		}
		if err == nil {
			h.found, h.changed = had, had.Version.VersionID != h.before
		}
		left := end - a.clock()
		if h.changed || once || left <= 0 || !worthAnother(err) {
			return h, err
		}
		if err := pause(ctx, min(gap, left)); err != nil {
			return hunted{}, fmt.Errorf("refresh secret %s: %w", q.ID, err)
		}
	}
}

// isServed waits until all that is known has been published.
func (a *Agent) isServed(ctx context.Context) error {
	if err := a.served.wait(ctx, a.store.Snapshot().Generation()); err != nil {
		return fmt.Errorf("wait until the secret is published: %w", err)
	}
	return nil
}

// pinned reports whether q means one version of a configured secret, so that no
// read can bring another.
func (a *Agent) pinned(q endpoint.Query) bool {
	_, want, ok := a.resolve.Load().find(q)
	return ok && want.VersionID != ""
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
