//go:build !linux

package files

import "golang.org/x/sys/unix"

// ChecksMemory says whether this system can tell that a directory is in
// memory. Where it is false every directory is accepted, and a caller that
// promises "never on disk" has to say that it could not look: a developer's Mac
// has no tmpfs, and refusing would only make everybody set allow_disk.
const ChecksMemory = false

// holdDir opens a directory for work relative to it; without O_PATH that takes
// read permission.
const holdDir = unix.O_RDONLY | unix.O_DIRECTORY

// fsys is the file system a directory is on.
type fsys struct {
	name   string
	memory bool // content never reaches a disk, but for swap
	known  bool // memory was found out, not assumed
}

func fileSystem(int) (fsys, error) { return fsys{name: "an unknown file system"}, nil }

// mountRoot reports whether something is mounted on name, as far as another
// device number tells.
func mountRoot(dir int, name string) bool { return otherDevice(dir, name) }

// dropACL does nothing: the access control lists of other systems are not
// POSIX ones, and no mode bit opens them.
func dropACL(int) error { return nil }

func hasACL(int) bool { return false }

// exchange would swap two names in one step, which is no system call that all
// these systems have.
func exchange(int, string, string) error { return unix.ENOTSUP }

// renameNew renames only if there is nothing of the new name, as far as a look
// before can tell.
func renameNew(dir int, from, to string) error {
	if _, err := lstatAt(dir, to); err == nil {
		return unix.EEXIST
	}
	return renameOver(dir, from, to)
}

// reserve would make sure that there is room; without fallocate(2) it cannot.
func reserve(int, int64) error { return unix.EOPNOTSUPP }
