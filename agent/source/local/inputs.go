package local

// The inputs of the operations, with the members and constraints of the API
// model. Pointers tell an absent member from an empty one.

type tag struct {
	Key   *string
	Value *string `json:",omitempty"`
}

type filter struct {
	Key    *string
	Values []string
}

// secretRef is the member that most inputs share.
type secretRef struct{ SecretId *string }

func (r *secretRef) id() string { return deref(r.SecretId) }

func (r *secretRef) validate(v *violations) {
	v.required("secretId", r.SecretId == nil)
	v.text("secretId", r.SecretId, 1, 2048)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// newValue are the members of the operations that may write a value.
type newValue struct {
	ClientRequestToken *string
	SecretString       *string
	SecretBinary       []byte
}

func (n *newValue) validate(v *violations) {
	v.text("clientRequestToken", n.ClientRequestToken, 32, 64)
	v.value(n.SecretString, n.SecretBinary)
}

// value returns what the request writes; the zero value means nothing. A value
// needs a token: the SDKs and the CLI make one, a raw request must bring its
// own (recorded for the three operations that write).
func (n *newValue) value() (value, *apiError) {
	var got value
	switch {
	case n.SecretString != nil && n.SecretBinary != nil:
		return got, errBothValues()
	case n.SecretString != nil:
		got = textValue(*n.SecretString)
	case n.SecretBinary != nil:
		got = binaryValue(n.SecretBinary)
	default:
		return got, nil
	}
	if n.ClientRequestToken == nil {
		return got, errNoToken()
	}
	return got, nil
}

type createSecretInput struct {
	Name              *string
	Description       *string
	KmsKeyId          *string
	Tags              []tag
	AddReplicaRegions []struct{}
	newValue
}

func (in *createSecretInput) id() string { return deref(in.Name) }

func (in *createSecretInput) validate(v *violations) {
	v.required("name", in.Name == nil)
	v.text("name", in.Name, 1, 512)
	v.text("description", in.Description, 0, 2048)
	v.text("kmsKeyId", in.KmsKeyId, 0, 2048)
	v.tags(in.Tags)
	in.newValue.validate(v)
}

type putSecretValueInput struct {
	secretRef
	newValue
	VersionStages []string
}

func (in *putSecretValueInput) validate(v *violations) {
	in.secretRef.validate(v)
	in.newValue.validate(v)
	if in.VersionStages != nil {
		v.length("versionStages", "", len(in.VersionStages), 1, maxStages)
	}
	for _, label := range in.VersionStages {
		v.text("versionStages.member", &label, 1, 256)
	}
}

type updateSecretInput struct {
	secretRef
	newValue
	Description *string
	KmsKeyId    *string
}

func (in *updateSecretInput) validate(v *violations) {
	in.secretRef.validate(v)
	in.newValue.validate(v)
	v.text("description", in.Description, 0, 2048)
	v.text("kmsKeyId", in.KmsKeyId, 0, 2048)
}

type updateSecretVersionStageInput struct {
	secretRef
	VersionStage        *string
	RemoveFromVersionId *string
	MoveToVersionId     *string
}

func (in *updateSecretVersionStageInput) validate(v *violations) {
	in.secretRef.validate(v)
	v.required("versionStage", in.VersionStage == nil)
	v.text("versionStage", in.VersionStage, 1, 256)
	v.text("removeFromVersionId", in.RemoveFromVersionId, 32, 64)
	v.text("moveToVersionId", in.MoveToVersionId, 32, 64)
}

type getSecretValueInput struct {
	secretRef
	VersionId    *string
	VersionStage *string
}

func (in *getSecretValueInput) validate(v *violations) {
	in.secretRef.validate(v)
	v.text("versionId", in.VersionId, 32, 64)
	v.text("versionStage", in.VersionStage, 1, 256)
}

type batchGetSecretValueInput struct {
	SecretIdList []string
	Filters      []filter
	MaxResults   *int64
	NextToken    *string
}

func (in *batchGetSecretValueInput) id() string { return "" }

func (in *batchGetSecretValueInput) validate(v *violations) {
	if in.SecretIdList != nil {
		v.length("secretIdList", "", len(in.SecretIdList), 1, maxBatch)
	}
	for _, id := range in.SecretIdList {
		v.text("secretIdList.member", &id, 1, 2048)
	}
	v.filters(in.Filters)
	v.number("maxResults", in.MaxResults, maxBatch)
	v.text("nextToken", in.NextToken, 1, 4096)
}

type describeSecretInput struct{ secretRef }

type restoreSecretInput struct{ secretRef }

type listSecretsInput struct {
	IncludePlannedDeletion bool
	MaxResults             *int64
	NextToken              *string
	Filters                []filter
	SortOrder              *string
	SortBy                 *string
}

func (in *listSecretsInput) id() string { return "" }

func (in *listSecretsInput) validate(v *violations) {
	v.number("maxResults", in.MaxResults, maxPage)
	v.text("nextToken", in.NextToken, 1, 4096)
	v.filters(in.Filters)
	v.oneOf("sortOrder", in.SortOrder, "asc", "desc")
	v.oneOf("sortBy", in.SortBy, "created-date", "last-accessed-date", "last-changed-date", "name")
}

type listSecretVersionIDsInput struct {
	secretRef
	MaxResults        *int64
	NextToken         *string
	IncludeDeprecated bool
}

func (in *listSecretVersionIDsInput) validate(v *violations) {
	in.secretRef.validate(v)
	v.number("maxResults", in.MaxResults, maxPage)
	v.text("nextToken", in.NextToken, 1, 4096)
}

type deleteSecretInput struct {
	secretRef
	RecoveryWindowInDays       *int64
	ForceDeleteWithoutRecovery bool
}

type tagResourceInput struct {
	secretRef
	Tags []tag
}

func (in *tagResourceInput) validate(v *violations) {
	in.secretRef.validate(v)
	v.required("tags", in.Tags == nil)
	v.tags(in.Tags)
}

type untagResourceInput struct {
	secretRef
	TagKeys []string
}

func (in *untagResourceInput) validate(v *violations) {
	in.secretRef.validate(v)
	v.required("tagKeys", in.TagKeys == nil)
	for _, key := range in.TagKeys {
		v.text("tagKeys.member", &key, 1, 128)
	}
}

type getRandomPasswordInput struct {
	PasswordLength          *int64
	ExcludeCharacters       *string
	ExcludeNumbers          bool
	ExcludePunctuation      bool
	ExcludeUppercase        bool
	ExcludeLowercase        bool
	IncludeSpace            bool
	RequireEachIncludedType *bool
}

func (in *getRandomPasswordInput) id() string { return "" }

func (in *getRandomPasswordInput) validate(v *violations) {
	v.number("passwordLength", in.PasswordLength, 4096)
	v.text("excludeCharacters", in.ExcludeCharacters, 0, 4096)
}
