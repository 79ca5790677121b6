package local

import (
	"context"
	"strings"
)

// The character classes of GetRandomPassword, and the space beside them.
const (
	lowercase   = "abcdefghijklmnopqrstuvwxyz"
	uppercase   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	numbers     = "0123456789"
	punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
)

func (s *Service) getRandomPassword(_ context.Context, in *getRandomPasswordInput) (any, error) {
	length := 32
	if in.PasswordLength != nil {
		length = int(*in.PasswordLength)
	}
	classes := in.classes()
	alphabet := strings.Join(classes, "")
	if in.IncludeSpace && !strings.Contains(deref(in.ExcludeCharacters), " ") {
		alphabet += " "
	}
	if alphabet == "" {
		return nil, invalidParameter("No characters are left for the password.")
	}
	required := classes
	if in.RequireEachIncludedType != nil && !*in.RequireEachIncludedType {
		required = nil
	}
	if length < len(required) {
		return nil, invalidParameter("Password length is too short based on the required types.")
	}
	return struct{ RandomPassword string }{s.password(length, alphabet, required)}, nil
}

// classes returns the classes that are not excluded, without the excluded
// characters and without those that have nothing left.
func (in *getRandomPasswordInput) classes() []string {
	var classes []string
	for _, class := range []struct {
		excluded bool
		chars    string
	}{
		{in.ExcludeLowercase, lowercase},
		{in.ExcludeUppercase, uppercase},
		{in.ExcludeNumbers, numbers},
		{in.ExcludePunctuation, punctuation},
	} {
		left := strings.Map(func(c rune) rune {
			if class.excluded || strings.ContainsRune(deref(in.ExcludeCharacters), c) {
				return -1
			}
			return c
		}, class.chars)
		if left != "" {
			classes = append(classes, left)
		}
	}
	return classes
}

// password draws one character of each required class, the rest from the
// alphabet, and shuffles them (Fisher and Yates).
func (s *Service) password(length int, alphabet string, required []string) string {
	b := make([]byte, length)
	for i := range b {
		from := alphabet
		if i < len(required) {
			from = required[i]
		}
		b[i] = from[s.pick(len(from))]
	}
	for i := len(b) - 1; i > 0; i-- {
		j := s.pick(i + 1)
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}
