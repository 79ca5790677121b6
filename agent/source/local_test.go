package source_test

import (
	"testing"

	"secretsd/agent/secret"
	"secretsd/agent/source"
	"secretsd/agent/source/local"
)

// TestLocalServiceInProcessAndOverLoopback reads the project's own local
// Secrets Manager both ways: by name, by full and by partial ARN.
func TestLocalServiceInProcessAndOverLoopback(t *testing.T) {
	service := local.New(local.Options{Region: region})
	for _, name := range []string{"app/a", "app/b"} {
		if err := service.Put(name, "value of "+name); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*source.Source{
		open(t, source.Options{Region: region, Transport: service.Transport()}),
		overLoopback(t, service),
	} {
		results := s.Fetch(t.Context(), []secret.Ref{secret.Current("app/a"), secret.Current("app/b"), secret.Current("app/none")})
		wantAll(t, results[:2])
		if e := failure(t, results[2]); e.Kind != secret.NotFound {
			t.Errorf("got %+v", e)
		}
		full := results[0].Version.ARN
		partial := full[:len(full)-len("-AbCdEf")]
		for _, r := range s.Fetch(t.Context(), []secret.Ref{secret.Current(full), secret.Current(partial), secret.Current("app/b")})[:2] {
			if r.Err != nil || r.Version.Text.Reveal() != "value of app/a" {
				t.Errorf("%s: got %v, %v", r.Ref.ID, r.Version, r.Err)
			}
		}
		if got := s.Stats().Calls; got["BatchGetSecretValue"]["ok"] != 2 || got["GetSecretValue"]["ok"] != 0 {
			t.Errorf("calls %v", got)
		}
	}
	if err := service.Put("app/a", "rotated"); err != nil {
		t.Fatal(err)
	}
	s := open(t, source.Options{Region: region, Transport: service.Transport()})
	previous := secret.Ref{ID: "app/a", Stage: secret.StagePrevious}
	results := s.Fetch(t.Context(), []secret.Ref{secret.Current("app/a"), previous})
	if results[0].Err != nil || results[0].Version.Text.Reveal() != "rotated" {
		t.Errorf("got %v, %v", results[0].Version, results[0].Err)
	}
	wantAll(t, results[1:])
}
