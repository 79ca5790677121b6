package agent

import (
	"context"
	"sync"
	"time"

	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

const (
	// maxOthers bounds the versions kept that no configured secret follows.
	maxOthers = 1000
	// negativeAge is how long a failure is remembered, so that clients asking
	// for what does not exist do not cost a call each.
	negativeAge = 2 * time.Second
	otherReads  = 2
	// What GetSecretValue's reference allows.
	maxStageLen, maxVersionIDLen = 256, 64
)

// others are the versions and staging labels of configured secrets that were
// asked for beside the configured ones. They are read when they are asked for,
// live outside snapshots and never wake a pass.
type others struct {
	clock func() time.Duration
	// slots bounds the reads under way, below what the source has connections
	// for: refreshes go before them.
	slots chan struct{}
	mu    sync.Mutex // never held across a read
	known map[secret.Ref]*other
}

// other is one of them. done is closed when the rest may be read.
type other struct {
	done    chan struct{}
	at      time.Duration
	wall    time.Time
	version *secret.Version
	err     error
}

func newOthers(clock func() time.Duration) *others {
	return &others{clock: clock, slots: make(chan struct{}, otherReads), known: map[secret.Ref]*other{}}
}

// forget drops everything, when a reload may have changed what may be read.
func (o *others) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known = map[secret.Ref]*other{}
}

// read answers for ref from what is known for less than maxAge, or by one read
// that all who ask meanwhile share.
func (o *others) read(ctx context.Context, src fetcher, ref secret.Ref, maxAge time.Duration, refresh bool) (endpoint.Answer, error) {
	if len(ref.Stage) > maxStageLen || len(ref.VersionID) > maxVersionIDLen {
		return endpoint.Answer{}, &secret.Error{Kind: secret.Invalid, Op: "GetSecretValue", ID: ref.ID, Status: 400,
			Code: "ValidationException", Message: "versionStage or versionId is longer than the service allows."}
	}
	o.mu.Lock()
	e := o.known[ref]
	if e == nil || (e.ended() && (refresh || !e.fresh(o.clock(), maxAge))) {
		if !o.makeRoom() {
			o.mu.Unlock()
			return endpoint.Answer{}, &secret.Error{Kind: secret.Throttled, Op: "GetSecretValue", ID: ref.ID, Status: 400,
				Code: "ThrottlingException", Message: "Too many versions are being asked for at once."}
		}
		e = &other{done: make(chan struct{})}
		o.known[ref] = e
		// The read outlives the client that caused it: others may have joined.
		go o.fetch(context.WithoutCancel(ctx), e, src, ref)
	}
	o.mu.Unlock()
	select {
	case <-e.done:
	case <-ctx.Done():
		return endpoint.Answer{}, ctx.Err()
	}
	return endpoint.Answer{Version: e.version, Confirmed: e.wall}, e.err
}

func (e *other) ended() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

// fresh is asked of an entry that has ended.
func (e *other) fresh(now, maxAge time.Duration) bool {
	if e.err != nil {
		maxAge = negativeAge
	}
	return now-e.at < maxAge
}

func (o *others) fetch(ctx context.Context, e *other, src fetcher, ref secret.Ref) {
	defer close(e.done)
	o.slots <- struct{}{}
	defer func() { <-o.slots }()
	e.at, e.wall = o.clock(), time.Now()
	res := src.Fetch(ctx, []secret.Ref{ref})[0]
	e.version, e.err = res.Version, res.Err
}

// makeRoom drops the entry read longest ago when the table is full. It returns
// false if all of them are being read. o.mu is held.
func (o *others) makeRoom() bool {
	if len(o.known) < maxOthers {
		return true
	}
	var oldest secret.Ref
	var at time.Duration
	found := false
	for ref, e := range o.known {
		if e.ended() && (!found || e.at < at) {
			oldest, at, found = ref, e.at, true
		}
	}
	delete(o.known, oldest)
	return found
}
