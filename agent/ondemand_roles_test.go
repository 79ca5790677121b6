package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/secret"
	"secretsd/agent/source/local"
	"secretsd/sinks/endpoint"
)

func testRole(name string) string { return "arn:aws:iam::999999999999:role/" + name }

// as returns the ref that reads id with a role, which the source knows.
func (f *fakeSource) as(id, role string) secret.Ref {
	ref := secret.Current(id)
	ref.RoleARN = testRole(role)
	f.set(ref, id+"-"+role, "x")
	return ref
}

func (f *fakeSource) letGo() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(slices.Values(f.released))
}

// reader returns what reads an entry of o in a minute's interval.
func reader(o *onDemand) func(ref secret.Ref) (string, error) {
	return func(ref secret.Ref) (string, error) {
		ans, err := o.read(context.Background(), ref, time.Minute, false)
		if err != nil {
			return "", err
		}
		return ans.Version.VersionID, nil
	}
}

func isTooMany(err error) bool {
	var e *secret.Error
	return errors.As(err, &e) && e.Code == "MaxRolesExceeded"
}

// TestRolesAreCappedAndGivenUp is C69, and what AWS's agent cannot: a role that
// nobody needs any more makes room for another.
func TestRolesAreCappedAndGivenUp(t *testing.T) {
	src := newFakeSource()
	a, b, c := src.as("db", "a"), src.as("db", "b"), src.as("db", "c")
	demanding(t, src, func(o *onDemand) {
		o.limits.roles = 2
		read := reader(o)
		for _, ref := range []secret.Ref{a, b} {
			if id, err := read(ref); err != nil || !strings.HasPrefix(id, "db-") {
				t.Fatalf("%s: %q %v", ref.RoleARN, id, err)
			}
		}
		_, err := read(c)
		var e *secret.Error
		if !errors.As(err, &e) || e.Status != 400 || e.Code != "MaxRolesExceeded" || e.Message !=
			"The maximum number of assumed roles (2) has been reached. Unable to assume the following role to create a client: "+c.RoleARN {
			t.Errorf("the third role: %v", err)
		}
		if n := len(src.of(c)); n != 0 {
			t.Errorf("the third role was read with %d times", n)
		}
		// More of a role in use, and what needs none.
		src.set(secret.Current("own"), "own", "x")
		for _, ref := range []secret.Ref{a, b, src.as("api", "a"), secret.Current("own")} {
			if _, err := read(ref); err != nil {
				t.Errorf("%s with %q: %v", ref.ID, ref.RoleARN, err)
			}
		}
		for range 20 {
			time.Sleep(10 * time.Second)
			_, err := read(a)
			must(t, err)
		}
		if diff := cmp.Diff([]string{b.RoleARN}, src.letGo()); diff != "" {
			t.Errorf("roles let go (-want +got):\n%s", diff)
		}
		if id, err := read(c); err != nil || id != "db-c" {
			t.Errorf("in the place of the role given up: %q %v", id, err)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if diff := cmp.Diff([]string{a.RoleARN, b.RoleARN, c.RoleARN}, src.letGo()); diff != "" {
			t.Errorf("roles let go (-want +got):\n%s", diff)
		}
		if len(o.holders) != 0 {
			t.Errorf("still held: %v", o.holders)
		}
	})
}

// TestARoleHasEntriesOfItsOwn is C70.
func TestARoleHasEntriesOfItsOwn(t *testing.T) {
	src := newFakeSource()
	as, own := src.as("db", "a"), secret.Current("db")
	src.set(own, "own", "x")
	demanding(t, src, func(o *onDemand) {
		read := reader(o)
		for range 3 {
			if id, err := read(as); err != nil || id != "db-a" {
				t.Errorf("with the role: %q %v", id, err)
			}
			if id, err := read(own); err != nil || id != "own" {
				t.Errorf("without: %q %v", id, err)
			}
		}
		if a, b := len(src.of(as)), len(src.of(own)); a != 1 || b != 1 {
			t.Errorf("%d and %d reads", a, b)
		}
	})
}

// TestARoleThatFailsTakesNoPlace asks for roles that do not exist all the time.
func TestARoleThatFailsTakesNoPlace(t *testing.T) {
	src := newFakeSource()
	good := src.as("db", "good")
	demanding(t, src, func(o *onDemand) {
		o.limits.roles = 1
		read := reader(o)
		for i := range 10 {
			bad := src.as("db", fmt.Sprint("bad", i))
			src.fail(bad, secret.Denied)
			if _, err := read(bad); secret.KindOf(err) != secret.Denied {
				t.Errorf("a role that is refused: %v", err)
			}
		}
		if _, err := read(good); err != nil {
			t.Errorf("beside them: %v", err)
		}
		time.Sleep(2 * negativeAge)
		synctest.Wait()
		if n := len(src.letGo()); n != 10 {
			t.Errorf("%d of the refused roles were let go", n)
		}
	})
}

// TestRolesBeingAssumedCount has many clients come at once with roles of their
// own, and one that needs none while STS does not answer.
func TestRolesBeingAssumedCount(t *testing.T) {
	src := newFakeSource()
	own := secret.Current("own")
	src.set(own, "own", "x")
	src.hook(func(_ context.Context, refs []secret.Ref) {
		if refs[0].RoleARN != "" {
			time.Sleep(10 * time.Second)
		}
	})
	demanding(t, src, func(o *onDemand) {
		o.limits.roles = 2
		read := reader(o)
		refs := make([]secret.Ref, 5)
		for i := range refs {
			refs[i] = src.as("db", fmt.Sprint(i))
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		served, refused := 0, 0
		for _, ref := range refs {
			wg.Go(func() {
				_, err := read(ref)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					served++
				case isTooMany(err):
					refused++
				default:
					t.Errorf("%v", err)
				}
			})
		}
		synctest.Wait()
		before := time.Now()
		_, err := read(own)
		must(t, err)
		if waited := time.Since(before); waited > 0 {
			t.Errorf("what needs no role waited for %s", waited)
		}
		wg.Wait()
		if served != 2 || refused != 3 {
			t.Errorf("%d served and %d refused", served, refused)
		}
	})
}

// TestConfiguredRolesAreNotCounted, and go when the configuration lets them go.
func TestConfiguredRolesAreNotCounted(t *testing.T) {
	src := newFakeSource()
	configured, other := src.as("db", "configured"), src.as("db", "other")
	demanding(t, src, func(o *onDemand) {
		keepAll := func(secret.Ref, *secret.Version) (time.Duration, bool) { return time.Minute, true }
		limits := demandLimits{entries: 10, roles: 1, stale: time.Hour, ownRoles: map[string]bool{configured.RoleARN: true, "": true}}
		o.configure(limits, keepAll)
		read := reader(o)
		for _, ref := range []secret.Ref{other, configured, other} {
			_, err := read(ref)
			must(t, err)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if diff := cmp.Diff([]string{other.RoleARN}, src.letGo()); diff != "" {
			t.Errorf("roles let go (-want +got):\n%s", diff)
		}
		limits.ownRoles = nil
		o.configure(limits, keepAll)
		if diff := cmp.Diff([]string{configured.RoleARN, other.RoleARN}, src.letGo()); diff != "" {
			t.Errorf("after the reload (-want +got):\n%s", diff)
		}
	})
}

// TestARoleStaysWhileItIsReadWith drops an entry in the middle of its read.
func TestARoleStaysWhileItIsReadWith(t *testing.T) {
	src := newFakeSource()
	ref := src.as("db", "a")
	src.hook(func(context.Context, []secret.Ref) { time.Sleep(time.Second) })
	demanding(t, src, func(o *onDemand) {
		got := make(chan error)
		go func() {
			_, err := reader(o)(ref)
			got <- err
		}()
		synctest.Wait()
		o.configure(o.limits, func(secret.Ref, *secret.Version) (time.Duration, bool) { return 0, false })
		if gone := src.letGo(); gone != nil {
			t.Errorf("in the middle of a read %v were let go", gone)
		}
		if err := <-got; err != nil {
			t.Errorf("the read ended with %v", err)
		}
		synctest.Wait()
		if diff := cmp.Diff([]string{ref.RoleARN}, src.letGo()); diff != "" {
			t.Errorf("after the read (-want +got):\n%s", diff)
		}
	})
}

// runServing runs a whole agent that listens, in real time, on a service that has
// the secrets ids, and body when what is configured has been read.
func runServing(t *testing.T, conf string, ids []string, body func(r *running)) {
	r := &running{t: t, dir: memoryDir(t), svc: local.New(local.Options{})}
	for _, id := range ids {
		must(t, r.svc.Put(id, "x"))
	}
	ready := make(chan struct{})
	var err error
	r.agent, err = New(context.Background(), r.config(conf), Options{Local: r.svc, Ready: func(Counts) { close(ready) }})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.agent.Run(ctx) }()
	<-ready
	body(r)
	cancel()
	must(t, <-done)
}

// TestRolesAreDecidedBeforeAWSIsAsked runs a whole agent, on a source that reads
// the same with every role.
func TestRolesAreDecidedBeforeAWSIsAsked(t *testing.T) {
	const fixed = "arn:aws:iam::123456789012:role/fixed"
	conf := `
refresh: {interval: 1h}
secrets: [{name: fixed, id: prod/fixed, role_arn: "` + fixed + `"}, {name: own, id: prod/own}]
endpoint:
  listen: 127.0.0.1:0
  token_file: DIR/token
  on_demand: {secrets: [prod/*, "arn:aws:secretsmanager:us-east-1:123456789012:secret:arn/*"], roles: ["arn:aws:iam::*:role/app/*"], max_roles: 1}
`
	appA, appB := "arn:aws:iam::123456789012:role/app/a", "arn:aws:iam::999999999999:role/app/b"
	ids := []string{"prod/fixed", "prod/own", "prod/db", "arn/db", "dev/db"}
	runServing(t, conf, ids, func(r *running) {
		ask := func(id, role string, rights *endpoint.Rights) error {
			_, err := r.agent.Read(context.Background(), endpoint.Query{ID: id, Role: role, Rights: rights})
			return err
		}
		rights := func(secrets, roles []string) *endpoint.Rights {
			return &endpoint.Rights{Secrets: secrets, Roles: roles}
		}
		all := []string{"*"}
		before := r.svc.Calls()["GetSecretValue"]
		for _, c := range []struct {
			id, role string
			rights   *endpoint.Rights
		}{
			{"prod/db", "arn:aws:iam::123456789012:role/other", nil},
			{"prod/db", "arn:aws:iam::123456789012:role/other", rights(all, all)},
			{"prod/db", appA, rights(all, nil)},
			{"prod/db", appA, rights(all, []string{appB})},
			{"prod/db", appA, rights([]string{"prod/a*"}, all)},
			{"prod/unknown", appA, rights([]string{"prod/a*"}, all)},
			{"dev/db", appA, nil},
			// Of another account than the ARNs allowed.
			{"arn/db", appB, nil},
			{"prod/fixed", fixed, rights(all, nil)},
			{"prod/fixed", fixed, rights([]string{"prod/own"}, all)},
			// With another role it is not the configured secret.
			{"prod/fixed", "arn:aws:iam::123456789012:role/other", nil},
			{"prod/own", fixed, nil},
		} {
			if err := ask(c.id, c.role, c.rights); err != endpoint.ErrForbidden {
				t.Errorf("%s as %s with %+v: %v", c.id, c.role, c.rights, err)
			}
		}
		if after := r.svc.Calls()["GetSecretValue"]; after != before {
			t.Errorf("the refusals cost %d calls", after-before)
		}
		must(t, ask("prod/fixed", fixed, nil))
		must(t, ask("fixed", fixed, nil))
		must(t, ask("prod/fixed", fixed, rights([]string{"prod/fixed"}, []string{fixed})))
		if after := r.svc.Calls()["GetSecretValue"]; after != before {
			t.Errorf("what is configured cost %d calls", after-before)
		}
		must(t, ask("prod/db", appA, nil))
		must(t, ask("prod/db", appA, rights([]string{"prod/*"}, []string{"*:role/app/*"})))
		must(t, ask("arn/db", appA, nil))
		must(t, ask("prod/fixed", appA, nil))
		if after := r.svc.Calls()["GetSecretValue"]; after != before+3 {
			t.Errorf("three secrets cost %d calls", after-before)
		}
		if err := ask("prod/db", appB, nil); !isTooMany(err) {
			t.Errorf("a second role: %v", err)
		}
		// A reload to what does not allow the role any more.
		must(t, r.agent.Reload(context.Background(), r.config(strings.ReplaceAll(conf, "role/app/*", "role/app/b"))))
		if err := ask("prod/db", appA, nil); err != endpoint.ErrForbidden {
			t.Errorf("after the reload: %v", err)
		}
		must(t, ask("prod/db", appB, nil))
	})
}

// TestRefreshWithARole looks for a new version of what is read with a role.
func TestRefreshWithARole(t *testing.T) {
	conf := "endpoint: {listen: \"127.0.0.1:0\", token_file: DIR/token, on_demand: {secrets: [\"*\"], roles: [\"*\"]}}\n"
	runServing(t, conf, []string{"db"}, func(r *running) {
		q := endpoint.Query{ID: "db", Role: testRole("a"), Refresh: true}
		had, err := r.agent.Read(context.Background(), q)
		must(t, err)
		must(t, r.svc.Put("db", "two"))
		got, err := r.agent.Refresh(context.Background(), q, []string{had.Version.VersionID})
		if err != nil || !got.Changed || got.VersionID == had.Version.VersionID {
			t.Errorf("%+v %v", got, err)
		}
	})
}
