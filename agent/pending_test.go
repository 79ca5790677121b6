package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"secretsd/agent/secret"
	"secretsd/agent/source/local"
	"secretsd/agent/store"
	"secretsd/sinks/endpoint"
)

// call has the local service do an operation, as an SDK would.
func (r *running) call(op string, in map[string]any) {
	r.t.Helper()
	body, err := json.Marshal(in)
	must(r.t, err)
	req, err := http.NewRequest(http.MethodPost, "https://secretsmanager.us-east-1.amazonaws.com/", bytes.NewReader(body))
	must(r.t, err)
	req.Header.Set("X-Amz-Target", "secretsmanager."+op)
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	resp, err := r.svc.Transport().RoundTrip(req)
	must(r.t, err)
	answer, err := io.ReadAll(resp.Body)
	must(r.t, err)
	if resp.StatusCode != http.StatusOK {
		r.t.Fatalf("%s: %s", op, answer)
	}
}

// Version ids of a rotation: of the current version, and of pending ones.
var (
	pendingOne = strings.Repeat("1", 36)
	pendingTwo = strings.Repeat("2", 36)
)

// pend puts a value at AWSPENDING.
func (r *running) pend(id, value string) {
	r.t.Helper()
	r.call("PutSecretValue", map[string]any{"SecretId": "prod/db", "SecretString": value, "ClientRequestToken": id, "VersionStages": []string{"AWSPENDING"}})
}

// finish moves AWSCURRENT, as finishSecret does.
func (r *running) finish(from, to string) {
	r.t.Helper()
	r.call("UpdateSecretVersionStage", map[string]any{"SecretId": "prod/db", "VersionStage": "AWSCURRENT", "MoveToVersionId": to, "RemoveFromVersionId": from})
}

func (r *running) versionID() string {
	r.t.Helper()
	ans, err := r.agent.Read(context.Background(), endpoint.Query{ID: "db"})
	must(r.t, err)
	return ans.Version.VersionID
}

// refused asks for a refresh as an endpoint's client does.
func (r *running) refused(ids ...string) endpoint.Refreshed {
	r.t.Helper()
	got, err := r.agent.Refresh(context.Background(), endpoint.Query{ID: "db"}, ids)
	must(r.t, err)
	return got
}

const dbSecret = "refresh: {interval: 1h}\nsecrets: [{name: db, id: prod/db, pending: SHOWN}]\nfiles: [{path: DIR/out, contents: '{{ secret \"db\" }}'}]\n"

func runDB(t *testing.T, shown string, body func(r *running, first string)) {
	runAgent(t, strings.ReplaceAll(dbSecret, "SHOWN", shown), func(r *running) { must(t, r.svc.Put("prod/db", "one")) }, func(r *running) {
		r.after(time.Second)
		body(r, r.versionID())
	})
}

func TestWhoWasRefusedGetsThePendingVersion(t *testing.T) {
	runDB(t, "false", func(r *running, first string) {
		r.pend(pendingOne, "two")
		before, began := r.svc.Calls()["GetSecretValue"], time.Now()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				got := r.refused(first)
				if got.Pending == nil || got.Pending.Text.Reveal() != "two" || got.VersionID != pendingOne || got.Changed || got.Name != "db" {
					t.Errorf("%+v", got)
				}
			})
		}
		wg.Wait()
		if n := r.svc.Calls()["GetSecretValue"] - before; n > 4 || time.Since(began) > 0 {
			t.Errorf("50 clients cost %d calls and %s", n, time.Since(began))
		}
		// Nobody else has it.
		r.after(time.Minute)
		if r.file("out") != "one" || r.versionID() != first {
			t.Errorf("the file holds %q, the endpoint %s", r.file("out"), r.versionID())
		}
		if st := r.agent.Status().Secrets[0]; st.Pending != "" {
			t.Errorf("status has %+v", st)
		}
		// Nor one who can be given no value.
		began = time.Now()
		if _, got, _ := refreshOver(t, r.agent, "id=db&refused="+first+"&timeout=10s"); got.State != RefreshUnchanged || time.Since(began) != 10*time.Second {
			t.Errorf("over the control socket: %+v after %s", got, time.Since(began))
		}
		// The pending one may be refused too: then it is the next that counts.
		time.AfterFunc(20*time.Second, func() { r.finish(first, pendingOne); r.pend(pendingTwo, "three") })
		began = time.Now()
		if got := r.refused(first, pendingOne); got.Pending == nil || got.VersionID != pendingTwo || time.Since(began) < 20*time.Second {
			t.Errorf("%+v after %s", got, time.Since(began))
		}
		if got := r.refused(first); got.Pending != nil || !got.Changed || got.VersionID != pendingOne {
			t.Errorf("after the rotation: %+v", got)
		}
	})
}

// TestWithoutAPendingVersionTheCurrentOneIsWaitedFor has AWSPENDING be what cannot
// be used, in each way.
func TestWithoutAPendingVersionTheCurrentOneIsWaitedFor(t *testing.T) {
	for name, prepare := range map[string]func(r *running, first string){
		"none": func(*running, string) {},
		"the refused one": func(r *running, first string) {
			r.call("UpdateSecretVersionStage", map[string]any{"SecretId": "prod/db", "VersionStage": "AWSPENDING", "MoveToVersionId": first})
		},
		"not what is expected": func(r *running, _ string) { r.pend(pendingOne, "2") },
	} {
		t.Run(name, func(t *testing.T) {
			conf := strings.ReplaceAll(dbSecret, "SHOWN", "true, expect: {min_bytes: 2}")
			runAgent(t, conf, func(r *running) { must(t, r.svc.Put("prod/db", "one")) }, func(r *running) {
				r.after(time.Second)
				first := r.versionID()
				prepare(r, first)
				before := r.svc.Calls()["GetSecretValue"]
				time.AfterFunc(20*time.Second, func() { _ = r.svc.Put("prod/db", "two") })
				began := time.Now()
				if got := r.refused(first); got.Pending != nil || !got.Changed || time.Since(began) < 20*time.Second {
					t.Errorf("%+v after %s", got, time.Since(began))
				}
				if n := r.svc.Calls()["GetSecretValue"] - before; n > 12 {
					t.Errorf("it cost %d calls", n)
				}
				if r.file("out") != "two" {
					t.Errorf("the file holds %q", r.file("out"))
				}
				if n := strings.Count(r.log.String(), "not what the configuration expects"); name == "not what is expected" && n != 1 {
					t.Errorf("said %d times", n)
				}
			})
		})
	}
}

func TestFilesShowThePendingVersionWhereTheyMay(t *testing.T) {
	runDB(t, "true", func(r *running, first string) {
		r.pend(pendingOne, "two")
		code, got, body := refreshOver(t, r.agent, "id=db&refused="+first+"&timeout=10s")
		if code != http.StatusOK || got.State != RefreshPending || got.VersionID != pendingOne || got.PreviousVersionID != first {
			t.Fatalf("%d %s", code, body)
		}
		if r.file("out") != "two" || r.versionID() != first {
			t.Errorf("the file holds %q, the endpoint %s", r.file("out"), r.versionID())
		}
		// Whoever asks without having been refused is told so too.
		if code, got, body := refreshOver(t, r.agent, "id=db&timeout=10s"); code != http.StatusOK || got.State != RefreshPending || got.VersionID != pendingOne || got.Held != nil {
			t.Errorf("asked again: %d %s", code, body)
		}
		st := r.agent.Status()
		if st.Secrets[0].Pending != pendingOne || st.Secrets[0].VersionID != first || st.Files[0].Secrets[0].VersionID != pendingOne {
			t.Errorf("status is %+v", st.Secrets[0])
		}
		// It stays while the rotation is under way, whatever is read meanwhile, and
		// the end of the rotation changes nothing.
		r.after(3 * time.Hour)
		r.finish(first, pendingOne)
		published := strings.Count(r.log.String(), "published file")
		r.after(3 * time.Hour)
		if st := r.agent.Status().Secrets[0]; st.Pending != "" || st.VersionID != pendingOne || r.file("out") != "two" {
			t.Errorf("after the rotation: %+v, the file holds %q", st, r.file("out"))
		}
		if n := strings.Count(r.log.String(), "published file"); n != published {
			t.Error("the file was written again")
		}

		// One that is refused too is not shown any more.
		r.pend(pendingTwo, "three")
		if got := r.refused(pendingOne); got.VersionID != pendingTwo || r.file("out") != "three" {
			t.Errorf("%+v, the file holds %q", got, r.file("out"))
		}
		if _, got, _ := refreshOver(t, r.agent, "id=db&refused="+pendingTwo+"&timeout=10s"); got.VersionID != pendingOne || r.file("out") != "two" {
			t.Errorf("%+v, the file holds %q", got, r.file("out"))
		}
		// Nor is one whose label is taken away.
		r.after(huntTime)
		if got := r.refused(pendingOne); got.VersionID != pendingTwo || r.file("out") != "three" {
			t.Errorf("%+v, the file holds %q", got, r.file("out"))
		}
		r.svc.SetFault(func(string, string) *local.Fault { return &local.Fault{Code: "InternalServiceError"} })
		r.after(3 * time.Hour)
		if r.file("out") != "three" {
			t.Errorf("an outage changed the file to %q", r.file("out"))
		}
		r.svc.SetFault(nil)
		r.call("UpdateSecretVersionStage", map[string]any{"SecretId": "prod/db", "VersionStage": "AWSPENDING", "RemoveFromVersionId": pendingTwo})
		r.after(3 * time.Hour)
		if st := r.agent.Status().Secrets[0]; st.Pending != "" || r.file("out") != "two" {
			t.Errorf("withdrawn: %+v, the file holds %q", st, r.file("out"))
		}

		// A configuration that does not want it any more takes it back.
		r.pend(strings.Repeat("3", 36), "four")
		if got := r.refused(pendingOne); got.Pending == nil || r.file("out") != "four" {
			t.Errorf("%+v, the file holds %q", got, r.file("out"))
		}
		must(t, r.agent.Reload(context.Background(), r.config(strings.ReplaceAll(dbSecret, "SHOWN", "false"))))
		r.after(time.Second)
		if r.file("out") != "two" {
			t.Errorf("after the reload the file holds %q", r.file("out"))
		}
	})
}

// TestMaxStaleBesideAShownPendingVersion has nothing be readable for longer than
// max_stale: the endpoint stops serving, a refresh gives nobody the pending version,
// for nothing is known of now, and files stay as they are, in the end too.
func TestMaxStaleBesideAShownPendingVersion(t *testing.T) {
	conf := strings.Replace(dbSecret, "interval: 1h", "interval: 1m, max_stale: 1h", 1)
	runAgent(t, strings.ReplaceAll(conf, "SHOWN", "true"), func(r *running) { must(t, r.svc.Put("prod/db", "one")) }, func(r *running) {
		r.after(time.Second)
		first := r.versionID()
		r.pend(pendingOne, "two")
		if got := r.refused(first); got.Pending == nil || r.file("out") != "two" {
			t.Fatalf("%+v, the file holds %q", got, r.file("out"))
		}
		r.svc.SetFault(func(string, string) *local.Fault { return &local.Fault{Code: "InternalServiceError"} })
		r.after(30 * time.Minute)
		if ans, err := r.agent.Read(context.Background(), endpoint.Query{ID: "db"}); err != nil || !ans.Stale || ans.Version.VersionID != first {
			t.Errorf("before max_stale: %+v, %v", ans.Version, err)
		}
		if st := r.agent.Status().Secrets[0]; !st.Stale || st.Expired || st.Pending != pendingOne {
			t.Errorf("before max_stale: status is %+v", st)
		}
		r.after(2 * time.Hour)
		if ans, err := r.agent.Read(context.Background(), endpoint.Query{ID: "db"}); err == nil {
			t.Errorf("after max_stale it serves %s", ans.Version.VersionID)
		}
		if got, err := r.agent.Refresh(context.Background(), endpoint.Query{ID: "db"}, []string{first}); err == nil {
			t.Errorf("after max_stale a refresh answers %+v", got)
		}
		if st := r.agent.Status().Secrets[0]; !st.Expired || st.Pending != pendingOne || r.file("out") != "two" {
			t.Errorf("after max_stale: status is %+v, the file holds %q", st, r.file("out"))
		}
		if code, _ := r.health("/readyz"); code == http.StatusOK {
			t.Error("after max_stale it is ready")
		}
		// The rotation has ended meanwhile, or not: nothing goes to and fro.
		published := strings.Count(r.log.String(), "published file")
		r.svc.SetFault(nil)
		r.after(10 * time.Minute)
		if st := r.agent.Status().Secrets[0]; st.Expired || st.Stale || st.Pending != pendingOne || r.versionID() != first {
			t.Errorf("after the outage: status is %+v", st)
		}
		r.finish(first, pendingOne)
		r.after(10 * time.Minute)
		if st := r.agent.Status().Secrets[0]; st.Pending != "" || st.VersionID != pendingOne || r.file("out") != "two" {
			t.Errorf("after the rotation: status is %+v, the file holds %q", st, r.file("out"))
		}
		if n := strings.Count(r.log.String(), "published file"); n != published {
			t.Errorf("the file was written %d times more", n-published)
		}
	})
}

// TestAShownPendingVersionStaysWhileItCannotBeRead has AWSPENDING fail alone.
func TestAShownPendingVersionStaysWhileItCannotBeRead(t *testing.T) {
	src := newFakeSource()
	s := every("db", time.Minute)
	s.pending = true
	pending := secret.Ref{ID: "db", Stage: secret.StagePending}
	src.set(s.ref, "v1", "one")
	src.set(pending, "v2", "two")
	refreshing(t, src, []*schedule{s}, func(r *refresher, st *store.Store) {
		time.Sleep(time.Second)
		r.showPending(s, []string{"v1"}, newVersion(pending, "v2", "two"))
		for _, row := range []struct {
			kind  secret.Kind
			shown string
		}{{secret.Transient, "v2"}, {secret.Throttled, "v2"}, {secret.Denied, "v1"}} {
			src.fail(pending, row.kind)
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			if e, _ := st.Snapshot().Get("db"); e.Shown().VersionID != row.shown || e.Version.VersionID != "v1" {
				t.Errorf("%s: files show %s", row.kind, e.Shown().VersionID)
			}
		}
	})
}
