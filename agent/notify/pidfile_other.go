//go:build !linux

package notify

import (
	"os"
	"syscall"
)

// openPidFile opens the pid file at path, which may not be a symbolic link.
// The directories on the way are not checked here: without O_PATH that would
// need the right to list each of them.
func openPidFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
}
