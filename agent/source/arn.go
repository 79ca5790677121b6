package source

import (
	"regexp"
	"strconv"
	"strings"
)

// maxIDLen is the longest SecretId the service takes (GetSecretValue, API
// reference).
const maxIDLen = 2048

// suffixLen is the length of the hyphen and the six random characters that
// Secrets Manager puts behind a name in an ARN.
const suffixLen = 7

// id is what a secret id tells about itself.
type id struct {
	// region and account are empty for a name.
	region, account string
	// name is the name, or the ARN's part after "secret:", in which a full
	// ARN's random suffix is still there.
	name string
}

// parseID takes a secret's name, full ARN or partial ARN apart.
func parseID(s string) id {
	// arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX
	f := strings.SplitN(s, ":", 7)
	if len(f) != 7 || f[0] != "arn" || f[2] != "secretsmanager" || f[5] != "secret" {
		return id{name: s}
	}
	return id{region: f[3], account: f[4], name: f[6]}
}

// withoutSuffix returns a full ARN as the partial ARN that means it, and a name
// with its suffix as the bare name.
func withoutSuffix(s string) string {
	if len(s) <= suffixLen || s[len(s)-suffixLen] != '-' {
		return s
	}
	return s[:len(s)-suffixLen]
}

var (
	// A Region becomes part of a host name, so nothing with a dot may pass.
	regionPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	// What a name and an ARN may be made of (CreateSecret, API reference).
	idPattern = regexp.MustCompile(`^[A-Za-z0-9/_+=.@:-]+$`)
)

func validRegion(s string) bool { return regionPattern.MatchString(s) }

func quote(s string) string { return strconv.Quote(s) }
