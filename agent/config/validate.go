package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"secretsd/agent/secret"
)

// validator gathers all faults that can be seen in the file alone.
type validator struct {
	c    *Config
	errs []error
}

func (c *Config) validate() []error {
	v := &validator{c: c}
	v.source()
	v.refresh()
	v.secrets()
	v.targets()
	v.outputs()
	v.exec()
	v.endpoint()
	v.rest()
	v.listeners()
	return v.errs
}

// fault notes an error at the place of field, or of the nearest of parents.
func (v *validator) fault(field any, parents []any, hint, format string, args ...any) {
	v.errs = append(v.errs, v.c.Errorf(append([]any{field}, parents...), hint, format, args...))
}

func (v *validator) source() {
	s := &v.c.Source
	if s.AWS != nil && s.Local != nil {
		v.fault(&s.Local, nil, "", "source: give aws or local, not both")
	}
	if a := s.AWS; a != nil {
		if a.RoleARN != "" {
			v.role(&a.RoleARN, "source.aws.role_arn")
		}
		if a.ExternalID != "" && a.RoleARN == "" && !v.c.rolesInUse() {
			v.fault(&a.ExternalID, nil, "", "source.aws.external_id: there is no role_arn it could be sent with")
		}
	}
	if l := s.Local; l != nil && l.Listen != "" {
		v.loopback(&l.Listen, nil, "source.local.listen")
	}
}

func (v *validator) refresh() {
	r := &v.c.Refresh
	v.atLeast(&r.Interval, MinInterval, nil, "refresh.interval")
	v.atLeast(&r.MaxStale, time.Second, nil, "refresh.max_stale")
	v.atLeast(&v.c.HealInterval, MinInterval, nil, "heal_interval")
}

var (
	secretARN  = regexp.MustCompile(`^arn:aws[a-z-]*:secretsmanager:([a-z0-9-]+):\d{12}:secret:(.*)$`)
	regionName = regexp.MustCompile(`^[a-z0-9-]+$`)
)

// isName reports whether s may name a secret. The characters are those that
// CreateSecret's reference lists, and the ! in the names of secrets that AWS
// services manage (rds!db-…). It is no regular expression because a bounded
// repetition of 512 costs every start a millisecond and most of a megabyte.
func isName(s string, most int) bool {
	return s != "" && len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !letter && !strings.ContainsRune("/_+=.@!-", r)
	})
}

// regionOfARN returns the Region that a secret's ARN names, and false for what
// is no such ARN.
func regionOfARN(id string) (string, bool) {
	m := secretARN.FindStringSubmatch(id)
	if m == nil || !isName(m[2], maxName+len("-AbCdEf")) {
		return "", false
	}
	return m[1], true
}

// IsSecretID reports whether id can be that of a secret: a name, or an ARN with
// or without its random suffix.
func IsSecretID(id string) bool {
	_, isARN := regionOfARN(id)
	return isARN || isName(id, maxName)
}

// maxName is the most characters a secret's name has (CreateSecret, API
// reference).
const maxName = 512

func (v *validator) secrets() {
	if e := v.c.Endpoint; len(v.c.Secrets) == 0 && (e == nil || e.OnDemand == nil) {
		v.fault(&v.c.Secrets, nil, "name at least one, for example: secrets: [{name: db, id: prod/db}]", "secrets: none is configured")
	}
	names := map[string]int{}
	for i := range v.c.Secrets {
		s, key := &v.c.Secrets[i], fmt.Sprintf("secrets[%d]", i)
		up := []any{s}
		region, isARN := regionOfARN(s.ID)
		switch {
		case s.ID == "":
			v.fault(&s.ID, up, "", "%s.id: missing", key)
		case !isARN && !isName(s.ID, maxName):
			v.fault(&s.ID, up, "a secret id is a name of letters, digits and /_+=.@!-, or an ARN", "%s.id: %q is no secret id", key, s.ID)
		case isARN && s.Region != "" && s.Region != region:
			v.fault(&s.Region, up, "leave region out: the ARN says it", "%s.region: %s contradicts the Region of the ARN, %s", key, s.Region, region)
		}
		if first, taken := names[s.Name]; taken && s.Name != "" {
			v.fault(&s.Name, up, "give one of them another name", "%s.name: %q is already the name of secrets[%d]", key, s.Name, first)
		} else {
			names[s.Name] = i
		}
		v.secretVersion(s, key)
		v.atLeast(&s.Interval, MinInterval, up, key+".interval")
		if s.Region != "" && !regionName.MatchString(s.Region) {
			v.fault(&s.Region, up, "", "%s.region: %q is no Region", key, s.Region)
		}
		if s.RoleARN != "" {
			v.role(&s.RoleARN, key+".role_arn")
		}
		v.expect(s.Expect, key+".expect", up)
	}
}

func (v *validator) expect(e *Expect, key string, up []any) {
	if e == nil {
		return
	}
	up = append([]any{e}, up...)
	for i, k := range e.Keys {
		if k == "" {
			v.fault(&e.Keys[i], up, "", "%s.keys: no key is called that", key)
		}
	}
	if p := e.PEMPair; p != nil && !p.Whole && (p.Certificate == "" || p.Key == "") {
		v.fault(p, up, "write pem_pair: true for a secret that holds both, or pem_pair: {certificate: KEY, key: KEY} for JSON",
			"%s.pem_pair: want the keys of a certificate and of its private key", key)
	}
	if e.MinBytes < 0 || e.MinBytes > maxValue {
		v.fault(&e.MinBytes, up, "", "%s.min_bytes: a secret has 1 to %d bytes", key, maxValue)
	}
}

// maxValue is the most bytes a secret has (CreateSecret, API reference:
// SecretString).
const maxValue = 65536

func (v *validator) secretVersion(s *Secret, key string) {
	if s.Pending {
		v.pendingSecret(s, key)
	}
	if s.VersionID == "" {
		if len(s.Stage) > 256 { // GetSecretValue, API reference: VersionStage
			v.fault(&s.Stage, []any{s}, "", "%s.stage: longer than 256 characters", key)
		}
		return
	}
	if s.Stage != "" {
		v.fault(&s.Stage, []any{s}, "", "%s: give stage or version_id, not both", key)
	}
	if n := len(s.VersionID); n < 32 || n > 64 { // GetSecretValue, API reference: VersionId
		v.fault(&s.VersionID, []any{s}, "", "%s.version_id: a version id has 32 to 64 characters, this one %d", key, n)
	}
}

// pendingSecret refuses pending where the pending version could not stand for
// AWSCURRENT.
func (v *validator) pendingSecret(s *Secret, key string) {
	if s.VersionID != "" || s.Stage != "" && s.Stage != "AWSCURRENT" {
		v.fault(&s.Pending, []any{s}, "leave out stage and version_id", "%s.pending: it is for a secret that follows AWSCURRENT", key)
	}
	for i := range v.c.Secrets {
		o := &v.c.Secrets[i]
		if o.ID != s.ID || o.RoleARN != s.RoleARN || o.Region != s.Region {
			continue
		}
		switch {
		case o.Stage == "AWSPREVIOUS":
			v.fault(&s.Pending, []any{s}, "leave it out: a rotation of two users, which AWSPREVIOUS is for, does not need it",
				"%s.pending: secrets[%d] shows AWSPREVIOUS of the same secret, and the pending version is not one step from that", key, i)
		case !o.Pending && o.VersionID == "" && (o.Stage == "" || o.Stage == "AWSCURRENT"):
			v.fault(&s.Pending, []any{s}, "give both pending: true, or use one of the two names",
				"%s.pending: secrets[%d] is the same secret without it, and the two would differ in a rotation", key, i)
		}
	}
}

func (v *validator) rest() {
	if t := v.c.Telemetry; t != nil {
		v.hostPort(&t.Listen, []any{&v.c.Telemetry}, "telemetry.listen")
	}
	if a := v.c.Audit; a != nil && a.Path != "-" {
		v.absolute(&a.Path, []any{&v.c.Audit}, "audit.path")
	}
	v.absolute(&v.c.StateDir, nil, "state_dir")
	if v.c.OnExit != "keep" && v.c.OnExit != "remove" {
		v.fault(&v.c.OnExit, nil, "", "on_exit: want keep or remove, not %q", v.c.OnExit)
	}
	l := &v.c.Log
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, l.Level) {
		v.fault(&l.Level, []any{&v.c.Log}, "", "log.level: want debug, info, warn or error, not %q", l.Level)
	}
	if l.Format != "text" && l.Format != "json" {
		v.fault(&l.Format, []any{&v.c.Log}, "", "log.format: want text or json, not %q", l.Format)
	}
}

func (v *validator) atLeast(d *Duration, least time.Duration, up []any, key string) {
	if d.Std() < least && v.c.lines[d] != 0 {
		v.fault(d, up, "", "%s: %s is less than %s", key, d.Std(), least)
	}
}

func (v *validator) absolute(path *string, up []any, key string) {
	switch {
	case *path == "":
		v.fault(path, up, "", "%s: missing", key)
	case !filepath.IsAbs(*path):
		v.fault(path, up, "", "%s: %q is not an absolute path", key, *path)
	case filepath.Clean(*path) != *path:
		v.fault(path, up, "write "+filepath.Clean(*path), "%s: %q is not a plain path", key, *path)
	}
}

func (v *validator) role(arn *string, key string) {
	if !secret.IsRole(*arn) {
		v.fault(arn, nil, "want arn:<partition>:iam::<account>:role/<name>", "%s: %q is no role ARN", key, *arn)
	}
}

func (v *validator) hostPort(addr *string, up []any, key string) (host string, ok bool) {
	host, port, err := net.SplitHostPort(*addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		v.fault(addr, up, "write host:port, such as 127.0.0.1:2773", "%s: %q is no address", key, *addr)
		return "", false
	}
	return host, true
}

func (v *validator) loopback(addr *string, up []any, key string) {
	host, ok := v.hostPort(addr, up, key)
	if !ok || host == "localhost" {
		return
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		v.fault(addr, up, "listen on 127.0.0.1 or [::1]: whoever reaches the port can ask for secrets", "%s: %s is not a loopback address", key, *addr)
	}
}
