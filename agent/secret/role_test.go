package secret_test

import (
	"testing"

	"secretsd/agent/secret"
)

func TestRoles(t *testing.T) {
	for arn, want := range map[string][2]string{
		"arn:aws:iam::123456789012:role/app":                {"aws", "123456789012"},
		"arn:aws-cn:iam::123456789012:role/a/b+c=d,e.f@g-h": {"aws-cn", "123456789012"},
		"arn:aws:iam::123456789012:role/":                   {},
		"arn:aws:iam::12345:role/app":                       {},
		"arn:aws:iam:us-east-1:123456789012:role/app":       {},
		"arn:aws:iam::123456789012:user/app":                {},
		"arn:aws:iam::123456789012:role/a\n":                {},
		"arn:aws:iam::123456789012:role/a*":                 {},
		"x arn:aws:iam::123456789012:role/a":                {},
		"":                                                  {},
	} {
		partition, account, ok := secret.ParseRole(arn)
		if got := [2]string{partition, account}; got != want || ok != (want[0] != "") || ok != secret.IsRole(arn) {
			t.Errorf("%q: %q %v", arn, got, ok)
		}
	}
}

func TestPatternsOfRoles(t *testing.T) {
	for pattern, want := range map[string]bool{
		"*": true, "?*": true, "arn:*": true, "a*": true, "*:role/app": true,
		"arn:aws:iam::123456789012:role/app":   true,
		"arn:aws:iam::123456789012:role/app/*": true,
		"arn:aws:iam::????????????:role/app":   true,
		"":                                     false,
		"app":                                  false,
		"app/*":                                false,
		"role/app*":                            false,
		"arn:aws:iam::123456789012:user/app":   false,
		"arn:aws:iam::123456789012:role/a b*":  false,
	} {
		if got := secret.CanBeRole(pattern); got != want {
			t.Errorf("%q: %v", pattern, got)
		}
	}
}
