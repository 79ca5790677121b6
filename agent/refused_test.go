package agent

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/secret"
	"secretsd/agent/source/local"
	"secretsd/sinks/endpoint"
)

func TestARefreshLooksUntilTheVersionMoves(t *testing.T) {
	conf := "refresh: {interval: 1h}\nsecrets: [{name: db, id: prod/db}]\nfiles: [{path: DIR/out, contents: '{{ secret \"db\" }}'}]\n"
	runAgent(t, conf, func(r *running) { must(t, r.svc.Put("prod/db", "one")) }, func(r *running) {
		r.after(time.Minute)
		ctx := context.Background()
		ans, err := r.agent.Read(ctx, endpoint.Query{ID: "db"})
		must(t, err)
		first := ans.Version.VersionID
		before := r.svc.Calls()["GetSecretValue"]
		time.AfterFunc(20*time.Second, func() { _ = r.svc.Put("prod/db", "two") })
		began := time.Now()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				got, err := r.agent.Refresh(ctx, endpoint.Query{ID: "prod/db"}, []string{first})
				if err != nil || !got.Changed || got.Name != "db" || got.VersionID == first {
					t.Errorf("%+v %v", got, err)
				}
				if r.file("out") != "two" {
					t.Error("the answer came before the file")
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took < 20*time.Second || took > 30*time.Second {
			t.Errorf("it took %s", took)
		}
		if n := r.svc.Calls()["GetSecretValue"] - before; n > 12 {
			t.Errorf("50 clients cost %d calls", n)
		}
		// Who was refused with an old version is answered at once, without a call.
		before, began = r.svc.Calls()["GetSecretValue"], time.Now()
		if got, err := r.agent.Refresh(ctx, endpoint.Query{ID: "db"}, []string{first}); err != nil || !got.Changed {
			t.Errorf("%+v %v", got, err)
		}
		if time.Since(began) > 0 || r.svc.Calls()["GetSecretValue"] != before {
			t.Error("an old version cost time or a call")
		}
		ans, err = r.agent.Read(ctx, endpoint.Query{ID: "db"})
		must(t, err)
		began = time.Now()
		if got, err := r.agent.Refresh(ctx, endpoint.Query{ID: "db"}, []string{ans.Version.VersionID}); err != nil || got.Changed || got.VersionID != ans.Version.VersionID {
			t.Errorf("nothing moves: %+v %v", got, err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("it gave up after %s", took)
		}
		if got, err := r.agent.Refresh(ctx, endpoint.Query{ID: "db"}, nil); err != nil || got.Changed {
			t.Errorf("without a refused version: %+v %v", got, err)
		}
		if _, err := r.agent.Refresh(ctx, endpoint.Query{ID: "db", Rights: mayRead("other")}, []string{first}); err != endpoint.ErrForbidden {
			t.Errorf("without the right: %v", err)
		}
		r.svc.SetFault(func(string, string) *local.Fault {
			return &local.Fault{Code: "AccessDeniedException", Message: "no", Status: 400}
		})
		began = time.Now()
		if _, err := r.agent.Refresh(ctx, endpoint.Query{ID: "db"}, []string{ans.Version.VersionID}); secret.KindOf(err) != secret.Denied || time.Since(began) > time.Second {
			t.Errorf("denied: %v after %s", err, time.Since(began))
		}
	})
}

// refreshOver asks for a refresh as the control socket does.
func refreshOver(t *testing.T, a *Agent, query string) (int, RefreshResult, string) {
	t.Helper()
	w := httptest.NewRecorder()
	a.refreshSecret(w, httptest.NewRequest(http.MethodPost, "/refresh?"+query, nil))
	var res RefreshResult
	if w.Code == http.StatusOK {
		must(t, json.Unmarshal(w.Body.Bytes(), &res))
	}
	return w.Code, res, w.Body.String()
}

func TestARefreshOverTheControlSocketSaysWhatBecameOfIt(t *testing.T) {
	conf := `
refresh: {interval: 1h}
secrets: [{name: db, id: prod/db}, {name: never, id: prod/never, required: false}]
files:
  - {path: DIR/out, contents: '{{ secret "db" }}'}
  - {path: DIR/key, contents: '{{ (secret "db").key }}'}
  - {path: DIR/both, contents: '{{ secret "db" }}{{ secret "never" }}'}
`
	runAgent(t, conf, func(r *running) { must(t, r.svc.Put("prod/db", `{"key": "one"}`)) }, func(r *running) {
		r.after(time.Minute)
		first := r.agent.Status().Secrets[0].VersionID
		if code, got, _ := refreshOver(t, r.agent, "id=db&timeout=1m"); code != 200 || !cmp.Equal(got, RefreshResult{Name: "db", State: RefreshUnchanged, VersionID: first}) {
			t.Errorf("nothing has changed: %d %+v", code, got)
		}

		must(t, r.svc.Put("prod/db", `{"key": "two"}`))
		code, got, _ := refreshOver(t, r.agent, "id=prod/db&refused="+first+"&timeout=1m")
		second := got.VersionID
		if code != 200 || second == first || !cmp.Equal(got, RefreshResult{Name: "db", State: RefreshPublished, VersionID: second, PreviousVersionID: first}) {
			t.Errorf("a new version: %d %+v", code, got)
		}
		if r.file("key") != "two" {
			t.Errorf("the answer came before the file, which holds %q", r.file("key"))
		}

		// Who was refused with a version that is none any more waits for nothing.
		began := time.Now()
		if code, got, _ := refreshOver(t, r.agent, "id=db&refused="+first+"&timeout=1m"); code != 200 || got.State != RefreshPublished || got.VersionID != second || time.Since(began) > 0 {
			t.Errorf("an old version: %d %+v after %s", code, got, time.Since(began))
		}
		// Who was refused with the current one waits for as long as it said.
		if code, got, _ := refreshOver(t, r.agent, "id=db&refused="+second+"&timeout=10s"); code != 200 || got.State != RefreshUnchanged || time.Since(began) != 10*time.Second {
			t.Errorf("the current version: %d %+v after %s", code, got, time.Since(began))
		}

		// One file cannot follow: the other does, and the answer says which.
		must(t, r.svc.Put("prod/db", `{"other": "three"}`))
		code, got, body := refreshOver(t, r.agent, "id=db&refused="+second+"&timeout=1m")
		if code != 200 || got.State != RefreshHeld || got.PreviousVersionID != second || len(got.Held) != 1 {
			t.Fatalf("%d %s", code, body)
		}
		if held := got.Held[0]; held.Path != r.dir+"/key" || held.Error == "" || held.Secrets[0].VersionID != second || r.file("key") != "two" || !strings.Contains(r.file("out"), "three") {
			t.Errorf("held is %+v", held)
		}
		if _, got, _ := refreshOver(t, r.agent, "id=db&timeout=1m"); got.State != RefreshHeld || got.PreviousVersionID != "" {
			t.Errorf("asked again: %+v", got)
		}

		for query, want := range map[string]int{"id=none&timeout=1m": 404, "id=never&timeout=1m": 404, "timeout=1m": 404, "id=db": 400, "id=db&timeout=0s": 400, "id=db&timeout=61s": 400} {
			if code, _, body := refreshOver(t, r.agent, query); code != want {
				t.Errorf("%s: %d %s, want %d", query, code, body, want)
			}
		}
	})
}

func TestARefreshOfAPinnedVersionWaitsForNothing(t *testing.T) {
	runAgent(t, oneSecret, func(r *running) { must(t, r.svc.Put("prod/db", "one")) }, func(r *running) {
		r.after(time.Second)
		pinned := r.agent.Status().Secrets[0].VersionID
		must(t, r.agent.Reload(context.Background(), r.config("secrets: [{name: db, id: prod/db, version_id: "+pinned+"}]\n")))
		r.after(time.Second)
		before, began := r.svc.Calls()["GetSecretValue"], time.Now()
		got, err := r.agent.Refresh(context.Background(), endpoint.Query{ID: "db"}, []string{pinned})
		if err != nil || got.Changed || got.VersionID != pinned || time.Since(began) > time.Second {
			t.Errorf("%+v %v after %s", got, err, time.Since(began))
		}
		if n := r.svc.Calls()["GetSecretValue"] - before; n != 1 {
			t.Errorf("it cost %d calls", n)
		}
	})
}

// TestAClientThatRefreshesInALoopIsBounded has one that never waits and one that
// always hunts, for an hour.
func TestAClientThatRefreshesInALoopIsBounded(t *testing.T) {
	runAgent(t, strings.Replace(oneSecret, "1m", "1h", 1), func(r *running) { must(t, r.svc.Put("prod/db", "one")) }, func(r *running) {
		r.after(time.Minute)
		current := r.agent.Status().Secrets[0].VersionID
		before, end := r.svc.Calls()["GetSecretValue"], time.Now().Add(time.Hour)
		var wg sync.WaitGroup
		for _, refused := range []string{"", current} {
			wg.Go(func() {
				for time.Now().Before(end) {
					got, err := r.agent.Refresh(context.Background(), endpoint.Query{ID: "db"}, []string{refused})
					if err != nil || got.Changed {
						t.Errorf("%+v %v", got, err)
						return
					}
					time.Sleep(250 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		// A few are the schedule's own.
		// And one of AWSPENDING comes with each that hunts.
		if n := r.svc.Calls()["GetSecretValue"] - before; n > 2*(refreshStock+int(time.Hour/refreshRefill)+3) || n < refreshStock {
			t.Errorf("an hour of it cost %d calls", n)
		}
	})
}

// TestAHuntEndsWithTheAgent stops the agent under a refresh that has nothing to find.
func TestAHuntEndsWithTheAgent(t *testing.T) {
	conf := "refresh: {interval: 1h}\nsecrets: [{name: db, id: prod/db}]\nfiles: [{path: DIR/out, contents: '{{ secret \"db\" }}'}]\n"
	runAgent(t, conf, func(r *running) { must(t, r.svc.Put("prod/db", "one")) }, func(r *running) {
		r.after(time.Minute)
		ans, err := r.agent.Read(context.Background(), endpoint.Query{ID: "db"})
		must(t, err)
		had := ans.Version.VersionID
		var wg sync.WaitGroup
		wg.Go(func() {
			got, err := r.agent.Refresh(context.Background(), endpoint.Query{ID: "db"}, []string{had})
			if err != nil || got.Changed || got.VersionID != had {
				t.Errorf("%+v %v", got, err)
			}
		})
		r.after(10 * time.Second)
		began := time.Now()
		r.stop()
		wg.Wait()
		if took := time.Since(began); took > 0 {
			t.Errorf("the refresh went on for %s", took)
		}
		r.stop = func() {}
	})
}
