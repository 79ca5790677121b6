package agent

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"secretsd/agent/secret"
	"secretsd/agent/store"
)

// links are the schedules of one secret that belong together, as seen by one of them.
// They are immutable.
type links struct {
	// kin are all that are read together with it, itself among them: those of the same
	// label of the same secret, and of AWSPREVIOUS beside AWSCURRENT.
	kin []*schedule
	// pair is the schedule of AWSCURRENT beside AWSPREVIOUS, or the other way round;
	// nil where there is none.
	pair *schedule
}

// kin returns what s is read together with; see [links].
func (s *schedule) kin() []*schedule {
	if l := s.links.Load(); l != nil {
		return l.kin
	}
	return nil
}

// pair returns the other half of a pair, or nil; see [links].
func (s *schedule) pair() *schedule {
	if l := s.links.Load(); l != nil {
		return l.pair
	}
	return nil
}

// link links the schedules of AWSCURRENT and AWSPREVIOUS of one secret, and those of the
// same label under several names: each would be a version of its own otherwise. Before
// its first read a secret is told by what its id looks like, which at worst has secrets
// read together that are not the same.
func link(secrets map[string]*schedule) {
	list := make([]*schedule, 0, len(secrets))
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		list = append(list, secrets[name])
	}
	same := map[secret.Ref][]*schedule{}
	for i, id := range identify(list, func(i int) string { return list[i].arn }) {
		same[id.ref] = append(same[id.ref], list[i])
	}
	for ref, list := range same {
		current := counterpart(ref)
		switch c := same[current]; {
		case current != ref && len(c) > 0:
			kin := slices.Concat(c, list)
			for _, s := range list {
				s.links.Store(&links{kin: kin, pair: c[0]})
			}
			for _, s := range c[1:] {
				s.links.Store(&links{kin: kin})
			}
			c[0].links.Store(&links{kin: kin, pair: list[0]})
		case len(same[previousOf(ref)]) == 0 || previousOf(ref) == ref:
			for _, s := range list {
				s.links.Store(&links{kin: list})
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

// previousOf returns AWSPREVIOUS for AWSCURRENT of the same secret, and any other ref as
// it is.
func previousOf(ref secret.Ref) secret.Ref {
	if ref.Stage == secret.StageCurrent {
		ref.Stage = secret.StagePrevious
	}
	return ref
}

// identity is by what a schedule is told from others: equal for the same label or
// version of the same secret, read in the same Region with the same role.
type identity struct {
	ref secret.Ref
	// certain says that its ARN is known. Else it is a guess.
	certain bool
}

// identify returns the identities of list. arn returns the ARN that reading the i-th of
// it has brought, or "".
func identify(list []*schedule, arn func(i int) string) []identity {
	known, all := make([]string, len(list)), true
	for i := range list {
		known[i] = arn(i)
		all = all && known[i] != ""
	}
	called := map[secret.Ref]string{}
	if !all { // else nobody asks
		called = names(list, known)
	}
	ids := make([]identity, len(list))
	for i, s := range list {
		id, certain := known[i], known[i] != ""
		if !certain {
			id = called[s.as(s.ref.ID)]
			certain = id == s.ref.ID
		}
		if id == "" {
			id = nameIn(s.ref.ID)
		}
		ref := s.as(id)
		ref.Stage, ref.VersionID = s.ref.Stage, s.ref.VersionID
		ids[i] = identity{ref, certain}
	}
	return ids
}

// names returns what else the known ARNs of list may be called, where that means no
// other one, with the ARNs.
func names(list []*schedule, known []string) map[secret.Ref]string {
	called := make(map[secret.Ref]string, 3*len(list))
	for i, s := range list {
		if known[i] == "" {
			continue
		}
		for _, id := range []string{known[i], randomSuffix.ReplaceAllString(known[i], ""), nameIn(known[i])} {
			if had, ok := called[s.as(id)]; ok && had != known[i] {
				called[s.as(id)] = "" // it means two
				continue
			}
			called[s.as(id)] = known[i]
		}
	}
	return called
}

// as returns a secret called id where s is read, with the same role.
func (s *schedule) as(id string) secret.Ref {
	return secret.Ref{ID: id, Region: s.region, RoleARN: s.ref.RoleARN}
}

// randomSuffix is what Secrets Manager puts behind a secret's name in its ARN
// (CreateSecret, API reference).
var randomSuffix = regexp.MustCompile(`-[A-Za-z0-9]{6}$`)

// nameIn returns the name in an ARN, whole or without its suffix, and a name as it is.
func nameIn(id string) string {
	f := strings.SplitN(id, ":", 7)
	if len(f) != 7 || f[0] != "arn" {
		return id
	}
	return randomSuffix.ReplaceAllString(f[6], "")
}

// learn notes the ARNs that a round has brought, and links anew what they tell. r.mu is
// held.
func (r *refresher) learn(group []*schedule, outcomes []outcome, say *[]func()) {
	learned := false
	for i, s := range group {
		if v := outcomes[i].Version; outcomes[i].Err == nil && v.ARN != "" && v.ARN != s.arn {
			s.arn, learned = v.ARN, true
		}
	}
	if !learned {
		return
	}
	link(r.secrets)
	for _, name := range slices.Sorted(maps.Keys(r.secrets)) {
		s := r.secrets[name]
		if !s.pending {
			continue
		}
		err := s.unfit()
		if err == nil {
			s.unfitSaid = ""
			continue
		}
		r.store.SetPending(map[string]secret.Ref{name: s.ref}, nil, func(e store.Entry) bool { return e.Pending != nil || e.Unsettled != nil })
		if s.unfitSaid != err.Error() {
			s.unfitSaid = err.Error()
			*say = append(*say, func() { r.log.Error("cannot show pending versions of a secret", attrs(err, "secret", name)...) })
		}
	}
}

// is reports whether k is of the same secret as s for certain. r.mu is held.
func (s *schedule) is(k *schedule) bool {
	return k.ref == s.ref || k.arn != "" && k.arn == s.arn
}

// unfit returns why the pending version cannot stand for AWSCURRENT under the other
// names of the secret: what the configuration's own check finds, where both are given by
// the same id. r.mu is held.
func (s *schedule) unfit() error {
	for _, k := range s.kin() {
		switch {
		case k == s || !s.is(k):
		case k.ref.Stage == secret.StagePrevious:
			return &fault{err: fmt.Errorf("secret %s is AWSPREVIOUS of the same one, and the pending version is not one step from that", k.name),
				hint: "leave out pending: true, for a rotation of two users does not need it"}
		case !k.pending:
			return &fault{err: fmt.Errorf("secret %s is the same one without pending: true, and the two would differ in a rotation", k.name),
				hint: "give both pending: true, or use one of the two names"}
		}
	}
	return nil
}
