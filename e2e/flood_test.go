package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestAFloodOfConnections opens ten thousand connections that say nothing, or
// not enough, to an agent that may have 256 descriptors. It goes on reading,
// writing and answering.
func TestAFloodOfConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 10,000 connections")
	}
	f := newFixture(t)
	telemetry := freePort(t)
	f.configure(`a={{ secret "db" }}`, fmt.Sprintf("endpoint: {listen: %q, token_file: %s/token, max_connections: 100}\ntelemetry: {listen: %q}",
		f.endpoint, f.dir, telemetry))
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	agent := start(t, cleanEnv(), "/bin/sh", "-c", "ulimit -n 256; exec "+path+" run --config "+f.conf)
	agent.until("msg=ready")
	token := content(filepath.Join(f.dir, "token"))
	pid := agent.cmd.Process.Pid
	ask := func(when string) {
		t.Helper()
		for _, url := range []string{"http://" + f.endpoint + "/v1/db", "http://" + telemetry + "/readyz"} {
			status, body := get(t, url, token)
			// On a busy machine hundreds of the flood's connections can be taken
			// between this one and its first byte, which then is the oldest and makes
			// room: a client that is cut off without an answer asks again, as SDKs do.
			for range 2 {
				if status == 0 {
					status, body = get(t, url, token)
				}
			}
			if status != 200 {
				t.Errorf("%s, %s: %d %s", when, url, status, body)
			}
		}
	}
	ask("before")
	before, most := residentKB(t, pid), 0
	var open []net.Conn
	t.Cleanup(func() {
		for _, c := range open {
			_ = c.Close()
		}
	})
	for i := range 10_000 {
		conn, err := net.Dial("tcp", []string{f.endpoint, telemetry}[i%2])
		if err != nil {
			t.Fatal(err)
		}
		if i%4 < 2 {
			_, _ = io.WriteString(conn, "GET /v1/db HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
		}
		// The client's side stays open for as long as the agent could hold it.
		if open = append(open, conn); len(open) > 500 {
			_ = open[0].Close()
			open = open[1:]
		}
		if i%1000 == 999 {
			ask(fmt.Sprintf("after %d connections", i+1))
			most = max(most, descriptors(t, pid))
		}
	}
	if most > 256-100 {
		t.Errorf("the connections took %d descriptors of 256", most)
	}
	f.set("db", "two")
	eventually(t, "a new version is published beside the flood", func() bool { return content(f.file) == "a=two" })
	ask("afterwards")
	if after := residentKB(t, pid); after > before+20_000 {
		t.Errorf("memory grew from %d to %d kB", before, after)
	}
	agent.signal(syscall.SIGTERM)
	if _, code := agent.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// residentKB returns a process's resident memory (proc_pid_status(5)).
func residentKB(t *testing.T, pid int) int {
	t.Helper()
	for line := range strings.Lines(content(fmt.Sprintf("/proc/%d/status", pid))) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return kb
		}
	}
	t.Fatal("the process has no resident memory")
	return 0
}

func descriptors(t *testing.T, pid int) int {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
