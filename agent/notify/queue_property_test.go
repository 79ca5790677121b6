package notify_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"secretsd/agent/notify"
)

// scenario is a random run of a target: when something changes, and how the
// attempts end.
type scenario struct {
	pauses   []time.Duration // before each change
	answers  []error         // of the first attempts; then all succeed
	lasts    time.Duration   // of each attempt
	debounce time.Duration
}

func drawScenario(t *rapid.T) scenario {
	ms := func(most int) *rapid.Generator[time.Duration] {
		return rapid.Map(rapid.IntRange(0, most), func(n int) time.Duration { return time.Duration(n) * time.Millisecond })
	}
	return scenario{
		pauses: rapid.SliceOfN(ms(3000), 1, 20).Draw(t, "pauses"),
		answers: rapid.SliceOfN(rapid.SampledFrom([]error{
			nil, notify.ErrFailed, notify.ErrAbsent, notify.ErrUnready,
		}), 0, 12).Draw(t, "answers"),
		lasts:    ms(2500).Draw(t, "lasts"),
		debounce: ms(2000).Draw(t, "debounce"),
	}
}

// play runs the scenario and returns what is wrong with what happened.
func (s scenario) play(t *testing.T) (wrong []string) {
	running := 0
	w := &world{answer: func(_ notify.Target, _ notify.Change, nth int) error {
		if running++; running != 1 {
			wrong = append(wrong, "two attempts at a time")
		}
		pass(s.lasts)
		running--
		if nth <= len(s.answers) {
			return s.answers[nth-1]
		}
		return nil
	}}
	app := command("app")
	app.Debounce = s.debounce
	n, _ := w.start(t, nil, app)
	began := time.Now()
	published := map[string]time.Duration{}
	for i, pause := range s.pauses {
		pass(pause)
		path := fmt.Sprintf("/run/%02d", i)
		published[path] = time.Since(began)
		n.Notify("app", change(path))
	}
	pass(time.Hour)
	got := w.attempts()
	if owed := n.Owed(); len(owed) != 0 {
		wrong = append(wrong, fmt.Sprintf("still owed: %v", owed))
	}
	return append(wrong, s.judge(got, published)...)
}

// judge checks that each change was delivered exactly once, not before it was
// published, and that deliveries kept the debounce.
func (s scenario) judge(got []attempt, published map[string]time.Duration) (wrong []string) {
	delivered := map[string]int{}
	last := -time.Hour
	for i, a := range got {
		if !slices.IsSorted(a.change.Paths) {
			wrong = append(wrong, "paths are not in order")
		}
		if i < len(s.answers) && s.answers[i] != nil {
			continue
		}
		if a.after < last+s.debounce {
			wrong = append(wrong, fmt.Sprintf("delivered %v after the one before", a.after-last))
		}
		last = a.after
		for _, p := range a.change.Paths {
			delivered[p]++
			if at, ok := published[p]; !ok || at > a.after {
				wrong = append(wrong, p+" was delivered before it was published")
			}
		}
	}
	for p := range published {
		if delivered[p] != 1 {
			wrong = append(wrong, fmt.Sprintf("%s was delivered %d times", p, delivered[p]))
		}
	}
	return wrong
}

func TestEveryChangeIsDeliveredOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := drawScenario(rt)
		var wrong []string
		synctest.Test(t, func(t *testing.T) { wrong = s.play(t) })
		if len(wrong) > 0 {
			rt.Fatalf("%q", wrong)
		}
	})
}
