package files_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"secretsd/sinks/files"
)

func TestGivingABundleAwayNeedsACapability(t *testing.T) {
	if !asNobody(t) {
		return
	}
	dir := memoryDir(t)
	s := bundleSpec(dir)
	b := openBundle(t, s)
	publishSet(t, b, set{"sub/a": "old"}, files.Content)
	for what, change := range map[string]func(*files.BundleSpec, *files.Entry){
		"owner 12345": func(s *files.BundleSpec, _ *files.Entry) { s.UID = 12345 },
		"group 12345": func(_ *files.BundleSpec, e *files.Entry) { e.GID = 12345 },
	} {
		s, e := bundleSpec(dir), files.Entry{Path: "sub/a", Content: []byte(canary), Mode: 0o400, UID: -1, GID: -1}
		change(&s, &e)
		b = openBundleAfter(t, b, s)
		_, err := b.Publish([]files.Entry{e}, 0)
		refuses(t, err, "set "+what+" of "+dir+"/sub", "the agent needs CAP_CHOWN")
		unharmed(t, dir, set{"sub/a": "old"}, 2)
	}
}

// CAP_CHOWN alone is enough to publish for others, to know without being able to
// look that what is there is what was published, and to clear it away.
func TestChownAloneIsEnoughForABundle(t *testing.T) {
	if !asNobody(t, unix.CAP_CHOWN) {
		return
	}
	dir := memoryDir(t)
	s := bundleSpec(dir)
	s.UID, s.GID, s.Backup = 12345, 54321, true
	b := openBundle(t, s)
	first, second := set{"tls.crt": "1", "sub/tls.key": canary}, set{"tls.crt": "2"}
	put := func(b *files.Bundle, c set, want files.Change) {
		t.Helper()
		publishEntries(t, b, c.entries(), want)
		for _, name := range generations(t, dir) {
			st, err := os.Lstat(filepath.Join(dir, name))
			must(t, err)
			if uid, gid := owner(st); st.Mode() != fs.ModeDir|0o700 || uid != 12345 || gid != 54321 {
				t.Errorf("%s is %v of %d:%d", name, st.Mode(), uid, gid)
			}
		}
	}
	put(b, first, files.Content)
	if _, err := os.ReadDir(filepath.Join(dir, "..data")); !os.IsPermission(err) {
		t.Fatalf("the agent can look: the test shows nothing (%v)", err)
	}
	put(b, first, files.None)
	put(b, second, files.Content)
	if _, err := os.Lstat(filepath.Join(dir, "sub")); !os.IsNotExist(err) {
		t.Errorf("the link of a name that is gone is still there: %v", err)
	}
	put(b, first, files.Content)
	collect(t, b, time.Hour)
	if got := generations(t, dir); len(got) != 2 {
		t.Errorf("%v is left", got)
	}
	if target, _ := os.Readlink(filepath.Join(dir, "..backup")); target != generations(t, dir)[1] {
		t.Errorf("the backup is %s", target)
	}

	data := filepath.Join(dir, current(dir)) // its owner adds a file
	must(t, os.Chown(data, nobody, nobody))
	must(t, os.WriteFile(filepath.Join(data, "x"), nil, 0o600))
	must(t, os.Chown(data, 12345, 54321))
	put(b, first, files.Content)

	mark := b.Mark()
	b = openBundleAfter(t, b, s) // a new process remembers nothing
	if n, err := b.Sweep(0); n != 0 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	if kept, err := b.RemoveOurs(""); !kept || err != nil {
		t.Errorf("kept: %v, %v", kept, err)
	}
	inspectEntries(t, b, first.entries(), files.Content)
	if kept, err := b.RemoveOurs(mark); kept || err != nil {
		t.Errorf("kept: %v, %v", kept, err)
	}
	contains(t, dir)
}

// A closed directory of the agent's own is no obstacle to clearing it away.
func TestGenerationsTheirOwnerMayNotWrite(t *testing.T) {
	if !asNobody(t) {
		return
	}
	dir := memoryDir(t)
	s := bundleSpec(dir)
	s.Mode = 0o550
	b := openBundle(t, s)
	publishSet(t, b, set{"a/b/c": "1", "d": "1"}, files.Content)
	publishSet(t, b, set{"a/b/c": "2"}, files.Content)
	collect(t, b, time.Hour)
	if got := generations(t, dir); len(got) != 1 {
		t.Errorf("%v is left", got)
	}
	must(t, b.Remove())
	contains(t, dir)
}

func TestNoChownForABundleWhereNothingIsToBeGivenAway(t *testing.T) {
	if !inChild(t, "no chown allowed", nil) {
		return
	}
	forbid(t, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT)
	s := bundleSpec(filepath.Join(memoryDir(t), "sub"))
	s.UID, s.GID, s.CreateDirs, s.Grace = os.Geteuid(), os.Getegid(), true, 0
	b := openBundle(t, s)
	publishSet(t, b, pair, files.Content)
	publishSet(t, b, set{"sub/a": "a"}, files.Content)
	collect(t, b, 0)
	must(t, b.Remove())
	contains(t, s.Dir)
}

// In a sticky directory what was given away can be neither renamed nor removed by
// its giver, unless it is taken back first.
func TestABundleInAStickyDirectory(t *testing.T) {
	if os.Getenv(roleVar) == "" {
		needRoot(t)
		dir := memoryDir(t)
		must(t, os.Chmod(dir, 0o777|fs.ModeSticky))
		t.Setenv(pathVar, dir)
	}
	if !asNobody(t, unix.CAP_CHOWN) {
		return
	}
	s := bundleSpec(os.Getenv(pathVar))
	s.UID, s.Mode = 12345, 0o755
	b := openBundle(t, s)
	publishEntries(t, b, pair.entries(), files.Content)
	publishEntries(t, b, set{"sub/a": "a"}.entries(), files.Content)
	collect(t, b, time.Hour)
	if got := generations(t, s.Dir); len(got) != 1 {
		t.Errorf("%v is left", got)
	}
	must(t, b.Remove())
	contains(t, s.Dir)
}

// The default access control list of the directory would give further readers to
// every file and directory with group permission.
func TestAccessControlListsDoNotReachIntoABundle(t *testing.T) {
	dir := memoryDir(t)
	if err := unix.Setxattr(dir, "system.posix_acl_default", strangersACL(), 0); err != nil {
		missing(t, "a tmpfs with access control lists (CONFIG_TMPFS_POSIX_ACL)", err)
	}
	s := bundleSpec(dir)
	s.Mode = 0o750
	b := openBundle(t, s)
	entries := set{"sub/a": canary}.entries()
	entries[0].Mode = 0o440
	publishEntries(t, b, entries, files.Content)
	listed := func() (paths []string) {
		data := filepath.Join(dir, current(dir))
		for _, path := range []string{data, data + "/sub", data + "/sub/a"} {
			if _, err := unix.Getxattr(path, "system.posix_acl_access", nil); err == nil {
				paths = append(paths, strings.TrimPrefix(path, data))
			}
		}
		return paths
	}
	if got := listed(); got != nil {
		t.Errorf("%q can be opened by another user", got)
	}
	for _, path := range []string{"..data", "..data/sub", "..data/sub/a"} {
		must(t, unix.Setxattr(filepath.Join(dir, path), "system.posix_acl_access", strangersACL(), 0))
		must(t, os.Chmod(filepath.Join(dir, path), map[bool]fs.FileMode{true: 0o440, false: 0o750}[strings.HasSuffix(path, "/a")]))
		publishEntries(t, b, entries, files.Attributes)
		if got := listed(); got != nil {
			t.Errorf("the list that somebody set on %s is still there: %q", path, got)
		}
	}
}

// A child between fork and exec has the lock's descriptor too.
func TestClosingGivesTheLockBackWhateverHoldsTheDescriptor(t *testing.T) {
	dir := memoryDir(t)
	b := openBundle(t, bundleSpec(dir))
	publishSet(t, b, pair, files.Content)
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	var ofDir []int
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && target == dir {
			fd, err := strconv.Atoi(e.Name())
			must(t, err)
			ofDir = append(ofDir, fd)
		}
	}
	if len(ofDir) != 2 {
		t.Fatalf("%d descriptors of the directory, want 2", len(ofDir))
	}
	for _, fd := range ofDir {
		held, err := unix.Dup(fd)
		must(t, err)
		defer func() { _ = unix.Close(held) }()
	}
	publishSet(t, openBundleAfter(t, b, bundleSpec(dir)), set{"a": "a"}, files.Content)
}

// TestABundleMakesItsDirectoryForItself makes directories as an agent that is not
// root, and publishes in them twice.
func TestABundleMakesItsDirectoryForItself(t *testing.T) {
	if !asNobody(t) {
		return
	}
	for _, mode := range []fs.FileMode{0o500, 0o550, 0o700} {
		dir := memoryDir(t)
		s := bundleSpec(filepath.Join(dir, "run", "app", "tls"))
		s.Mode, s.CreateDirs = mode, true
		b := openBundle(t, s)
		publishSet(t, b, set{"sub/a": "old"}, files.Content)
		publishSet(t, b, set{"sub/a": "new"}, files.Content)
		for _, at := range []string{"run", "run/app", "run/app/tls"} {
			st, err := os.Stat(filepath.Join(dir, at))
			must(t, err)
			if got, want := st.Mode().Perm(), mode|0o200; got != want {
				t.Errorf("%s has mode %04o, want %04o", at, got, want)
			}
		}
	}
}
