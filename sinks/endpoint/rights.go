package endpoint

import (
	"net/http"
	"strings"

	"secretsd/agent/secret"
)

// ErrForbidden is what a [Reader] answers for a secret that does not exist for
// this client: not configured, not allowed on demand, or not among the client's
// own. There is one text for all of them, so that it tells nobody which secrets
// there are.
var ErrForbidden error = &secret.Error{
	Kind: secret.Denied, Op: "GetSecretValue", Status: http.StatusBadRequest,
	Code: "AccessDeniedException", Message: "This secret is not among those that this client may read.",
}

// Rights are what one client may read. Nil stands for all that the agent
// serves. They are immutable.
type Rights struct {
	// Secrets are the secrets it may read.
	Secrets Patterns
	// Roles are the roles that it may have assumed to read them.
	Roles Roles
}

// Configured reports whether a configured secret may be read that goes by
// these names and ids; what the service calls it is among them once it has been
// read.
func (r *Rights) Configured(name string, ids ...string) bool {
	return r == nil || r.Secrets.name(name) || r.Secrets.name(ids...)
}

// MayAsk is [Patterns.MayAsk].
func (r *Rights) MayAsk(id string) bool { return r == nil || r.Secrets.MayAsk(id) }

// MayAskAs is [Patterns.MayAskAs].
func (r *Rights) MayAskAs(id, arn string) bool { return r == nil || r.Secrets.MayAskAs(id, arn) }

// MayRead is [Patterns.MayRead].
func (r *Rights) MayRead(id, arn string) bool { return r == nil || r.Secrets.MayRead(id, arn) }

// Patterns name secrets, each by a name, an id or a glob, in which * stands for
// any characters, / among them, and ? for one, as in IAM. One that begins with
// arn: is compared with ARNs, with or without the six random characters at their
// end; any other with names, and never with an ARN, which could be that of
// another account. A * by itself is everything.
type Patterns []string

const everything = "*"

// sampleSuffix stands for the six random characters that the service puts
// behind a name in an ARN (CreateSecret, API reference).
const sampleSuffix = "-AbCdEf"

// Check returns an error for a pattern that can never match.
func (p Patterns) Check() error {
	for _, pattern := range p {
		if pattern == "" || strings.ContainsAny(pattern, " \t\r\n") {
			return withHint("write a name, an ARN or a glob such as prod/*", "allow secret %q: no secret can be called that", pattern)
		}
	}
	return nil
}

// name reports whether any of keys, names or ARNs, is named by a pattern.
func (p Patterns) name(keys ...string) bool {
	for _, pattern := range p {
		for _, key := range keys {
			if key != "" && (pattern == everything || isARN(pattern) == isARN(key) && glob(pattern, key)) {
				return true
			}
		}
	}
	return false
}

// MayAsk reports whether the secret with that id, a name or an ARN, may be asked
// of the service. It decides by what is known before the answer: [Patterns.MayRead]
// must confirm it. For a name compared with ARNs that is Region and account, for
// an ARN whether its end is random.
func (p Patterns) MayAsk(id string) bool {
	if id == "" {
		return false
	}
	if isARN(id) {
		return p.name(id, trimSuffix(id), id+sampleSuffix)
	}
	for _, pattern := range p {
		if pattern == everything {
			return true
		}
		if isARN(pattern) {
			pattern = arnName(pattern)
			if glob(pattern, id+sampleSuffix) || glob(trimSuffix(pattern), id) {
				return true
			}
		}
		if glob(pattern, id) {
			return true
		}
	}
	return false
}

// MayAskAs is MayAsk for a name whose account and Region are known before the
// answer, because a role leads there; arn is then the secret's ARN without the
// six characters at its end. With an empty arn it is MayAsk. What names a secret
// by its name allows that name in the account of any role that is allowed.
func (p Patterns) MayAskAs(id, arn string) bool {
	if arn == "" {
		return p.MayAsk(id)
	}
	return p.name(id) || p.MayAsk(arn)
}

// MayRead reports whether the service's answer for id, which came with that
// ARN, may be given. Names are those of the account that was asked, so that
// they decide only where id was a name.
func (p Patterns) MayRead(id, arn string) bool {
	if p.name(arn, trimSuffix(arn)) {
		return true
	}
	return !isARN(id) && isARN(arn) && p.name(arnName(trimSuffix(arn)))
}

func isARN(s string) bool { return strings.HasPrefix(s, "arn:") }

// arnName returns the part of an ARN, or of a glob for ARNs, that holds the
// secret's name.
func arnName(arn string) string {
	if _, name, ok := strings.Cut(arn, ":secret:"); ok {
		return name
	}
	return everything
}

// trimSuffix returns an ARN, or what stands for one, without the hyphen and the
// six characters at its end, or s itself where it does not end so.
func trimSuffix(s string) string {
	if i := len(s) - len(sampleSuffix); i > 0 && s[i] == '-' {
		return s[:i]
	}
	return s
}

// glob reports whether s matches pattern, in time proportional to the product
// of their lengths at worst.
func glob(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
