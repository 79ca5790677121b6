//go:build linux

package agent

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"secretsd/agent/notify"
)

// BenchmarkVersionToSignal is the time from a new version in the store to the
// renamed file and the delivered signal, to a real process.
func BenchmarkVersionToSignal(b *testing.B) {
	x := newBench(b, `
secrets: [{name: a, id: a}]
files: [{path: DIR/f, contents: '{{ secret "a" }}', notify: [app]}]
targets: [{name: app, process: {pid_file: DIR/pid}, debounce: 0s}]
`)
	pid := filepath.Join(x.dir, "pid")
	app := exec.Command("/bin/sh", "-c", `trap : HUP; echo $$ > "$1.new"; mv "$1.new" "$1"; while :; do sleep 1; done`, "app", pid)
	if err := app.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = app.Process.Kill(); _ = app.Wait() }()
	for {
		if _, err := os.Stat(pid); err == nil {
			break
		}
	}
	told := make(chan struct{}, 1)
	n := notify.New(x.plan.targets, notify.Options{Settled: func(_ string, o notify.Outcome) {
		if o.Kind == notify.Delivered {
			told <- struct{}{}
		}
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = n.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	x.a.tell = n.Notify

	var took []time.Duration
	i := 0
	for b.Loop() {
		i++
		start := time.Now()
		x.read(now("a", fmt.Sprint(i), fmt.Sprint(i)))
		x.pass(false)
		<-told
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
