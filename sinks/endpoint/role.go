package endpoint

import (
	"errors"
	"net/http"

	"secretsd/agent/secret"
)

// Roles are globs of role ARNs, in which * stands for any characters, / among
// them, and ? for one. No others may be assumed for a request with roleArn.
type Roles []string

// Allow reports whether the role with that ARN may be assumed.
func (r Roles) Allow(arn string) bool {
	for _, pattern := range r {
		if glob(pattern, arn) {
			return true
		}
	}
	return false
}

// Check returns an error for a pattern that can never match.
func (r Roles) Check() error {
	for _, pattern := range r {
		if !secret.CanBeRole(pattern) {
			return withHint("write the ARN of a role or a glob of it, such as arn:aws:iam::123456789012:role/app/*",
				"assume role %q: no role has such an ARN", pattern)
		}
	}
	return nil
}

// MayAssume reports whether the client may have that role assumed; without one
// there is nothing to assume. For the top-level token the Reader alone decides.
func (r *Rights) MayAssume(role string) bool {
	return role == "" || r == nil || r.Roles.Allow(role)
}

// failedRead returns what a request is answered whose read failed; role is the
// one it asked for, or empty.
//
// A role that STS refuses is the peer's 403. Where STS could not be asked the
// peer says the same, and leaves its clients to take an outage for a refusal:
// they would give up where trying again helps. Such a request is answered like
// one for which Secrets Manager could not be reached.
func failedRead(role string, err error) response {
	var e *secret.Error
	if role == "" || !errors.As(err, &e) || e.Op != "AssumeRole" {
		return errorResponse(err)
	}
	switch {
	case e.Kind == secret.Denied || e.Kind == secret.Invalid || e.Kind == secret.NotFound:
		return jsonError(http.StatusForbidden, "AccessDeniedException", "Failed to create caching client from role: "+role)
	case e.Code != "":
		return serviceError(e)
	case isTimeout(err):
		return respTimeout
	default:
		return respUnreachable
	}
}
