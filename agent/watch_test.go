package agent

import (
	"testing"
	"time"
)

// Events that come all the time put the word of them off, but not for ever.
func TestEventsAreWaitedForUntilTheyEnd(t *testing.T) {
	var s settling
	start := time.Now()
	at := start
	for range 5 {
		if got := s.event(at); got != watchSettle {
			t.Errorf("after %s: wait %s", at.Sub(start), got)
		}
		at = at.Add(watchSettle / 2)
	}
	for n := 0; ; n++ {
		wait := s.event(at)
		if at.Add(wait).After(start.Add(watchPatience)) {
			t.Fatalf("after %s: wait %s", at.Sub(start), wait)
		}
		if wait == 0 {
			break
		}
		if n > 100 {
			t.Fatal("it is waited for ever")
		}
		at = at.Add(min(wait, watchSettle/2))
	}
	s = settling{}
	if got := s.event(at); got != watchSettle {
		t.Errorf("a new series: wait %s", got)
	}
}
