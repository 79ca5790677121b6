package files_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"secretsd/sinks/files"
)

// unharmed checks that after a Publish that failed the bundle shows s as before,
// and that nothing is left of the attempt.
func unharmed(t *testing.T, dir string, s set, names int) {
	t.Helper()
	if err := shows(dir, s); err != nil {
		t.Fatal(err)
	}
	if got := dotted(t, dir); got != names {
		t.Fatalf("%d names with two dots, want %d", got, names)
	}
}

// However much room there is, a Publish that does not get by with it leaves
// everything as it was: it may run out of it at every step.
func TestABundleOnAFullTmpfs(t *testing.T) {
	if !privateMounts(t) {
		return
	}
	// As many pages or inodes as there are, the rest is taken by the test.
	for what, options := range map[string]string{"size": "size=256k,mode=755", "nr_inodes": "nr_inodes=64,mode=755"} {
		t.Run(what, func(t *testing.T) {
			dir := memoryDir(t)
			mount(t, dir, options)
			spec := bundleSpec(dir)
			spec.Backup = true
			b := openBundle(t, spec)
			old := set{"tls.crt": "old", "tls.key": "old", "gone": "old"}
			next := set{"tls.crt": strings.Repeat("x", 10_000), "tls.key": canary, "sub/ca": canary, "sub/deep/x": "", "new": "y"}
			for _, s := range []set{{"tls.crt": "older"}, old} {
				publishSet(t, b, s, files.Content)
			}
			collect(t, b, time.Hour)
			fill := filler(t, dir, what)
			names := dotted(t, dir)
			before := descriptors(t)
			for failures := 0; ; failures++ {
				_, err := b.Publish(next.entries(), 0)
				if err == nil {
					if least := map[string]int{"size": 4, "nr_inodes": 9}[what]; failures < least {
						t.Errorf("only %d attempts failed: the test shows nothing", failures)
					}
					break
				}
				refuses(t, err, "no space left on device", "raise size= or nr_inodes= of the tmpfs")
				refuses(t, err, "publish bundle "+dir+": ", "sizeLimit of the pod's emptyDir")
				if !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("the cause is lost: %v", err)
				}
				unharmed(t, dir, old, names)
				fill.free(t)
			}
			if got := descriptors(t) - before; got != 0 {
				t.Errorf("%d more descriptors", got)
			}
			if err := shows(dir, next); err != nil {
				t.Error(err)
			}
		})
	}
}

// fill is what takes the room on a file system, in small pieces.
type fill struct {
	dir    string
	pieces int
}

func filler(t *testing.T, dir, what string) *fill {
	t.Helper()
	f := &fill{dir: filepath.Join(dir, "filler")}
	must(t, os.Mkdir(f.dir, 0o700))
	content := []byte(nil)
	if what == "size" {
		content = make([]byte, os.Getpagesize())
	}
	for {
		err := os.WriteFile(f.piece(), content, 0o600)
		if errors.Is(err, syscall.ENOSPC) {
			_ = os.Remove(f.piece())
			return f
		}
		must(t, err)
		f.pieces++
	}
}

func (f *fill) piece() string { return filepath.Join(f.dir, fmt.Sprint(f.pieces)) }

func (f *fill) free(t *testing.T) {
	t.Helper()
	f.pieces--
	must(t, os.Remove(f.piece()))
}

// The room comes and goes while bundles and files are published.
func TestATmpfsThatFillsUpDuringPublishes(t *testing.T) {
	if !privateMounts(t) {
		return
	}
	dir := memoryDir(t)
	mount(t, dir, "size=128k,mode=755")
	bundleDir := filepath.Join(dir, "bundle")
	must(t, os.Mkdir(bundleDir, 0o755))
	s := bundleSpec(bundleDir)
	s.Grace = 0
	b := openBundle(t, s)
	sets := []set{pair, {"tls.crt": strings.Repeat("a", 9000), "tls.key": strings.Repeat("b", 9000)}, {"tls.crt": strings.Repeat("c", 20_000)}}
	f := open(t, spec(filepath.Join(dir, "db.env")))
	shown, content := sets[0], "0"
	publishSet(t, b, shown, files.Content)
	publish(t, f, content, files.Content)

	before := descriptors(t)
	var stop atomic.Bool
	var other sync.WaitGroup
	all := make([]byte, 128<<10)
	other.Go(func() {
		for !stop.Load() {
			_ = os.WriteFile(filepath.Join(dir, "filler"), all, 0o600)
			_ = os.Remove(filepath.Join(dir, "filler"))
		}
	})
	failed, done := 0, 0
	rounds := 1500
	if testing.Short() {
		rounds = 200
	}
	heap := 0
	for n := range rounds {
		if n == rounds/2 {
			heap = heapInUse()
		}
		next := sets[n%len(sets)]
		if _, err := b.Publish(next.entries(), 0); err == nil {
			shown, done = next, done+1
		} else if failed++; !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		collect(t, b, 0)
		unharmed(t, bundleDir, shown, 2)
		text := strings.Repeat(fmt.Sprint(n), 3000)
		if _, err := f.Publish([]byte(text)); err == nil {
			content = text
		} else if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		got, err := os.ReadFile(f.Path())
		must(t, err)
		if string(got) != content {
			t.Fatal("the file is neither the old nor the new one")
		}
	}
	stop.Store(true)
	other.Wait()
	grown := heapInUse() - heap
	runtime.KeepAlive(all) // it is in both
	opened := descriptors(t) - before
	_ = os.Remove(filepath.Join(dir, "filler"))
	contains(t, dir, "bundle", "db.env")
	t.Logf("%d publishes of the bundle were done, %d failed", done, failed)
	if failed == 0 || done == 0 {
		t.Error("the test shows nothing")
	}
	if grown > 256<<10 || opened != 0 {
		t.Errorf("the heap has grown by %d bytes, and %d more descriptors are open", grown, opened)
	}
}

// heapInUse returns what is reachable, in bytes. What is allocated while a collection
// runs stays until the next, hence the least of some.
func heapInUse() int {
	least := uint64(math.MaxUint64)
	for range 5 { // the second frees what had something to close
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		least = min(least, m.HeapAlloc)
	}
	return int(least)
}

func TestABundleAndAQuota(t *testing.T) {
	if !privateMounts(t) {
		return
	}
	dir := memoryDir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "usrquota,usrquota_block_hardlimit=32k,mode=755"); err != nil {
		t.Skipf("needs a kernel with tmpfs quotas (CONFIG_TMPFS_QUOTA, Linux 6.6, not in user namespaces): %v", err)
	}
	s := bundleSpec(dir)
	s.UID = 12345 // root's own use is not limited
	b := openBundle(t, s)
	publishSet(t, b, pair, files.Content)
	_, err := b.Publish(set{"tls.crt": strings.Repeat(canary, 5000)}.entries(), 0)
	refuses(t, err, "disk quota exceeded", "the file's owner, is used up")
	unharmed(t, dir, pair, 2)
}

func TestABundleOnAReadOnlyMount(t *testing.T) {
	if !privateMounts(t) {
		return
	}
	dir := memoryDir(t)
	mount(t, dir, "mode=755")
	b := openBundle(t, bundleSpec(dir))
	publishSet(t, b, pair, files.Content)
	must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	publishSet(t, b, pair, files.None)
	_, err := b.Publish(set{"a": canary}.entries(), 0)
	refuses(t, err, "create generation in "+dir+": read-only file system", "mount it writable")
	unharmed(t, dir, pair, 2)
	refuses(t, files.CheckBundle(bundleSpec(dir)), "write to "+dir+": read-only file system", "mount it writable")
}

// A bundle's directory is a mount point in pods, and mounted anew it is followed.
func TestABundleInAMountPoint(t *testing.T) {
	needRoot(t) // in a user namespace of its own / belongs to nobody it knows, and is not trusted
	if !privateMounts(t) {
		return
	}
	dir := filepath.Join(memoryDir(t), "mid", "dir")
	must(t, os.MkdirAll(dir, 0o755))
	b := openBundle(t, bundleSpec(dir))
	publishSet(t, b, set{"under": "under"}, files.Content)
	for range 2 {
		mount(t, dir, "mode=755")
		publishSet(t, b, pair, files.Content)
		must(t, unix.Unmount(dir, unix.MNT_DETACH))
		if err := shows(dir, set{"under": "under"}); err != nil {
			t.Error(err)
		}
	}
	publishSet(t, b, set{"under": "under"}, files.None)
}

func TestABundleOnDiskIsRefusedUnlessAllowed(t *testing.T) {
	disk := t.TempDir()
	var st unix.Statfs_t
	must(t, unix.Statfs(disk, &st))
	if uint32(st.Type) == unix.TMPFS_MAGIC || uint32(st.Type) == unix.RAMFS_MAGIC {
		missing(t, "a temporary directory that is not in memory (set TMPDIR)", errors.New(disk))
	}
	s := bundleSpec(filepath.Join(disk, "tls"))
	s.CreateDirs = true
	refuses(t, files.CheckBundle(s), "put a secret into "+disk+": it is on ", "set allow_disk: true")
	contains(t, disk)
	s.AllowDisk, s.Backup = true, true
	b := openBundle(t, s)
	publishSet(t, b, set{"a": "a", "sub/b": "b"}, files.Content)
	publishSet(t, b, pair, files.Content)
	if err := sameFiles(filepath.Join(s.Dir, "..backup"), set{"a": "a", "sub/b": "b"}); err != nil {
		t.Error(err)
	}
	collect(t, b, time.Hour)
	publishSet(t, openBundleAfter(t, b, s), pair, files.None)

	f := backupSpec(filepath.Join(disk, "db.env"))
	f.AllowDisk = true
	file := open(t, f)
	publish(t, file, "first", files.Content)
	publish(t, file, "second", files.Content)
	holds(t, files.BackupName(f.Path), "first", 0o440, -1, -1)
}

// What is mounted in a generation is not the agent's to remove.
func TestAMountInAGenerationIsNotGoneInto(t *testing.T) {
	if !privateMounts(t) {
		return
	}
	dir, precious := memoryDir(t), memoryDir(t)
	must(t, os.WriteFile(filepath.Join(precious, "precious"), nil, 0o600))
	b := openBundle(t, bundleSpec(dir))
	publishSet(t, b, set{"sub/a": "a"}, files.Content)
	generation := filepath.Join(dir, current(dir))
	publishSet(t, b, set{"a": "a"}, files.Content)
	now := time.Hour
	for _, at := range []string{generation, generation + "/sub"} {
		must(t, unix.Mount(precious, at, "", unix.MS_BIND, "")) // the same file system: no other device number
		_, more, err := b.Collect(now)
		now += time.Hour
		refuses(t, err, "remove directory "+at+": something is mounted there", "unmount it")
		if !more {
			t.Error("it is forgotten")
		}
		must(t, unix.Unmount(at, unix.MNT_DETACH))
		contains(t, precious, "precious")
	}
	collect(t, b, now)
	if got := generations(t, dir); len(got) != 1 {
		t.Errorf("%v is left", got)
	}
}

// Somebody takes and leaves the names that are published: what is theirs is never
// replaced.
func TestNamesThatOthersTakeMeanwhile(t *testing.T) {
	dir := memoryDir(t)
	s := bundleSpec(dir)
	s.Grace = 0
	b := openBundle(t, s)
	var stop atomic.Bool
	var other sync.WaitGroup
	taken := 0
	other.Go(func() {
		path := filepath.Join(dir, "name")
		for !stop.Load() {
			f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				continue
			}
			taken++
			at, err := f.Stat()
			_ = f.Close()
			if now, lstatErr := os.Lstat(path); err != nil || lstatErr != nil || !os.SameFile(at, now) {
				t.Errorf("a file of somebody else was replaced (%v)", lstatErr)
				return
			}
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
		}
	})
	done, failed := 0, 0
	for n := 0; n < 3000 || done == 0 && n < 100_000; n++ {
		_, err := b.Publish(set{"name": "a"}.entries(), 0)
		if err == nil {
			done++
			_, err = b.Publish(set{}.entries(), 0)
			must(t, err)
		} else if failed++; !strings.Contains(err.Error(), "somebody else's regular file") && !strings.Contains(err.Error(), "somebody else's file") {
			t.Fatal(err)
		}
		collect(t, b, 0)
	}
	stop.Store(true)
	other.Wait()
	t.Logf("the name was taken %d times; %d publishes were done, %d failed", taken, done, failed)
}

func TestADirectoryThatWasClosedToTheAgent(t *testing.T) {
	if isRoot() {
		t.Skip("needs an ordinary user: root writes everywhere")
	}
	dir := memoryDir(t)
	b := openBundle(t, bundleSpec(dir))
	publishSet(t, b, pair, files.Content)
	must(t, os.Chmod(dir, 0o555))
	_, err := b.Publish(set{"a": canary}.entries(), 0)
	refuses(t, err, "create generation in "+dir+": permission denied", "write and search permission")
	unharmed(t, dir, pair, 2)
	must(t, os.Chmod(dir, 0o333))
	refuses(t, files.CheckBundle(bundleSpec(dir)), "list "+dir+": permission denied", "")
	must(t, os.Chmod(dir, 0o755))
	publishSet(t, b, set{"a": canary}, files.Content)
}
