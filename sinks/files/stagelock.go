package files

import (
	"errors"

	"golang.org/x/sys/unix"
)

func lockStaged(fd int) error {
	return retry(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
}

// stagedInUse reports whether name in dir is what a check is looking at.
func stagedInUse(dir int, name string) bool {
	fd, err := openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	return errors.Is(lockStaged(fd), unix.EWOULDBLOCK)
}

// letGo gives the lock back and closes the directories. It does not leave the
// lock to the closing, because a child between fork and exec still has the
// descriptor for a moment.
func (s *Staged) letGo() {
	_ = s.dir.Close()
	if s.own >= 0 {
		_ = unix.Flock(s.own, unix.LOCK_UN)
		_ = unix.Close(s.own)
	}
}
