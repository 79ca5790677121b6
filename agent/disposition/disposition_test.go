package disposition_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"secretsd/agent/disposition"
)

const (
	no  = disposition.Default
	b   = disposition.Blocked
	w   = disposition.Awaited
	yes = disposition.Handled
	x   = disposition.Unclear
)

func status(state, blocked, ignored, caught string) string {
	return fmt.Sprintf("Name:\tx\nState:\t%s\nSigBlk:\t%s\nSigIgn:\t%s\nSigCgt:\t%s\n", state, blocked, ignored, caught)
}

func TestOneLook(t *testing.T) {
	const none, hup, all = "0000000000000000", "0000000000000001", "ffffffffffffffff"
	for _, tt := range []struct {
		name, status string
		want         disposition.Disposition
	}{
		{"nothing", status("S (sleeping)", none, none, none), no},
		{"another signal", status("S (sleeping)", "fffffffffffffffe", none, "0000000000000002"), no},
		{"ignored", status("R (running)", none, hup, none), yes},
		{"caught", status("R (running)", none, none, hup), yes},
		{"caught and blocked", status("S (sleeping)", all, none, hup), yes},
		{"asleep", status("S (sleeping)", hup, none, none), w},
		{"at work", status("R (running)", all, none, none), b},
		{"starting a program", status("D (disk sleep)", all, none, none), x},
		{"stopped", status("T (stopped)", all, none, none), x},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := disposition.Parse([]byte(tt.status))
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Of(syscall.SIGHUP); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
			for _, sig := range []syscall.Signal{-1, 0, 65} {
				if got := m.Of(sig); got != no {
					t.Errorf("signal %d: got %d", sig, got)
				}
			}
		})
	}
}

func TestAStatusThatLacksAField(t *testing.T) {
	whole := status("S (sleeping)", "0", "0", "0")
	for line := range strings.Lines(whole) {
		if strings.HasPrefix(line, "Name") {
			continue
		}
		if _, err := disposition.Parse([]byte(strings.Replace(whole, line, "", 1))); err == nil {
			t.Errorf("without %q there is no error", line)
		}
	}
	if _, err := disposition.Parse([]byte(status("S", "0", "x", "0"))); err == nil {
		t.Error("a mask that is no number is no error")
	}
}

// TestManyLooks holds that moments count for nothing, however often they are hit,
// and that who waits is told soon.
func TestManyLooks(t *testing.T) {
	for _, tt := range []struct {
		name  string
		looks []disposition.Disposition
		after int // looks until it can be told; 0 is never
	}{
		{"a handler", []disposition.Disposition{yes}, 1},
		{"a handler in a while", []disposition.Disposition{no, b, w, yes}, 4},
		{"no handler", slices.Repeat([]disposition.Disposition{no}, 1000), 0},
		{"it waits", []disposition.Disposition{w, w, w, w, w}, 5},
		{"it waits, and works between", []disposition.Disposition{w, b, w, b, b, w, w, b, w}, 9},
		{"it works all the time", slices.Repeat([]disposition.Disposition{b}, 100), 100},
		{"it forks", slices.Repeat(slices.Concat(slices.Repeat([]disposition.Disposition{b}, 99), []disposition.Disposition{no}), 10), 0},
		{"it starts a program, which takes its time", slices.Repeat([]disposition.Disposition{x}, 1000), 0},
		{"it starts a program, and then waits", []disposition.Disposition{x, x, w, x, w, w, b, w, w}, 9},
		{"it forks, and sleeps between", slices.Repeat([]disposition.Disposition{w, w, b, w, w, no}, 100), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var watch disposition.Watch
			row := 0 // looks since the last one at its default
			for i, d := range tt.looks {
				if row++; d == no {
					row = 0
				}
				last := tt.after == i+1
				if watch.Look(d) != last {
					t.Fatalf("look %d of %v: it can be told: %v", i+1, d, !last)
				}
				if undecided := watch.Undecided(); !last && undecided != (row > 0 && row < 200) {
					t.Fatalf("look %d of %v: undecided: %v", i+1, d, undecided)
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	if own, err := os.ReadFile("/proc/self/status"); err == nil {
		f.Add(own)
	}
	f.Add([]byte(status("S", "0", "0", "0")))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := disposition.Parse(b)
		if err != nil && m != (disposition.Masks{}) {
			t.Errorf("an error and something besides: %+v", m)
		}
		_ = m.Of(syscall.SIGHUP)
	})
}
