package endpoint_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

// TestObserveSaysWhatBecameOfEachRequest sends one request of each kind and
// compares what the observer was told.
func TestObserveSaysWhatBecameOfEachRequest(t *testing.T) {
	var mu sync.Mutex
	var got []endpoint.Exchange
	marks := map[string]*string{}
	o := endpoint.Options{Mark: func(client string) any { marks[client] = &client; return marks[client] }, Observe: func(e *endpoint.Exchange) error {
		mu.Lock()
		defer mu.Unlock()
		if mark, ok := e.Mark.(*string); ok != (e.Client != "") || ok && mark != marks[e.Client] {
			t.Errorf("client %q has the mark %v", e.Client, e.Mark)
		}
		if since := time.Since(e.Began); since < e.Took || since > time.Minute {
			t.Errorf("it began %s ago", since)
		}
		if e.Took <= 0 || !strings.HasPrefix(e.Remote, "127.0.0.1:") {
			t.Errorf("took %v, remote %q", e.Took, e.Remote)
		}
		got = append(got, *e)
		return nil
	}}
	reader := refreshing{readerFunc(func(_ context.Context, q endpoint.Query) (endpoint.Answer, error) {
		code := map[string]string{"denied": "AccessDeniedException", "none": "ResourceNotFoundException", "deleted": "InvalidRequestException"}[q.ID]
		switch {
		case q.Refresh:
			return endpoint.Answer{Version: version(q.ID, "refreshed", secret.StageCurrent)}, nil
		case code == "":
			return endpoint.Answer{}, errors.New("unknown")
		}
		return endpoint.Answer{}, &secret.Error{ID: q.ID, Code: code, Message: "AccessDeniedException"}
	}), func(q endpoint.Query, _ []string) (endpoint.Refreshed, error) {
		if q.ID == "denied" {
			return endpoint.Refreshed{}, endpoint.ErrForbidden
		}
		return endpoint.Refreshed{Name: q.ID, VersionID: "v2"}, nil
	}}
	fresh, old := entry(version("db", defaultVersion, secret.StageCurrent)), entry(version("old", "v-old", secret.StageCurrent))
	old.Stale = true
	s := start(t, o, reader, fresh, old)
	arn := fresh.Version.ARN
	var want []endpoint.Exchange
	expect := func(outcome endpoint.Outcome, id, arn, versionID string, send func()) {
		send()
		want = append(want, endpoint.Exchange{Method: "GET", Outcome: outcome, Secret: id, ARN: arn, VersionID: versionID})
	}
	ask := func(target string, headers ...string) func() { return func() { do(t, s, "GET", target, headers...) } }
	expect(endpoint.OutcomeOK, "db", arn, defaultVersion, ask("/v1/db", tokenT))
	expect(endpoint.OutcomeStale, "old", old.Version.ARN, "v-old", ask("/secretsmanager/get?secretId=old", tokenT))
	expect(endpoint.OutcomeOK, "db", arn, "refreshed", ask("/v1/db?refreshNow=true", tokenT))
	expect(endpoint.OutcomePing, "", "", "", ask("/ping"))
	expect(endpoint.OutcomeForwarded, "", "", "", ask("/v1/db", tokenT, "Via: x"))
	expect(endpoint.OutcomeBadToken, "", "", "", ask("/v1/db"))
	expect(endpoint.OutcomeBadRequest, "", "", "", ask("/v1/db?nonsense=1", tokenT))
	expect(endpoint.OutcomeBadRequest, "", "", "", ask("/elsewhere", tokenT))
	expect(endpoint.OutcomeDenied, "denied", "", "", ask("/v1/denied", tokenT))
	expect(endpoint.OutcomeNotFound, "none", "", "", ask("/v1/none", tokenT))
	expect(endpoint.OutcomeRefused, "deleted", "", "", ask("/v1/deleted", tokenT))
	expect(endpoint.OutcomeFailed, "broken", "", "", ask("/v1/broken", tokenT))
	// What waits for a change says so, for its time says nothing of the endpoint.
	waits := func(method string, outcome endpoint.Outcome, id, arn, versionID, target string) {
		do(t, s, method, target, tokenT, "Content-Length: 0")
		want = append(want, endpoint.Exchange{Method: method, Outcome: outcome, Secret: id, ARN: arn, VersionID: versionID, Waited: true})
	}
	waits("GET", endpoint.OutcomeOK, "db", arn, defaultVersion, "/v1/db?waitVersion=another")
	waits("POST", endpoint.OutcomeOK, "db", "", "", "/secretsd/refresh?secretId=db&refused=v1")
	waits("POST", endpoint.OutcomeDenied, "denied", "", "", "/secretsd/refresh?secretId=denied")
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(endpoint.Exchange{}, "Began", "Took", "Remote", "Client", "Mark")); diff != "" {
		t.Error(diff)
	}
	for _, e := range got {
		if e.Outcome == "" {
			t.Errorf("no outcome in %+v", e)
		}
	}
}

// TestObserverForbids shows that an observer that fails keeps the value back.
func TestObserverForbids(t *testing.T) {
	o := endpoint.Options{Observe: func(*endpoint.Exchange) error { return errors.New("disk full") }}
	s := start(t, o, noReads(t), entry(version("db", defaultVersion, secret.StageCurrent)))
	if got := do(t, s, "GET", "/v1/db", tokenT); got.status != 500 || got.body != `{"__type":"InternalFailure"}` {
		t.Errorf("answered %d %s", got.status, got.body)
	}
}
