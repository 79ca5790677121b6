package process

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/disposition"
)

// crashing is a start of children that end after a while by themselves.
type crashing struct {
	mu     sync.Mutex
	began  time.Time
	starts []time.Duration
	lives  time.Duration
	err    error
	// handling is what the child is found to do with a signal, one look after the
	// other, the last for ever; told counts the signals sent.
	handling []disposition.Disposition
	told     int
}

func (c *crashing) live(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lives = d
}

func (c *crashing) start(*Program) (*child, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.starts = append(c.starts, time.Since(c.began).Round(time.Millisecond))
	if c.err != nil {
		return nil, c.err
	}
	exited := make(chan struct{})
	time.AfterFunc(c.lives, func() { close(exited) })
	return &child{
		pid: len(c.starts), exited: exited,
		send: c.send, family: func() {}, others: func() bool { return false }, handling: c.handle, reap: func() Exit { return Exit{Code: 7} },
		audience: func() scope { return leader }, suspend: func(syscall.Signal) bool { return false }, foreground: func() {},
	}, nil
}

func (c *crashing) send(syscall.Signal, scope) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told++
	return nil
}

func (c *crashing) handle(syscall.Signal) disposition.Disposition {
	c.mu.Lock()
	defer c.mu.Unlock()
	how := c.handling[0]
	if len(c.handling) > 1 {
		c.handling = c.handling[1:]
	}
	return how
}

func schedule(t *testing.T, c *crashing, body func(s *Supervisor)) {
	synctest.Test(t, func(t *testing.T) {
		c.began = time.Now()
		s := New(Options{Logger: slog.New(slog.DiscardHandler)})
		s.start = c.start
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = s.Run(ctx)
		}()
		body(s)
		cancel()
		<-done
	})
}

func seconds(list ...int) []time.Duration {
	var d []time.Duration
	for _, n := range list {
		d = append(d, time.Duration(n)*time.Second)
	}
	return d
}

func TestAChildThatCrashesIsStartedEverMoreSlowly(t *testing.T) {
	c := &crashing{}
	schedule(t, c, func(s *Supervisor) {
		s.Set(&Program{Path: "x"}, true)
		time.Sleep(190 * time.Second)
		synctest.Wait()
		if st := s.Status(); st.State != BackingOff || st.Crashes != 9 || st.LastExit != "status 7" || time.Until(st.NextStart) != 53*time.Second {
			t.Errorf("the status is %+v", st)
		}
	})
	if diff := cmp.Diff(seconds(0, 1, 3, 7, 15, 31, 63, 123, 183), c.starts); diff != "" {
		t.Errorf("the starts (-want +got):\n%s", diff)
	}
}

func TestAChildThatHasRunForAWhileStartsAnew(t *testing.T) {
	c := &crashing{}
	schedule(t, c, func(s *Supervisor) {
		s.Set(&Program{Path: "x"}, true)
		time.Sleep(10 * time.Second) // at 0, 1, 3, 7
		c.live(2 * time.Minute)
		time.Sleep(150 * time.Second) // at 15 and, after 2 minutes and a second, 136
	})
	if diff := cmp.Diff(seconds(0, 1, 3, 7, 15, 136), c.starts); diff != "" {
		t.Errorf("the starts (-want +got):\n%s", diff)
	}
}

func TestAChangeDoesNotWaitForTheBackOff(t *testing.T) {
	c := &crashing{}
	schedule(t, c, func(s *Supervisor) {
		s.Set(&Program{Path: "x"}, true)
		time.Sleep(40 * time.Second) // at 0, 1, 3, 7, 15, 31
		s.Set(&Program{Path: "x"}, false)
		time.Sleep(5 * time.Second)
		s.Set(&Program{Path: "y"}, true) // at 45
		time.Sleep(5 * time.Second)
	})
	if diff := cmp.Diff(seconds(0, 1, 3, 7, 15, 31, 45), c.starts); diff != "" {
		t.Errorf("the starts (-want +got):\n%s", diff)
	}
}

func TestAChildThatCannotBeStartedIsTriedAgain(t *testing.T) {
	c := &crashing{err: errors.New("no")}
	schedule(t, c, func(s *Supervisor) {
		s.Set(&Program{Path: "x"}, true)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if st := s.Status(); st.State != BackingOff || st.Error != "no" || st.Starts != 0 {
			t.Errorf("the status is %+v", st)
		}
		s.Set(nil, true)
		time.Sleep(time.Minute)
	})
	if diff := cmp.Diff(seconds(0, 1, 3), c.starts); diff != "" {
		t.Errorf("the starts (-want +got):\n%s", diff)
	}
}

// TestASignalIsSentToWhoeverWaitsForIt: a shell that starts a program has every
// signal blocked for a moment, and would be ended by one that comes then.
func TestASignalIsSentToWhoeverWaitsForIt(t *testing.T) {
	const no, yes, b = disposition.Default, disposition.Handled, disposition.Awaited
	for _, tt := range []struct {
		name     string
		handling []disposition.Disposition
		told     int
	}{
		{"a handler", []disposition.Disposition{yes}, 1},
		{"a handler in a while", []disposition.Disposition{no, no, no, yes}, 1},
		{"no handler", []disposition.Disposition{no}, 0},
		{"blocked all the time", []disposition.Disposition{b}, 1},
		{"blocked for moments", []disposition.Disposition{b, b, no, b, b, b, b, no, b, no}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &crashing{lives: time.Hour, handling: tt.handling}
			schedule(t, c, func(s *Supervisor) {
				s.Set(&Program{Path: "x"}, true)
				synctest.Wait()
				s.Set(&Program{Path: "x", OnChange: Signal, Signal: syscall.SIGHUP}, true)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if c.told != tt.told {
					t.Errorf("it was told %d times, want %d", c.told, tt.told)
				}
				time.Sleep(time.Hour) // the child's end, before that of Run
			})
		})
	}
}
