package agent

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"secretsd/agent/secret"
	"secretsd/agent/source/local"
	"secretsd/agent/store"
	"secretsd/sinks/endpoint"
)

const shownSecret = "refresh: {interval: 1h}\nsecrets: [{name: db, id: prod/db, pending: true}]\nfiles: [{path: DIR/out, contents: '{{ secret \"db\" }}'}]\n"

// beforePending has fault answer in the place of each read of AWSPENDING that a round
// makes after one of AWSCURRENT. The service does not say which is which.
func (r *running) beforePending(fault func() *local.Fault) {
	n := 0
	r.svc.SetFault(func(op, _ string) *local.Fault {
		if op != "GetSecretValue" {
			return nil
		}
		if n++; n%2 == 1 {
			return nil
		}
		return fault()
	})
}

// noPending has reads of AWSPENDING fail with code, of which the SDK tries none again.
func (r *running) noPending(code string) {
	r.beforePending(func() *local.Fault { return &local.Fault{Code: code, Status: 400} })
}

// shownPending starts an agent whose files show the pending version "two" of a secret
// whose current one is "one".
func shownPending(t *testing.T, conf string, body func(r *running, first string)) {
	runAgent(t, conf, func(r *running) {
		must(t, r.svc.Put("prod/db", "one"))
		must(t, r.svc.Put("prod/other", "x"))
	}, func(r *running) {
		r.after(time.Second)
		first := r.versionID()
		r.pend(pendingOne, "two")
		r.refused(first)
		if got := r.file("out"); got != "two" {
			t.Fatalf("the file holds %q", got)
		}
		body(r, first)
	})
}

func (r *running) published() int { return strings.Count(r.log.String(), "published file") }

func TestAfterARestartFilesStillShowThePendingVersion(t *testing.T) {
	shownPending(t, shownSecret, func(r *running, first string) {
		before := r.published()
		for range 3 {
			r.restart(shownSecret)
		}
		if st := r.agent.Status().Secrets[0]; r.file("out") != "two" || r.published() != before || st.Pending != pendingOne || st.VersionID != first {
			t.Errorf("the file holds %q, was written %d times, status is %+v", r.file("out"), r.published()-before, st)
		}
		data, err := os.ReadFile(filepath.Join(r.dir, "state", stateFile))
		must(t, err)
		if !bytes.Contains(data, []byte(pendingOne)) || bytes.Contains(data, []byte("two")) {
			t.Errorf("the state is %s", data)
		}
		// A file that is missing is made of it.
		must(t, os.Remove(filepath.Join(r.dir, "out")))
		r.restart(shownSecret)
		if got := r.file("out"); got != "two" {
			t.Errorf("the missing file holds %q", got)
		}
		// The end of the rotation is the end of it, and a rotation that is taken back by
		// hand afterwards is no reason to look at AWSPENDING.
		r.finish(first, pendingOne)
		r.after(2 * time.Hour)
		r.finish(pendingOne, first)
		r.after(2 * time.Hour)
		r.restart(shownSecret)
		if got := r.file("out"); got != "one" {
			t.Errorf("after all of it the file holds %q", got)
		}
	})
}

// TestWhatARestartFinds has the source be another than it was, in each way that
// matters.
func TestWhatARestartFinds(t *testing.T) {
	for name, row := range map[string]struct {
		change func(r *running, first string)
		conf   string
		want   string
	}{
		"the rotation is over":    {func(r *running, first string) { r.finish(first, pendingOne) }, shownSecret, "two"},
		"another pending version": {func(r *running, _ string) { r.pend(pendingTwo, "three") }, shownSecret, "three"},
		"the next rotation has begun": {func(r *running, first string) {
			r.finish(first, pendingOne)
			r.pend(pendingTwo, "three")
		}, shownSecret, "two"},
		"a pending version that was refused": {func(r *running, first string) {
			r.refused(pendingOne)
			r.pend(pendingTwo, "three")
			r.after(time.Second)
			r.refused(first)
			if got := r.file("out"); got != "three" {
				r.t.Errorf("before the restart the file holds %q", got)
			}
			r.call("UpdateSecretVersionStage", map[string]any{"SecretId": "prod/db", "VersionStage": "AWSPENDING", "RemoveFromVersionId": pendingTwo, "MoveToVersionId": pendingOne})
		}, shownSecret, "one"},
		"none": {func(r *running, _ string) {
			r.call("UpdateSecretVersionStage", map[string]any{"SecretId": "prod/db", "VersionStage": "AWSPENDING", "RemoveFromVersionId": pendingOne})
		}, shownSecret, "one"},
		"the refused one": {func(r *running, first string) {
			r.call("UpdateSecretVersionStage", map[string]any{"SecretId": "prod/db", "VersionStage": "AWSPENDING", "RemoveFromVersionId": pendingOne, "MoveToVersionId": first})
		}, shownSecret, "one"},
		"not what is expected": {func(r *running, _ string) { r.pend(pendingTwo, "3") }, strings.Replace(shownSecret, "pending: true", "pending: true, expect: {min_bytes: 2}", 1), "one"},
		"not wanted":           {func(*running, string) {}, strings.Replace(shownSecret, ", pending: true", "", 1), "one"},
		"denied":               {func(r *running, _ string) { r.noPending("AccessDeniedException") }, shownSecret, "one"},
		"the secret was made anew": {func(r *running, first string) {
			r.call("DeleteSecret", map[string]any{"SecretId": "prod/db", "ForceDeleteWithoutRecovery": true})
			// With the ids that it had, as no service would give them.
			r.call("CreateSecret", map[string]any{"Name": "prod/db", "SecretString": "new", "ClientRequestToken": first})
			r.pend(pendingOne, "newer")
		}, shownSecret, "new"},
	} {
		t.Run(name, func(t *testing.T) {
			shownPending(t, shownSecret, func(r *running, first string) {
				row.change(r, first)
				r.restart(row.conf)
				if got := r.file("out"); got != row.want {
					t.Errorf("the file holds %q, want %q", got, row.want)
				}
			})
		})
	}
}

// TestWhatIsOverIsForgotten: a pending version that comes later is none that anybody was
// refused beside, and of secrets that are not configured any more nothing is kept.
func TestWhatIsOverIsForgotten(t *testing.T) {
	kept := func(r *running) bool {
		data, err := os.ReadFile(filepath.Join(r.dir, "state", stateFile))
		must(t, err)
		return bytes.Contains(data, []byte(pendingOne))
	}
	shownPending(t, shownSecret, func(r *running, _ string) {
		r.call("UpdateSecretVersionStage", map[string]any{"SecretId": "prod/db", "VersionStage": "AWSPENDING", "RemoveFromVersionId": pendingOne})
		r.restart(shownSecret)
		r.pend(pendingTwo, "three")
		r.after(3 * time.Hour)
		r.restart(shownSecret)
		if got := r.file("out"); got != "one" || kept(r) {
			t.Errorf("the file holds %q, kept %v", got, kept(r))
		}
	})
	shownPending(t, shownSecret, func(r *running, _ string) {
		if !kept(r) {
			t.Error("it is not kept")
		}
		r.restart(strings.Replace(shownSecret, "prod/db", "prod/other", 1))
		r.after(time.Hour)
		if kept(r) {
			t.Error("it is kept for ever")
		}
	})
}

// TestAPendingVersionOfTheSecretBeforeIsNotShownAgain has the secret be made anew between
// the reads of its two labels, with the same ids.
func TestAPendingVersionOfTheSecretBeforeIsNotShownAgain(t *testing.T) {
	src := newFakeSource()
	s := every("db", time.Minute)
	s.pending = true
	pending := secret.Ref{ID: "db", Stage: secret.StagePending}
	src.set(s.ref, "v1", "one")
	refreshing(t, src, []*schedule{s}, func(r *refresher, st *store.Store) {
		time.Sleep(time.Second)
		r.showPending(s, []string{"v1"}, newVersion(pending, "v2", "two"))
		src.set(pending, "v2", "another")
		src.answer[pending].Version.ARN += "-other"
		renamed := every("account", time.Minute)
		renamed.ref, renamed.pending = s.ref, true
		r.configure(src, []*schedule{renamed})
		time.Sleep(time.Second)
		synctest.Wait()
		if e, _ := st.Snapshot().Get("account"); e.Version == nil || e.Pending != nil || e.Unsettled != nil || len(src.of(pending)) != 1 {
			t.Errorf("AWSPENDING was read %d times, the entry is %+v", len(src.of(pending)), e)
		}
	})
}

// TestAnOutageOfThePendingVersionAtTheStart: the file that is there is the best that is
// known, however long it takes, and one that is missing is not left out for ever.
func TestAnOutageOfThePendingVersionAtTheStart(t *testing.T) {
	conf := strings.Replace(shownSecret, "files: [", "files: [{path: DIR/more, contents: '{{ secret \"db\" }}'}, ", 1)
	shownPending(t, conf, func(r *running, first string) {
		must(t, os.Remove(filepath.Join(r.dir, "more")))
		r.noPending("InternalFailure")
		r.restart(conf)
		if st := r.agent.Status(); !st.Secrets[0].Unsettled || st.Secrets[0].Error == "" || st.Files[0].State != FileWaiting || st.Files[1].State != FileWaiting || st.Ready {
			t.Errorf("status is %+v", st)
		}
		if r.file("out") != "two" || !strings.Contains(r.file("more"), "no such file") {
			t.Errorf("the files hold %q and %q", r.file("out"), r.file("more"))
		}
		// One more restart forgets nothing.
		r.restart(conf)
		r.after(2 * time.Minute)
		if st := r.agent.Status(); r.file("out") != "two" || r.file("more") != "one" || !st.Ready {
			t.Errorf("after a while the files hold %q and %q, ready %v", r.file("out"), r.file("more"), st.Ready)
		}
		if n := strings.Count(r.log.String(), "AWSPENDING cannot be read"); n != 2 {
			t.Errorf("it was said %d times, want once by each agent", n)
		}
		r.after(5 * time.Hour)
		if r.file("out") != "two" {
			t.Errorf("after hours the file holds %q", r.file("out"))
		}
		r.svc.SetFault(nil)
		r.after(time.Minute)
		if st := r.agent.Status().Secrets[0]; r.file("out") != "two" || r.file("more") != "two" || st.Pending != pendingOne || st.Unsettled {
			t.Errorf("afterwards the files hold %q and %q, status is %+v", r.file("out"), r.file("more"), st)
		}
	})
}

// TestAnOutageOfThePendingVersionPullsNobodyAlong: it is read again and again, and other
// secrets of the same interval are not.
func TestAnOutageOfThePendingVersionPullsNobodyAlong(t *testing.T) {
	src := newFakeSource()
	s, other := every("db", time.Hour), every("other", time.Hour)
	s.pending = true
	pending := secret.Ref{ID: "db", Stage: secret.StagePending}
	src.set(s.ref, "v1", "one")
	src.set(other.ref, "v1", "x")
	refreshing(t, src, []*schedule{s, other}, func(r *refresher, st *store.Store) {
		time.Sleep(time.Second)
		r.showPending(s, []string{"v1"}, newVersion(pending, "v2", "two"))
		src.fail(pending, secret.Throttled)
		renamed := every("account", time.Hour)
		renamed.ref, renamed.pending = s.ref, true
		r.configure(src, []*schedule{renamed, every("other", time.Hour)})
		time.Sleep(5 * time.Hour)
		synctest.Wait()
		if n := len(src.of(pending)); n < 5*3600/30 || n > 5*3600/7 {
			t.Errorf("AWSPENDING was read %d times in 5 hours", n)
		}
		if n := len(src.of(other.ref)); n > 7 {
			t.Errorf("the other secret was read %d times in 5 hours", n)
		}
		// The end of the rotation is the end of that.
		src.set(s.ref, "v2", "two")
		time.Sleep(time.Minute)
		before := len(src.of(s.ref))
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if e, _ := st.Snapshot().Get("account"); e.Version.VersionID != "v2" || e.Unsettled != nil || len(src.of(s.ref)) > before+1 {
			t.Errorf("the secret was read %d times, the entry is %+v", len(src.of(s.ref))-before, e)
		}
	})
}

// TestAReplacedPendingVersionIsFollowed: AWSCURRENT is known to be refused, so that the
// next one is tried.
func TestAReplacedPendingVersionIsFollowed(t *testing.T) {
	shownPending(t, shownSecret, func(r *running, _ string) {
		before := r.published()
		r.pend(pendingTwo, "three")
		r.after(3 * time.Hour)
		if r.file("out") != "three" || r.published() != before+1 {
			t.Errorf("the file holds %q, was written %d times", r.file("out"), r.published()-before)
		}
	})
}

// TestAReloadKeepsWhatWasRefused: of a secret that has another name, or is read another
// way, the agent knows the same.
func TestAReloadKeepsWhatWasRefused(t *testing.T) {
	shownPending(t, shownSecret, func(r *running, first string) {
		before := r.published()
		renamed := strings.ReplaceAll(shownSecret, "db", "account")
		renamed = strings.ReplaceAll(renamed, "prod/account", "prod/db")
		must(t, r.agent.Reload(context.Background(), r.config(renamed)))
		r.after(time.Second)
		byARN := strings.Replace(shownSecret, "id: prod/db", "id: "+r.agent.Status().Secrets[0].ARN, 1)
		must(t, r.agent.Reload(context.Background(), r.config(byARN)))
		r.after(time.Second)
		if st := r.agent.Status().Secrets[0]; r.file("out") != "two" || r.published() != before || st.Pending != pendingOne || st.VersionID != first {
			t.Errorf("the file holds %q, was written %d times, status is %+v", r.file("out"), r.published()-before, st)
		}
	})
}

// TestASpurnedVersionStaysSoForAMinute through a reload that renames the secret, and
// through a restart.
func TestASpurnedVersionStaysSoForAMinute(t *testing.T) {
	shownPending(t, shownSecret, func(r *running, first string) {
		r.refused(pendingOne)
		if got := r.file("out"); got != "one" {
			t.Fatalf("the file holds %q", got)
		}
		r.restart(shownSecret)
		if got := r.refused(first); got.Pending == nil || r.file("out") != "one" {
			t.Errorf("%+v, the file holds %q", got, r.file("out"))
		}
		must(t, r.agent.Reload(context.Background(), r.config(strings.Replace(shownSecret, "interval: 1h", "interval: 2h", 1))))
		r.after(time.Second)
		if got := r.refused(first); got.Pending == nil || r.file("out") != "one" {
			t.Errorf("after a reload: %+v, the file holds %q", got, r.file("out"))
		}
		r.after(huntTime)
		if got := r.refused(first); got.Pending == nil || r.file("out") != "two" {
			t.Errorf("later: %+v, the file holds %q", got, r.file("out"))
		}
	})
}

// TestTheEndOfARotationIsNoWithdrawal has finishSecret come between the reads of
// AWSCURRENT and of AWSPENDING, which the service takes the label from by then.
func TestTheEndOfARotationIsNoWithdrawal(t *testing.T) {
	for _, how := range []string{"running", "restarted"} {
		t.Run(how, func(t *testing.T) {
			shownPending(t, shownSecret, func(r *running, first string) {
				ended := false
				r.beforePending(func() *local.Fault {
					if !ended {
						ended = true
						r.finish(first, pendingOne)
						r.call("UpdateSecretVersionStage", map[string]any{"SecretId": "prod/db", "VersionStage": "AWSPENDING", "RemoveFromVersionId": pendingOne})
					}
					return nil
				})
				before := r.published()
				if how == "restarted" {
					r.restart(shownSecret)
				} else {
					r.after(3 * time.Hour)
				}
				if !ended || r.file("out") != "two" || r.published() != before || r.versionID() != pendingOne ||
					strings.Contains(r.log.String(), "withdrawn") || strings.Contains(r.log.String(), "there no more") {
					t.Errorf("ended %v, the file holds %q, was written %d times, the version is %s", ended, r.file("out"), r.published()-before, r.versionID())
				}
			})
		})
	}
}

// TestARotationThatEndedUnseenIsNoWayBack: who is refused with what was pending once is
// not given, in the next rotation, what was refused in the one before. Also where the
// secret was read a moment ago, or as often as clients may have it read.
func TestARotationThatEndedUnseenIsNoWayBack(t *testing.T) {
	for name, reads := range map[string]int{"a moment ago": 0, "too often": 10} {
		t.Run(name, func(t *testing.T) {
			shownPending(t, shownSecret, func(r *running, first string) {
				for range reads {
					_, err := r.agent.Read(context.Background(), endpoint.Query{ID: "db", Refresh: true})
					must(t, err)
				}
				time.Sleep(10 * time.Millisecond)
				r.finish(first, pendingOne)
				r.pend(pendingTwo, "three")
				before := r.published()
				if got := r.refused(pendingOne); got.VersionID == first {
					t.Errorf("%+v", got)
				}
				if got := r.refused(pendingOne); got.Pending == nil || got.VersionID != pendingTwo {
					t.Errorf("asked again: %+v", got)
				}
				if r.file("out") != "three" || r.published() != before+1 {
					t.Errorf("the file holds %q, was written %d times", r.file("out"), r.published()-before)
				}
			})
		})
	}
}

// A version that was refused before is no answer to whoever is refused with the pending
// one, as long as it is not settled which of them files show.
func TestARefusedVersionThatIsNotSettledIsNoAnswer(t *testing.T) {
	shownPending(t, shownSecret, func(r *running, first string) {
		r.noPending("InternalFailure")
		r.restart(shownSecret)
		got, err := r.agent.Refresh(context.Background(), endpoint.Query{ID: "db"}, []string{pendingOne})
		if err == nil && (got.Changed || got.Pending != nil) {
			t.Errorf("the answer is %+v", got)
		}
		r.svc.SetFault(nil)
		r.pend(pendingTwo, "three")
		if got := r.refused(pendingOne); got.VersionID != pendingTwo {
			t.Errorf("then the answer is %+v", got)
		}
		if got := r.file("out"); got != "three" {
			t.Errorf("the file holds %q", got)
		}
	})
}

// TestAVersionThatBecameCurrentUnseenStaysRefused: between a restart and the first read
// of AWSPENDING that works a rotation ends and the next begins. Whoever is refused with
// what is current by then is given what is pending, and a further restart knows it.
func TestAVersionThatBecameCurrentUnseenStaysRefused(t *testing.T) {
	for _, since := range []time.Duration{0, 100 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond} {
		t.Run(since.String(), func(t *testing.T) {
			shownPending(t, shownSecret, func(r *running, first string) {
				r.noPending("InternalFailure")
				r.restart(shownSecret)
				time.Sleep(since)
				r.svc.SetFault(nil)
				r.finish(first, pendingOne)
				r.pend(pendingTwo, "three")
				if got := r.refused(pendingOne); got.VersionID != pendingTwo {
					t.Errorf("the answer is %+v", got)
				}
				before := r.published()
				r.restart(shownSecret)
				if r.file("out") != "three" || r.published() != before {
					t.Errorf("after a restart the file holds %q, and was written %d times", r.file("out"), r.published()-before)
				}
			})
		})
	}
}
