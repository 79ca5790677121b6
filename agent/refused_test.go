package agent

import (
	"context"
	"sync"
	"testing"
	"time"

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
				got, err := r.agent.Refresh(ctx, endpoint.Query{ID: "prod/db"}, first)
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
		if got, err := r.agent.Refresh(ctx, endpoint.Query{ID: "db"}, first); err != nil || !got.Changed {
			t.Errorf("%+v %v", got, err)
		}
		if time.Since(began) > 0 || r.svc.Calls()["GetSecretValue"] != before {
			t.Error("an old version cost time or a call")
		}
		ans, err = r.agent.Read(ctx, endpoint.Query{ID: "db"})
		must(t, err)
		began = time.Now()
		if got, err := r.agent.Refresh(ctx, endpoint.Query{ID: "db"}, ans.Version.VersionID); err != nil || got.Changed || got.VersionID != ans.Version.VersionID {
			t.Errorf("nothing moves: %+v %v", got, err)
		}
		if took := time.Since(began); took < 45*time.Second || took > time.Minute {
			t.Errorf("it gave up after %s", took)
		}
		if got, err := r.agent.Refresh(ctx, endpoint.Query{ID: "db"}, ""); err != nil || got.Changed {
			t.Errorf("without a refused version: %+v %v", got, err)
		}
		if _, err := r.agent.Refresh(ctx, endpoint.Query{ID: "db", Rights: mayRead("other")}, first); err != endpoint.ErrForbidden {
			t.Errorf("without the right: %v", err)
		}
		r.svc.SetFault(func(string, string) *local.Fault {
			return &local.Fault{Code: "AccessDeniedException", Message: "no", Status: 400}
		})
		began = time.Now()
		if _, err := r.agent.Refresh(ctx, endpoint.Query{ID: "db"}, ans.Version.VersionID); secret.KindOf(err) != secret.Denied || time.Since(began) > time.Second {
			t.Errorf("denied: %v after %s", err, time.Since(began))
		}
	})
}
