package secret

import (
	"slices"
	"time"
)

// The staging labels that Secrets Manager itself moves
// (Secrets Manager User Guide, "What's in a Secrets Manager secret").
const (
	StageCurrent  = "AWSCURRENT"
	StagePending  = "AWSPENDING"
	StagePrevious = "AWSPREVIOUS"
)

// Ref says what is read: a secret by name or ARN, at a staging label or a
// version id, from a Region and through a role. Two equal Refs read the same
// thing, so a Ref serves as a map key.
type Ref struct {
	// ID is the secret's friendly name, full ARN or partial ARN, as it is sent
	// to the service.
	ID string
	// Stage is the staging label asked for. It is empty only when VersionID is
	// set.
	Stage string
	// VersionID pins one version. With Stage also set the service answers only
	// if that version carries that label.
	VersionID string
	// Region overrides the source's Region when it is not empty.
	Region string
	// RoleARN is the role assumed for this read; empty means the source's own
	// credentials.
	RoleARN string
}

// Current returns the Ref that reads AWSCURRENT of id in the source's own
// Region with the source's own credentials.
func Current(id string) Ref { return Ref{ID: id, Stage: StageCurrent} }

// Version is one version of a secret as the service answered it. It is
// immutable once it has left the source: holders share it and never write to
// it, Stages included.
type Version struct {
	ARN       string
	Name      string
	VersionID string
	// Stages are the staging labels attached when the version was read.
	Stages []string
	// Created is the version's creation date, or the zero time if the service
	// left it out.
	Created time.Time
	// Text is SecretString. Exactly one of Text and Binary is set in an answer
	// of the service (GetSecretValue, API reference).
	Text Value
	// Binary is SecretBinary, decoded from the wire's base64.
	Binary Value
}

// HasStage reports whether the version carried the staging label when it was
// read.
func (v *Version) HasStage(stage string) bool { return slices.Contains(v.Stages, stage) }

// Unlabelled reports whether v stands for a version that is not there: no version of the
// secret carries AWSPREVIOUS, for it was never rotated. It has neither id nor content.
func (v *Version) Unlabelled() bool {
	return v.VersionID == "" && len(v.Text.Bytes()) == 0 && len(v.Binary.Bytes()) == 0
}

// SameContent reports whether v and w hold the same text and the same bytes,
// whatever their version ids.
func (v *Version) SameContent(w *Version) bool {
	return v.Text.Equal(w.Text) && v.Binary.Equal(w.Binary)
}
