package agent

import (
	"fmt"
	"net/http"

	"secretsd/agent/secret"
)

// holdRole counts one more entry or read that needs what the source keeps for
// role. o.mu is held.
func (o *onDemand) holdRole(role string) {
	if role != "" {
		o.holders[role]++
	}
}

// leaveRole takes one away again. After the last the source lets the role go,
// unless configured secrets are read with it. o.mu is held.
func (o *onDemand) leaveRole(role string) {
	if role == "" {
		return
	}
	if o.holders[role]--; o.holders[role] == 0 {
		delete(o.holders, role)
		o.releaseUnused(role)
	}
}

func (o *onDemand) releaseUnused(role string) {
	if role != "" && o.holders[role] == 0 && !o.limits.ownRoles[role] {
		o.source().Release(role)
	}
}

// roomForRole reports whether role may be assumed: it is in use already, or
// fewer roles are than there may be. A role through which nothing could be read
// is none of them, for then any client could take all the places with names that
// do not exist. o.mu is held.
func (o *onDemand) roomForRole(role string) bool {
	if role == "" || o.limits.ownRoles[role] {
		return true
	}
	inUse := map[string]bool{}
	for ref, e := range o.known {
		if ref.RoleARN != "" && !o.limits.ownRoles[ref.RoleARN] && (e.version != nil || e.reading != nil) {
			inUse[ref.RoleARN] = true
		}
	}
	return inUse[role] || len(inUse) < o.limits.roles
}

// tooManyRoles is the answer of AWS's agent, word for word. Unlike there it
// passes when nobody asks any more for what was read with one of the others.
func (o *onDemand) tooManyRoles(ref secret.Ref) error {
	return &secret.Error{
		Kind: secret.Throttled, Op: "GetSecretValue", ID: ref.ID, Status: http.StatusBadRequest, Code: "MaxRolesExceeded",
		Message: fmt.Sprintf("The maximum number of assumed roles (%d) has been reached. "+
			"Unable to assume the following role to create a client: %s", o.limits.roles, ref.RoleARN),
	}
}
