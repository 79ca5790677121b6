package local

import (
	"cmp"
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
)

// maxPage is the largest page of the list operations, and their default.
const maxPage = 100

func (s *Service) listSecrets(_ context.Context, in *listSecretsInput) (any, error) {
	if err := checkFilters(in.Filters); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.matching(in.Filters, in.IncludePlannedDeletion)
	sortEntries(found, deref(in.SortBy), deref(in.SortOrder))
	found, next, err := page(found, in.MaxResults, in.NextToken, maxPage)
	if err != nil {
		return nil, err
	}
	out := listOutput{SecretList: []listEntry{}, NextToken: next}
	for _, e := range found {
		out.SecretList = append(out.SecretList, listEntry{e.metadata(), e.versionsToStages()})
	}
	return out, nil
}

func (s *Service) listSecretVersionIDs(_ context.Context, in *listSecretVersionIDsInput) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(*in.SecretId)
	if err != nil {
		return nil, err
	}
	key := cmp.Or(e.kmsKey, "DefaultEncryptionKey")
	all := []listedVersion{}
	for _, v := range e.versions {
		labels := e.labels(v.id)
		if labels == nil && !in.IncludeDeprecated {
			continue
		}
		all = append(all, listedVersion{v.id, labels, epoch{v.created}, epoch{v.accessed}, []string{key}})
	}
	out := versionsOutput{identity: e.identity()}
	if out.Versions, out.NextToken, err = page(all, in.MaxResults, in.NextToken, maxPage); err != nil {
		return nil, err
	}
	return out, nil
}

// matching returns the secrets that all filters let through, in no order.
func (s *Service) matching(filters []filter, planned bool) []*entry {
	var found []*entry
	for name := range s.secrets {
		e := s.live(name)
		if e == nil || e.deletion != nil && !planned {
			continue
		}
		if !slices.ContainsFunc(filters, func(f filter) bool { return !e.matches(f) }) {
			found = append(found, e)
		}
	}
	return found
}

// sortEntries sorts by creation, ascending, unless told otherwise.
func sortEntries(found []*entry, by, order string) {
	compare := func(a, b *entry) int { return 0 }
	switch by {
	case "name":
		compare = func(a, b *entry) int { return strings.Compare(a.name, b.name) }
	case "last-changed-date":
		compare = func(a, b *entry) int { return a.changed.Compare(b.changed) }
	case "last-accessed-date":
		compare = func(a, b *entry) int { return a.accessed.Compare(b.accessed) }
	}
	slices.SortFunc(found, func(a, b *entry) int { return cmp.Or(compare(a, b), cmp.Compare(a.seq, b.seq)) })
	if order == "desc" {
		slices.Reverse(found)
	}
}

// page cuts a page out of a list and returns the token of the next one, or "".
// A token holds the place of its page in the list: what is created or deleted
// in between may be missed or seen twice, as on the service.
func page[T any](all []T, limit *int64, token *string, most int) ([]T, string, *apiError) {
	start := 0
	if token != nil {
		raw, err := base64.RawURLEncoding.DecodeString(*token)
		digits, ok := strings.CutPrefix(string(raw), "page:")
		n, bad := strconv.Atoi(digits)
		if err != nil || !ok || bad != nil || n < 0 {
			return nil, "", errNextToken()
		}
		start = min(n, len(all))
	}
	if limit != nil {
		most = int(*limit)
	}
	end := min(start+most, len(all))
	if end == len(all) {
		return all[start:], "", nil
	}
	return all[start:end], base64.RawURLEncoding.EncodeToString([]byte("page:" + strconv.Itoa(end))), nil
}

// checkFilters refuses what the API model lets through and the service does not.
func checkFilters(filters []filter) *apiError {
	for _, f := range filters {
		if f.Key == nil {
			return invalidParameter("Invalid filter key")
		}
		if f.Values == nil {
			return invalidParameter("Invalid filter values for key: %s", *f.Key)
		}
	}
	return nil
}

// matches reports whether any value of the filter matches. A value that begins
// with an exclamation mark matches what the rest of it does not.
func (e *entry) matches(f filter) bool {
	return slices.ContainsFunc(f.Values, func(v string) bool {
		wanted, negated := strings.CutPrefix(v, "!")
		return e.matchesValue(*f.Key, wanted) != negated
	})
}

// matchesValue holds the rule of each key (API reference, Filter). Descriptions
// are matched by words and not by prefix: recorded, against the reference.
// Nothing here has a primary Region or an owning service: only replicas and
// what they replicate have the one, only secrets made by services the other.
func (e *entry) matchesValue(key, wanted string) bool {
	switch key {
	case "name":
		return strings.HasPrefix(e.name, wanted)
	case "description":
		return hasWords([]string{e.description}, wanted)
	case "tag-key":
		return slices.ContainsFunc(e.tags, func(t tag) bool { return strings.HasPrefix(*t.Key, wanted) })
	case "tag-value":
		return slices.ContainsFunc(e.tags, func(t tag) bool { return strings.HasPrefix(*t.Value, wanted) })
	case "all":
		attributes := []string{e.name, e.description}
		for _, t := range e.tags {
			attributes = append(attributes, *t.Key, *t.Value)
		}
		return hasWords(attributes, wanted)
	default:
		return false
	}
}

// hasWords reports whether every word of wanted begins some word of the
// attributes, in upper or lower case; no word at all matches nothing.
func hasWords(attributes []string, wanted string) bool {
	var have []string
	for _, a := range attributes {
		have = append(have, words(a)...)
	}
	search := words(wanted)
	for _, w := range search {
		if !slices.ContainsFunc(have, func(h string) bool { return strings.HasPrefix(h, w) }) {
			return false
		}
	}
	return len(search) > 0
}

// words cuts a text as the service's search does, in lower case: at spaces and
// the special characters of names, and around each capital letter followed by
// small ones, so that "prod/COMPANYthings" is prod, compan, ythings (verified
// against AWS by moto's tests).
func words(s string) []string {
	var out []string
	for _, part := range strings.FieldsFunc(s, func(c rune) bool { return strings.ContainsRune(" \t\r\n/-_+=.@", c) }) {
		start, inCapitalised := 0, false
		for i := 0; i < len(part); i++ {
			begins := isUpper(part[i]) && i+1 < len(part) && isLower(part[i+1])
			ends := inCapitalised && !isLower(part[i])
			if i > start && (begins || ends) {
				out = append(out, strings.ToLower(part[start:i]))
				start = i
			}
			if begins || ends {
				inCapitalised = begins
			}
		}
		out = append(out, strings.ToLower(part[start:]))
	}
	return out
}

func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }
func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
