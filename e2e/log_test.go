package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestALogThatNobodyReadsHoldsNothingUp gives the agent a pipe that is full.
func TestALogThatNobodyReadsHoldsNothingUp(t *testing.T) {
	f := newFixture(t)
	f.configure(`a={{ secret "db" }}`, fmt.Sprintf("log: {level: debug}\nendpoint: {listen: %q, token_file: %s/token}", f.endpoint, f.dir))
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fill(t, w)
	cmd := exec.Command(path, "run", "--config", f.conf)
	cmd.Env, cmd.Stderr = cleanEnv(), w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	eventually(t, "the file is written", func() bool { return content(f.file) == "a=one" })
	for i := range 3 {
		value := fmt.Sprintf("value-%d", i)
		f.set("db", value)
		eventually(t, "a new version is published", func() bool { return content(f.file) == "a="+value })
	}

	// Whoever reads later gets the lines, in their order, as far as there was room.
	var lines []string
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(r); s.Scan(); {
			lines = append(lines, s.Text())
		}
	}()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for what, ch := range map[string]<-chan struct{}{"the end of the log": read} {
		select {
		case <-ch:
		case <-time.After(patience):
			t.Fatalf("waited in vain for %s", what)
		}
	}
	if err := <-ended; err != nil {
		t.Errorf("the agent ended with %v", err)
	}
	log := strings.Join(lines, "\n")
	ready, published := strings.Index(log, "msg=ready"), strings.LastIndex(log, `msg="published file"`)
	if ready < 0 || published < ready {
		t.Errorf("the log is not there, or not in order:\n%s", log)
	}
}

// fill writes to a pipe until it takes no more.
func fill(t *testing.T, w *os.File) {
	t.Helper()
	_ = w.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	line := []byte(strings.Repeat("x", 1023) + "\n")
	for {
		if _, err := w.Write(line); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			return
		}
	}
}
