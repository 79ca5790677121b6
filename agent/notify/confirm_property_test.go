package notify_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"secretsd/agent/notify"
)

// TestEveryChangeIsConfirmedOrReportedOnce plays random changes against a target
// that confirms or not as it pleases.
func TestEveryChangeIsConfirmedOrReportedOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ms := func(most int) *rapid.Generator[int] { return rapid.IntRange(0, most) }
		pauses := rapid.SliceOfN(ms(15000), 1, 8).Draw(rt, "pauses")
		answers := rapid.SliceOfN(rapid.Bool(), 0, 40).Draw(rt, "answers")
		failures := rapid.SliceOfN(rapid.SampledFrom([]error{nil, notify.ErrFailed, notify.ErrUnready}), 0, 10).Draw(rt, "failures")
		steps, lasts := ms(2).Draw(rt, "steps"), ms(3000).Draw(rt, "lasts")
		var wrong []string
		synctest.Test(t, func(t *testing.T) {
			asking := 0
			w := &world{
				answer: func(_ notify.Target, _ notify.Change, nth int) error {
					if nth <= len(failures) {
						return failures[nth-1]
					}
					return nil
				},
				confirm: func(ctx context.Context, nth int) error {
					if asking++; asking > 1 {
						wrong = append(wrong, "asked twice at a time")
					}
					defer func() { asking-- }()
					select {
					case <-time.After(time.Duration(lasts) * time.Millisecond):
					case <-ctx.Done():
						return ctx.Err()
					}
					if nth <= len(answers) && answers[nth-1] {
						return nil
					}
					return errSick
				},
			}
			n, _ := w.start(t, nil, trusting(steps))
			for i, p := range pauses {
				n.Notify("app", change(fmt.Sprintf("/%d", i)))
				pass(time.Duration(p) * time.Millisecond)
			}
			pass(time.Hour)
			ended := map[string]int{}
			for _, o := range append(w.outcomes(notify.Unconfirmed), w.outcomes(notify.Confirmed)...) {
				if o.Kind == notify.Confirmed && slices.ContainsFunc(w.outcomes(notify.Unconfirmed), func(u notify.Outcome) bool {
					return cmp.Equal(u.Change.Paths, o.Change.Paths)
				}) {
					continue // it has confirmed late
				}
				for _, p := range o.Change.Paths {
					ended[p]++
				}
			}
			for i := range pauses {
				if p := fmt.Sprintf("/%d", i); ended[p] != 1 {
					wrong = append(wrong, fmt.Sprintf("%s was confirmed or reported %d times", p, ended[p]))
				}
			}
			if owed := awaited(n); len(owed) > 0 {
				wrong = append(wrong, fmt.Sprintf("still owed: %v", owed))
			}
		})
		if len(wrong) > 0 {
			rt.Fatalf("%q", wrong)
		}
	})
}
