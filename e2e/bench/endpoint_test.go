package bench

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"secretsd/agent/source/local"
)

// The endpoint beside AWS's agent: both in front of one backend, both asked by
// the same load generator, one after the other in each round. The peer is named
// by SECRETSD_PEER, or found in ../shared/peer-binaries; without it only ours is
// measured. The generators are wrk (Debian: wrk) and, for a fixed rate, vegeta
// (go install github.com/tsenart/vegeta/v12@latest).

const (
	benchToken  = "0123456789abcdef0123456789abcdef"
	tokenHeader = "X-Aws-Parameters-Secrets-Token: " + benchToken
	// rounds are measured of each, and the median is reported.
	rounds = 3
	// load is how long one generator runs.
	load = 3 * time.Second
	// clockTick is in the units of proc_pid_stat(5) and 100 on every Linux.
	clockTick = time.Second / 100
)

// subject is one of the agents under load.
type subject struct {
	name, addr string
	pid        int
}

func (s *subject) url(secret string) string {
	return "http://" + s.addr + "/secretsmanager/get?secretId=" + secret
}

// backend is a Secrets Manager on loopback with the secrets of the benchmarks.
func backend(b *testing.B) (svc *local.Service, url string) {
	b.Helper()
	svc = local.New(local.Options{})
	for name, size := range map[string]int{"small": 100, "large": 60 << 10} {
		if err := svc.Put(name, strings.Repeat("x", size)); err != nil {
			b.Fatal(err)
		}
	}
	srv := httptest.NewServer(svc)
	b.Cleanup(srv.Close)
	return svc, srv.URL
}

// subjects starts ours and, if it is there, the peer, with values that live for
// ttl.
func subjects(b *testing.B, url string, ttl time.Duration) []*subject {
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
	ours := &subject{name: "ours", addr: free(b)}
	conf := filepath.Join(dir, "agent.yaml")
	put(b, filepath.Join(dir, "token"), benchToken, 0o400)
	put(b, conf, fmt.Sprintf(`source: {aws: {endpoint: %q}}
state_dir: %s/state
refresh: {interval: %s}
secrets: [{id: small}, {id: large}]
endpoint: {listen: %q, token_file: %s/token, max_connections: 1000, on_demand: {secrets: ["*"]}}
`, url, dir, ttl, ours.addr, dir), 0o600)
	ours.start(b, url, binary, "run", "--config", conf)
	list := []*subject{ours}
	if path := peer(b); path != "" {
		theirs := &subject{name: "peer", addr: free(b)}
		_, port, _ := net.SplitHostPort(theirs.addr)
		toml := filepath.Join(dir, "peer.toml")
		put(b, toml, fmt.Sprintf(`[logging]
log_level = "error"
log_to_file = false
[capabilities.secrets_manager]
http_port = %s
max_conn = 1000
validate_credentials = false
[capabilities.secrets_manager.cache]
ttl_seconds = %d
`, port, int(ttl.Seconds())), 0o600)
		theirs.start(b, url, path, "sm", "start", "--config", toml)
		list = append(list, theirs)
	}
	return list
}

// start returns when the agent answers. The peer takes the backend's URL and the
// token from its environment.
func (s *subject) start(b *testing.B, backend, path string, args ...string) {
	b.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "AWS_EC2_METADATA_DISABLED=true", "AWS_REGION=us-west-2", "AWS_ACCESS_KEY_ID=a",
		"AWS_SECRET_ACCESS_KEY=b", "AWS_TOKEN="+benchToken, "AWS_ENDPOINT_URL="+backend)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	s.pid = cmd.Process.Pid
	b.Cleanup(func() { stop(cmd) })
	for end := time.Now().Add(10 * time.Second); ; {
		if status, err := s.ask("small"); err == nil && status == http.StatusOK {
			return
		} else if time.Now().After(end) {
			b.Fatalf("%s answers %d, %v", s.name, status, err)
		}
	}
}

func (s *subject) ask(secret string) (int, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, s.url(secret), http.NoBody)
	if err != nil {
		return 0, err
	}
	name, value, _ := strings.Cut(tokenHeader, ": ")
	req.Header.Set(name, value)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// figures are what one run of a generator gave.
type figures struct {
	rps           float64
	p50, p99      time.Duration
	cpu           time.Duration // of the agent, for each request
	failed        int
	residentAfter float64 // MB
}

var (
	rateLine    = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	totalLine   = regexp.MustCompile(`([0-9]+) requests in`)
	percentile  = regexp.MustCompile(`(?m)^\s+(50|99)%\s+(\S+)$`)
	failedLine  = regexp.MustCompile(`Non-2xx or 3xx responses: ([0-9]+)`)
	socketsLine = regexp.MustCompile(`Socket errors: connect ([0-9]+), read ([0-9]+)`)
)

// wrk drives s with some connections that are kept, or with a new one for each
// request.
func (s *subject) wrk(b *testing.B, connections int, secret string, each bool) figures {
	b.Helper()
	path := tool(b, "wrk")
	args := []string{"-t" + strconv.Itoa(min(connections, 2)), "-c" + strconv.Itoa(connections),
		fmt.Sprintf("-d%ds", int(load.Seconds())), "--latency", "-H", tokenHeader}
	if each {
		args = append(args, "-H", "Connection: close")
	}
	before := cpuTime(b, s.pid)
	out, err := exec.Command(path, append(args, s.url(secret))...).CombinedOutput()
	if err != nil {
		b.Fatalf("wrk: %v\n%s", err, out)
	}
	used := cpuTime(b, s.pid) - before
	var f figures
	f.rps = number(b, out, rateLine)
	f.cpu = used / time.Duration(max(number(b, out, totalLine), 1))
	for _, m := range percentile.FindAllSubmatch(out, -1) {
		d, err := time.ParseDuration(string(m[2]))
		if err != nil {
			b.Fatal(err)
		}
		if string(m[1]) == "50" {
			f.p50 = d
		} else {
			f.p99 = d
		}
	}
	if failedLine.Match(out) || socketsLine.Match(out) {
		f.failed = 1
		b.Logf("%s, %d connections: not every request was answered:\n%s", s.name, connections, out)
	}
	f.residentAfter = memory(b, s.pid)["Rss"] / 1024
	return f
}

func number(b *testing.B, out []byte, line *regexp.Regexp) float64 {
	b.Helper()
	m := line.FindSubmatch(out)
	if m == nil {
		b.Fatalf("the generator printed no %s:\n%s", line, out)
	}
	n, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// BenchmarkEndpoint is the endpoint under as much load as one generator on the
// same two cores makes.
func BenchmarkEndpoint(b *testing.B) {
	_, url := backend(b)
	list := subjects(b, url, time.Hour)
	for _, c := range []struct {
		name        string
		connections int
		secret      string
		each        bool
	}{
		{"100B/1-connection", 1, "small", false},
		{"100B/64-connections", 64, "small", false},
		{"100B/512-connections", 512, "small", false},
		{"100B/connection-each", 64, "small", true},
		{"60KiB/1-connection", 1, "large", false},
		{"60KiB/64-connections", 64, "large", false},
		{"60KiB/512-connections", 512, "large", false},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				report(b, list, func(s *subject) figures { return s.wrk(b, c.connections, c.secret, c.each) })
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// report measures each of list in turn, some rounds, and reports medians and
// what ours is of the peer's.
func report(b *testing.B, list []*subject, measure func(*subject) figures) {
	b.Helper()
	all := map[string][]figures{}
	for range rounds {
		for _, s := range list {
			all[s.name] = append(all[s.name], measure(s))
		}
	}
	medianOf := func(name string, of func(figures) float64) float64 {
		var values []float64
		for _, f := range all[name] {
			values = append(values, of(f))
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	for unit, of := range map[string]func(figures) float64{
		"rps":         func(f figures) float64 { return f.rps },
		"p50-µs":      func(f figures) float64 { return float64(f.p50.Microseconds()) },
		"p99-µs":      func(f figures) float64 { return float64(f.p99.Microseconds()) },
		"cpu-µs":      func(f figures) float64 { return float64(f.cpu.Nanoseconds()) / 1000 },
		"resident-MB": func(f figures) float64 { return f.residentAfter },
	} {
		ours := medianOf("ours", of)
		b.ReportMetric(ours, "ours-"+unit)
		if len(list) > 1 {
			theirs := medianOf("peer", of)
			b.ReportMetric(theirs, "peer-"+unit)
			b.ReportMetric(ours/max(theirs, 1e-9), "ratio-"+unit)
		}
	}
	for name, fs := range all {
		for _, f := range fs {
			if f.failed > 0 {
				b.Errorf("%s did not answer every request", name)
			}
		}
	}
}

// BenchmarkEndpointAtAFixedRate is the latency at 3,000 requests a second, which
// is counted from when a request was due, not from when it was sent.
func BenchmarkEndpointAtAFixedRate(b *testing.B) {
	path := tool(b, "vegeta")
	_, url := backend(b)
	list := subjects(b, url, time.Hour)
	for b.Loop() {
		report(b, list, func(s *subject) figures {
			before := cpuTime(b, s.pid)
			attack := exec.Command(path, "attack", "-rate=3000", "-duration=5s", "-connections=64", "-max-connections=64", "-header", tokenHeader)
			attack.Stdin = strings.NewReader("GET " + s.url("small") + "\n")
			results, err := attack.Output()
			if err != nil {
				b.Fatal(err)
			}
			used := cpuTime(b, s.pid) - before
			sum := exec.Command(path, "report", "-type=json")
			sum.Stdin = bytes.NewReader(results)
			out, err := sum.Output()
			if err != nil {
				b.Fatal(err)
			}
			f := figures{
				rps: number(b, out, regexp.MustCompile(`"rate":([0-9.]+)`)),
				p50: time.Duration(number(b, out, regexp.MustCompile(`"50th":([0-9]+)`))),
				p99: time.Duration(number(b, out, regexp.MustCompile(`"99th":([0-9]+)`))),
				cpu: used / time.Duration(number(b, out, regexp.MustCompile(`"requests":([0-9]+)`))),
			}
			if number(b, out, regexp.MustCompile(`"success":([0-9.]+)`)) < 1 {
				f.failed = 1
				b.Logf("%s: %s", s.name, out)
			}
			f.residentAfter = memory(b, s.pid)["Rss"] / 1024
			return f
		})
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkEndpointAtItsTTLEdge lets values live for a second before a backend
// that takes 50 ms, under 64 connections. What counts is the calls for each
// second and the latency; ours is measured for a configured secret and for one
// that is read on demand.
func BenchmarkEndpointAtItsTTLEdge(b *testing.B) {
	for _, secret := range []string{"small", "demanded"} {
		b.Run(secret, func(b *testing.B) {
			svc, url := backend(b)
			if err := svc.Put("demanded", "x"); err != nil {
				b.Fatal(err)
			}
			svc.SetFault(func(_, id string) *local.Fault {
				if id == "" { // a batch waits once, not for each of its secrets
					return nil
				}
				return &local.Fault{Delay: 50 * time.Millisecond}
			})
			list := subjects(b, url, time.Second)
			for b.Loop() {
				for _, s := range list {
					if _, err := s.ask(secret); err != nil {
						b.Fatal(err)
					}
					before := calls(svc)
					f := s.wrk(b, 64, secret, false)
					b.ReportMetric(float64(calls(svc)-before)/load.Seconds(), s.name+"-calls/s")
					b.ReportMetric(float64(f.p99.Microseconds()), s.name+"-p99-µs")
					if f.failed > 0 {
						b.Errorf("%s did not answer every request", s.name)
					}
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func calls(svc *local.Service) int {
	n := 0
	for _, c := range svc.Calls() {
		n += c
	}
	return n
}

// peer returns the path of AWS's agent, or "" with a note.
func peer(b *testing.B) string {
	b.Helper()
	path := cmp.Or(os.Getenv("SECRETSD_PEER"), "../../../shared/peer-binaries/aws-workload-credentials-provider")
	if _, err := os.Stat(path); err != nil {
		b.Logf("AWS's agent is not measured beside ours, for there is no %s: name it by SECRETSD_PEER", path)
		return ""
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		b.Fatal(err)
	}
	return abs
}

func tool(b *testing.B, name string) string {
	b.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		b.Skipf("%s is not installed", name)
	}
	return path
}

// cpuTime returns what a process has used so far, user and system
// (proc_pid_stat(5), fields 14 and 15).
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err := errors.Join(err1, err2); err != nil {
		b.Fatal(err)
	}
	return time.Duration(user+system) * clockTick
}

func free(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func put(b *testing.B, path, text string, mode os.FileMode) {
	b.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		b.Fatal(err)
	}
}
