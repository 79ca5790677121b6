package agent

import (
	"context"
	"strings"
	"time"

	"secretsd/agent/config"
	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

// readAs returns those of the configured secrets names that a request with that
// role means: the ones read with it. Without a role these are the ones that have
// none of their own, or all where every one has.
func (r *resolver) readAs(role string, names []string) []string {
	var same []string
	for _, name := range names {
		if r.secrets[name].ref.RoleARN == role {
			same = append(same, name)
		}
	}
	if same == nil && role == "" {
		return names
	}
	return same
}

// readOnDemand answers for a secret that is not configured, if the configuration
// and the client's rights both allow its role, its id and the ARN that comes
// back.
func (a *Agent) readOnDemand(ctx context.Context, r *resolver, q endpoint.Query) (endpoint.Answer, error) {
	conf := r.onDemand
	if conf == nil || len(q.ID) > maxSecretID || !mayAssume(conf, q.Role) || !q.Rights.MayAssume(q.Role) {
		return endpoint.Answer{}, endpoint.ErrForbidden
	}
	allowed, asked := endpoint.Patterns(conf.Secrets), r.inAccountOf(q.Role, q.ID)
	if !allowed.MayAskAs(q.ID, asked) || !q.Rights.MayAskAs(q.ID, asked) {
		return endpoint.Answer{}, endpoint.ErrForbidden
	}
	want := secret.Ref{ID: q.ID, Stage: q.Stage, VersionID: q.VersionID, RoleARN: q.Role}
	if want.Stage == "" && want.VersionID == "" {
		want.Stage = secret.StageCurrent
	}
	ans, err := a.onDemand.read(ctx, want, conf.Interval.Std(), q.Refresh && a.limits.allow(want))
	if err != nil {
		return endpoint.Answer{}, err
	}
	if arn := ans.Version.ARN; !allowed.MayRead(q.ID, arn) || !q.Rights.MayRead(q.ID, arn) {
		return endpoint.Answer{}, endpoint.ErrForbidden
	}
	return ans, nil
}

func mayAssume(conf *config.OnDemand, role string) bool {
	return role == "" || endpoint.Roles(conf.Roles).Allow(role)
}

// inAccountOf returns the ARN, without the six characters at its end, of the
// secret that a name means to a role: one of the role's own account, which is
// known before anybody is asked. It is empty for an ARN, which says so itself,
// and without a role.
func (r *resolver) inAccountOf(role, id string) string {
	partition, account, ok := secret.ParseRole(role)
	if !ok || r.region == "" || strings.HasPrefix(id, "arn:") {
		return ""
	}
	return strings.Join([]string{"arn", partition, "secretsmanager", r.region, account, "secret", id}, ":")
}

// configureOnDemand lets go what b does not allow to be read any more, and all
// if the source is another one.
func (a *Agent) configureOnDemand(b *build, sameSource bool) {
	limits := demandLimits{entries: defaultMaxEntries, stale: b.cfg.Refresh.MaxStale.Std(), ownRoles: map[string]bool{}}
	var conf *config.OnDemand
	if e := b.cfg.Endpoint; e != nil && e.OnDemand != nil {
		conf, limits.entries, limits.roles = e.OnDemand, e.OnDemand.MaxEntries, e.OnDemand.MaxRoles
	}
	if aws := b.cfg.Source.AWS; aws != nil {
		limits.ownRoles[aws.RoleARN] = true
	}
	for _, s := range b.secrets {
		limits.ownRoles[s.ref.RoleARN] = true
	}
	a.onDemand.configure(limits, func(ref secret.Ref, v *secret.Version) (time.Duration, bool) {
		if !sameSource {
			return 0, false
		}
		for _, s := range b.secrets {
			if s.ref.ID == ref.ID && s.ref.Region == ref.Region && s.ref.RoleARN == ref.RoleARN {
				return s.interval, true
			}
		}
		if conf == nil || v == nil || ref.Region != "" || !mayAssume(conf, ref.RoleARN) {
			return 0, false
		}
		return conf.Interval.Std(), endpoint.Patterns(conf.Secrets).MayRead(ref.ID, v.ARN)
	})
}
