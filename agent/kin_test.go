package agent

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"secretsd/agent/secret"
	"secretsd/agent/source"
	"secretsd/agent/store"
)

// TestOneSecretByNameAndByARNHasOneVersion has each label under a name and under ARNs,
// with intervals of their own, and rotations at any time. AWSPREVIOUS has no version at
// first.
//
// The name may end as the ARN of another one does.
func TestOneSecretByNameAndByARNHasOneVersion(t *testing.T) {
	for _, name := range []string{"s", "s-abcdef"} {
		t.Run(name, func(t *testing.T) { hasOneVersion(t, name) })
	}
}

func hasOneVersion(t *testing.T, name string) {
	src := newFakeSource()
	whole := arnOf(name)
	ids := []string{name, whole, strings.TrimSuffix(whole, "-AbCdEf")}
	var secrets []*schedule
	for i, id := range ids {
		c, p := every(fmt.Sprint("cur", i), time.Minute*time.Duration(1+7*i)), every(fmt.Sprint("prev", i), time.Minute*time.Duration(1+3*i))
		c.ref.ID, p.ref = id, secret.Ref{ID: id, Stage: secret.StagePrevious}
		secrets = append(secrets, c, p)
	}
	var version atomic.Int64
	rotate := func() {
		n := version.Add(1)
		for _, s := range secrets {
			switch {
			case s.ref.Stage == secret.StageCurrent:
				src.set(s.ref, fmt.Sprint("v", n), "x")
			case n > 1:
				src.set(s.ref, fmt.Sprint("v", n-1), "x")
			default:
				src.unlabel(s.ref)
			}
		}
	}
	rotate()
	src.hook(func(_ context.Context, refs []secret.Ref) {
		if len(refs) <= len(ids) && version.Load()%3 == 0 {
			rotate() // once more, while the pairs are being settled
		}
	})
	refreshing(t, src, secrets, func(_ *refresher, st *store.Store) {
		for n := range 200 {
			if n%7 == 3 {
				rotate()
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			c, p := held(st, "cur0"), held(st, "prev0")
			for i := range ids {
				if oc, op := held(st, fmt.Sprint("cur", i)), held(st, fmt.Sprint("prev", i)); oc != c || op != p {
					t.Fatalf("step %d: by %s the pair is %q and %q, by name %q and %q", n, ids[i], oc, op, c, p)
				}
			}
			var cn, pn int
			_, _ = fmt.Sscanf(c+" "+p, "v%d v%d", &cn, &pn) // of no version nothing is left to read
			if cn != pn+1 {
				t.Fatalf("step %d: the pair is %q and %q", n, c, p)
			}
		}
	})
}

// unlabel has the label of ref be on no version.
func (f *fakeSource) unlabel(ref secret.Ref) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer[ref] = source.Result{Ref: ref, Err: &secret.Error{Kind: secret.NotFound, ID: ref.ID,
		Message: "Secrets Manager can't find the specified secret value for staging label: " + ref.Stage}}
}

// TestWhatWasNeverReadIsReadWithWhatItMayBe has a rotation come before the first read of
// AWSCURRENT, and after that of AWSPREVIOUS, which had no version.
func TestWhatWasNeverReadIsReadWithWhatItMayBe(t *testing.T) {
	src := newFakeSource()
	current, previous := every("cur", time.Hour), every("prev", time.Hour)
	current.ref = secret.Current("s")
	previous.ref = secret.Ref{ID: arnOf("s"), Stage: secret.StagePrevious}
	src.fail(current.ref, secret.Throttled)
	src.unlabel(previous.ref)
	refreshing(t, src, []*schedule{current, previous}, func(_ *refresher, st *store.Store) {
		time.Sleep(100 * time.Millisecond)
		src.set(current.ref, "v2", "two")
		src.set(previous.ref, "v1", "one")
		time.Sleep(time.Minute)
		synctest.Wait()
		if c, p := held(st, "cur"), held(st, "prev"); c != "v2" || p != "v1" {
			t.Errorf("the pair is %q and %q", c, p)
		}
	})
}

// TestSecretsThatOnlyLookAlikeAreKeptApart has ids that may mean one secret, of which
// only the answers show that they do not.
func TestSecretsThatOnlyLookAlikeAreKeptApart(t *testing.T) {
	src := newFakeSource()
	foreign := strings.Replace(arnOf("s"), "123456789012", "210987654321", 1)
	own, other, role := every("own", time.Minute), every("other", time.Minute), every("role", time.Minute)
	own.ref, other.ref = secret.Current("s"), secret.Current(foreign)
	role.ref = secret.Ref{ID: arnOf("s"), Stage: secret.StageCurrent, RoleARN: "arn:aws:iam::123456789012:role/r"}
	src.set(other.ref, "b1", "b")
	src.set(role.ref, "r1", "r")
	refreshing(t, src, []*schedule{own, other, role}, func(_ *refresher, st *store.Store) {
		time.Sleep(time.Second)
		synctest.Wait()
		if got := held(st, "own") + held(st, "other") + held(st, "role"); got != "b1r1" {
			t.Errorf("the versions are %q", got)
		}
		src.set(own.ref, "a1", "a")
		time.Sleep(2 * time.Minute)
		src.set(other.ref, "b2", "b")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := held(st, "own") + held(st, "other") + held(st, "role"); got != "a1b2r1" {
			t.Errorf("the versions are %q", got)
		}
	})
}

// TestANameThatCannotBeReadHasWhatItsARNBrings once it is known that they are one.
func TestANameThatCannotBeReadHasWhatItsARNBrings(t *testing.T) {
	src := newFakeSource()
	name, arn := every("a name", time.Minute), every("b arn", time.Minute)
	name.ref, arn.ref = secret.Current("s"), secret.Current(arnOf("s"))
	src.set(name.ref, "v1", "one")
	src.set(arn.ref, "v1", "one")
	log := &lockedLog{}
	refreshingTo(t, slog.New(slog.NewTextHandler(log, nil)), src, []*schedule{name, arn}, func(_ *refresher, st *store.Store) {
		time.Sleep(time.Second)
		for _, broken := range []secret.Ref{name.ref, arn.ref} {
			src.set(name.ref, broken.ID, "two")
			src.set(arn.ref, broken.ID, "two")
			src.fail(broken, secret.Throttled)
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			if n, a := held(st, "a name"), held(st, "b arn"); n != broken.ID || a != n {
				t.Errorf("by name it is %q, by ARN %q, want %q", n, a, broken.ID)
			}
		}
		if strings.Contains(log.String(), "cannot refresh") {
			t.Error(log.String())
		}
	})
}

const byARN = "refresh: {interval: 1h}\nsecrets: [{name: db, id: prod/db, pending: true}, {name: same, id: 'ARN', REST}]\n" +
	"files: [{path: DIR/out, contents: '{{ secret \"db\" }}{{ if has \"same\" }} {{ secret \"same\" }}{{ end }}'}]\n"

// TestOneSecretByNameAndByARNShowsOneVersion, and costs one read of AWSPENDING.
func TestOneSecretByNameAndByARNShowsOneVersion(t *testing.T) {
	shownPending(t, shownSecret, func(r *running, first string) {
		conf := strings.NewReplacer("ARN", r.agent.Status().Secrets[0].ARN, "REST", "pending: true").Replace(byARN)
		r.restart(conf)
		if got := r.file("out"); got != "two two" {
			t.Errorf("after the start the file holds %q", got)
		}
		before := r.svc.Calls()["GetSecretValue"]
		r.after(61 * time.Minute) // the first interval is shorter, and two are longer
		if n := r.svc.Calls()["GetSecretValue"] - before; n != 1 {
			t.Errorf("AWSPENDING was read %d times", n)
		}
		if got := r.refused(pendingOne); got.VersionID != first || r.file("out") != "one one" {
			t.Errorf("%+v, the file holds %q", got, r.file("out"))
		}
		r.after(huntTime)
		r.refused(first)
		if got := r.file("out"); got != "two two" {
			t.Errorf("the file holds %q", got)
		}
		r.finish(first, pendingOne)
		r.after(3 * time.Hour)
		if got := r.file("out"); got != "two two" || r.versionID() != pendingOne {
			t.Errorf("after the rotation the file holds %q", got)
		}
	})
}

// TestNamesThatForbidPending are those that the check finds by the id, given by ARN: no
// file is made of two versions, and who was refused is helped all the same.
func TestNamesThatForbidPending(t *testing.T) {
	for rest, want := range map[string]struct{ file, said string }{
		"required: false":                     {"one one", "without pending: true"},
		"stage: AWSPREVIOUS, required: false": {"one ", "AWSPREVIOUS of the same one"},
	} {
		t.Run(rest, func(t *testing.T) {
			shownPending(t, shownSecret, func(r *running, first string) {
				if strings.Contains(rest, "AWSPREVIOUS") {
					want.file = "two one"
					r.finish(first, pendingOne)
					r.after(2 * time.Hour)
					first = pendingOne
					r.pend(pendingTwo, "three")
					r.refused(first)
					if got := r.file("out"); got != "three" {
						t.Fatalf("the file holds %q", got)
					}
				}
				conf := strings.NewReplacer("ARN", r.agent.Status().Secrets[0].ARN, "REST", rest).Replace(byARN)
				must(t, r.agent.Reload(context.Background(), r.config(conf)))
				r.after(time.Second)
				got := r.refused(first)
				if got.Pending == nil || r.file("out") != want.file {
					t.Errorf("%+v, the file holds %q", got, r.file("out"))
				}
				r.after(5 * time.Hour)
				r.restart(conf)
				if r.file("out") != want.file {
					t.Errorf("after a restart the file holds %q", r.file("out"))
				}
				if n := strings.Count(r.log.String(), "cannot show pending versions"); n != 2 || !strings.Contains(r.log.String(), want.said) {
					t.Errorf("it was said %d times", n)
				}
			})
		})
	}
}
