package notify

import (
	"errors"
	"os/exec"

	"golang.org/x/sys/unix"
)

// watch returns a channel that is closed when cmd, which has been started, has
// exited, and a function that reaps it, to be called after that. Until then it
// is a zombie, and its pid and group number stay its own.
func watch(cmd *exec.Cmd) (exited <-chan struct{}, reap func() error) {
	pid := cmd.Process.Pid
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := error(unix.EINTR)
		for errors.Is(err, unix.EINTR) {
			err = unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		}
	}()
	return done, cmd.Wait
}
