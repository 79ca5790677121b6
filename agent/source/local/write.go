package local

import (
	"context"
	"slices"
	"strings"
	"time"
)

// maxTags is the tagging quota of AWS resources.
const maxTags = 50

func (s *Service) createSecret(_ context.Context, in *createSecretInput) (any, error) {
	if err := checkName(*in.Name); err != nil {
		return nil, err
	}
	if len(in.AddReplicaRegions) > 0 {
		return nil, invalidRequest("The local Secrets Manager has one Region and does not replicate.")
	}
	val, err := in.newValue.value()
	if err != nil {
		return nil, err
	}
	tags, err := mergeTags(nil, in.Tags)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.live(*in.Name); e != nil {
		return s.createAgain(e, in, val)
	}
	e := s.add(*in.Name)
	e.description, e.kmsKey, e.tags = deref(in.Description), deref(in.KmsKeyId), tags
	out := versionOutput{identity: e.identity()}
	if val.isZero() {
		return out, nil
	}
	out.VersionId = *in.ClientRequestToken
	// One label on a secret that had none is within every quota.
	_ = e.addVersion(s.newVersion(out.VersionId, val), []string{stageCurrent})
	return out, nil
}

// createAgain answers CreateSecret for a name that is taken: the same token
// with the same value is the same request once more (verified against AWS by
// moto's tests).
func (s *Service) createAgain(e *entry, in *createSecretInput, val value) (any, error) {
	if e.deletion != nil {
		return nil, invalidRequest("You can't create this secret because a secret with this name is already scheduled for deletion.")
	}
	v := e.version(deref(in.ClientRequestToken))
	if v == nil {
		return nil, resourceExists("The operation failed because the secret %s already exists.", e.name)
	}
	if !v.value.equal(val) {
		return nil, errTokenTaken(v.id, e.arn)
	}
	return versionOutput{identity: e.identity(), VersionId: v.id}, nil
}

func (s *Service) putSecretValue(_ context.Context, in *putSecretValueInput) (any, error) {
	val, err := in.newValue.value()
	if err != nil {
		return nil, err
	}
	if val.isZero() {
		return nil, invalidRequest("You must provide either SecretString or SecretBinary.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.findUsable(*in.SecretId)
	if err != nil {
		return nil, err
	}
	labels := in.VersionStages
	if labels == nil {
		labels = []string{stageCurrent}
	}
	id := *in.ClientRequestToken
	if err := s.writeVersion(e, id, val, labels); err != nil {
		return nil, err
	}
	return versionOutput{e.identity(), id, e.labels(id)}, nil
}

// writeVersion adds a version, or accepts silently that it is there with the
// same value already: the operations that write are idempotent.
func (s *Service) writeVersion(e *entry, id string, val value, labels []string) *apiError {
	if v := e.version(id); v != nil {
		if !v.value.equal(val) {
			return errTokenTaken(id, e.arn)
		}
		return nil
	}
	return e.addVersion(s.newVersion(id, val), labels)
}

func (s *Service) updateSecret(_ context.Context, in *updateSecretInput) (any, error) {
	val, err := in.newValue.value()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.findUsable(*in.SecretId)
	if err != nil {
		return nil, err
	}
	out := versionOutput{identity: e.identity()}
	if !val.isZero() {
		out.VersionId = *in.ClientRequestToken
		if err := s.writeVersion(e, out.VersionId, val, []string{stageCurrent}); err != nil {
			return nil, err
		}
	}
	if in.Description != nil {
		e.description = *in.Description
	}
	if in.KmsKeyId != nil {
		e.kmsKey = *in.KmsKeyId
	}
	e.changed = s.now()
	return out, nil
}

func (s *Service) updateSecretVersionStage(_ context.Context, in *updateSecretVersionStageInput) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.findUsable(*in.SecretId)
	if err != nil {
		return nil, err
	}
	if err := e.moveStage(*in.VersionStage, deref(in.RemoveFromVersionId), deref(in.MoveToVersionId)); err != nil {
		return nil, err
	}
	e.changed = s.now()
	return e.identity(), nil
}

func (s *Service) deleteSecret(_ context.Context, in *deleteSecretInput) (any, error) {
	window := int64(30)
	if in.RecoveryWindowInDays != nil {
		window = *in.RecoveryWindowInDays
		if in.ForceDeleteWithoutRecovery {
			return nil, invalidParameter("You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.")
		}
		if window < 7 || window > 30 {
			return nil, invalidParameter("The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.ForceDeleteWithoutRecovery {
		return s.deleteNow(*in.SecretId)
	}
	e, err := s.findUsable(*in.SecretId)
	if err != nil {
		return nil, err
	}
	e.changed = s.now()
	end := e.changed.Add(time.Duration(window) * 24 * time.Hour)
	e.deletion = &end
	return deletedOutput{e.identity(), epoch{end}}, nil
}

// deleteNow removes a secret for good. One that does not exist is answered as
// if it had, with an ARN made up (recorded).
func (s *Service) deleteNow(id string) (any, error) {
	out := deletedOutput{DeletionDate: epoch{s.now()}}
	e, err := s.find(id)
	switch {
	case err == nil:
		delete(s.secrets, e.name)
		out.identity = e.identity()
	case err.code != "ResourceNotFoundException":
		return nil, err
	case strings.HasPrefix(id, "arn:"):
		out.identity = identity{id, id[strings.LastIndexByte(id, ':')+1:]}
	default:
		out.identity = identity{s.arnPrefix + id + "-" + s.suffix(), id}
	}
	return out, nil
}

func (s *Service) restoreSecret(_ context.Context, in *restoreSecretInput) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(*in.SecretId)
	if err != nil {
		return nil, err
	}
	if e.deletion != nil {
		e.deletion, e.changed = nil, s.now()
	}
	return e.identity(), nil
}

func (s *Service) tagResource(_ context.Context, in *tagResourceInput) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.findUsable(*in.SecretId)
	if err != nil {
		return nil, err
	}
	tags, err := mergeTags(e.tags, in.Tags)
	if err != nil {
		return nil, err
	}
	e.tags, e.changed = tags, s.now()
	return nil, nil
}

func (s *Service) untagResource(_ context.Context, in *untagResourceInput) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.findUsable(*in.SecretId)
	if err != nil {
		return nil, err
	}
	e.untag(in.TagKeys)
	e.changed = s.now()
	return nil, nil
}

func (e *entry) untag(keys []string) {
	e.tags = slices.DeleteFunc(e.tags, func(t tag) bool { return slices.Contains(keys, *t.Key) })
}

// mergeTags returns old with the added ones, or set anew where the key
// is there. It leaves old as it is.
func mergeTags(old, added []tag) ([]tag, *apiError) {
	tags := slices.Clone(old)
	for _, t := range added {
		if t.Key == nil {
			return nil, invalidParameter("A tag needs a Key.")
		}
		if strings.HasPrefix(*t.Key, "aws:") {
			return nil, invalidParameter("Tag keys that start with aws: are reserved.")
		}
		if t.Value == nil {
			t.Value = new(string)
		}
		if i := slices.IndexFunc(tags, func(o tag) bool { return *o.Key == *t.Key }); i >= 0 {
			tags[i] = t
		} else {
			tags = append(tags, t)
		}
	}
	if len(tags) > maxTags {
		return nil, invalidParameter("A secret can have at most %d tags.", maxTags)
	}
	return tags, nil
}
