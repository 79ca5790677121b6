package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
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
func (a *Agent) Refresh(ctx context.Context, q endpoint.Query, refused []string) (endpoint.Refreshed, error) {
	defer a.asking(q)()
	h, err := a.hunt(ctx, q, refused, hunting{limit: huntTime, pending: true})
	if err == nil {
		err = a.isServed(ctx)
	}
	if err != nil {
		return endpoint.Refreshed{}, err
	}
	return endpoint.Refreshed{Name: h.name(), VersionID: h.versionID(), Changed: h.changed, Pending: h.pending}, nil
}

// hunting is how a hunt is done.
type hunting struct {
	// limit is how long it takes at most.
	limit time.Duration
	// pending says that whoever asks can be given a pending version, whether or not
	// files and environment show it.
	pending bool
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
	r := a.resolve.Load()
	if r == nil {
		return func() {} // nothing was told yet, so that this is the start
	}
	s, want, ok := r.find(q)
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
	// changed says that the version found is none of those refused or, where there
	// are none, another one than before.
	changed bool
	// spurns says that what was refused is the pending version that files showed, so
	// that the current one will do.
	spurns bool
	// afresh says that the current version may have moved unseen, so that only a read
	// which began after the question tells it.
	afresh bool
	// pending is the version at AWSPENDING, where found is refused and it is not.
	pending *secret.Version
}

// versionID is that of the version to use.
func (h *hunted) versionID() string {
	if h.pending != nil {
		return h.pending.VersionID
	}
	return h.found.Version.VersionID
}

// name returns the configured name, or the ARN of a secret that has none.
func (h *hunted) name() string { return cmp.Or(h.found.Name, h.found.Version.ARN) }

// hasOther reports whether the agent had another version already. Where the pending one
// was refused the current one may have moved unseen, and what the agent has of it was
// refused before.
func (h *hunted) hasOther(refused []string) bool {
	return len(refused) > 0 && !slices.Contains(refused, h.before) && !h.spurns
}

// hunt reads a secret until its version is none of refused any more, or until
// there is a pending one that is not, or until the agent reads no more; with no
// refused it reads once. It does not wait until what it has found is published.
func (a *Agent) hunt(ctx context.Context, q endpoint.Query, refused []string, how hunting) (hunted, error) {
	// Decides rights and, for a secret never read, waits for its first read.
	q.Refresh = false
	had, err := a.Read(ctx, q)
	if err != nil {
		return hunted{}, err
	}
	refused = slices.DeleteFunc(slices.Clone(refused), func(id string) bool { return id == "" })
	p, once, err := a.pendingOf(ctx, q, refused, how.pending)
	if err != nil {
		return hunted{}, err
	}
	all := a.refresh.andUnsettled(p, refused)
	h := hunted{found: had, before: had.Version.VersionID, spurns: a.refresh.shows(p, all)}
	// What files show while it is unsettled, and is refused by now, was pending before.
	h.afresh = h.spurns || len(all) > len(refused)
	refused = all
	if h.hasOther(refused) {
		h.changed = true
		return h, nil
	}
	began, end := time.Now(), a.clock()+how.limit
	for gap := huntFirst; ; gap = min(2*gap, huntMost) {
		turn := time.Now()
		had, err = a.readAgain(ctx, q, once || h.afresh, gap/2)
		switch stale := h.afresh && had.Confirmed.Before(began); {
		case err != nil:
			a.refresh.refuseUnread(p, refused, err)
		case stale:
			h.found = had // from before the end of a rotation, perhaps
		default:
			a.weigh(ctx, &h, p, had, refused, turn)
		}
		left := end - a.clock()
		if h.changed || h.pending != nil || once || left <= 0 || !worthAnother(err) {
			return h, err
		}
		if ended, cut := pause(ctx, a.refresh.ended, min(gap, left)); cut != nil {
			return hunted{}, fmt.Errorf("refresh secret %s: %w", q.ID, cut)
		} else if ended {
			return h, nil // what there is, though the last read may have come too late to be made
		}
	}
}

// weigh notes what a read of the version has brought that was asked for at turn, and
// looks at the pending one if it is no other.
func (a *Agent) weigh(ctx context.Context, h *hunted, p *pendingHunt, had endpoint.Answer, refused []string, turn time.Time) {
	id := had.Version.VersionID
	h.found, h.changed = had, (id != h.before || h.spurns) && !slices.Contains(refused, id)
	a.refresh.refusePending(p, refused)
	if !h.changed {
		h.pending = a.readPending(ctx, p, had, turn)
	}
}

// readAgain reads once more, unless another client's read has brought something
// that is not as old as age, which is as good. always says that it is not.
func (a *Agent) readAgain(ctx context.Context, q endpoint.Query, always bool, age time.Duration) (endpoint.Answer, error) {
	q.Refresh = false
	if !always {
		q.Since = time.Now().Add(-age + 1)
	}
	had, err := a.Read(ctx, q)
	if always || err != nil || had.Confirmed.Before(q.Since) {
		q.Refresh = true
		had, err = a.Read(ctx, q)
	}
	return had, err
}

// isServed waits until all that is known has been published.
func (a *Agent) isServed(ctx context.Context) error {
	if err := a.served.wait(ctx, a.store.Snapshot().Generation()); err != nil {
		return fmt.Errorf("wait until the secret is published: %w", err)
	}
	return nil
}

// worthAnother reports whether a further read may bring what this one did not.
func worthAnother(err error) bool {
	if err == nil {
		return true
	}
	kind := secret.KindOf(err)
	return kind == secret.Transient || kind == secret.Throttled
}

// pause waits for d. It returns before if end is closed, with true, or with ctx's
// error if that is done.
func pause(ctx context.Context, end <-chan struct{}, d time.Duration) (ended bool, err error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false, nil
	case <-end:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}
