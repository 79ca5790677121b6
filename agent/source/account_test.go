package source_test

import (
	"slices"
	"testing"

	"secretsd/agent/secret"
)

// notAbroad answers for abroad's ARNs in a batch as for what a batch does not
// reach.
func notAbroad(code string) func(string) (string, string) {
	return func(id string) (string, string) {
		if slices.Contains([]string{arn(region, abroad, "x"), arn(region, abroad, "y"), arn(region, abroad, "z")}, id) {
			return code, "no"
		}
		return "", ""
	}
}

func inBatches(calls []request) (ids []string) {
	for _, r := range calls {
		ids = append(ids, r.SecretIdList...)
	}
	slices.Sort(ids)
	return ids
}

func TestOtherAccountsAreReadOneByOne(t *testing.T) {
	here, there := arn(region, home, "h"), arn(region, abroad, "x")
	refs := []secret.Ref{secret.Current("a"), secret.Current("b"), secret.Current(here), secret.Current(there)}
	b := &backend{failures: notAbroad("AccessDeniedException")}
	s := inMemory(t, b)
	wantAll(t, s.Fetch(t.Context(), refs))
	b.seen()
	// The first answers have shown whose account this is.
	wantAll(t, s.Fetch(t.Context(), refs))
	if got, want := inBatches(b.seen()), []string{"a", here, "b"}; !slices.Equal(got, want) {
		t.Errorf("the batch held %v, want %v", got, want)
	}
}

// TestOnlyOtherAccountsARNs has nothing but ARNs of an account that batches do
// not reach: they are tried in a batch once, and then no more.
func TestOnlyOtherAccountsARNs(t *testing.T) {
	for _, code := range []string{"AccessDeniedException", "ResourceNotFoundException"} {
		b := &backend{failures: notAbroad(code)}
		s := inMemory(t, b)
		refs := []secret.Ref{secret.Current(arn(region, abroad, "x")), secret.Current(arn(region, abroad, "y"))}
		wantAll(t, s.Fetch(t.Context(), refs))
		b.seen()
		wantAll(t, s.Fetch(t.Context(), refs))
		if batches, gets := b.count(); batches != 0 || gets != 2 {
			t.Errorf("%s: %d batch calls and %d single reads, want only single reads", code, batches, gets)
		}
	}
}

func TestMostNamedAccountIsTakenForOnesOwn(t *testing.T) {
	b := &backend{failures: notAbroad("AccessDeniedException")}
	refs := []secret.Ref{
		secret.Current(arn(region, abroad, "x")),
		secret.Current(arn(region, home, "a")), secret.Current(arn(region, home, "b")),
	}
	wantAll(t, inMemory(t, b).Fetch(t.Context(), refs))
	if batches, gets := b.count(); batches != 1 || gets != 1 {
		t.Errorf("%d batch calls and %d single reads, want one of each", batches, gets)
	}
}

func TestAccountOfTheCredentialsIsOnesOwn(t *testing.T) {
	b := &backend{}
	s := overLoopback(t, b)
	t.Setenv("AWS_ACCOUNT_ID", home)
	refs := []secret.Ref{secret.Current(arn(region, abroad, "x")), secret.Current(arn(region, abroad, "y")), secret.Current("a"), secret.Current("b")}
	wantAll(t, s.Fetch(t.Context(), refs))
	if got, want := inBatches(b.seen()), []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("the batch held %v, want %v", got, want)
	}
}

// TestDenialInOnesOwnAccountIsFinal: once the account is known, a batch's
// refusal is not asked twice.
func TestDenialInOnesOwnAccountIsFinal(t *testing.T) {
	denied := arn(region, home, "denied")
	b := &backend{failures: func(id string) (string, string) {
		if id == denied {
			return "AccessDeniedException", "no"
		}
		return "", ""
	}}
	s := inMemory(t, b)
	wantAll(t, s.Fetch(t.Context(), names(2)))
	b.seen()
	results := s.Fetch(t.Context(), append(names(2), secret.Current(denied)))
	if e := failure(t, results[2]); e.Kind != secret.Denied {
		t.Errorf("got %v", e)
	}
	if batches, gets := b.count(); batches != 1 || gets != 0 {
		t.Errorf("%d batch calls and %d single reads, want one batch", batches, gets)
	}
}
