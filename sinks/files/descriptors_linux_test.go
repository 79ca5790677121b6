package files_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"secretsd/sinks/files"
)

// With every number of descriptors that are left, a Publish that needs more
// leaves everything as it was.
func TestNoDescriptorsLeft(t *testing.T) {
	if !inChild(t, "a limit of its own", nil) {
		return
	}
	dir := memoryDir(t)
	b := openBundle(t, bundleSpec(filepath.Join(dir)))
	next := set{"sub/tls.key": canary, "a": "a"}
	publishSet(t, b, pair, files.Content)
	f := open(t, spec(filepath.Join(dir, "db.env")))
	publish(t, f, "old", files.Content)
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	full := limit
	probe, err := os.Open("/")
	must(t, err)
	limit.Cur = uint64(probe.Fd()) // the first number that is free
	must(t, probe.Close())
	for failures := 0; ; failures++ {
		must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
		_, bundleErr := b.Publish(next.entries(), 0)
		_, fileErr := f.Publish([]byte(canary))
		must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &full))
		if failures == 0 {
			refuses(t, fileErr, "too many open files", "LimitNOFILE=")
			holds(t, f.Path(), "old", 0o400, -1, -1)
		} else if fileErr != nil {
			t.Fatal(fileErr)
		}
		if bundleErr == nil {
			if failures < 3 {
				t.Errorf("only %d attempts failed: the test shows nothing", failures)
			}
			break
		}
		refuses(t, bundleErr, "too many open files", "LimitNOFILE=")
		unharmed(t, dir, pair, 2)
		limit.Cur++
	}
	publishSet(t, b, next, files.None)
}

// Others in the agent take descriptors and give them back at any moment.
func TestDescriptorsThatComeAndGo(t *testing.T) {
	if !inChild(t, "a limit of its own", nil) {
		return
	}
	dir := memoryDir(t)
	s := bundleSpec(dir)
	s.Grace = 0
	b := openBundle(t, s)
	sets := []set{{"a": "a", "sub/b": "b", "sub/deep/c": "c"}, {"x/y/z": "z", "d": "d", "e": "e"}}
	shown := sets[0]
	publishSet(t, b, shown, files.Content)
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	full := limit
	probe, err := os.Open("/")
	must(t, err)
	limit.Cur = uint64(probe.Fd()) + 5
	must(t, probe.Close())
	var stop atomic.Bool
	var other sync.WaitGroup
	other.Go(func() {
		var held []int
		for !stop.Load() {
			for len(held) < 5 {
				fd, err := unix.Open("/", unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					break
				}
				held = append(held, fd)
			}
			for _, fd := range held {
				_ = unix.Close(fd)
			}
			held = held[:0]
		}
	})
	failed, done := 0, 0
	rounds := 1500
	if testing.Short() {
		rounds = 200
	}
	for n := range rounds {
		next := sets[n%2]
		must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
		_, err := b.Publish(next.entries(), 0)
		must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &full))
		if err == nil {
			shown, done = next, done+1
		} else if failed++; !errors.Is(err, syscall.EMFILE) {
			t.Fatal(err)
		}
		collect(t, b, 0)
		unharmed(t, dir, shown, 2)
	}
	stop.Store(true)
	other.Wait()
	t.Logf("%d publishes were done, %d failed", done, failed)
	if failed == 0 || done == 0 {
		t.Error("the test shows nothing")
	}
}
