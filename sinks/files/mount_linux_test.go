package files_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"secretsd/sinks/files"
)

// privateMounts reports whether the test runs with mounts of its own, after
// having started itself that way otherwise. Not being root it becomes root of
// a user namespace.
func privateMounts(t *testing.T) bool {
	t.Helper()
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if !isRoot() {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if !inChild(t, "mount namespaces (CLONE_NEWNS)", attr) {
		return false
	}
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	return true
}

func mount(t *testing.T, dir, options string) {
	t.Helper()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

func TestDiskIsRefusedUnlessAllowed(t *testing.T) {
	disk := t.TempDir()
	var st unix.Statfs_t
	must(t, unix.Statfs(disk, &st))
	if uint32(st.Type) == unix.TMPFS_MAGIC || uint32(st.Type) == unix.RAMFS_MAGIC {
		missing(t, "a temporary directory that is not in memory (set TMPDIR)", errors.New(disk))
	}
	_, err := files.New().Open(spec(filepath.Join(disk, "db.env")))
	const hint = "below /run or /dev/shm, or set allow_disk: true"
	refuses(t, err, "put a secret into "+disk+": it is on ", hint)
	refuses(t, err, "not in memory (tmpfs or ramfs)", hint)
	s := spec(filepath.Join(disk, "a", "db.env"))
	s.CreateDirs = true
	refuses(t, files.Check(s), "it is on ", hint)
	contains(t, disk)

	s.AllowDisk = true
	f := open(t, s)
	publish(t, f, canary, files.Content)
	publish(t, f, canary, files.None)
	holds(t, s.Path, canary, 0o400, -1, -1)
	contains(t, filepath.Join(disk, "a"), "db.env")
}

func TestAFullTmpfsLeavesTheOldFile(t *testing.T) {
	if !privateMounts(t) {
		return
	}
	dir := memoryDir(t)
	mount(t, dir, "size=64k,mode=755")
	path := filepath.Join(dir, "db.env")
	f := open(t, spec(path))
	old := strings.Repeat("old", 4000)
	publish(t, f, old, files.Content)
	before := stat(t, path)
	for range 3 {
		_, err := f.Publish([]byte(strings.Repeat(canary, 64<<10/len(canary))))
		refuses(t, err, "write temporary file in "+dir+": no space left on device", "room for both")
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("the cause is lost: %v", err)
		}
		contains(t, dir, "db.env")
		holds(t, path, old, 0o400, -1, -1)
	}
	if stat(t, path).Ino != before.Ino {
		t.Error("the old file was replaced")
	}
	publish(t, f, canary, files.Content)
	holds(t, path, canary, 0o400, -1, -1)
}

func TestNoInodesLeft(t *testing.T) {
	if !privateMounts(t) {
		return
	}
	dir := memoryDir(t)
	mount(t, dir, "nr_inodes=2,mode=755")
	f := open(t, spec(filepath.Join(dir, "db.env")))
	publish(t, f, "old", files.Content)
	_, err := f.Publish([]byte(canary))
	refuses(t, err, "create temporary file in "+dir+": no space left on device", "room for both")
	holds(t, f.Path(), "old", 0o400, -1, -1)
}

func TestQuotaUsedUp(t *testing.T) {
	if !privateMounts(t) {
		return
	}
	dir := memoryDir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "usrquota,usrquota_block_hardlimit=32k,mode=755"); err != nil {
		t.Skipf("needs a kernel with tmpfs quotas (CONFIG_TMPFS_QUOTA, Linux 6.6, not in user namespaces): %v", err)
	}
	s := spec(filepath.Join(dir, "db.env"))
	s.UID = 12345 // root's own use is not limited
	f := open(t, s)
	publish(t, f, "old", files.Content)
	_, err := f.Publish([]byte(strings.Repeat(canary, 5000)))
	refuses(t, err, "disk quota exceeded", "quota")
	contains(t, dir, "db.env")
	holds(t, f.Path(), "old", 0o400, 12345, 0)
}

func TestAReadOnlyMount(t *testing.T) {
	if !privateMounts(t) {
		return
	}
	dir := memoryDir(t)
	mount(t, dir, "mode=755")
	f := open(t, spec(filepath.Join(dir, "db.env")))
	publish(t, f, "old", files.Content)
	must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	publish(t, f, "old", files.None)
	_, err := f.Publish([]byte(canary))
	refuses(t, err, "read-only file system", "mount it writable")
	holds(t, f.Path(), "old", 0o400, -1, -1)
	refuses(t, files.Check(spec(f.Path())), "write to "+dir+": read-only file system", "mount it writable")
}

func TestAMountPointCannotBeReplaced(t *testing.T) {
	if !privateMounts(t) {
		return
	}
	dir := memoryDir(t)
	path, source := filepath.Join(dir, "db.env"), filepath.Join(dir, "source")
	f := open(t, spec(path))
	publish(t, f, "old", files.Content)
	must(t, os.WriteFile(source, []byte("mounted"), 0o400))
	must(t, unix.Mount(source, path, "", unix.MS_BIND, "")) // the same file system: no other device number
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	const hint = "mount the directory instead"
	refuses(t, files.Check(spec(path)), "replace "+path+": it is a mount point", hint)
	_, err := files.New().Open(spec(path))
	refuses(t, err, "it is a mount point", hint)
	_, err = f.Publish([]byte(canary))
	refuses(t, err, "replace "+path+": device or resource busy", hint)
	refuses(t, f.Remove(), "remove "+path, "unmount")
	contains(t, dir, "db.env", "source")
	holds(t, path, "mounted", 0o400, -1, -1)
}

func TestATmpfsMountedOverTheDirectoryIsFollowed(t *testing.T) {
	needRoot(t) // in a user namespace of its own / belongs to nobody it knows, and is not trusted
	if !privateMounts(t) {
		return
	}
	mid := filepath.Join(memoryDir(t), "mid")
	dir := filepath.Join(mid, "dir")
	must(t, os.MkdirAll(dir, 0o755))
	f := open(t, spec(filepath.Join(dir, "db.env")))
	publish(t, f, "under", files.Content)
	for range 2 {
		mount(t, dir, "mode=755")
		publish(t, f, canary, files.Content)
		contains(t, dir, "db.env")
		must(t, unix.Unmount(dir, unix.MNT_DETACH))
		holds(t, f.Path(), "under", 0o400, -1, -1)
	}
	publish(t, f, "under", files.None)
}

// onSmallTmpfs runs work with a tmpfs of its own.
func onSmallTmpfs(t *testing.T, options string, work func(dir string)) {
	t.Helper()
	if !privateMounts(t) {
		return
	}
	dir := memoryDir(t)
	mount(t, dir, options)
	work(dir)
}
