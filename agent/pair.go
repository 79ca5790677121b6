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
	first, current := samePlaces(group, outcomes, snap)
	var pairs, unsettled []couple
	for i, s := range group {
		if s.ref.Stage != secret.StagePrevious || first[i] != i {
			continue
		}
		previous := &outcomes[i]
		previous.Result = emptyIfUnlabelled(previous.Result)
		j := current[i]
		if j < 0 || allKnow(snap, s, previous.Result) && allKnow(snap, group[j], outcomes[j].Result) {
			continue
		}
		p := couple{s, group[j], &outcomes[j], previous}
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
		case p.previous.Err != nil && p.current.Err == nil && !allKnow(snap, p.of, p.current.Result):
			p.previous.drop = true
		}
	}
	for i := range group {
		outcomes[i] = outcomes[first[i]]
	}
	return outcomes
}

// samePlaces returns for each of group which one stands for all of its label of its
// secret, and of AWSPREVIOUS which one is AWSCURRENT, or -1. Whoever is the same only by
// a guess stands for himself. One that could be read goes before one that could not.
func samePlaces(group []*schedule, outcomes []outcome, snap *store.Snapshot) (first, current []int) {
	ids := identify(group, func(i int) string {
		if v := outcomes[i].Version; v != nil && v.ARN != "" {
			return v.ARN
		}
		if e, _ := snap.Get(group[i].name); e.Version != nil && e.Ref == group[i].ref {
			return e.Version.ARN
		}
		return ""
	})
	places := make(map[secret.Ref][]int, len(group))
	first, current = make([]int, len(group)), make([]int, len(group))
	for i, id := range ids {
		first[i] = i
		for _, j := range places[id.ref] {
			if group[j].ref == group[i].ref || id.certain && ids[j].certain {
				first[i] = j
				if outcomes[j].Err != nil && outcomes[i].Err == nil {
					outcomes[j].Result = outcomes[i].Result
				}
				break
			}
		}
		if first[i] == i {
			places[id.ref] = append(places[id.ref], i)
		}
	}
	for i, id := range ids {
		current[i] = -1
		if list := places[counterpart(id.ref)]; id.ref.Stage == secret.StagePrevious && len(list) > 0 {
			current[i] = list[0]
		}
	}
	return first, current
}

// couple is a pair of which something has changed.
type couple struct {
	s, of             *schedule // of AWSPREVIOUS, and of AWSCURRENT
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
		had := make([]string, len(pairs)) // several may have one AWSCURRENT
		for i, p := range pairs {
			had[i] = p.current.Version.VersionID
		}
		var moved []couple
		for i, again := range fetch(func(p couple) *outcome { return p.current }) {
			p := pairs[i]
			switch {
			case again.Err != nil:
				p.fail(again.Err)
			case again.Version.VersionID != had[i]:
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
			if (s.ref.Stage == secret.StagePrevious) != previous || r.overtaken(s, began) || s.pair() != nil && r.overtaken(s.pair(), began) {
				continue
			}
			if stays[s.pair()] {
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

// allKnow reports whether res is what snap holds for s, and for all other names of the
// same.
func allKnow(snap *store.Snapshot, s *schedule, res source.Result) bool {
	return known(snap, s, res) && !slices.ContainsFunc(s.kin(), func(k *schedule) bool { return k.ref.Stage == s.ref.Stage && !known(snap, k, res) })
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
