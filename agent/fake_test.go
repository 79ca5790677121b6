package agent

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"secretsd/agent/secret"
	"secretsd/agent/source"
)

// fakeSource is a source whose answers a test sets. It records each Fetch.
type fakeSource struct {
	mu     sync.Mutex
	answer map[secret.Ref]source.Result
	calls  []fetchCall
	before func(ctx context.Context, refs []secret.Ref)
	start  time.Time
	// released are the roles let go.
	released []string
}

type fetchCall struct {
	at   time.Duration
	refs []secret.Ref
}

func newFakeSource() *fakeSource {
	return &fakeSource{answer: map[secret.Ref]source.Result{}, start: time.Now()}
}

func (f *fakeSource) set(ref secret.Ref, versionID, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer[ref] = source.Result{Ref: ref, Version: newVersion(ref, versionID, text)}
}

func (f *fakeSource) fail(ref secret.Ref, kind secret.Kind) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer[ref] = source.Result{Ref: ref, Err: &secret.Error{Kind: kind, ID: ref.ID, Code: kind.String()}}
}

// hook sets what is called with the refs of each Fetch, before it answers.
func (f *fakeSource) hook(before func(ctx context.Context, refs []secret.Ref)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

func newVersion(ref secret.Ref, versionID, text string) *secret.Version {
	return &secret.Version{
		ARN: arnOf(ref.ID), Name: nameIn(ref.ID),
		VersionID: versionID, Stages: []string{ref.Stage}, Text: secret.NewValue(text),
	}
}

// arnOf returns the ARN that the fake has for a name, and for an ARN without its suffix.
func arnOf(id string) string {
	switch {
	case !strings.HasPrefix(id, "arn:"):
		return "arn:aws:secretsmanager:us-east-1:123456789012:secret:" + id + "-AbCdEf"
	case !strings.HasSuffix(id, "-AbCdEf"):
		return id + "-AbCdEf"
	default:
		return id
	}
}

func (f *fakeSource) Fetch(ctx context.Context, refs []secret.Ref) []source.Result {
	f.mu.Lock()
	f.calls = append(f.calls, fetchCall{time.Since(f.start), refs})
	before := f.before
	f.mu.Unlock()
	if before != nil {
		before(ctx, refs)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	results := make([]source.Result, len(refs))
	for i, ref := range refs {
		res, ok := f.answer[ref]
		if !ok {
			res = source.Result{Ref: ref, Err: &secret.Error{Kind: secret.NotFound, ID: ref.ID, Code: "ResourceNotFoundException", Message: "no such secret"}}
		}
		if ctx.Err() != nil {
			res = source.Result{Ref: ref, Err: &secret.Error{Kind: secret.Transient, ID: ref.ID, Err: ctx.Err()}}
		}
		results[i] = res
	}
	return results
}

// of returns the times at which ref was read.
func (f *fakeSource) of(ref secret.Ref) []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	var at []time.Duration
	for _, c := range f.calls {
		for _, r := range c.refs {
			if r == ref {
				at = append(at, c.at)
			}
		}
	}
	return at
}

func (f *fakeSource) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.calls)
}

var discard = slog.New(slog.DiscardHandler)

// Release implements fetcher.
func (f *fakeSource) Release(role string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.released = append(f.released, role)
}
