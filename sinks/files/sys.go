package files

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxID is the first number that is no user or group: (uid_t)-1 means "leave
// as it is" to chown(2).
const maxID = 1<<32 - 1

// info is what is compared of a file or directory. It is comparable; the
// access time is left out.
type info struct {
	dev, ino, links uint64
	mode            uint32 // st_mode: type and permission bits
	uid, gid        uint32
	size            int64
	mtime, ctime    int64 // nanoseconds
}

func infoOf(st *unix.Stat_t) info {
	return info{
		dev: uint64(st.Dev), ino: st.Ino, links: uint64(st.Nlink),
		mode: uint32(st.Mode), uid: st.Uid, gid: st.Gid, size: st.Size,
		mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(),
	}
}

func (i info) kind() uint32       { return i.mode & unix.S_IFMT }
func (i info) regular() bool      { return i.kind() == unix.S_IFREG }
func (i info) sameAs(j info) bool { return i.dev == j.dev && i.ino == j.ino }

// kindName returns the file type in words.
func (i info) kindName() string {
	switch i.kind() {
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symlink"
	case unix.S_IFIFO:
		return "named pipe"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFBLK, unix.S_IFCHR:
		return "device"
	default:
		return "regular file"
	}
}

// retry repeats a call that a signal interrupted, as package os does for its
// own calls: disks behind FUSE and NFS answer EINTR.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func lstatAt(dir int, name string) (info, error) {
	var st unix.Stat_t
	err := retry(func() error { return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return infoOf(&st), err
}

func statPath(path string) (info, error) {
	var st unix.Stat_t
	err := retry(func() error { return unix.Stat(path, &st) })
	return infoOf(&st), err
}

func statFD(fd int) (info, error) {
	var st unix.Stat_t
	err := retry(func() error { return unix.Fstat(fd, &st) })
	return infoOf(&st), err
}

// How regular files are opened: something else may have been put in their place.
const (
	toRead  = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	toWrite = unix.O_WRONLY | unix.O_NONBLOCK | unix.O_NOCTTY
)

// openAt opens name in dir without following a symlink at name.
func openAt(dir int, name string, flags int) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

func readlinkAt(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// readDir opens the directory dir once more, for what a held one cannot do:
// reading its names and syncing it.
func readDir(dir int) (*os.File, error) {
	fd, err := openAt(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "."), nil
}

func renameOver(dir int, from, to string) error {
	return retry(func() error { return unix.Renameat(dir, from, dir, to) })
}

// list returns the names in the directory fd, which is open for reading, without
// another descriptor.
func list(fd int) ([]string, error) {
	if _, err := unix.Seek(fd, 0, io.SeekStart); err != nil {
		return nil, err
	}
	var names []string
	var buf [4 << 10]byte
	for {
		n, err := 0, error(nil)
		err = retry(func() error { n, err = unix.ReadDirent(fd, buf[:]); return err })
		if err != nil || n == 0 {
			return names, err
		}
		for rest := buf[:n]; len(rest) > 0; {
			var consumed int
			consumed, _, names = unix.ParseDirent(rest, -1, names)
			rest = rest[consumed:]
		}
	}
}

// writable reports as an error that the agent cannot make files in dir. It
// asks for the effective ids, which a program with capabilities acts under.
func writable(dir int, path string) error {
	if err := mayAccess(dir, ".", unix.W_OK|unix.X_OK); err != nil {
		return failed("write to", path, err)
	}
	return nil
}

// mayAccess returns why name may not be accessed as mode says (faccessat(2)).
func mayAccess(dir int, name string, mode uint32) error {
	return retry(func() error { return unix.Faccessat(dir, name, mode, unix.AT_EACCESS) })
}

// attributes are what a new file or directory gets before anything is in it.
type attributes struct {
	mode     uint32
	uid, gid int // -1: as it is
}

// apply gives fd, which the agent has just made and which only it can open, its
// group, then its mode, then its owner. The group stands before the mode, or
// members of the agent's own group could open a file meant for another group
// and wait for the content. The owner comes last because after giving a file
// away only CAP_FOWNER may change its mode; until then the owner is the agent,
// who knows the content anyway. So CAP_CHOWN alone is enough. Calls that change
// nothing are left out: systemd's SystemCallFilter=~@privileged forbids chown
// even to oneself.
func (a attributes) apply(fd int, path string) error {
	st, err := statFD(fd)
	if err != nil {
		return failed("look at", path, err)
	}
	if err := dropACL(fd); err != nil {
		return failed("remove access control list of", path, err)
	}
	if a.gid >= 0 && st.gid != uint32(a.gid) {
		if err := chown(fd, -1, a.gid); err != nil {
			return failedWith(fmt.Sprintf("set group %d of", a.gid), path, err, unix.EPERM, chownHint)
		}
	}
	if st.mode&0o7777 != a.mode {
		if err := fchmod(fd, a.mode); err != nil {
			return failed("set mode of", path, err)
		}
	}
	if a.uid >= 0 && st.uid != uint32(a.uid) {
		if err := chown(fd, a.uid, -1); err != nil {
			return failedWith(fmt.Sprintf("set owner %d of", a.uid), path, err, unix.EPERM, chownHint)
		}
	}
	return a.confirm(fd, path)
}

// confirm looks whether the file system took what it was told; vfat and some
// network file systems say yes and do nothing.
func (a attributes) confirm(fd int, path string) error {
	st, err := statFD(fd)
	if err != nil {
		return failed("look at", path, err)
	}
	if !a.match(st) {
		return refused("set mode and owner of", path, "the file system does not keep them", "use tmpfs or another file system with Unix permissions")
	}
	return nil
}

func (a attributes) match(st info) bool {
	return st.mode&0o7777 == a.mode && a.owns(st)
}

func (a attributes) owns(st info) bool {
	return (a.uid < 0 || st.uid == uint32(a.uid)) && (a.gid < 0 || st.gid == uint32(a.gid))
}

const chownHint = "the agent needs CAP_CHOWN to give files to others (systemd: AmbientCapabilities=CAP_CHOWN and SystemCallFilter=@chown), or leave owner and group out"

func fchmod(fd int, mode uint32) error {
	return retry(func() error { return unix.Fchmod(fd, mode) })
}

func chown(fd, uid, gid int) error {
	return retry(func() error { return unix.Fchown(fd, uid, gid) })
}

// otherDevice reports whether name is on another file system than dir.
func otherDevice(dir int, name string) bool {
	here, err := statFD(dir)
	if err != nil {
		return false
	}
	there, err := lstatAt(dir, name)
	return err == nil && here.dev != there.dev
}
