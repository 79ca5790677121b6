//go:build linux

package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"secretsd/agent/notify"
)

// BenchmarkThousandDebts is the time until 1,000 targets that are owed something have
// been told by a signal and nothing is owed any more, neither in memory nor in the
// state directory.
func BenchmarkThousandDebts(b *testing.B) {
	const many = 1000
	dir := memoryDir(b)
	app := exec.Command("/bin/sh", "-c", `trap "" HUP; echo $$ > "$1.new"; mv "$1.new" "$1"; exec sleep 600`, "app", filepath.Join(dir, "pid"))
	if err := app.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = app.Process.Kill(); _ = app.Wait() }()
	for {
		if _, err := os.Stat(filepath.Join(dir, "pid")); err == nil {
			break
		}
	}
	targets := make([]notify.Target, many)
	for i := range targets {
		targets[i] = notify.Target{Name: fmt.Sprint("target", i), Step: notify.Step{
			Process: &notify.Process{PidFile: filepath.Join(dir, "pid")}, Signal: 1,
		}}
	}
	a := stateAgent(b, dir)
	settled := make(chan struct{}, many)
	a.notifier = notify.New(targets, notify.Options{Settled: func(target string, o notify.Outcome) {
		a.settled(target, o)
		settled <- struct{}{}
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = a.notifier.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	change := owedChange
	for b.Loop() {
		change.At = time.Now()
		for i := range targets {
			a.notifier.Notify(targets[i].Name, change)
		}
		for range targets {
			<-settled
		}
	}
	left, err := a.state.load()
	if err != nil || len(left.Debts) > 0 {
		b.Fatalf("left in the state directory: %v, %v", left.Debts, err)
	}
}

// BenchmarkThousandFailures is the time until 1,000 outcomes at once are written down
// that leave all 1,000 debts as they are.
func BenchmarkThousandFailures(b *testing.B) {
	const many = 1000
	targets := make([]notify.Target, many)
	for i := range targets {
		targets[i] = notify.Target{Name: fmt.Sprint("target", i), Step: notify.Step{Command: []string{"/bin/true"}}}
	}
	a := stateAgent(b, memoryDir(b))
	a.notifier = notify.New(targets, notify.Options{}) // which does not run
	for i := range targets {
		a.notifier.Notify(targets[i].Name, owedChange)
	}
	for b.Loop() {
		var g sync.WaitGroup
		for i := range targets {
			g.Go(func() { a.settled(targets[i].Name, notify.Outcome{Kind: notify.Failed}) })
		}
		g.Wait()
	}
}

var owedChange = notify.Change{
	Reason: notify.ReasonChange, Paths: []string{"/run/app/a-file", "/run/app/another"},
	Secrets: []notify.SecretVersion{{Name: "db", VersionID: "6f1ae24f-d215-45cd-b774-979b6c02cad5"}},
}

// stateAgent is as much of an agent as writes down what is owed.
func stateAgent(b *testing.B, dir string) *Agent {
	b.Helper()
	state, err := openState(filepath.Join(dir, "state"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(state.close)
	a := &Agent{log: slog.New(slog.DiscardHandler), state: state, seen: newSeen()}
	a.refused.Store(&[]refusedState{})
	a.pending.Store(&[]notify.Debt{})
	a.restored.Store(&[]notify.Debt{})
	a.held.Store(&[]heldState{})
	a.outputs.Store(&[]outputState{})
	a.placed.Store(&[]placedState{})
	return a
}
