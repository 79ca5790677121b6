package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"secretsd/agent/secret"
	"secretsd/agent/source/local"
	"secretsd/sinks/endpoint"
)

// demanding runs an on-demand table over src until body returns.
func demanding(t *testing.T, src *fakeSource, body func(o *onDemand)) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		src.start = start
		clock := func() time.Duration { return time.Since(start) + time.Hour }
		o := newOnDemand(clock, discard, func() fetcher { return src })
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { o.run(ctx); close(done) }()
		defer func() { cancel(); <-done; synctest.Wait() }()
		body(o)
	})
}

func TestWhatIsAskedForStaysFreshAndTheRestIsForgotten(t *testing.T) {
	src := newFakeSource()
	asked, left := secret.Current("asked"), secret.Current("left")
	src.set(asked, "v1", "x")
	src.set(left, "v1", "x")
	demanding(t, src, func(o *onDemand) {
		read := func(ref secret.Ref) endpoint.Answer {
			ans, err := o.read(context.Background(), ref, time.Minute, false)
			must(t, err)
			return ans
		}
		read(left)
		src.hook(func(context.Context, []secret.Ref) { time.Sleep(time.Second) })
		for range 600 {
			before := time.Now()
			ans := read(asked)
			if waited := time.Since(before); waited > 0 && len(src.of(asked)) > 1 {
				t.Errorf("a read of what is known waited for %s", waited)
			}
			if age := time.Since(ans.Confirmed); age > time.Minute {
				t.Errorf("an answer is %s old", age)
			}
			time.Sleep(time.Second)
		}
		if n := len(src.of(asked)); n < 10 || n > 14 {
			t.Errorf("in ten minutes %d reads of what is asked for", n)
		}
		if n := len(src.of(left)); n != 1 {
			t.Errorf("%d reads of what nobody asked for again", n)
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		o.mu.Lock()
		defer o.mu.Unlock()
		if len(o.known) != 0 {
			t.Errorf("nobody asks any more, and %d entries are kept", len(o.known))
		}
	})
}

func TestOneReadForAllWhoAsk(t *testing.T) {
	src := newFakeSource()
	ref, absent := secret.Current("db"), secret.Current("absent")
	src.set(ref, "v1", "x")
	src.hook(func(context.Context, []secret.Ref) { time.Sleep(time.Second) })
	demanding(t, src, func(o *onDemand) {
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if ans, err := o.read(context.Background(), ref, time.Minute, false); err != nil || ans.Version.VersionID != "v1" {
					t.Errorf("%+v %v", ans, err)
				}
				if _, err := o.read(context.Background(), absent, time.Minute, false); secret.KindOf(err) != secret.NotFound {
					t.Errorf("what is not there: %v", err)
				}
			})
		}
		wg.Wait()
		if a, b := len(src.of(ref)), len(src.of(absent)); a != 1 || b != 1 {
			t.Errorf("%d and %d reads", a, b)
		}
		src.set(absent, "v2", "y")
		time.Sleep(negativeAge + time.Second)
		if ans, err := o.read(context.Background(), absent, time.Minute, false); err != nil || ans.Version.VersionID != "v2" {
			t.Errorf("what has appeared: %v", err)
		}
		src.set(ref, "v3", "z")
		if ans, err := o.read(context.Background(), ref, time.Minute, true); err != nil || ans.Version.VersionID != "v3" {
			t.Errorf("refreshed: %v", err)
		}
		if ans, err := o.read(context.Background(), ref, time.Minute, false); err != nil || ans.Version.VersionID != "v3" {
			t.Errorf("after the refresh: %v", err)
		}
	})
}

func TestOnDemandOutlastsAnOutage(t *testing.T) {
	src := newFakeSource()
	ref := secret.Current("db")
	src.set(ref, "v1", "x")
	demanding(t, src, func(o *onDemand) {
		o.limits.stale = 30 * time.Minute
		read := func(refresh bool) (endpoint.Answer, error) {
			return o.read(context.Background(), ref, time.Minute, refresh)
		}
		_, err := read(false)
		must(t, err)
		src.fail(ref, secret.Transient)
		if _, err := read(true); secret.KindOf(err) != secret.Transient {
			t.Errorf("a refresh in the outage: %v", err)
		}
		for range 25 {
			time.Sleep(time.Minute)
			if ans, err := read(false); err != nil || ans.Version.VersionID != "v1" || !ans.Stale {
				t.Fatalf("in the outage: %+v %v", ans, err)
			}
		}
		if n := len(src.of(ref)); n > 45 {
			t.Errorf("%d reads in 25 minutes of outage", n)
		}
		time.Sleep(10 * time.Minute)
		if _, err := read(false); secret.KindOf(err) != secret.Transient {
			t.Errorf("after max_stale: %v", err)
		}
		src.set(ref, "v2", "y")
		time.Sleep(2 * time.Minute)
		if ans, err := read(false); err != nil || ans.Version.VersionID != "v2" || ans.Stale {
			t.Errorf("after the outage: %+v %v", ans, err)
		}
	})
}

func TestTheTableIsCapped(t *testing.T) {
	src := newFakeSource()
	keep := secret.Current("keep")
	src.set(keep, "v1", "x")
	demanding(t, src, func(o *onDemand) {
		o.limits.entries = 10
		for i := range 100 {
			_, err := o.read(context.Background(), keep, time.Hour, false)
			must(t, err)
			_, _ = o.read(context.Background(), secret.Current(fmt.Sprint("no", i)), time.Hour, false)
			time.Sleep(time.Millisecond)
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		if len(o.known) > 10 || o.known[keep] == nil {
			t.Errorf("%d entries", len(o.known))
		}
		if n := len(src.of(keep)); n != 1 {
			t.Errorf("what is asked for was read %d times", n)
		}
	})
}

func TestRefreshesAreLimited(t *testing.T) {
	var now time.Duration
	l := newLimits(func() time.Duration { return now })
	count := func(id string) (n int) {
		for range 20 {
			if l.allow(secret.Current(id)) {
				n++
			}
		}
		return n
	}
	if a, b := count("a"), count("b"); a != refreshBurst || b != refreshBurst {
		t.Errorf("at once %d and %d", a, b)
	}
	now += 2 * refreshEvery
	if a := count("a"); a != 2 {
		t.Errorf("two seconds later %d", a)
	}
	for i := range 3 * maxBuckets {
		now += refreshEvery
		l.allow(secret.Current(fmt.Sprint(i)))
	}
	for i := range 3 * maxBuckets { // and at once, when none of them is full again
		l.allow(secret.Current(fmt.Sprint("again", i)))
	}
	if len(l.buckets) > maxBuckets {
		t.Errorf("%d buckets are kept", len(l.buckets))
	}
	// Versions and stages are no way round it.
	now += time.Hour
	n := 0
	for i := range 20 {
		if l.allow(secret.Ref{ID: "c", Stage: "AWSCURRENT"}) || l.allow(secret.Ref{ID: "c", VersionID: fmt.Sprint(i)}) {
			n++
		}
	}
	if n > refreshBurst {
		t.Errorf("under other versions it is read %d times", n)
	}
	if l.allow(secret.Ref{ID: "c"}) || !l.allow(secret.Ref{ID: "c", Region: "eu-west-1"}) {
		t.Error("the same name in another Region is another secret")
	}
}

// TestALoopOfRefreshesHasAPrice runs one for a day.
func TestALoopOfRefreshesHasAPrice(t *testing.T) {
	var now time.Duration
	l := newLimits(func() time.Duration { return now })
	n := 0
	for ; now < 24*time.Hour; now += 100 * time.Millisecond {
		if l.allow(secret.Current("a")) {
			n++
		}
	}
	if most := refreshStock + int(24*time.Hour/refreshRefill); n > most || n < most-1 {
		t.Errorf("a loop cost %d reads a day, want %d", n, most)
	}
}

// TestOnDemandIsBoundedByTheConfiguration runs a whole agent and reloads it.
func TestOnDemandIsBoundedByTheConfiguration(t *testing.T) {
	conf := `
endpoint: {listen: 127.0.0.1:0, token_file: DIR/token, on_demand: {secrets: [prod/*], interval: 1h}}
`
	r := &running{t: t, dir: memoryDir(t), svc: local.New(local.Options{})}
	for _, id := range []string{"prod/db", "prod/api", "dev/db"} {
		must(t, r.svc.Put(id, id))
	}
	a, err := New(context.Background(), r.config(conf), Options{Local: r.svc})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	calls := func() int { return r.svc.Calls()["GetSecretValue"] }
	try := func(id string, rights *endpoint.Rights, want error) {
		t.Helper()
		if _, err := a.Read(context.Background(), endpoint.Query{ID: id, Rights: rights}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", id, err, want)
		}
	}
	try("prod/db", nil, nil)
	try("prod/db", mayRead("prod/d*"), nil)
	before := calls()
	try("dev/db", nil, endpoint.ErrForbidden)
	try("prod/db", mayRead("prod/a*"), endpoint.ErrForbidden)
	try("prod/unknown", mayRead("prod/a*"), endpoint.ErrForbidden)
	try("dev/db", mayRead("*"), endpoint.ErrForbidden)
	try("prod/"+strings.Repeat("x", maxSecretID), nil, endpoint.ErrForbidden)
	if calls() != before {
		t.Errorf("the refusals cost %d calls", calls()-before)
	}
	// Another account's, as far as the ARN that comes back says.
	try("prod/db", mayRead("arn:aws:secretsmanager:*:999999999999:secret:prod/*"), endpoint.ErrForbidden)
	must(t, a.Reload(context.Background(), r.config(strings.Replace(conf, "[prod/*]", "[prod/d*, dev/*]", 1))))
	before = calls()
	try("prod/db", nil, nil)
	if calls() != before {
		t.Error("the reload forgot what is still allowed")
	}
	try("dev/db", nil, nil)
	try("prod/api", nil, endpoint.ErrForbidden)
	cancel()
	must(t, <-done)
}

// TestAFloodOfIDsCrowdsOutNoSecret asks for more than the table holds, of which
// nothing exists, while the service is slow.
func TestAFloodOfIDsCrowdsOutNoSecret(t *testing.T) {
	src := newFakeSource()
	good := []secret.Ref{secret.Current("a"), secret.Current("b"), secret.Current("c"), secret.Current("d")}
	for _, ref := range good {
		src.set(ref, "v1", "x")
	}
	demanding(t, src, func(o *onDemand) {
		o.limits.entries = 8
		for _, ref := range good {
			_, err := o.read(context.Background(), ref, time.Hour, false)
			must(t, err)
		}
		src.hook(func(context.Context, []secret.Ref) { time.Sleep(100 * time.Millisecond) })
		var wg sync.WaitGroup
		for i := range 200 {
			time.Sleep(10 * time.Millisecond)
			wg.Go(func() {
				if _, err := o.read(context.Background(), secret.Current(fmt.Sprint("absent-", i)), time.Hour, false); err == nil {
					t.Error("what does not exist was read")
				}
			})
		}
		wg.Wait()
		calls := src.count()
		for _, ref := range good {
			_, err := o.read(context.Background(), ref, time.Hour, false)
			must(t, err)
		}
		if n := src.count() - calls; n != 0 {
			t.Errorf("%d of the secrets had to be read again", n)
		}
	})
}
