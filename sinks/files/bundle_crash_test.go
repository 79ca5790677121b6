package files_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"secretsd/sinks/files"
)

// killsVar sets how often the writers of the kill tests are killed. Without it
// a machine that is slow or busy does fewer than others.
const killsVar = "FILES_TEST_KILLS"

// kill calls kill as often as it should and returns how often that was.
func kill(t *testing.T, kill func()) int {
	t.Helper()
	least, most := 60, 200
	if testing.Short() {
		least, most = 20, 30
	}
	if text := os.Getenv(killsVar); text != "" {
		var err error
		most, err = strconv.Atoi(text)
		must(t, err)
		least = most
	}
	n := 0
	for start := time.Now(); n < most && (n < least || time.Since(start) < 4*time.Second) && !t.Failed(); n++ {
		kill()
	}
	return n
}

// crashGrace is long enough for a reader that the machine holds up now and then,
// and short enough for generations not to pile up.
const crashGrace = 250 * time.Millisecond

func crashBundle(dir string) files.BundleSpec {
	s := bundleSpec(dir)
	s.Mode, s.Grace, s.Backup = 0o750, crashGrace, true
	if isRoot() {
		s.UID, s.GID = 12345, 54321
	}
	return s
}

// crashSet returns a certificate and a key that know each other by a number, and
// now and then further files.
func crashSet(r *rand.Rand) []files.Entry {
	id := strconv.FormatUint(r.Uint64(), 36)
	names := []string{"tls.crt", "tls.key"}
	for _, name := range []string{"sub/ca.crt", "sub/deep/chain", "user", "password"} {
		if r.IntN(2) == 0 {
			names = append(names, name)
		}
	}
	var entries []files.Entry
	for _, name := range names {
		body := strings.Repeat(id+"\n", 1+r.IntN(2000))
		entries = append(entries, files.Entry{Path: name, Content: seal([]byte(body)), Mode: 0o440, UID: -1, GID: -1})
	}
	return entries
}

// publishUntilKilled is the agent of the kill test.
func publishUntilKilled() {
	seed, err := strconv.ParseUint(os.Getenv(seedVar), 10, 64)
	r := rand.New(rand.NewPCG(seed, 0))
	b, openErr := files.New().OpenBundle(crashBundle(os.Getenv(pathVar)))
	start := time.Now()
	if err = errors.Join(err, openErr); err == nil {
		_, err = b.Sweep(0)
	}
	sets := make([][]files.Entry, 8) // made beforehand, so that the kill rather meets a Publish
	for n := range sets {
		sets[n] = crashSet(r)
	}
	for n := 0; err == nil; n++ {
		if _, err = b.Publish(sets[n%len(sets)], time.Since(start)); err == nil {
			_, _, err = b.Collect(time.Since(start))
		}
		if err == nil {
			_, err = os.Stdout.WriteString(".")
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// readGeneration reads the pair below one descriptor of "..data", and reports
// anything but two whole files of one publish.
func readGeneration(dir string) error {
	start := time.Now()
	root, err := os.OpenRoot(filepath.Join(dir, "..data"))
	if errors.Is(err, fs.ErrNotExist) && time.Since(start) > crashGrace/2 {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	var ids [2]string
	for i, name := range []string{"tls.crt", "tls.key"} {
		content, err := readSealed(root.Open, name)
		if errors.Is(err, fs.ErrNotExist) && time.Since(start) > crashGrace/2 {
			return nil // held up for longer than the generation stays
		}
		if err != nil {
			return fmt.Errorf("by the descriptor: %w", err)
		}
		ids[i], _, _ = strings.Cut(content, "\n")
	}
	if ids[0] != ids[1] {
		return errors.New("a reader saw a certificate of one generation and a key of another")
	}
	return nil
}

// readPaths reads each file of the pair by its full path.
func readPaths(dir string) error {
	for _, name := range []string{"tls.crt", "tls.key"} {
		if _, err := readSealed(func(name string) (*os.File, error) { return os.Open(filepath.Join(dir, name)) }, name); err != nil {
			return fmt.Errorf("by the path: %w", err)
		}
	}
	return nil
}

func readSealed(open func(string) (*os.File, error), name string) (string, error) {
	f, err := open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	want := files.Spec{Mode: 0o440, UID: crashBundle("").UID, GID: crashBundle("").GID}
	if err := dressed(want, st); err != nil {
		return "", err
	}
	content, err := io.ReadAll(f)
	if err != nil {
		return "", err
	}
	if !whole(content) {
		return "", fmt.Errorf("a reader saw %d bytes that are no whole %s", len(content), name)
	}
	return string(content), nil
}

func TestReadersBesideABundleWriterThatIsKilled(t *testing.T) {
	dir := memoryDir(t)
	theirs := layBundleBystanders(t, dir)
	r := rand.New(rand.NewPCG(rand.Uint64(), 1))
	b := openBundle(t, crashBundle(dir))
	_, err := b.Publish(crashSet(r), 0)
	must(t, err)
	must(t, b.Close())

	var stop atomic.Bool
	var reads [2]atomic.Int64
	var readers sync.WaitGroup
	readers.Go(func() {
		for !stop.Load() {
			for i, read := range []func(string) error{readGeneration, readPaths} {
				if err := read(dir); err != nil {
					t.Error(err)
					return
				}
				reads[i].Add(1)
			}
		}
	})
	met := map[string]int{}
	kills := kill(t, func() {
		killOnce(t, "bundle writer", dir, r)
		countRemains(t, dir, met)
	})
	stop.Store(true)
	readers.Wait()

	b = openBundle(t, crashBundle(dir))
	_, err = b.Sweep(0)
	must(t, err)
	collect(t, b, time.Hour)
	must(t, readGeneration(dir))
	must(t, readPaths(dir))
	must(t, b.Remove())
	contains(t, dir, theirs...)
	t.Logf("%d kills left %d unfinished generations, %d temporary links, %d dangling links; %d reads by descriptor, %d by path",
		kills, met["unfinished"], met["link"], met["dangling"], reads[0].Load(), reads[1].Load())
	if met["unfinished"] == 0 && kills >= 60 { // thirty may all miss
		t.Error("no kill met a write: the test shows nothing")
	}
}

// countRemains counts what the killed writer left. There is never more than one
// unfinished generation, for each writer sweeps first, and nobody else can look
// into it.
func countRemains(t *testing.T, dir string, met map[string]int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	unfinished := 0
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case files.IsTempOf(e.Name(), "unfinished"):
			unfinished++
			st, err := os.Lstat(path)
			must(t, err)
			if uid, _ := owner(st); st.Mode() != fs.ModeDir|0o700 || uid != os.Geteuid() {
				t.Errorf("an unfinished generation is %v of %d", st.Mode(), uid)
			}
		case files.IsTempOf(e.Name(), "link") && e.Type() == fs.ModeSymlink:
			met["link"]++
		case e.Type() == fs.ModeSymlink && bundleBystanders[e.Name()] == nil:
			if _, err := os.Stat(path); err != nil {
				met["dangling"]++
			}
		}
	}
	if unfinished > 1 {
		t.Errorf("%d unfinished generations: the writer started without sweeping", unfinished)
	}
	met["unfinished"] += unfinished
}
