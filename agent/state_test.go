package agent

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"secretsd/agent/notify"
)

func stateIn(t *testing.T) *stateDir {
	t.Helper()
	s, err := openState(filepath.Join(memoryDir(t), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// TestSavesThatWaitAreOne: who comes while another is writing waits for one further
// write, together with all others who do, and has what it asked for in it.
func TestSavesThatWaitAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stateIn(t) // with the channels of the bubble
		var mu sync.Mutex
		var owed []notify.Debt
		gate, asked, returned := make(chan struct{}), 0, atomic.Int32{}
		current := func() state {
			mu.Lock()
			asked++
			st := state{Debts: slices.Clone(owed)}
			mu.Unlock()
			<-gate
			return st
		}
		save := func(target string) {
			mu.Lock()
			owed = append(owed, notify.Debt{Target: target})
			mu.Unlock()
			if err := s.save(current); err != nil {
				t.Error(err)
			}
			returned.Add(1)
		}
		go save("first")
		synctest.Wait()
		for i := range 100 {
			go save(fmt.Sprint(i))
		}
		synctest.Wait()
		gate <- struct{}{}
		synctest.Wait()
		if n := returned.Load(); n != 1 {
			t.Errorf("%d of those who wait were told that it is written, before it was", n-1)
		}
		gate <- struct{}{}
		synctest.Wait()
		if n := returned.Load(); n != 101 || asked != 2 {
			t.Errorf("%d saves were done, with %d writes, want 101 and 2", n, asked)
		}
		if st, err := s.load(); err != nil || len(st.Debts) != 101 {
			t.Errorf("the state holds %d debts, %v", len(st.Debts), err)
		}
	})
}

// TestAFailedSaveIsSaidToAllWhoWaitForIt, and the next one is another attempt.
func TestAFailedSaveIsSaidToAllWhoWaitForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stateIn(t) // with the channels of the bubble
		gate, failed := make(chan struct{}), atomic.Int32{}
		for range 10 {
			go func() {
				if s.save(func() state { <-gate; return state{} }) != nil {
					failed.Add(1)
				}
			}()
		}
		synctest.Wait()
		if err := s.root.Mkdir(stateFile, 0o700); err != nil {
			t.Fatal(err)
		}
		close(gate)
		synctest.Wait()
		if n := failed.Load(); n != 10 {
			t.Errorf("%d of 10 heard of it", n)
		}
		if err := s.root.Remove(stateFile); err != nil {
			t.Fatal(err)
		}
		if err := s.save(func() state { return state{} }); err != nil {
			t.Error(err)
		}
	})
}

// TestADebtIsInTheStateWhoeverHasIt: on its way from the pass that owes it to the
// notifier it is in every state that is written, for that may be the last one.
func TestADebtIsInTheStateWhoeverHasIt(t *testing.T) {
	// Those that are owed nothing make it take a while to ask them all.
	const many, idle = 100, 5000
	targets := make([]notify.Target, many+idle)
	for i := range targets {
		targets[i] = notify.Target{Name: fmt.Sprint(i), Step: notify.Step{Command: []string{"true"}}}
	}
	a := &Agent{log: slog.New(slog.DiscardHandler), state: stateIn(t), seen: newSeen(), notifier: notify.New(targets, notify.Options{})}
	a.refused.Store(&[]refusedState{})
	a.pending.Store(&[]notify.Debt{})
	a.restored.Store(&[]notify.Debt{})
	a.held.Store(&[]heldState{})
	a.outputs.Store(&[]outputState{})
	a.placed.Store(&[]placedState{})
	var owed atomic.Int32
	var g sync.WaitGroup
	done := make(chan struct{})
	g.Go(func() {
		defer close(done)
		for i := range many {
			d := notify.Debt{Target: fmt.Sprint(i), Change: notify.Change{Reason: notify.ReasonChange}}
			a.owe([]notify.Debt{d})
			owed.Add(1)
			a.notifier.Notify(d.Target, d.Change)
			a.owe(nil)
		}
	})
	for range 2 {
		g.Go(func() {
			for over := false; !over; {
				select {
				case <-done:
					over = true
				default:
				}
				n := int(owed.Load())
				a.saveState()
				st, err := a.state.load()
				if err != nil {
					t.Error(err)
					return
				}
				for i := range n {
					if !slices.ContainsFunc(st.Debts, func(d notify.Debt) bool { return d.Target == fmt.Sprint(i) }) {
						t.Errorf("of %d debts the state lacks %d", n, i)
						return
					}
				}
			}
		})
	}
	g.Wait()
}

// TestTheLockIsWaitedForAMoment: somebody who was killed while he started a program
// has left it to that one for as long.
func TestTheLockIsWaitedForAMoment(t *testing.T) {
	dir := filepath.Join(memoryDir(t), "state")
	first, err := openState(dir)
	if err != nil {
		t.Fatal(err)
	}
	heir, err := syscall.Dup(int(first.lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	_ = first.lock.Close() // as the kernel does it
	_ = first.root.Close()
	time.AfterFunc(50*time.Millisecond, func() { _ = syscall.Close(heir) })
	second, err := openState(dir)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := openState(dir); err == nil || !strings.Contains(err.Error(), "another secretsd is using it") {
		t.Errorf("a lock that is held for long: %v", err)
	}
	if took := time.Since(began); took > 10*lockPatience {
		t.Errorf("it was waited for, for %s", took)
	}
	second.close()
}
