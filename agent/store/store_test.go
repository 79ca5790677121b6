package store_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"secretsd/agent/secret"
	"secretsd/agent/store"
)

func version(id, text string) *secret.Version {
	return &secret.Version{ARN: "arn", Name: "n", VersionID: id, Stages: []string{secret.StageCurrent}, Text: secret.NewValue(text)}
}

func signalled(s *store.Store) bool {
	select {
	case <-s.Changed():
		return true
	default:
		return false
	}
}

func TestPutIsOneStep(t *testing.T) {
	user, password := secret.Current("user"), secret.Current("password")
	s := store.New(map[string]secret.Ref{"user": user, "password": password})
	signalled(s)
	before := s.Snapshot()
	s.Put([]store.Update{
		{Name: "user", Ref: user, Version: version("1", "u"), At: time.Second},
		{Name: "password", Ref: password, Version: version("2", "p"), At: time.Second},
	})
	after := s.Snapshot()
	if e, _ := before.Get("user"); e.Version != nil {
		t.Error("a snapshot that was given out has changed")
	}
	u, _ := after.Get("user")
	p, _ := after.Get("password")
	if u.Version == nil || p.Version == nil || after.Generation() != before.Generation()+1 {
		t.Errorf("one round is not one generation: %+v %+v", u, p)
	}
	if !signalled(s) || signalled(s) {
		t.Error("a change is signalled once")
	}
}

func TestAFailureKeepsTheVersion(t *testing.T) {
	ref := secret.Current("db")
	s := store.New(map[string]secret.Ref{"db": ref})
	v := version("1", "x")
	s.Put([]store.Update{{Name: "db", Ref: ref, Version: v, At: time.Second}})
	failure := errors.New("throttled")
	s.Put([]store.Update{{Name: "db", Ref: ref, Err: failure, At: 5 * time.Second}})
	if e, _ := s.Snapshot().Get("db"); e.Version != v || e.Err != failure || e.Confirmed != time.Second {
		t.Errorf("after a failure the entry is %+v", e)
	}
	s.Put([]store.Update{{Name: "db", Ref: ref, Version: version("1", "x"), At: 9 * time.Second}})
	if e, _ := s.Snapshot().Get("db"); e.Version != v || e.Err != nil || e.Confirmed != 9*time.Second {
		t.Errorf("after a confirmation the entry is %+v", e)
	}
}

func TestLateAnswersOfAnotherConfigurationAreDropped(t *testing.T) {
	ref, other := secret.Current("db"), secret.Current("db2")
	s := store.New(map[string]secret.Ref{"db": ref})
	s.Configure(map[string]secret.Ref{"db": other}, func(string, store.Entry) bool { return true })
	s.Put([]store.Update{{Name: "db", Ref: ref, Version: version("1", "x")}, {Name: "gone", Ref: ref, Version: version("1", "x")}})
	if e, _ := s.Snapshot().Get("db"); e.Version != nil {
		t.Error("the answer to another ref was entered")
	}
	if _, ok := s.Snapshot().Get("gone"); ok || s.Snapshot().Len() != 1 {
		t.Error("an answer made an entry")
	}
}

// TestModel runs random updates and reloads beside a simple model.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"a", "b", "c"}
		refs := map[string]secret.Ref{"a": secret.Current("a"), "b": secret.Current("b")}
		s := store.New(refs)
		model := map[string]string{} // name to version id
		var kept []*store.Snapshot
		var seen []map[string]string
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			if rapid.IntRange(0, 5).Draw(t, "kind") == 0 {
				next := map[string]secret.Ref{}
				for _, n := range names {
					if rapid.Bool().Draw(t, "configured") {
						next[n] = secret.Current(rapid.SampledFrom([]string{n, n + "2"}).Draw(t, "id"))
					}
				}
				for n := range model {
					if next[n] != refs[n] {
						delete(model, n)
					}
				}
				refs = next
				s.Configure(next, func(string, store.Entry) bool { return true })
			} else {
				n := rapid.SampledFrom(names).Draw(t, "name")
				id := rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "version")
				u := store.Update{Name: n, Ref: refs[n], Version: version(id, id)}
				if rapid.Bool().Draw(t, "fails") {
					u.Version, u.Err = nil, errors.New("x")
				} else if _, ok := refs[n]; ok {
					model[n] = id
				}
				s.Put([]store.Update{u})
			}
			kept = append(kept, s.Snapshot())
			now := map[string]string{}
			for n, id := range model {
				now[n] = id
			}
			seen = append(seen, now)
		}
		for i, snap := range kept {
			got := map[string]string{}
			for n, e := range snap.Entries() {
				if e.Version != nil {
					got[n] = e.Version.VersionID
				}
			}
			if len(got) != len(seen[i]) {
				t.Fatalf("snapshot %d holds %v, want %v", i, got, seen[i])
			}
			for n, id := range seen[i] {
				if got[n] != id {
					t.Fatalf("snapshot %d holds %v, want %v", i, got, seen[i])
				}
			}
		}
	})
}
