package local

import (
	"maps"
	"slices"
	"time"

	"secretsd/agent/secret"
)

const (
	stageCurrent  = secret.StageCurrent
	stagePending  = secret.StagePending
	stagePrevious = secret.StagePrevious

	// maxStages is the quota "staging labels attached across all versions of a
	// secret" (User Guide, Secrets Manager quotas).
	maxStages = 20
	// maxUnlabelled: "Secrets Manager removes unlabeled versions when there are
	// more than 100" (same page). The service keeps those of the last 24 hours
	// too; here that would let a test grow without bound.
	maxUnlabelled = 100
)

// entry is one secret. The service's mutex guards it.
type entry struct {
	name, arn   string
	seq         int // its place in the order of creation
	description string
	kmsKey      string
	tags        []tag // nil if it never had one, which answers tell from empty
	created     time.Time
	changed     time.Time
	accessed    time.Time
	deletion    *time.Time // when it goes for good, or nil
	versions    []*version // oldest first
	stages      map[string]string
}

// version is immutable but for its date of access.
type version struct {
	id       string
	value    value
	created  time.Time
	accessed time.Time
}

// value is a secret's text or bytes: one of them, and the other is the zero
// Value.
type value struct{ text, binary secret.Value }

func textValue(s string) value   { return value{text: secret.NewValue(s)} }
func binaryValue(b []byte) value { return value{binary: secret.NewValue(string(b))} }

func (v value) equal(w value) bool { return v.text.Equal(w.text) && v.binary.Equal(w.binary) }

func (v value) isZero() bool { return v.text.IsZero() && v.binary.IsZero() }

func (s *Service) newVersion(id string, v value) *version {
	return &version{id: id, value: v, created: s.now()}
}

// version returns the version of that id, or nil.
func (e *entry) version(id string) *version {
	for _, v := range e.versions {
		if v.id == id {
			return v
		}
	}
	return nil
}

// labels returns the staging labels of a version, sorted; nil if it has none.
func (e *entry) labels(id string) []string {
	var labels []string
	for label, at := range e.stages {
		if at == id {
			labels = append(labels, label)
		}
	}
	slices.Sort(labels)
	return labels
}

// addVersion attaches v with the labels, taking them from other versions. The
// first version of a secret always becomes AWSCURRENT (API reference,
// PutSecretValue). It changes nothing if it fails.
func (e *entry) addVersion(v *version, labels []string) *apiError {
	stages := maps.Clone(e.stages)
	for _, label := range labels {
		if label != stageCurrent {
			stages[label] = v.id
		}
	}
	if len(e.versions) == 0 || slices.Contains(labels, stageCurrent) {
		// Recorded: a version that loses AWSCURRENT to a new one loses
		// AWSPENDING with it, while its own labels stay.
		if old := stages[stageCurrent]; old != "" && stages[stagePending] == old {
			delete(stages, stagePending)
		}
		moveCurrent(stages, v.id)
	}
	if len(stages) > maxStages {
		return errTooManyStages()
	}
	e.stages = stages
	e.versions = append(e.versions, v)
	e.prune()
	e.changed = v.created
	return nil
}

// moveCurrent moves AWSCURRENT to a version, and AWSPREVIOUS to the one it
// comes from.
func moveCurrent(stages map[string]string, to string) {
	from := stages[stageCurrent]
	if from == to {
		return
	}
	stages[stageCurrent] = to
	if from != "" {
		stages[stagePrevious] = from
	}
}

func errTooManyStages() *apiError {
	return &apiError{code: "LimitExceededException", message: "The request failed because it would exceed one of the Secrets Manager quotas: 20 staging labels across all versions of a secret."}
}

// prune drops the oldest versions without labels above maxUnlabelled.
func (e *entry) prune() {
	labelled := map[string]bool{}
	for _, id := range e.stages {
		labelled[id] = true
	}
	surplus := len(e.versions) - len(labelled) - maxUnlabelled
	e.versions = slices.DeleteFunc(e.versions, func(v *version) bool {
		if surplus <= 0 || labelled[v.id] {
			return false
		}
		surplus--
		return true
	})
}

// moveStage is UpdateSecretVersionStage: it attaches label to the version to,
// or takes it away if to is empty. A version that has the label already must be
// named in from. It changes nothing if it fails.
func (e *entry) moveStage(label, from, to string) *apiError {
	holder := e.stages[label]
	if err := e.checkMove(label, holder, from, to); err != nil {
		return err
	}
	stages := maps.Clone(e.stages)
	switch {
	case to == "":
		delete(stages, label)
	case label == stageCurrent:
		moveCurrent(stages, to)
	default:
		stages[label] = to
	}
	if len(stages) > maxStages {
		return errTooManyStages()
	}
	e.stages = stages
	e.prune()
	return nil
}

// checkMove refuses as the service does. The texts are recorded but for the
// unknown versions and the label that is attached nowhere.
func (e *entry) checkMove(label, holder, from, to string) *apiError {
	switch {
	case from == "" && to == "":
		return invalidParameter("You must provide MoveToVersionId, RemoveFromVersionId or both.")
	case to != "" && e.version(to) == nil:
		return invalidParameter("MoveToVersionId does not name a version of the secret.")
	case from != "" && e.version(from) == nil:
		return invalidParameter("RemoveFromVersionId does not name a version of the secret.")
	case to == "" && label == stageCurrent:
		return invalidParameter("You can only move staging label AWSCURRENT to a different secret version. It can't be completely removed.")
	case from != "" && holder == "":
		return invalidParameter("Staging label %s is not attached to a version of the secret.", label)
	case from == "" && holder != "" && holder != to:
		return invalidParameter("The parameter RemoveFromVersionId can't be empty. Staging label %s is currently attached to version %s, so you must explicitly reference that version in RemoveFromVersionId.", label, holder)
	case from != "" && holder != from:
		return invalidParameter("When you move staging label %s, if you specify RemoveFromVersionId, it must be set to the version that currently has the staging label %s.", label, label)
	}
	return nil
}
