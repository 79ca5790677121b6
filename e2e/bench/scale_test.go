package bench

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"secretsd/agent/source/local"
)

// Many templates, of which one changed secret concerns a few, beside
// consul-template (go install github.com/hashicorp/consul-template@latest), which
// gets the same values from a stand-in for Consul's key-value store. What is
// measured is the time from the new value at the source to the last of the files
// that it concerns, and the processor time it costs.

const scaleChanges = 5

// scaled is one of the programs under measurement.
type scaled interface {
	// change gives secret i a new value and has the program learn of it.
	change(b *testing.B, i int, value string)
	process() int
}

// BenchmarkScale has T templates, each of one secret.
func BenchmarkScale(b *testing.B) {
	for _, c := range []struct{ secrets, templates int }{{100, 1000}, {1000, 10_000}} {
		name := fmt.Sprintf("%d-secrets-%d-templates", c.secrets, c.templates)
		b.Run(name+"/secretsd", func(b *testing.B) {
			if _, err := build(); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				dir := scratch(b)
				began := time.Now()
				s := startOurs(b, dir, c.secrets, c.templates)
				b.ReportMetric(float64(time.Since(began).Milliseconds()), "start-ms")
				before := s.executions(b)
				measureChanges(b, s, dir, c.secrets, c.templates)
				b.ReportMetric((s.executions(b)-before)/scaleChanges, "executions/change")
			}
			b.ReportMetric(0, "ns/op")
		})
		b.Run(name+"/consul-template", func(b *testing.B) {
			path := tool(b, "consul-template")
			for b.Loop() {
				dir := scratch(b)
				began := time.Now()
				s := startConsulTemplate(b, path, dir, c.secrets, c.templates)
				b.ReportMetric(float64(time.Since(began).Milliseconds()), "start-ms")
				measureChanges(b, s, dir, c.secrets, c.templates)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func measureChanges(b *testing.B, s scaled, dir string, secrets, templates int) {
	b.Helper()
	m := memory(b, s.process())
	b.ReportMetric(m["Rss"]/1024, "resident-MB")
	var took []time.Duration
	cpu := cpuTime(b, s.process())
	for n := range scaleChanges {
		i := n * 7 % secrets
		value := fmt.Sprintf("changed-%d", n)
		began := time.Now()
		s.change(b, i, value)
		for t := i; t < templates; t += secrets {
			awaitContent(b, outputPath(dir, t), outputText(i, value))
		}
		took = append(took, time.Since(began))
	}
	cpu = cpuTime(b, s.process()) - cpu
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "change-p50-ms")
	b.ReportMetric(float64(cpu.Microseconds())/1000/scaleChanges, "cpu-ms/change")
}

func outputPath(dir string, t int) string { return filepath.Join(dir, "out", "f"+strconv.Itoa(t)) }

func outputText(i int, value string) string {
	return fmt.Sprintf("# settings of secret %d\nname=s%d\nvalue=%s\n", i, i, value)
}

// awaitContent waits until a file holds text.
func awaitContent(b *testing.B, path, text string) {
	b.Helper()
	for end := time.Now().Add(30 * time.Second); ; {
		if data, err := os.ReadFile(path); err == nil && string(data) == text {
			return
		}
		if time.Now().After(end) {
			b.Fatalf("%s never held what it should", path)
		}
		time.Sleep(time.Millisecond)
	}
}

func scratch(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "secretsd-bench-")
	if err != nil {
		b.Skipf("there is no tmpfs at /dev/shm: %v", err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "out"), 0o700); err != nil {
		b.Fatal(err)
	}
	return dir
}

// ours is secretsd before a Secrets Manager of this process.
type ours struct {
	svc                 *local.Service
	cmd                 *exec.Cmd
	endpoint, telemetry string
}

func startOurs(b *testing.B, dir string, secrets, templates int) *ours {
	b.Helper()
	binary, err := build()
	if err != nil {
		b.Fatal(err)
	}
	o := &ours{svc: local.New(local.Options{}), endpoint: free(b), telemetry: free(b)}
	srv := httptest.NewServer(o.svc)
	b.Cleanup(srv.Close)
	var conf strings.Builder
	fmt.Fprintf(&conf, "source: {aws: {endpoint: %q, region: us-east-1}}\nstate_dir: %s/state\nrefresh: {interval: 1h}\nheal_interval: 1h\n", srv.URL, dir)
	fmt.Fprintf(&conf, "endpoint: {listen: %q, token_file: %s/token}\ntelemetry: {listen: %q}\nsecrets:\n", o.endpoint, dir, o.telemetry)
	for i := range secrets {
		if err := o.svc.Put("s"+strconv.Itoa(i), "first"); err != nil {
			b.Fatal(err)
		}
		fmt.Fprintf(&conf, "  - {id: s%d}\n", i)
	}
	conf.WriteString("files:\n")
	for t := range templates {
		i := t % secrets
		fmt.Fprintf(&conf, "  - {path: %s, contents: \"# settings of secret %d\\nname=s%d\\nvalue={{ secret \\\"s%d\\\" }}\\n\"}\n", outputPath(dir, t), i, i, i)
	}
	put(b, filepath.Join(dir, "token"), benchToken, 0o400)
	put(b, filepath.Join(dir, "agent.yaml"), conf.String(), 0o600)
	o.cmd = exec.Command(binary, "run", "--config", filepath.Join(dir, "agent.yaml"))
	o.cmd.Env = append(os.Environ(), "AWS_EC2_METADATA_DISABLED=true", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b")
	out, err := o.cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := o.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { stop(o.cmd) })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "msg=ready") {
			go func() { _, _ = io.Copy(io.Discard, out) }() // or the agent would lose its lines
			return o
		}
	}
	b.Fatal("the agent ended before it was ready")
	return nil
}

func (o *ours) process() int { return o.cmd.Process.Pid }

func (o *ours) change(b *testing.B, i int, value string) {
	b.Helper()
	if err := o.svc.Put("s"+strconv.Itoa(i), value); err != nil {
		b.Fatal(err)
	}
	s := subject{addr: o.endpoint}
	if status, err := s.ask("s" + strconv.Itoa(i) + "&refreshNow=true"); err != nil || status != http.StatusOK {
		b.Fatalf("refreshNow: %d, %v", status, err)
	}
}

// executions returns how many templates were executed so far.
func (o *ours) executions(b *testing.B) float64 {
	b.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+o.telemetry+"/metrics", http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "secretsd_template_executions_total "); ok {
			n, err := strconv.ParseFloat(rest, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatal("there is no count of executions")
	return 0
}

// theirs is consul-template before a stand-in for Consul.
type theirs struct {
	store *consul
	cmd   *exec.Cmd
}

func startConsulTemplate(b *testing.B, path, dir string, secrets, templates int) *theirs {
	b.Helper()
	s := &theirs{store: newConsul(secrets)}
	srv := httptest.NewServer(s.store)
	b.Cleanup(srv.Close)
	b.Cleanup(srv.CloseClientConnections)
	var conf strings.Builder
	fmt.Fprintf(&conf, "log_level = \"err\"\nconsul { address = %q }\n", strings.TrimPrefix(srv.URL, "http://"))
	for t := range templates {
		i := t % secrets
		fmt.Fprintf(&conf, "template {\n  contents = \"# settings of secret %d\\nname=s%d\\nvalue={{ key \\\"s%d\\\" }}\\n\"\n  destination = %q\n}\n", i, i, i, outputPath(dir, t))
	}
	put(b, filepath.Join(dir, "config.hcl"), conf.String(), 0o600)
	s.cmd = exec.Command(path, "-config", filepath.Join(dir, "config.hcl"))
	if err := s.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { // it does not end by SIGTERM
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	})
	for t := range templates {
		awaitContent(b, outputPath(dir, t), outputText(t%secrets, "first"))
	}
	return s
}

func (s *theirs) process() int { return s.cmd.Process.Pid }

func (s *theirs) change(_ *testing.B, i int, value string) { s.store.set("s"+strconv.Itoa(i), value) }

// consul answers the blocking queries of Consul's key-value API (Consul API,
// "KV Store" and "Blocking Queries"), as far as consul-template asks.
type consul struct {
	mu     sync.Mutex
	index  int
	values map[string]consulValue
	// changed is closed by the next change.
	changed chan struct{}
}

type consulValue struct {
	text  string
	index int
}

func newConsul(secrets int) *consul {
	c := &consul{index: 1, values: map[string]consulValue{}, changed: make(chan struct{})}
	for i := range secrets {
		c.values["s"+strconv.Itoa(i)] = consulValue{"first", 1}
	}
	return c
}

func (c *consul) set(key, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index++
	c.values[key] = consulValue{text, c.index}
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *consul) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := strings.TrimPrefix(r.URL.Path, "/v1/kv/")
	after, _ := strconv.Atoi(r.URL.Query().Get("index")) // 0 without one
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for {
		c.mu.Lock()
		v, changed := c.values[key], c.changed
		c.mu.Unlock()
		if v.index > after {
			w.Header().Set("X-Consul-Index", strconv.Itoa(v.index))
			w.Header().Set("X-Consul-KnownLeader", "true")
			w.Header().Set("X-Consul-LastContact", "0")
			fmt.Fprintf(w, `[{"LockIndex":0,"Key":%q,"Flags":0,"Value":%q,"CreateIndex":1,"ModifyIndex":%d}]`,
				key, base64.StdEncoding.EncodeToString([]byte(v.text)), v.index)
			return
		}
		select {
		case <-changed:
		case <-limit.C:
			after = 0
		case <-r.Context().Done():
			return
		}
	}
}
