package secret

import (
	"regexp"
	"strings"
)

// roleFormat is the format that AWS's own agent demands of roleArn.
var roleFormat = regexp.MustCompile(`^arn:([\w-]+):iam::(\d{12}):role/[\w+=,.@/-]+$`)

// ParseRole returns the partition and the account that a role's ARN names, and
// false for what is no such ARN.
func ParseRole(arn string) (partition, account string, ok bool) {
	m := roleFormat.FindStringSubmatch(arn)
	if m == nil {
		return "", "", false
	}
	return m[1], m[2], true
}

// IsRole reports whether s is the ARN of a role.
func IsRole(s string) bool { return roleFormat.MatchString(s) }

// CanBeRole reports whether a glob, in which * stands for any characters and ?
// for one, may match the ARN of a role. Without wildcards it must be one; of
// others it looks at how they begin and what they are made of.
func CanBeRole(pattern string) bool {
	fixed, _, isGlob := strings.Cut(strings.ReplaceAll(pattern, "?", "*"), "*")
	if !isGlob {
		return IsRole(pattern)
	}
	const start = "arn:"
	return (strings.HasPrefix(fixed, start) || strings.HasPrefix(start, fixed)) && !strings.ContainsAny(pattern, " \t\r\n\"")
}
