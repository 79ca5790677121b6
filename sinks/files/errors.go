package files

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// Error is one thing that kept a file from being opened, compared, published
// or removed. It names paths and system errors, never content.
type Error struct {
	// Op is what was tried, for example "write temporary file in".
	Op string
	// Path is what it was tried on: the destination, its directory, or one of
	// the parents.
	Path string
	// Err is the cause: a system error, for errors.Is(err, syscall.ENOSPC) and
	// the like, or a reason in words.
	Err error

	hint string
}

// Error returns "OP PATH: CAUSE" in one line, without the hint.
func (e *Error) Error() string { return e.Op + " " + e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint returns how to mend it, or "" if there is nothing to say.
func (e *Error) Hint() string { return e.hint }

// refused is an Error for a rule of ours.
func refused(op, path, reason, hint string) error {
	return &Error{Op: op, Path: path, Err: errors.New(reason), hint: hint}
}

// refusedBy is an Error for a cause that callers inside the package tell apart.
func refusedBy(op, path string, cause error) error { return &Error{Op: op, Path: path, Err: cause} }

// failed is an Error for what the system answered.
func failed(op, path string, err error) error {
	return &Error{Op: op, Path: path, Err: err, hint: hintFor(err)}
}

// failedWith is failed with a hint that knows more than the system's answer,
// for the one answer it fits.
func failedWith(op, path string, err error, when syscall.Errno, hint string) error {
	if errors.Is(err, when) {
		return &Error{Op: op, Path: path, Err: err, hint: hint}
	}
	return failed(op, path, err)
}

var hints = []struct {
	err  error
	hint string
}{
	{syscall.ENOSPC, "the file system is full: a file is replaced by a complete second one, so there must be room for both, in bytes and in inodes; " +
		"raise size= or nr_inodes= of the tmpfs (mount -o remount,size=...), or sizeLimit of the pod's emptyDir"},
	{syscall.EDQUOT, "the disk quota of the agent's user or group, or of the file's owner, is used up: raise it (setquota), or free what else they keep there"},
	{syscall.ENOMEM, "memory is used up; what lies on tmpfs counts against the memory limit of the container or unit (MemoryMax=): raise that"},
	{syscall.EROFS, "it is mounted read-only: mount it writable for the agent (systemd: ReadWritePaths= or RuntimeDirectory=)"},
	{syscall.EACCES, "the agent's user needs write and search permission on the directory and search permission on those above"},
	{syscall.EPERM, "the system forbids it to the agent's user: look for a sticky or immutable directory and for missing capabilities"},
	{syscall.ENOTDIR, "a parent of the path is a file"},
	{syscall.ENAMETOOLONG, "shorten the path: a file name has at most 255 bytes"},
	{syscall.EMFILE, "the agent has too many files open: raise its limit (systemd: LimitNOFILE=)"},
	{syscall.ENFILE, "the machine has too many files open: raise fs.file-max (sysctl)"},
	{syscall.EISDIR, "the path of a file is needed: add a file name"},
	{fs.ErrNotExist, "create the directory, or set create_dirs: true"},
}

func hintFor(err error) string {
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return h.hint
		}
	}
	return ""
}

// mountPoint is the answer to a destination that is itself a mount point, as
// with a single file bind-mounted into a container: rename(2) answers EBUSY.
func mountPoint(path string, err error) error {
	if err == nil {
		err = errors.New("it is a mount point, which cannot be replaced")
	}
	return &Error{Op: "replace", Path: path, Err: err,
		hint: "mount the directory instead of the single file, or set method: inplace and read what that gives up"}
}

// onDisk is the answer to a directory that is not in memory.
func onDisk(path, fileSystem string) error {
	return refused("put a secret into", path, fmt.Sprintf("it is on %s, not in memory (tmpfs or ramfs)", fileSystem),
		"put it below /run or /dev/shm, or set allow_disk: true")
}
