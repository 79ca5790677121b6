package agent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"secretsd/agent/secret"
	"secretsd/agent/source"
	"secretsd/agent/store"
)

// maxPairReads bounds how often a pair is read again because AWSCURRENT moved
// in between.
const maxPairReads = 3

// pairStages links the schedules of AWSCURRENT and AWSPREVIOUS of one secret, and
// those of the same label under several names: each would be a version of its own
// otherwise.
func pairStages(secrets map[string]*schedule) {
	same := map[secret.Ref][]*schedule{}
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		s := secrets[name]
		s.pair, s.kin = nil, nil
		same[s.ref] = append(same[s.ref], s)
	}
	for ref, list := range same {
		kin := list
		if current := counterpart(ref); current != ref && len(same[current]) > 0 {
			c := same[current]
			for _, s := range list {
				s.pair = c[0]
			}
			c[0].pair = list[0]
			kin = slices.Concat(c, list)
			for _, s := range c {
				s.kin = kin
			}
		}
		for _, s := range list {
			if s.kin == nil || len(kin) > len(list) {
				s.kin = kin
			}
		}
	}
}

// counterpart returns AWSCURRENT for AWSPREVIOUS of the same secret, and any other ref
// as it is.
func counterpart(ref secret.Ref) secret.Ref {
	if ref.Stage == secret.StagePrevious {
		ref.Stage = secret.StageCurrent
	}
	return ref
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
	first := make(map[secret.Ref]int, len(group)) // it stands for all of its ref
	for i, s := range group {
		outcomes[i].Result = results[i]
		if _, ok := first[s.ref]; !ok {
			first[s.ref] = i
		}
	}
	var pairs, unsettled []couple
	for i, s := range group {
		if s.ref.Stage != secret.StagePrevious || first[s.ref] != i {
			continue
		}
		previous := &outcomes[i]
		previous.Result = emptyIfUnlabelled(previous.Result)
		j, ok := first[counterpart(s.ref)]
		if !ok || allKnow(snap, s, previous.Result) && allKnow(snap, group[j], outcomes[j].Result) {
			continue
		}
		p := couple{s, &outcomes[j], previous}
		pairs = append(pairs, p)
		if p.current.Err == nil && previous.Err == nil {
			unsettled = append(unsettled, p)
		}
	}
	settlePairs(ctx, src, unsettled)
	for _, p := range pairs {
		switch {
		case p.current.Err != nil && !allKnow(snap, p.s, p.previous.Result):
			p.previous.Result = source.Result{Ref: p.previous.Ref, Err: p.current.Err}
		case p.previous.Err != nil && p.current.Err == nil && !allKnow(snap, p.s.pair, p.current.Result):
			p.previous.drop = true
		}
	}
	for i, s := range group {
		outcomes[i] = outcomes[first[s.ref]]
	}
	return outcomes
}

// couple is a pair of which something has changed.
type couple struct {
	s                 *schedule // of AWSPREVIOUS
	current, previous *outcome
}

// settlePairs reads each AWSPREVIOUS between two reads of its AWSCURRENT, of all pairs
// together, so that many cost no more time than one. What came with the first read of
// AWSCURRENT is of no use: nothing says which of the two was read first.
func settlePairs(ctx context.Context, src fetcher, pairs []couple) {
	fetch := func(of func(couple) *outcome) []source.Result {
		refs := make([]secret.Ref, len(pairs))
		for i, p := range pairs {
			refs[i] = of(p).Ref
		}
		return src.Fetch(ctx, refs)
	}
	for range maxPairReads {
		if len(pairs) == 0 {
			return
		}
		var read []couple
		for i, res := range fetch(func(p couple) *outcome { return p.previous }) {
			if pairs[i].previous.Result = emptyIfUnlabelled(res); pairs[i].previous.Err == nil {
				read = append(read, pairs[i])
			}
		}
		pairs = read
		if len(pairs) == 0 {
			return
		}
		var moved []couple
		for i, again := range fetch(func(p couple) *outcome { return p.current }) {
			p := pairs[i]
			switch {
			case again.Err != nil:
				p.fail(again.Err)
			case again.Version.VersionID != p.current.Version.VersionID:
				p.current.Result = again
				moved = append(moved, p)
			default:
				p.current.confirmed, p.previous.confirmed = true, true
			}
		}
		pairs = moved
	}
	for _, p := range pairs {
		p.fail(&secret.Error{Kind: secret.Transient, Op: "GetSecretValue", ID: p.current.Ref.ID,
			Message: "AWSCURRENT moves faster than it and AWSPREVIOUS can be read"})
	}
}

func (p couple) fail(err error) {
	p.current.Result = source.Result{Ref: p.current.Ref, Err: err}
	p.previous.Result = source.Result{Ref: p.previous.Ref, Err: err}
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

// allKnow reports whether res is what snap holds for s, and for all that are read by
// the same ref.
func allKnow(snap *store.Snapshot, s *schedule, res source.Result) bool {
	return known(snap, s, res) && !slices.ContainsFunc(s.kin, func(k *schedule) bool { return k.ref == s.ref && !known(snap, k, res) })
}

func known(snap *store.Snapshot, s *schedule, res source.Result) bool {
	e, _ := snap.Get(s.name)
	return res.Err == nil && e.Version != nil && e.Version.VersionID == res.Version.VersionID
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
