package files_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"secretsd/sinks/files"
)

const (
	pathVar = "FILES_TEST_PATH"
	seedVar = "FILES_TEST_SEED"
)

// generation is content that shows whether it is whole: a body of some size
// and its sum.
func generation(r *rand.Rand) []byte {
	return seal(bytes.Repeat([]byte(strconv.FormatUint(r.Uint64(), 36)+"\n"), 1+r.IntN(8000)))
}

func seal(body []byte) []byte { return fmt.Appendf(body, "%x", sha256.Sum256(body)) }

func whole(content []byte) bool {
	end := len(content) - 2*sha256.Size
	return end > 0 && fmt.Sprintf("%x", sha256.Sum256(content[:end])) == string(content[end:])
}

func crashSpec(path string) files.Spec {
	s := spec(path)
	s.Mode = 0o440
	if isRoot() {
		s.UID, s.GID = 12345, 54321
	}
	return s
}

// writeUntilKilled is the agent of the kill test: it opens, sweeps, and
// publishes one generation after the other, writing a byte after each.
func writeUntilKilled() {
	seed, err := strconv.ParseUint(os.Getenv(seedVar), 10, 64)
	r := rand.New(rand.NewPCG(seed, 0))
	f, openErr := files.New().Open(crashSpec(os.Getenv(pathVar)))
	if err = errors.Join(err, openErr); err == nil {
		_, err = f.Sweep()
	}
	// Made beforehand, so that the kill rather meets a Publish.
	generations := make([][]byte, 8)
	for n := range generations {
		generations[n] = generation(r)
	}
	for n := 0; err == nil; n++ {
		if _, err = f.Publish(generations[n%len(generations)]); err == nil {
			_, err = os.Stdout.WriteString(".")
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// read reads the file over and over until stop, and reports anything but a
// whole generation with the right mode and owner.
func read(t *testing.T, s files.Spec, stop *atomic.Bool, reads *atomic.Int64) {
	for !stop.Load() {
		if err := readOnce(s); err != nil {
			t.Error(err)
			return
		}
		reads.Add(1)
	}
}

func readOnce(s files.Spec) error {
	f, err := os.Open(s.Path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := dressed(s, st); err != nil {
		return err
	}
	content, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if !whole(content) {
		return fmt.Errorf("a reader saw %d bytes that are no whole generation", len(content))
	}
	return nil
}

// killOnce starts a writer, kills it after some publishes and a little more,
// and waits for its end.
func killOnce(t *testing.T, role, path string, r *rand.Rand) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"="+role, pathVar+"="+path, seedVar+"="+strconv.FormatUint(r.Uint64(), 10))
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if _, err := io.CopyN(io.Discard, bufio.NewReaderSize(out, 16), int64(1+r.IntN(8))); err != nil {
		t.Errorf("the writer ended by itself: %v %s", err, complaint.String())
	}
	for range r.IntN(20_000) {
		spin.Add(1)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

var spin atomic.Int64

func TestReadersBesideAWriterThatIsKilled(t *testing.T) {
	dir := memoryDir(t)
	layBystanders(t, dir)
	s := crashSpec(filepath.Join(dir, "db.env"))
	r := rand.New(rand.NewPCG(rand.Uint64(), 1))
	f := open(t, s)
	_, err := f.Publish(generation(r))
	must(t, err)

	var stop atomic.Bool
	var reads atomic.Int64
	var readers sync.WaitGroup
	readers.Go(func() { read(t, s, &stop, &reads) })
	leftovers := 0
	kills := kill(t, func() {
		killOnce(t, "writer", s.Path, r)
		leftovers += countLeftovers(t, dir, s)
	})
	stop.Store(true)
	readers.Wait()

	_, err = f.Sweep()
	must(t, err)
	contains(t, dir, append(append([]string{}, bystanders...), "db.env")...)
	for _, name := range bystanders {
		holds(t, filepath.Join(dir, name), "theirs", 0o600, -1, -1)
	}
	must(t, readOnce(s))
	t.Logf("%d kills left %d temporary files; %d reads", kills, leftovers, reads.Load())
	if leftovers == 0 && kills >= 60 { // thirty may all miss
		t.Error("no kill met a write: the test shows nothing")
	}
}

// countLeftovers counts what the killed writer left. There is never more than
// one, for each writer sweeps first. One with content has its final mode and
// owner; without, nobody may open it yet, or those who may in the end.
func countLeftovers(t *testing.T, dir string, s files.Spec) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	n := 0
	for _, e := range entries {
		if !files.IsTempOf(e.Name(), filepath.Base(s.Path)) {
			continue
		}
		n++
		st, err := e.Info()
		must(t, err)
		if err := dressed(s, st); err != nil && (st.Size() > 0 || st.Mode().Perm() != 0 && st.Mode() != s.Mode) {
			t.Error(err)
		}
	}
	if n > 1 {
		t.Errorf("%d leftovers: the writer started without sweeping", n)
	}
	return n
}

func dressed(s files.Spec, st fs.FileInfo) error {
	uid, gid := owner(st)
	if st.Mode() != s.Mode || s.UID >= 0 && uid != s.UID || s.GID >= 0 && gid != s.GID {
		return fmt.Errorf("%s is %v of %d:%d", strings.TrimLeft(st.Name(), "."), st.Mode(), uid, gid)
	}
	return nil
}
