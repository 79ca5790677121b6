package bench

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"secretsd/agent/source/local"
)

// told prints a line for each SIGHUP, until somebody kills it.
func told() {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGHUP)
	for fmt.Println("ready"); ; fmt.Println("told") {
		<-ch
	}
}

// BenchmarkRotation is the time from the source's answer with a new version to the
// moment when the application has its signal: for the built agent, with a source, a
// file and a process that are real. Beside it stands a loop that renames a file and
// sends the signal, and does nothing else.
func BenchmarkRotation(b *testing.B) {
	binary, err := build()
	if err != nil {
		b.Fatal(err)
	}
	dir, svc := scratch(b), local.New(local.Options{})
	var answered atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		svc.ServeHTTP(w, r)
		answered.Store(time.Now().UnixNano())
	}))
	b.Cleanup(srv.Close)
	app := exec.Command("/proc/self/exe", "told")
	out, err := app.StdoutPipe()
	if err == nil {
		err = app.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = app.Process.Kill(); _ = app.Wait() })
	heard := bufio.NewScanner(out)
	hear := func() time.Time {
		if !heard.Scan() {
			b.Fatal("the process has ended")
		}
		return time.Now()
	}
	hear()
	change := func(n int) {
		if err := svc.Put("db", strconv.Itoa(n)); err != nil {
			b.Fatal(err)
		}
	}
	change(-1)
	put(b, filepath.Join(dir, "pid"), strconv.Itoa(app.Process.Pid), 0o600)
	put(b, filepath.Join(dir, "agent.yaml"), fmt.Sprintf(`
source: {aws: {endpoint: %q, region: us-east-1}}
state_dir: %s/state
refresh: {interval: 100ms}
secrets: [{id: db}]
files: [{path: %s/out/f, contents: '{{ secret "db" }}', notify: [app]}]
targets: [{name: app, process: {pid_file: %s/pid}, debounce: 0s}]
`, srv.URL, dir, dir, dir), 0o600)
	agent := exec.Command(binary, "run", "--config", filepath.Join(dir, "agent.yaml"))
	agent.Env = append(os.Environ(), "AWS_EC2_METADATA_DISABLED=true", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b")
	if err := agent.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { stop(agent) })
	hear() // of the first publication
	var took, bare []time.Duration
	for n := 0; b.Loop(); n++ {
		change(n)
		at := hear()
		took = append(took, at.Sub(time.Unix(0, answered.Load())))
		began := time.Now()
		path := filepath.Join(dir, "bare")
		put(b, path+".new", strconv.Itoa(n), 0o600)
		if err := os.Rename(path+".new", path); err != nil {
			b.Fatal(err)
		}
		if err := app.Process.Signal(syscall.SIGHUP); err != nil {
			b.Fatal(err)
		}
		bare = append(bare, hear().Sub(began))
	}
	slices.Sort(took)
	slices.Sort(bare)
	for _, p := range []int{50, 99} {
		ours, floor := took[len(took)*p/100], bare[len(bare)*p/100]
		b.ReportMetric(float64(ours.Microseconds()), fmt.Sprintf("p%d-µs", p))
		b.ReportMetric(float64(ours)/float64(floor), fmt.Sprintf("p%d-ratio", p))
	}
	b.ReportMetric(0, "ns/op") // it waits for the interval
}
