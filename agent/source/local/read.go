package local

import (
	"context"
	"errors"
)

func (s *Service) getSecretValue(_ context.Context, in *getSecretValueInput) (any, error) {
	out, err := s.read(*in.SecretId, deref(in.VersionId), deref(in.VersionStage))
	if err != nil {
		return nil, err
	}
	return out, nil
}

// read returns a version of a secret: the one of that id, the one with that
// label, the one that has both, or AWSCURRENT if both are empty.
func (s *Service) read(id, versionID, stage string) (*secretValueOutput, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.findUsable(id)
	if err != nil {
		return nil, err
	}
	v, err := e.pick(versionID, stage)
	if err != nil {
		return nil, err
	}
	e.accessed = day(s.now())
	v.accessed = e.accessed
	return e.secretValue(v), nil
}

func (e *entry) pick(versionID, stage string) (*version, *apiError) {
	if versionID == "" {
		if stage == "" {
			stage = stageCurrent
		}
		if v := e.version(e.stages[stage]); v != nil {
			return v, nil
		}
		return nil, notFound("Secrets Manager can't find the specified secret value for staging label: %s", stage)
	}
	v := e.version(versionID)
	if v == nil {
		return nil, notFound("Secrets Manager can't find the specified secret value for VersionId: %s", versionID)
	}
	if stage != "" && e.stages[stage] != versionID {
		return nil, invalidRequest("You provided a VersionStage that is not associated to the provided VersionId.")
	}
	return v, nil
}

// maxBatch is the largest number of secrets in one BatchGetSecretValue.
const maxBatch = 20

func (s *Service) batchGetSecretValue(ctx context.Context, in *batchGetSecretValueInput) (any, error) {
	out := batchOutput{SecretValues: []*secretValueOutput{}, Errors: []secretError{}}
	ids, err := in.SecretIdList, (*apiError)(nil)
	switch {
	case (in.SecretIdList == nil) == (len(in.Filters) == 0):
		return nil, invalidParameter("Either 'SecretIdList' or 'Filters' must be provided, but not both.")
	case in.Filters == nil && in.MaxResults != nil:
		return nil, invalidParameter("'Filters' not specified. 'Filters' must also be specified when 'MaxResults' is provided.")
	case in.Filters == nil && in.NextToken != nil:
		return nil, errNextToken()
	case in.Filters != nil:
		if ids, out.NextToken, err = s.filteredNames(in); err != nil {
			return nil, err
		}
	}
	for _, id := range ids {
		got, err := s.readOfBatch(ctx, id)
		var refused *apiError
		switch {
		case errors.As(err, &refused):
			out.Errors = append(out.Errors, secretError{id, refused.code, refused.message})
		case err != nil:
			return nil, err
		default:
			out.SecretValues = append(out.SecretValues, got)
		}
	}
	return out, nil
}

// readOfBatch reads one secret of a batch. Each has its own fault and its own
// moment: the service promises no common one either.
func (s *Service) readOfBatch(ctx context.Context, id string) (*secretValueOutput, error) {
	fault, aborted := s.faultFor(ctx, "BatchGetSecretValue", id)
	if aborted != nil {
		return nil, aborted
	}
	if fault != nil && fault.Code != "" {
		return nil, &apiError{code: fault.Code, message: fault.Message}
	}
	got, err := s.read(id, "", stageCurrent)
	if err != nil {
		return nil, err
	}
	return got, nil
}

func (s *Service) filteredNames(in *batchGetSecretValueInput) ([]string, string, *apiError) {
	if err := checkFilters(in.Filters); err != nil {
		return nil, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.matching(in.Filters, false)
	sortEntries(found, "", "")
	found, next, err := page(found, in.MaxResults, in.NextToken, maxBatch)
	if err != nil {
		return nil, "", err
	}
	names := make([]string, len(found))
	for i, e := range found {
		names[i] = e.name
	}
	return names, next, nil
}

func (s *Service) describeSecret(_ context.Context, in *describeSecretInput) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(*in.SecretId)
	if err != nil {
		return nil, err
	}
	return describeOutput{e.metadata(), e.versionsToStages()}, nil
}
