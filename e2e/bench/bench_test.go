// Package bench measures the built binary: what a pod pays for it, and how long
// it takes. Its figures are for comparing within one run on one machine.
//
//	go test -run '^$' -bench . ./e2e/bench
package bench

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// build makes the binary as it is released, once.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "secretsd-bench-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "secretsd")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "secretsd/cmd/secretsd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build secretsd: %w\n%s", err, out)
	}
	return path, nil
})

// TestMain runs the test binary as the program that a benchmark tells, too.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "told" {
		told()
	}
	code := m.Run()
	if path, err := build(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// setup writes a configuration with n secrets, each in a file of its own, and
// returns its path and the binary's.
func setup(b *testing.B, n int) (binary, conf string) {
	b.Helper()
	binary, err := build()
	if err != nil {
		b.Fatal(err)
	}
	dir, err := os.MkdirTemp("/dev/shm", "secretsd-bench-")
	if err != nil {
		b.Skipf("there is no tmpfs at /dev/shm: %v", err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	var local, secrets, files strings.Builder
	for i := range n {
		fmt.Fprintf(&local, "  - {name: app/s%d, json: {username: user%d, password: \"pässword %d\"}}\n", i, i, i)
		fmt.Fprintf(&secrets, "  - {name: s%d, id: app/s%d}\n", i, i)
		fmt.Fprintf(&files, "  - {path: %s/f%d, contents: '{{ with secret \"s%d\" }}{{ .username }}:{{ .password }}{{ end }}'}\n", dir, i, i)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
		return path
	}
	write("secrets.yaml", "secrets:\n"+local.String())
	return binary, write("agent.yaml", fmt.Sprintf("source: {local: {path: secrets.yaml}}\nstate_dir: %s/state\nendpoint: {listen: \"127.0.0.1:0\", token_file: %s/token}\nsecrets:\n%sfiles:\n%s",
		dir, dir, secrets.String(), files.String()))
}

// start starts the agent and returns when it has said that it is ready.
func start(b *testing.B, binary, conf string) (*exec.Cmd, time.Duration) {
	b.Helper()
	cmd := exec.Command(binary, "run", "--config", conf)
	cmd.Env = append(os.Environ(), "AWS_EC2_METADATA_DISABLED=true")
	out, err := cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "msg=ready") {
			took := time.Since(began)
			go func() {
				for lines.Scan() { // or the agent would block on its log
				}
			}()
			return cmd, took
		}
	}
	b.Fatal("the agent ended before it was ready")
	return nil, 0
}

func stop(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
}

// BenchmarkStartToReady is the time from the start of the process to ready,
// with every file written. It removes the files first, as a new pod has none.
func BenchmarkStartToReady(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("%d-secrets", n), func(b *testing.B) {
			binary, conf := setup(b, n)
			var took []time.Duration
			for b.Loop() {
				for i := range n {
					_ = os.Remove(filepath.Join(filepath.Dir(conf), "f"+strconv.Itoa(i)))
				}
				cmd, t := start(b, binary, conf)
				took = append(took, t)
				stop(cmd)
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
			b.ReportMetric(0, "ns/op") // stopping is not what is measured
		})
	}
}

// BenchmarkIdleMemory is what an agent with ten secrets holds after a minute's
// worth of refreshing: resident, and private and dirty, which is what a further
// pod on the node costs.
func BenchmarkIdleMemory(b *testing.B) {
	binary, conf := setup(b, 10)
	for b.Loop() {
		cmd, _ := start(b, binary, conf)
		time.Sleep(3 * time.Second)
		m := memory(b, cmd.Process.Pid)
		b.ReportMetric(m["Rss"]/1024, "resident-MB")
		b.ReportMetric(m["Private_Dirty"]/1024, "private-dirty-MB")
		stop(cmd)
	}
	b.ReportMetric(0, "ns/op")
}

// memory returns the fields of smaps_rollup in kB (proc_pid_smaps(5)).
func memory(b *testing.B, pid int) map[string]float64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Skipf("memory cannot be read here: %v", err)
	}
	fields := map[string]float64{}
	for line := range strings.Lines(string(data)) {
		var kb float64
		if name, rest, ok := strings.Cut(line, ":"); ok {
			if _, err := fmt.Sscan(rest, &kb); err == nil {
				fields[name] = kb
			}
		}
	}
	return fields
}

// BenchmarkBinarySize is the size of the released binary.
func BenchmarkBinarySize(b *testing.B) {
	binary, err := build()
	if err != nil {
		b.Fatal(err)
	}
	var size int64
	for b.Loop() {
		info, err := os.Stat(binary)
		if err != nil {
			b.Fatal(err)
		}
		size = info.Size()
	}
	b.ReportMetric(float64(size)/1e6, "MB")
	b.ReportMetric(0, "ns/op")
}
