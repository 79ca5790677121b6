package files_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"secretsd/sinks/files"
)

func TestInPlaceOnAMountPoint(t *testing.T) {
	if !privateMounts(t) {
		return
	}
	dir, elsewhere := memoryDir(t), memoryDir(t)
	path, source := filepath.Join(dir, "db.env"), filepath.Join(elsewhere, "source")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.WriteFile(source, []byte("mounted"), 0o644))
	must(t, unix.Mount(source, path, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	refuses(t, files.Check(spec(path)), "it is a mount point", "set method: inplace")
	f := open(t, inPlaceThere(path))
	publish(t, f, canary, files.Content)
	for _, p := range []string{path, source} {
		holds(t, p, canary, 0o400, -1, -1)
	}
	must(t, f.Remove())
	holds(t, source, "", 0o400, -1, -1)
	must(t, unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	_, err := f.Publish([]byte(canary))
	refuses(t, err, "open "+path+": read-only file system", "mount it writable")
	refuses(t, files.Check(inPlaceThere(path)), "read-only file system", "mount it writable")
}

// The directory is in memory, and the file mounted there is not.
func TestInPlaceJudgesTheFilesOwnFileSystem(t *testing.T) {
	disk := t.TempDir()
	var st unix.Statfs_t
	must(t, unix.Statfs(disk, &st))
	if uint32(st.Type) == unix.TMPFS_MAGIC || uint32(st.Type) == unix.RAMFS_MAGIC {
		missing(t, "a temporary directory that is not in memory (set TMPDIR)", errors.New(disk))
	}
	if !privateMounts(t) {
		return
	}
	path, source := filepath.Join(memoryDir(t), "db.env"), filepath.Join(disk, "source")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.WriteFile(source, nil, 0o600))
	f := open(t, inPlaceThere(path))
	must(t, unix.Mount(source, path, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	_, err := f.Publish([]byte(canary))
	refuses(t, err, "put a secret into "+path+": it is on ", "set allow_disk: true")
	refuses(t, files.Check(inPlaceThere(path)), "it is on ", "")
	holds(t, source, "", 0o600, -1, -1)
	s := inPlaceThere(path)
	s.AllowDisk = true
	publish(t, open(t, s), canary, files.Content)
	holds(t, source, canary, 0o400, -1, -1)
	must(t, unix.Unmount(path, unix.MNT_DETACH))
	must(t, f.Close())
}

func TestInPlaceOnAFullTmpfsLeavesTheOldContent(t *testing.T) {
	if !privateMounts(t) {
		return
	}
	dir := memoryDir(t)
	mount(t, dir, "size=64k,mode=755")
	path := filepath.Join(dir, "db.env")
	f := open(t, inPlace(t, path))
	old := strings.Repeat("old", 4000)
	publish(t, f, old, files.Content)
	for range 3 {
		_, err := f.Publish([]byte(strings.Repeat(canary, 70<<10/len(canary))))
		refuses(t, err, "make room in "+path+": no space left on device", "raise size=")
		holds(t, path, old, 0o400, -1, -1)
	}
	must(t, os.Chmod(path, 0o600))
	must(t, os.Truncate(path, 0)) // all hole: even no longer content needs room
	must(t, os.Truncate(path, 40<<10))
	must(t, os.Chmod(path, 0o400))
	must(t, os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 60<<10), 0o600))
	_, err := f.Publish([]byte(strings.Repeat("x", 40<<10)))
	refuses(t, err, "make room in", "")
	holds(t, path, string(make([]byte, 40<<10)), 0o400, -1, -1)
	must(t, os.Remove(filepath.Join(dir, "filler")))
	publish(t, f, strings.Repeat("x", 60<<10), files.Content)
	publish(t, f, "short", files.Content)
	must(t, os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 56<<10), fs.FileMode(0o600)))
}

// Where a file system cannot promise room, what goes beyond the end is written
// first.
func TestInPlaceWithoutAPromiseOfRoom(t *testing.T) {
	if !privateMounts(t) {
		return
	}
	forbidWith(t, unix.EOPNOTSUPP, unix.SYS_FALLOCATE)
	dir := memoryDir(t)
	mount(t, dir, "size=64k,mode=755")
	path := filepath.Join(dir, "db.env")
	f := open(t, inPlace(t, path))
	for _, content := range []string{"old", strings.Repeat("longer", 1000), "short"} {
		publish(t, f, content, files.Content)
	}
	_, err := f.Publish([]byte(strings.Repeat("x", 70<<10)))
	refuses(t, err, "make room in "+path+": no space left", "raise size=")
	holds(t, path, "short", 0o400, -1, -1)
}
