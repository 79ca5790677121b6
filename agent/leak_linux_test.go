package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"secretsd/agent/config"
	"secretsd/agent/source/local"
)

// TestReloadsLeakNothing reloads a whole agent again and again between two
// configurations that have little in common: its goroutines and descriptors stay as
// many, hanging checks, unanswered targets and listeners included.
func TestReloadsLeakNothing(t *testing.T) {
	dir := memoryDir(t)
	svc := local.New(local.Options{})
	must(t, svc.Put("db", `{"user": "u"}`))
	must(t, os.WriteFile(filepath.Join(dir, "tmpl"), []byte(`{{ secret "db" }}`), 0o600))
	const head = "state_dir: DIR/state\nsecrets: [{id: db}]\n"
	confs := []string{head + `
template_dir: DIR
files:
  - {path: DIR/a, template: DIR/tmpl, notify: [app]}
  - {path: DIR/hangs, contents: '{{ secret "db" }} 1', check: {command: [/bin/sleep, "60"], timeout: 60s}}
bundles: [{dir: DIR/x, create_dirs: true, explode: db, notify: [hook]}]
targets:
  - {name: app, process: {pid_file: DIR/pid}}
  - {name: hook, command: [/bin/sleep, "0"], on_first: true, confirm: {tcp: "127.0.0.1:1"}, rollback: true}
endpoint: {listen: "127.0.0.1:0", token_file: DIR/token}
telemetry: {listen: "127.0.0.1:0"}
audit: {path: DIR/audit}
`, head + `
files:
  - {path: DIR/b, contents: '{{ secret "db" }}', notify: [web]}
  - {path: DIR/hangs, contents: '{{ secret "db" }} 2', check: {command: [/bin/sleep, "60"], timeout: 60s}}
targets: [{name: web, http: "http://127.0.0.1:1/", on_first: true}]
`}
	parse := func(i int) *config.Config {
		cfg, err := config.Parse(filepath.Join(dir, "agent.yaml"), []byte(strings.ReplaceAll(confs[i%2], "DIR", dir)))
		must(t, err)
		return cfg
	}
	a, err := New(t.Context(), parse(0), Options{Local: svc})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	reload := func(n int) {
		for i := range n {
			must(t, a.Reload(ctx, parse(i+1)))
			must(t, svc.Put("db", fmt.Sprintf(`{"user": "%d"}`, i)))
		}
	}
	count := func() (int, int) {
		fds, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return runtime.NumGoroutine(), len(fds)
	}
	reload(4)
	time.Sleep(100 * time.Millisecond)
	goroutines, descriptors := count()
	reload(20)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		g, d := count()
		if g <= goroutines && d <= descriptors {
			break
		}
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines and %d descriptors, %d and %d before:\n%s", g, d, goroutines, descriptors, buf[:runtime.Stack(buf, true)])
		}
	}
	cancel()
	must(t, <-done)
}
