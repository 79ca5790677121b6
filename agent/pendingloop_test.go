package agent

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"secretsd/agent/secret"
	"secretsd/agent/store"
	"secretsd/sinks/endpoint"
)

// TestRefusingBothVersionsInTurnDoesNotMoveFilesForEver has a client, or two, refuse
// now the current and now the pending version: each move would restart who uses them.
func TestRefusingBothVersionsInTurnDoesNotMoveFilesForEver(t *testing.T) {
	runDB(t, "true", func(r *running, first string) {
		r.pend(pendingOne, "two")
		before := strings.Count(r.log.String(), "published file")
		for range 20 {
			for _, id := range []string{first, pendingOne} {
				if _, err := r.agent.Refresh(context.Background(), endpoint.Query{ID: "db"}, []string{id}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
		}
		if n := strings.Count(r.log.String(), "published file") - before; n > 2 {
			t.Errorf("files were written %d times", n)
		}
		if r.file("out") != "one" {
			t.Errorf("the file holds %q", r.file("out"))
		}
		// Who was refused has it all the same, and later so do files.
		if got := r.refused(first); got.Pending == nil || got.VersionID != pendingOne {
			t.Errorf("%+v", got)
		}
		r.after(huntTime)
		if got := r.refused(first); got.VersionID != pendingOne || r.file("out") != "two" {
			t.Errorf("%+v, the file holds %q", got, r.file("out"))
		}
	})
}

// TestAPendingVersionOfAnotherSecretIsNotShown has a reload choose a source whose
// secret has the same version id, as a replica does, while a read was under way.
func TestAPendingVersionOfAnotherSecretIsNotShown(t *testing.T) {
	src := newFakeSource()
	s := every("db", time.Minute)
	s.pending = true
	src.set(s.ref, "v1", "one")
	refreshing(t, src, []*schedule{s}, func(r *refresher, st *store.Store) {
		time.Sleep(time.Second)
		v := newVersion(secret.Ref{ID: "db", Stage: secret.StagePending}, "v2", "two")
		v.ARN += "-other"
		r.showPending(s, []string{"v1"}, v)
		if e, _ := st.Snapshot().Get("db"); e.Pending != nil {
			t.Error("it is shown")
		}
	})
}

// TestOneSecretUnderTwoNamesShowsOneVersion has a file be made of both names: it must
// never be made of two versions.
func TestOneSecretUnderTwoNamesShowsOneVersion(t *testing.T) {
	conf := "refresh: {interval: 1h}\nsecrets: [{name: db, id: prod/db, pending: true}, {name: same, id: prod/db, pending: true}]\n" +
		"files: [{path: DIR/out, contents: '{{ secret \"db\" }} {{ secret \"same\" }}'}]\n"
	runAgent(t, conf, func(r *running) { must(t, r.svc.Put("prod/db", "one")) }, func(r *running) {
		r.after(time.Second)
		first := r.versionID()
		r.pend(pendingOne, "two")
		r.refused(first)
		r.after(time.Second)
		if got := r.file("out"); got != "two two" {
			t.Errorf("the file holds %q", got)
		}
		if got := r.refused(pendingOne); got.VersionID != first || r.file("out") != "one one" {
			t.Errorf("%+v, the file holds %q", got, r.file("out"))
		}
		r.after(huntTime)
		r.refused(first)
		r.call("UpdateSecretVersionStage", map[string]any{"SecretId": "prod/db", "VersionStage": "AWSPENDING", "RemoveFromVersionId": pendingOne})
		r.after(3 * time.Hour)
		if got := r.file("out"); got != "one one" {
			t.Errorf("after it was withdrawn the file holds %q", got)
		}
		if n := strings.Count(r.log.String(), "published file"); n != 5 {
			t.Errorf("it was published %d times", n)
		}
	})
}

func TestANameThatAReloadBringsShowsThePendingVersionToo(t *testing.T) {
	one := "refresh: {interval: 1h}\nsecrets: [{name: db, id: prod/db, pending: true}]\nfiles: [{path: DIR/out, contents: '{{ secret \"db\" }}'}]\n"
	two := "refresh: {interval: 1h}\nsecrets: [{name: db, id: prod/db, pending: true}, {name: same, id: prod/db, pending: true}]\n" +
		"files: [{path: DIR/out, contents: '{{ secret \"db\" }} {{ secret \"same\" }}'}]\n"
	runAgent(t, one, func(r *running) { must(t, r.svc.Put("prod/db", "one")) }, func(r *running) {
		r.after(time.Second)
		first := r.versionID()
		r.pend(pendingOne, "two")
		r.refused(first)
		must(t, r.agent.Reload(context.Background(), r.config(two)))
		r.after(time.Second)
		if got := r.file("out"); got != "two two" {
			t.Errorf("the file holds %q", got)
		}
	})
}

// TestAllWhoWereRefusedWithThePendingVersionAreAnswered at once, with the current one.
func TestAllWhoWereRefusedWithThePendingVersionAreAnswered(t *testing.T) {
	shownPending(t, shownSecret, func(r *running, first string) {
		began := time.Now()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if got := r.refused(pendingOne); got.VersionID != first {
					t.Errorf("%+v", got)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took > 5*time.Second || r.file("out") != "one" {
			t.Errorf("after %s the file holds %q", took, r.file("out"))
		}
	})
}
