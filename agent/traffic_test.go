package agent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"secretsd/sinks/endpoint"
)

func TestTrafficIsCountedByOutcomeAndClient(t *testing.T) {
	tr := newTraffic()
	web := tr.caller("web")
	at := time.Unix(1_700_000_000, 0)
	for _, e := range []endpoint.Exchange{
		{Outcome: endpoint.OutcomeOK, Mark: web, Began: at},
		{Outcome: endpoint.OutcomeOK, Mark: web, Began: at.Add(100 * time.Millisecond)},
		{Outcome: endpoint.OutcomeDenied, Mark: web, Began: at.Add(time.Minute)},
		{Outcome: endpoint.OutcomeBadToken, Began: at.Add(time.Hour)},
		{Outcome: "unheard of", Began: at.Add(time.Hour)},
	} {
		tr.count(&e)
	}
	all := tr.counts(tr.all)
	if len(all) != len(endpoint.Outcomes()) || all["ok"] != 2 || all["denied"] != 1 || all["bad_token"] != 1 || all["failed"] != 0 {
		t.Errorf("all told %v", all)
	}
	got, seen := tr.of("web")
	want := map[string]uint64{"ok": 2, "denied": 1, "stale": 0, "limited": 0, "bad_request": 0, "not_found": 0, "refused": 0, "failed": 0}
	if diff := cmp.Diff(want, got); diff != "" || !seen.Equal(at.Add(time.Minute)) {
		t.Errorf("web was seen at %v: %s", seen, diff)
	}
	if _, seen := tr.of("never"); !seen.IsZero() {
		t.Errorf("who never came was seen at %v", seen)
	}
	tr.keep(map[string]bool{"web": true})
	if tr.caller("web") != web || len(tr.callers) != 1 {
		t.Errorf("after a reload there are %d clients", len(tr.callers))
	}
}

// exchange is what the endpoint tells of one request of a known client.
func exchange(tr *traffic) endpoint.Exchange {
	return endpoint.Exchange{Method: "GET", Outcome: endpoint.OutcomeOK, Client: "web", Mark: tr.caller("web"), Began: time.Now(), Took: 12 * time.Microsecond}
}

func TestObservingAllocatesNothing(t *testing.T) {
	a := &Agent{seen: newSeen()}
	e := exchange(a.seen.traffic)
	if n := testing.AllocsPerRun(100, func() { _ = a.observe(&e) }); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}

// BenchmarkObserve is what a request to the endpoint costs to be counted. It
// comes before every answer.
func BenchmarkObserve(b *testing.B) {
	a := &Agent{seen: newSeen()}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		e := exchange(a.seen.traffic)
		for b.Loop() {
			_ = a.observe(&e)
		}
	})
	b.Run("all processors", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			e := exchange(a.seen.traffic)
			for pb.Next() {
				_ = a.observe(&e)
			}
		})
	})
}
