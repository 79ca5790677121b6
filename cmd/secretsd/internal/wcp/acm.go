package wcp

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// certificate is one of AWS Certificate Manager that AWS's agent writes to
// files. secretsd does not, so that it is read to be named and no more.
type certificate struct{ arn, cert, key, chain string }

var (
	acmKeys         = []string{"enabled", "certificates", "default_certificate_permission", "default_key_permission"}
	certificateKeys = []string{
		"certificate_arn", "certificate_path", "private_key_path", "chain_path", "role_arn", "refresh_command",
		"certificate_and_chain_permission", "key_permission",
	}
	certificateFiles = []string{"certificate_path", "private_key_path", "chain_path"}
)

const (
	maxCertificates = 50
	// word is what \w is to the peer's regular expressions, and digit what \d is.
	word  = `\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}`
	digit = `\p{Nd}`
)

var (
	certificateARN = lazy(`^arn:[` + word + `-]+:acm:[^:]+:` + digit + `{12}:certificate/[` + word + `+=,.@/-]+$`)
	iamRoleARN     = lazy(`^arn:[` + word + `-]+:iam::` + digit + `{12}:role/[` + word + `+=,.@/-]+$`)
	refreshCommand = lazy(`^/[a-zA-Z0-9/_\-. =+@]+$`)
)

// lazy returns a pattern that is compiled when it is first used: every start of
// the program would pay for it, and nearly none converts anything.
func lazy(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}

// readCertificates finds the faults that AWS's agent finds, but for those of
// the machine: whether the directories exist is not looked at, because a
// configuration may be converted elsewhere.
func readCertificates(t *table) []certificate {
	t.boolean("enabled", false)
	readPermission(t, "default_certificate_permission")
	readPermission(t, "default_key_permission")
	list := t.subs("certificates", certificateKeys...)
	if len(list) > maxCertificates {
		t.doc.faultAt(t.at("certificates"), "", "want at most %d, not %d", maxCertificates, len(list))
	}
	var certificates []certificate
	arns, paths := map[string]bool{}, map[string]string{}
	for _, t := range list {
		c := readCertificate(t)
		if arns[c.arn] && c.arn != "" {
			t.doc.faultAt(t.at("certificate_arn"), "", "%s is given twice", c.arn)
			continue
		}
		arns[c.arn] = true
		uniquePaths(t, paths)
		certificates = append(certificates, c)
	}
	return certificates
}

func readCertificate(t *table) certificate {
	c := certificate{
		arn: t.required("certificate_arn"), cert: t.required("certificate_path"), key: t.required("private_key_path"),
		chain: t.text("chain_path", ""),
	}
	t.required("role_arn")
	match(t, "certificate_arn", certificateARN, "arn:PARTITION:acm:REGION:ACCOUNT:certificate/ID")
	match(t, "role_arn", iamRoleARN, "arn:PARTITION:iam::ACCOUNT:role/NAME")
	for _, key := range certificateFiles {
		checkPath(t, key)
	}
	command := t.text("refresh_command", "")
	if _, isText := t.keys["refresh_command"].(string); isText && !refreshCommand().MatchString(strings.TrimSpace(command)) {
		t.doc.faultAt(t.at("refresh_command"), "want an absolute path and arguments of letters, digits, spaces and /_-.=+@", "%q is no command", command)
	}
	readPermission(t, "certificate_and_chain_permission")
	readPermission(t, "key_permission")
	return c
}

func match(t *table, key string, want func() *regexp.Regexp, form string) {
	if s, ok := t.keys[key].(string); ok && !want().MatchString(s) {
		t.doc.faultAt(t.at(key), "want "+form, "%q is no such ARN", s)
	}
}

// checkPath holds that a path is absolute and leads to its directory directly.
// Symbolic links are not seen here.
func checkPath(t *table, key string) {
	s, ok := t.keys[key].(string)
	if !ok {
		return
	}
	parts := components(s)
	switch {
	case !strings.HasPrefix(s, "/") || len(parts) == 0:
		t.doc.faultAt(t.at(key), "", "%q is not an absolute path of a file", s)
	case slices.Contains(parts[:len(parts)-1], ".."):
		t.doc.faultAt(t.at(key), "write "+path.Clean(s), "%q is not a plain path", s)
	}
}

// components returns the parts of a path. Repeated slashes and . between them
// are nothing.
func components(p string) []string {
	return slices.DeleteFunc(strings.Split(p, "/"), func(part string) bool { return part == "" || part == "." })
}

// uniquePaths holds that no two files have one path.
func uniquePaths(t *table, taken map[string]string) {
	for _, key := range certificateFiles {
		s, ok := t.keys[key].(string)
		if !ok {
			continue
		}
		plain := strings.Join(components(s), "/")
		if other := taken[plain]; other != "" {
			t.doc.faultAt(t.at(key), "", "%q is already %s", s, other)
			continue
		}
		taken[plain] = t.at(key)
	}
}

func readPermission(t *table, key string) {
	if !t.has(key) {
		return
	}
	p := t.sub(key, "mode")
	mode := p.required("mode")
	bits, err := strconv.ParseUint(strings.TrimPrefix(mode, "+"), 8, 32)
	if _, isText := p.keys["mode"].(string); isText && (err != nil || bits > 0o777) {
		t.doc.faultAt(p.at("mode"), "", "want an octal mode up to 777, not %q", mode)
	}
}
