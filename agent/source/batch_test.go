package source_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"secretsd/agent/secret"
	"secretsd/agent/source"
)

func TestBatchesHoldTwoToTwentyIDs(t *testing.T) {
	for _, tc := range []struct{ refs, batches, gets int }{
		{0, 0, 0}, {1, 0, 1}, {2, 1, 0}, {20, 1, 0}, {21, 1, 1}, {22, 2, 0}, {45, 3, 0},
	} {
		t.Run(fmt.Sprint(tc.refs), func(t *testing.T) {
			b := &backend{}
			for _, s := range []*source.Source{inMemory(t, b), overLoopback(t, b)} {
				wantAll(t, s.Fetch(t.Context(), names(tc.refs)))
				if batches, gets := b.count(); batches != tc.batches || gets != tc.gets {
					t.Errorf("%d batch calls and %d single reads, want %d and %d", batches, gets, tc.batches, tc.gets)
				}
			}
		})
	}
}

// TestEveryRefIsAnsweredOnce draws mixtures of names, ARNs, stages, pinned
// versions and repetitions.
func TestEveryRefIsAnsweredOnce(t *testing.T) {
	b := &backend{}
	s := inMemory(t, b)
	ref := rapid.Custom(func(t *rapid.T) secret.Ref {
		name := fmt.Sprintf("n%d", rapid.IntRange(0, 30).Draw(t, "name"))
		r := secret.Ref{ID: rapid.SampledFrom([]string{
			name, arn(region, home, name), arn(region, abroad, name), arn("us-east-2", home, name),
			strings.TrimSuffix(arn(region, home, name), "-AbCdEf"),
		}).Draw(t, "id")}
		r.Stage = rapid.SampledFrom([]string{"", "AWSCURRENT", "AWSCURRENT", "AWSPREVIOUS"}).Draw(t, "stage")
		r.VersionID = rapid.SampledFrom([]string{"", "", "pinned"}).Draw(t, "version")
		r.Region = rapid.SampledFrom([]string{"", "", region}).Draw(t, "region")
		return r
	})
	rapid.Check(t, func(rt *rapid.T) {
		refs := rapid.SliceOfN(ref, 0, 90).Draw(rt, "refs")
		results := s.Fetch(t.Context(), refs)
		if len(results) != len(refs) {
			rt.Fatalf("%d results for %d refs", len(results), len(refs))
		}
		for i, r := range results {
			if r.Ref != refs[i] {
				rt.Fatalf("result %d is for %+v, want %+v", i, r.Ref, refs[i])
			}
			wantValue(t, r)
			if refs[i].VersionID == "pinned" && r.Version.VersionID != "pinned" {
				rt.Fatalf("%+v answered with version %s", r.Ref, r.Version.VersionID)
			}
		}
		asked := map[string]bool{}
		for _, call := range b.seen() {
			if len(call.SecretIdList) == 1 || len(call.SecretIdList) > 20 {
				rt.Fatalf("a batch of %d ids", len(call.SecretIdList))
			}
			ids := call.SecretIdList
			if call.Op == "GetSecretValue" {
				ids = []string{call.SecretId + " " + call.VersionStage + " " + call.VersionId}
			}
			for _, id := range ids {
				key := call.Region + " " + id
				if asked[key] {
					rt.Fatalf("%s was read twice", key)
				}
				asked[key] = true
			}
		}
		if t.Failed() {
			rt.Fatal("a ref was not answered with its value")
		}
	})
}

func TestSingleReadsNameStageOrVersion(t *testing.T) {
	b := &backend{}
	s := inMemory(t, b)
	refs := []secret.Ref{
		{ID: "a", Stage: "AWSPREVIOUS"},
		{ID: "b", VersionID: "version-of-b"},
		{ID: "c", VersionID: "version-of-c", Stage: "AWSCURRENT"},
		{ID: "d"},
	}
	wantAll(t, s.Fetch(t.Context(), refs))
	got := map[string]request{}
	for _, r := range b.seen() {
		got[r.SecretId] = request{SecretId: r.SecretId, VersionStage: r.VersionStage, VersionId: r.VersionId}
	}
	want := map[string]request{
		"a": {SecretId: "a", VersionStage: "AWSPREVIOUS"},
		"b": {SecretId: "b", VersionId: "version-of-b"},
		"c": {SecretId: "c", VersionId: "version-of-c", VersionStage: "AWSCURRENT"},
		"d": {SecretId: "d", VersionStage: "AWSCURRENT"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestEqualRefsAreReadOnce(t *testing.T) {
	b := &backend{}
	s := inMemory(t, b)
	same := []secret.Ref{{ID: "a"}, {ID: "a", Stage: "AWSCURRENT"}, {ID: "a", Stage: "AWSCURRENT", Region: region}, {ID: "a"}}
	wantAll(t, s.Fetch(t.Context(), same))
	if batches, gets := b.count(); batches != 0 || gets != 1 {
		t.Errorf("%d batch calls and %d single reads for one secret", batches, gets)
	}
}

func TestBatchEntriesAreMatchedByName(t *testing.T) {
	full := arn(region, home, "by/arn")
	refs := []secret.Ref{
		secret.Current("by/name"), secret.Current(full), secret.Current(strings.TrimSuffix(arn(region, home, "by/partial"), "-AbCdEf")),
		secret.Current("lost/entry"), secret.Current("with/suffix-AbCdEf"),
	}
	b := &backend{entries: func(_ request, all []entry) []entry {
		return slices.DeleteFunc(all, func(e entry) bool {
			if e["Name"] == "with/suffix-AbCdEf" { // the service knows the name without
				e["Name"], e["ARN"], e["SecretString"] = "with/suffix", arn(region, home, "with/suffix"), "value of with/suffix"
			}
			return e["Name"] == "lost/entry"
		})
	}}
	wantAll(t, inMemory(t, b).Fetch(t.Context(), refs))
	calls := b.seen()
	if len(calls) != 2 || calls[1].SecretId != "lost/entry" {
		t.Errorf("got calls %+v, want one batch and a single read of the entry it left out", calls)
	}
}

func TestBatchEntryWithoutAWSCURRENTIsReadAgain(t *testing.T) {
	b := &backend{entries: func(_ request, all []entry) []entry {
		for _, e := range all {
			if e["Name"] == "moved" {
				e["VersionStages"], e["SecretString"] = []string{"AWSPREVIOUS"}, "the old value"
			}
		}
		return all
	}}
	s := inMemory(t, b)
	wantAll(t, s.Fetch(t.Context(), []secret.Ref{secret.Current("moved"), secret.Current("kept")}))
	if batches, gets := b.count(); batches != 1 || gets != 1 {
		t.Errorf("%d batch calls and %d single reads, want one of each", batches, gets)
	}
}

func TestBatchPagesAreFollowed(t *testing.T) {
	b := &backend{}
	b.batch = func(r request) *reply {
		switch r.NextToken {
		case "": // an empty page that names a next one
			return okReply(map[string]any{"SecretValues": []entry{}, "NextToken": "one"})
		case "one":
			return okReply(map[string]any{"SecretValues": []entry{secretOf(region, r.SecretIdList[0])}, "NextToken": "two"})
		}
		return okReply(map[string]any{"SecretValues": []entry{secretOf(region, r.SecretIdList[1])}})
	}
	s := inMemory(t, b)
	wantAll(t, s.Fetch(t.Context(), names(2)))
	if batches, gets := b.count(); batches != 3 || gets != 0 {
		t.Errorf("%d pages and %d single reads, want 3 and none", batches, gets)
	}
	b.batch = func(request) *reply { return okReply(map[string]any{"NextToken": "again"}) }
	wantAll(t, s.Fetch(t.Context(), names(2)))
	if batches, gets := b.count(); batches > 50 || gets != 2 {
		t.Errorf("a batch without end took %d pages and %d single reads", batches, gets)
	}
}

func TestBatchErrorsStayPerSecret(t *testing.T) {
	codes := map[string][2]string{
		"missing": {"ResourceNotFoundException", "Secrets Manager can't find the specified secret."},
		"denied":  {"AccessDeniedException", "not authorized"},
		"kms":     {"DecryptionFailure", "Secrets Manager can't decrypt"},
		"deleted": {"InvalidRequestException", "You can't perform this operation on the secret because it was marked for deletion."},
		"broken":  {"InternalServiceError", "try again"},
	}
	b := &backend{failures: func(id string) (string, string) { return codes[id][0], codes[id][1] }}
	refs := []secret.Ref{
		secret.Current("fine"), secret.Current("missing"), secret.Current("denied"), secret.Current("kms"),
		secret.Current("deleted"), secret.Current("broken"), secret.Current("good"),
	}
	results := inMemory(t, b).Fetch(t.Context(), refs)
	if batches, gets := b.count(); batches != 1 || gets != 0 {
		t.Errorf("%d batch calls and %d single reads, want one batch", batches, gets)
	}
	wantValue(t, results[0])
	wantValue(t, results[6])
	type row struct {
		Kind   secret.Kind
		Code   string
		Status int
	}
	var got []row
	for _, r := range results[1:6] {
		e := failure(t, r)
		got = append(got, row{e.Kind, e.Code, e.Status})
	}
	want := []row{
		{secret.NotFound, "ResourceNotFoundException", 400},
		{secret.Denied, "AccessDeniedException", 400},
		{secret.Denied, "DecryptionFailure", 400},
		{secret.Invalid, "InvalidRequestException", 400},
		{secret.Transient, "InternalServiceError", 500},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestFallbackIsRememberedAndSaidOnce(t *testing.T) {
	for _, tc := range []struct {
		reason string
		answer *reply
		pause  time.Duration
		log    string
	}{
		{"denied", apiError(400, "AccessDeniedException", "not authorized to perform: secretsmanager:BatchGetSecretValue"), 15 * time.Minute, "secretsmanager:BatchGetSecretValue"},
		{"denied", &reply{403, "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"}, 15 * time.Minute, "secretsmanager:BatchGetSecretValue"},
		{"throttled", apiError(400, "ThrottlingException", "Rate exceeded"), 5 * time.Minute, "throttled"},
		{"unsupported", apiError(400, "UnknownOperationException", ""), 15 * time.Minute, "as a whole"},
		{"unsupported", apiError(501, "InternalFailure", "API for service 'secretsmanager' not yet implemented"), 15 * time.Minute, "as a whole"},
		{"rejected", apiError(404, "ResourceNotFoundException", "can't find the specified secret value"), 5 * time.Minute, "as a whole"},
		{"rejected", apiError(400, "InvalidRequestException", "marked for deletion"), 5 * time.Minute, "as a whole"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &backend{batch: func(request) *reply { return tc.answer }}
				var logged logLines
				s := inMemory(t, b, func(o *source.Options) { o.Logger = logged.logger() })
				fetch := func(wantBatches int) {
					t.Helper()
					wantAll(t, s.Fetch(t.Context(), names(3)))
					if batches, gets := b.count(); batches != wantBatches || gets != 3 {
						t.Errorf("%d batch calls and %d single reads, want %d and 3", batches, gets, wantBatches)
					}
				}
				start := time.Now()
				fetch(1)
				if tc.reason == "throttled" && time.Since(start) != 0 {
					t.Errorf("waited %v before going over to single reads", time.Since(start))
				}
				<-time.After(tc.pause - 10*time.Second)
				fetch(0)
				if n := s.Stats().SinglesOnly; n != 1 {
					t.Errorf("%d clients do without batches, want 1", n)
				}
				if n := strings.Count(logged.String(), "one by one"); n != 1 || !strings.Contains(logged.String(), tc.log) {
					t.Errorf("said %d times, want once with %q: %s", n, tc.log, logged.String())
				}
				<-time.After(11 * time.Second)
				if n := s.Stats().SinglesOnly; n != 0 {
					t.Errorf("%d clients do without batches after the pause", n)
				}
				fetch(1)
				if n := strings.Count(logged.String(), "one by one"); n != 2 {
					t.Errorf("said %d times over two periods", n)
				}
				if got := s.Stats().Fallbacks[tc.reason]; got != 2 {
					t.Errorf("%d fallbacks counted, want 2", got)
				}
			})
		})
	}
}

// TestManyBatchesFallBackTogether has five batches fail at once: nothing is
// lost, and the log has one line.
func TestManyBatchesFallBackTogether(t *testing.T) {
	b := &backend{batch: func(request) *reply { return apiError(400, "ThrottlingException", "Rate exceeded") }}
	var logged logLines
	s := inMemory(t, b, func(o *source.Options) { o.Logger = logged.logger() })
	wantAll(t, s.Fetch(t.Context(), names(100)))
	if batches, gets := b.count(); batches > 5 || gets != 100 {
		t.Errorf("%d batch calls and %d single reads", batches, gets)
	}
	if n := strings.Count(logged.String(), "one by one"); n != 1 {
		t.Errorf("said %d times: %s", n, logged.String())
	}
}

func TestFallbackReadsFourAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most int
		b := &backend{batch: func(request) *reply { return apiError(400, "AccessDeniedException", "no") }}
		b.get = func(request) *reply {
			b.mu.Lock()
			now++
			most = max(most, now)
			b.mu.Unlock()
			<-time.After(time.Second)
			b.mu.Lock()
			now--
			b.mu.Unlock()
			return nil
		}
		start := time.Now()
		wantAll(t, inMemory(t, b).Fetch(t.Context(), names(12)))
		if most != 4 || time.Since(start) != 3*time.Second {
			t.Errorf("%d reads at once, %v in all; want 4 and 3s", most, time.Since(start))
		}
	})
}

func TestUnansweredBatchDoesNotBecomeSingleReads(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer *reply
		block  bool
	}{
		{name: "5xx", answer: apiError(500, "InternalServiceError", "oops")},
		{name: "page of a proxy", answer: &reply{503, "<html>"}},
		{name: "garbage", answer: &reply{200, `{"SecretValues":[{`}},
		{name: "expired", answer: apiError(400, "ExpiredTokenException", "expired")},
		{name: "silence", block: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &backend{batch: func(request) *reply { return tc.answer }, block: func(request) bool { return tc.block }}
				s := inMemory(t, b)
				for _, r := range s.Fetch(t.Context(), names(20)) {
					if e := failure(t, r); e.Op != "BatchGetSecretValue" {
						t.Errorf("the error is of %s", e.Op)
					}
				}
				if _, gets := b.count(); gets != 0 {
					t.Errorf("one failed batch became %d single reads", gets)
				}
				b.batch, b.block = nil, nil
				wantAll(t, s.Fetch(t.Context(), names(20)))
				if batches, gets := b.count(); batches != 1 || gets != 0 {
					t.Errorf("then %d batch calls and %d single reads, want one batch", batches, gets)
				}
			})
		})
	}
}

func TestMalformedIDDoesNotSpoilABatch(t *testing.T) {
	b := &backend{}
	b.get = func(r request) *reply {
		if r.SecretId == "né" {
			return apiError(400, "ValidationException", "Invalid name.")
		}
		return nil
	}
	b.batch = func(r request) *reply {
		if slices.Contains(r.SecretIdList, "né") {
			return apiError(http.StatusBadRequest, "ValidationException", "Invalid name.")
		}
		return nil
	}
	results := inMemory(t, b).Fetch(t.Context(), append(names(4), secret.Current("né"), secret.Ref{}, secret.Current(strings.Repeat("x", 3000))))
	wantAll(t, results[:4])
	if e := failure(t, results[4]); e.Kind != secret.Invalid || e.Code != "ValidationException" {
		t.Errorf("got %+v", e)
	}
	if batches, gets := b.count(); batches != 1 || gets != 1 {
		t.Errorf("%d batch calls and %d single reads, want one of each", batches, gets)
	}
	for _, r := range results[5:] {
		if secret.KindOf(r.Err) != secret.Invalid {
			t.Errorf("an impossible id ended in %v", r.Err)
		}
	}
}
