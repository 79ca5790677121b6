package files

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lock is a directory that no other process publishes a bundle in.
type lock struct {
	file *os.File
	at   info
}

// hold takes the lock of the directory, if it is not held yet. A file system
// without locks (some behind FUSE) is used without.
func (b *Bundle) hold(dir int, h *handle) error {
	if b.lock != nil && b.lock.at.sameAs(h.at) {
		return nil
	}
	b.unlock()
	file, err := readDir(dir)
	if err != nil {
		return failed("open to lock", b.spec.Dir, err)
	}
	err = retry(func() error { return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		err = refused("lock", b.spec.Dir, "somebody else publishes a bundle there", otherAgentHint)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOLCK):
		err = nil
	case err != nil:
		err = failed("lock", b.spec.Dir, err)
	}
	if err != nil {
		_ = file.Close()
		return err
	}
	b.lock = &lock{file: file, at: h.at}
	return nil
}

// unlock does not leave it to Close, because a child between fork and exec still
// has the descriptor for a moment, and with it the lock.
func (b *Bundle) unlock() {
	if b.lock == nil {
		return
	}
	_ = unix.Flock(int(b.lock.file.Fd()), unix.LOCK_UN)
	_ = b.lock.file.Close()
	b.lock = nil
}
