package local

import (
	"encoding/base64"
	"strconv"
	"time"
)

// epoch is a date as the protocol writes it: seconds since 1970 as a number
// with milliseconds. The zero epoch is left out of answers.
type epoch struct{ t time.Time }

// IsZero tells encoding/json what to leave out.
func (e epoch) IsZero() bool { return e.t.IsZero() }

// MarshalJSON implements json.Marshaler.
func (e epoch) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(e.t.UnixMilli())/1000, 'f', -1, 64), nil
}

// day returns the date of access as the service keeps it: without the time.
func day(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }

// identity is what nearly every answer begins with.
type identity struct {
	ARN  string
	Name string
}

func (e *entry) identity() identity { return identity{e.arn, e.name} }

type versionOutput struct {
	identity
	VersionId     string   `json:",omitempty"`
	VersionStages []string `json:",omitempty"`
}

type secretValueOutput struct {
	identity
	VersionId     string
	SecretString  *string  `json:",omitempty"`
	SecretBinary  string   `json:",omitempty"`
	VersionStages []string `json:",omitempty"`
	CreatedDate   epoch
}

type secretError struct {
	SecretId  string
	ErrorCode string
	Message   string
}

type batchOutput struct {
	SecretValues []*secretValueOutput
	NextToken    string `json:",omitempty"`
	Errors       []secretError
}

// metadata are the members that DescribeSecret and ListSecrets share. Absent
// ones are left out, as recorded; tags that were all removed are an empty list.
type metadata struct {
	identity
	Description      string `json:",omitempty"`
	KmsKeyId         string `json:",omitempty"`
	CreatedDate      epoch
	LastChangedDate  epoch
	LastAccessedDate epoch `json:",omitzero"`
	DeletedDate      epoch `json:",omitzero"`
	Tags             []tag `json:",omitzero"`
}

type describeOutput struct {
	metadata
	VersionIdsToStages map[string][]string `json:",omitempty"`
}

type listEntry struct {
	metadata
	SecretVersionsToStages map[string][]string `json:",omitempty"`
}

type listOutput struct {
	SecretList []listEntry
	NextToken  string `json:",omitempty"`
}

type listedVersion struct {
	VersionId        string
	VersionStages    []string `json:",omitempty"`
	CreatedDate      epoch
	LastAccessedDate epoch `json:",omitzero"`
	KmsKeyIds        []string
}

type versionsOutput struct {
	identity
	Versions  []listedVersion
	NextToken string `json:",omitempty"`
}

type deletedOutput struct {
	identity
	DeletionDate epoch
}

func (e *entry) metadata() metadata {
	m := metadata{
		identity:         e.identity(),
		Description:      e.description,
		KmsKeyId:         e.kmsKey,
		CreatedDate:      epoch{e.created},
		LastChangedDate:  epoch{e.changed},
		LastAccessedDate: epoch{e.accessed},
	}
	if e.deletion != nil {
		m.DeletedDate = epoch{*e.deletion}
	}
	if e.tags != nil {
		m.Tags = append([]tag{}, e.tags...)
	}
	return m
}

// versionsToStages returns the versions that have labels, with their labels.
func (e *entry) versionsToStages() map[string][]string {
	m := map[string][]string{}
	for _, id := range e.stages {
		if m[id] == nil {
			m[id] = e.labels(id)
		}
	}
	return m
}

func (e *entry) secretValue(v *version) *secretValueOutput {
	out := &secretValueOutput{
		identity:      e.identity(),
		VersionId:     v.id,
		VersionStages: e.labels(v.id),
		CreatedDate:   epoch{v.created},
	}
	if v.value.binary.IsZero() {
		text := v.value.text.Reveal()
		out.SecretString = &text
	} else {
		out.SecretBinary = base64.StdEncoding.EncodeToString(v.value.binary.Bytes())
	}
	return out
}
