package files_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"secretsd/sinks/files"
)

// A default access control list that the directory's owner has set would give
// further readers to every mode with group permission.
func TestAccessControlListsOfTheDirectoryAreTakenOff(t *testing.T) {
	acl := strangersACL()
	dir := memoryDir(t)
	if err := unix.Setxattr(dir, "system.posix_acl_default", acl, 0); err != nil {
		missing(t, "a tmpfs with access control lists (CONFIG_TMPFS_POSIX_ACL)", err)
	}
	s := spec(filepath.Join(dir, "db.env"))
	s.Mode = 0o440
	f := open(t, s)
	hasACL := func() bool {
		_, err := unix.Getxattr(s.Path, "system.posix_acl_access", nil)
		return err == nil
	}
	must(t, os.WriteFile(s.Path, nil, 0o440))
	if !hasACL() {
		t.Fatal("files do not inherit the list: the test shows nothing")
	}
	publish(t, f, canary, files.Content)
	if hasACL() {
		t.Error("another user can read the published file")
	}
	must(t, unix.Setxattr(s.Path, "system.posix_acl_access", acl, 0))
	must(t, os.Chmod(s.Path, 0o440))
	publish(t, f, canary, files.Attributes)
	if hasACL() {
		t.Error("the list that somebody set is still there")
	}
	publish(t, f, canary, files.None)
}

// strangersACL returns acl_ea_header and entries of the kernel's
// posix_acl_xattr.h: version 2, then tag, permissions and id of user::rwx,
// user:12345:r, group::r, mask::r, other::-.
func strangersACL() []byte {
	acl := []byte{2, 0, 0, 0}
	for _, e := range [][2]uint32{{0x01 | 7<<16, ^uint32(0)}, {0x02 | 4<<16, 12345}, {0x04 | 4<<16, ^uint32(0)}, {0x10 | 4<<16, ^uint32(0)}, {0x20, ^uint32(0)}} {
		for _, v := range e {
			acl = append(acl, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
		}
	}
	return acl
}

const nobody = 65534

// asNobody reports whether the test runs as an ordinary user with the given
// capabilities, after having started itself so.
func asNobody(t *testing.T, caps ...uintptr) bool {
	t.Helper()
	if os.Getenv(roleVar) == "" {
		needRoot(t)
	}
	return inChild(t, "another user", &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: caps})
}

func TestGivingAwayNeedsACapability(t *testing.T) {
	if !asNobody(t) {
		return
	}
	dir := memoryDir(t)
	s := spec(filepath.Join(dir, "db.env"))
	f := open(t, s)
	publish(t, f, "old", files.Content)
	s.UID = 12345
	_, err := open(t, s).Publish([]byte(canary))
	refuses(t, err, "set owner 12345 of "+s.Path+": operation not permitted", "CAP_CHOWN")
	s.UID, s.GID = -1, 12345
	_, err = open(t, s).Publish([]byte(canary))
	refuses(t, err, "set group 12345 of "+s.Path+": operation not permitted", "CAP_CHOWN")
	contains(t, dir, "db.env")
	holds(t, s.Path, "old", 0o400, nobody, nobody)
	s.UID, s.Path, s.CreateDirs = 12345, filepath.Join(dir, "sub", "db.env"), true
	_, err = open(t, s).Publish([]byte(canary))
	refuses(t, err, "of "+filepath.Join(dir, "sub"), "CAP_CHOWN")
	contains(t, dir, "db.env")
}

// CAP_CHOWN alone is enough to publish for others and to know, without being
// able to read it, that what is there is what was published.
func TestChownAloneIsEnough(t *testing.T) {
	if !asNobody(t, unix.CAP_CHOWN) {
		return
	}
	dir := memoryDir(t)
	s := spec(filepath.Join(dir, "db.env"))
	s.Mode, s.UID, s.GID = 0o440, 12345, 54321
	f := open(t, s)
	publish(t, f, canary, files.Content)
	holdsUnread(t, s)
	publish(t, f, canary, files.None)
	publish(t, f, "CANARY-hunter3", files.Content)
	publish(t, f, "CANARY-hunter3", files.None)
	must(t, os.Chown(s.Path, nobody, nobody))
	must(t, os.Chmod(s.Path, 0o600))
	must(t, os.WriteFile(s.Path, []byte("CANARY-hunter4"), 0))
	must(t, os.Chmod(s.Path, 0o440))
	must(t, os.Chown(s.Path, 12345, 54321))
	publish(t, f, "CANARY-hunter3", files.Content)
	publish(t, open(t, s), "CANARY-hunter3", files.Content) // a new process remembers nothing
	holdsUnread(t, s)
	contains(t, dir, "db.env")
}

func holdsUnread(t *testing.T, s files.Spec) {
	t.Helper()
	st, err := os.Lstat(s.Path)
	must(t, err)
	if uid, gid := owner(st); st.Mode() != s.Mode || uid != s.UID || gid != s.GID {
		t.Errorf("got %v of %d:%d", st.Mode(), uid, gid)
	}
}

// systemd's SystemCallFilter=~@privileged answers EPERM to every chown, even to
// oneself.
func TestNoChownWhereNothingIsToBeGivenAway(t *testing.T) {
	if !inChild(t, "no chown allowed", nil) {
		return
	}
	forbid(t, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT)
	dir := memoryDir(t)
	probe, err := os.Open(dir)
	must(t, err)
	defer func() { _ = probe.Close() }()
	if probe.Chown(os.Geteuid(), os.Getegid()) == nil {
		t.Fatal("chown works: the test shows nothing")
	}
	s := spec(filepath.Join(dir, "sub", "db.env"))
	s.UID, s.GID, s.Mode, s.CreateDirs = os.Geteuid(), os.Getegid(), 0o440, true
	publish(t, open(t, s), canary, files.Content)
	holds(t, s.Path, canary, 0o440, -1, -1)
}

// forbid makes system calls of this process answer EPERM.
func forbid(t *testing.T, calls ...uint32) {
	t.Helper()
	forbidWith(t, unix.EPERM, calls...)
}

// forbidWith makes system calls of this process answer with an error
// (seccomp(2)).
func forbidWith(t *testing.T, answer unix.Errno, calls ...uint32) {
	t.Helper()
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}} // the call's number
	for _, nr := range calls {
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: nr},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(answer)})
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// The mark has to be set on the thread that installs the filter for all.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	must(t, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		missing(t, "seccomp filters", errno)
	}
}

// In a sticky directory a file given away can be neither renamed nor removed
// by its giver; its content must not stay.
func TestAStickyDirectoryKeepsNoContentOfAFailedPublish(t *testing.T) {
	if os.Getenv(roleVar) == "" {
		needRoot(t)
		dir := memoryDir(t)
		must(t, os.Chmod(dir, 0o777|fs.ModeSticky))
		t.Setenv(pathVar, dir)
	}
	if !asNobody(t, unix.CAP_CHOWN) {
		return
	}
	dir := os.Getenv(pathVar)
	s := spec(filepath.Join(dir, "db.env"))
	s.UID = 12345
	_, err := open(t, s).Publish([]byte(canary))
	refuses(t, err, "replace "+s.Path+": operation not permitted", "a directory of its own")
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if st, err := e.Info(); err != nil || st.Size() != 0 {
			t.Errorf("%s is left with content (%v)", e.Name(), err)
		}
	}
}

// The tests that differ for an ordinary user, and some others, as one.
func TestAsAnOrdinaryUser(t *testing.T) {
	if os.Getenv(roleVar) == "" {
		needRoot(t)
		path := filepath.Join(memoryDir(t), "db.env")
		must(t, os.WriteFile(path, nil, 0o444))
		t.Setenv(pathVar, path)
	}
	if !asNobody(t) {
		return
	}
	for name, test := range map[string]func(*testing.T){
		"mode":        TestModeAndOwnerWhateverTheUmask,
		"attributes":  TestAttributesAreRepairedByANewFile,
		"symlink":     TestAUsersOwnSymlinkIsNotFollowed,
		"unwritable":  TestADirectoryTheAgentCannotWriteIsFoundAtOpen,
		"swapped":     TestAParentSwappedWhereOthersCanWriteIsRefusedUntilOpenedAgain,
		"anew":        TestADirectoryMadeAnewByItsOwnerIsTaken,
		"create_dirs": TestCreateDirs,
		"sweep":       TestSweepReportsWhatItCannotRemove,
		"acl":         TestAccessControlListsOfTheDirectoryAreTakenOff,
		"bundle":      TestABundleIsPublishedAsOneGeneration,
		"drift":       TestEveryDriftOfABundleIsMended,
		"bundle mode": TestModeAndOwnerInABundle,
		"collect":     TestCollectTriesAgain,
		"crash":       TestSweepOfABundleTakesExactlyOurLeftovers,
		"others":      TestSweepLeavesWhatMayBeAnothers,
		"closed":      TestADirectoryThatWasClosedToTheAgent,
		"removing":    TestRemovingABundle,
		"in place":    TestInPlaceKeepsTheFile,
		"dressed":     TestInPlaceSetsModeAndOwnerBeforeContent,
		"theirs":      TestInPlaceOfWhatIsNotTheAgents,
		"backup":      TestBackupOfAFile,
		"backups":     TestBackupOfABundle,
		"bundle acl":  TestAccessControlListsDoNotReachIntoABundle,
	} {
		t.Run(name, test)
	}
}
