package agent

import (
	"context"
	"errors"
	"slices"
	"strings"

	"secretsd/agent/secret"
	"secretsd/agent/source"
	"secretsd/agent/store"
)

// maxPairReads bounds how often a pair is read again because AWSCURRENT moved
// in between.
const maxPairReads = 3

// pairStages links the schedules of AWSCURRENT and AWSPREVIOUS of one secret.
func pairStages(secrets map[string]*schedule) {
	current := map[secret.Ref]*schedule{}
	for _, s := range secrets {
		if s.ref.Stage == secret.StageCurrent && s.ref.VersionID == "" {
			current[s.ref] = s
		}
	}
	for _, s := range secrets {
		if s.ref.Stage != secret.StagePrevious {
			continue
		}
		ref := s.ref
		ref.Stage = secret.StageCurrent
		if c := current[ref]; c != nil {
			s.pair, c.pair = c, s
		}
	}
}

// outcome is one result with what is known of it beside.
type outcome struct {
	source.Result
	// confirmed says that the version was read twice.
	confirmed bool
	// drop says that the version held so far is none of this secret any more.
	drop bool
}

// readPairs makes the pairs within one round consistent: both are read again,
// AWSPREVIOUS and then AWSCURRENT, and they count only if AWSCURRENT has not
// moved, for a rotation between the two reads would make them the same version
// or two steps apart. A pair that is what snap holds is consistent already.
//
// Where one of them cannot be read, AWSPREVIOUS gives way: it does not move
// without AWSCURRENT, and where AWSCURRENT has moved its old value is dropped,
// so that what uses both waits and what uses the current one alone goes on.
func readPairs(ctx context.Context, src fetcher, group []*schedule, results []source.Result, snap *store.Snapshot) []outcome {
	outcomes := make([]outcome, len(group))
	for i := range group {
		outcomes[i].Result = results[i]
	}
	for i, s := range group {
		if s.ref.Stage != secret.StagePrevious {
			continue
		}
		previous := &outcomes[i]
		previous.Result = emptyIfUnlabelled(previous.Result)
		j := slices.Index(group, s.pair)
		if s.pair == nil || j < 0 {
			continue
		}
		current := &outcomes[j]
		if known(snap, s, previous.Result) && known(snap, s.pair, current.Result) {
			continue
		}
		if current.Err == nil && previous.Err == nil {
			settlePair(ctx, src, &current.Result, &previous.Result)
			current.confirmed, previous.confirmed = true, true
		}
		switch {
		case current.Err != nil && !known(snap, s, previous.Result):
			previous.Result = source.Result{Ref: previous.Ref, Err: current.Err}
		case previous.Err != nil && current.Err == nil && !known(snap, s.pair, current.Result):
			previous.drop = true
		}
	}
	return outcomes
}

// judgeRound turns the outcomes of a round into updates. AWSCURRENT is judged before
// AWSPREVIOUS: where the one stays what it was, so does the other, for the two are
// one step apart. r.mu is held.
func (r *refresher) judgeRound(group []*schedule, outcomes []outcome, began *store.Snapshot, say *[]func()) []store.Update {
	updates := make([]store.Update, 0, len(group))
	stays := map[*schedule]bool{}
	for _, previous := range []bool{false, true} {
		for i, s := range group {
			if (s.ref.Stage == secret.StagePrevious) != previous || r.overtaken(s, began) || s.pair != nil && r.overtaken(s.pair, began) {
				continue
			}
			if stays[s.pair] {
				if outcomes[i].Err == nil && !known(began, s, outcomes[i].Result) {
					r.answered(s)
					continue
				}
				outcomes[i].drop = false
			}
			u, ok := r.judge(s, outcomes[i], say)
			if ok {
				updates = append(updates, u)
			}
			stays[s] = !ok || u.Held != nil
		}
	}
	return updates
}

// overtaken reports whether s was read by a later round, too, since a reload, and has
// another version by that. What a round answers that began before is the past.
func (r *refresher) overtaken(s *schedule, began *store.Snapshot) bool {
	then, _ := began.Get(s.name)
	now, _ := r.store.Snapshot().Get(s.name)
	return r.secrets[s.name] != s && now.Version != then.Version
}

func known(snap *store.Snapshot, s *schedule, res source.Result) bool {
	e, _ := snap.Get(s.name)
	return res.Err == nil && e.Version != nil && e.Version.VersionID == res.Version.VersionID
}

// settlePair reads AWSPREVIOUS between two reads of AWSCURRENT. The one that
// came with current is of no use: nothing says which of the two was read first.
func settlePair(ctx context.Context, src fetcher, current, previous *source.Result) {
	for range maxPairReads {
		if *previous = emptyIfUnlabelled(src.Fetch(ctx, []secret.Ref{previous.Ref})[0]); previous.Err != nil {
			return
		}
		again := src.Fetch(ctx, []secret.Ref{current.Ref})[0]
		if again.Err != nil {
			*current, *previous = again, source.Result{Ref: previous.Ref, Err: again.Err}
			return
		}
		if again.Version.VersionID == current.Version.VersionID {
			return
		}
		*current = again
	}
	moved := &secret.Error{Kind: secret.Transient, Op: "GetSecretValue", ID: current.Ref.ID,
		Message: "AWSCURRENT moves faster than it and AWSPREVIOUS can be read"}
	*current = source.Result{Ref: current.Ref, Err: moved}
	*previous = source.Result{Ref: previous.Ref, Err: moved}
}

// emptyIfUnlabelled turns "no version carries AWSPREVIOUS" into an empty value,
// which templates can test: a secret that was never rotated has none. The
// service's message is all that tells it from a secret that does not exist.
func emptyIfUnlabelled(res source.Result) source.Result {
	var e *secret.Error
	if errors.As(res.Err, &e) && e.Kind == secret.NotFound && strings.Contains(e.Message, "staging label") {
		return source.Result{Ref: res.Ref, Version: &secret.Version{Text: secret.NewValue("")}}
	}
	return res
}
