package notify_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"secretsd/agent/notify"
)

// BenchmarkThousandTargets tells 1,000 targets of one change, each by a signal to
// the process that a pid file of its own names.
func BenchmarkThousandTargets(b *testing.B) {
	const many = 1000
	app := exec.Command("sh", "-c", `trap "" HUP; echo ready; read x`)
	in, err := app.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := app.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := app.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		_ = app.Wait()
	}()
	<-lines(out)
	dir := b.TempDir()
	targets := make([]notify.Target, many)
	for i := range targets {
		path := filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(path, []byte(strconv.Itoa(app.Process.Pid)), 0o644); err != nil {
			b.Fatal(err)
		}
		targets[i] = hup(path)
		targets[i].Name, targets[i].Debounce = fmt.Sprint(i), 0
	}
	told := make(chan time.Time, many)
	n := notify.New(targets, notify.Options{Settled: func(string, notify.Outcome) { told <- time.Now() }})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- n.Run(ctx) }()
	defer func() { cancel(); <-done }()
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		for i := range targets {
			n.Notify(targets[i].Name, change("/a"))
		}
		for range targets {
			took = append(took, (<-told).Sub(began))
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
