//go:build !linux

package notify

import "os/exec"

// watch returns a channel that is closed when cmd, which has been started, has
// exited, and a function that returns how. There is no waitid with WNOWAIT to
// be had here, so it is reaped at once; its group number is free then, and
// only unlikely to be another's two seconds later.
func watch(cmd *exec.Cmd) (exited <-chan struct{}, reap func() error) {
	var err error
	done := make(chan struct{})
	go func() {
		err = cmd.Wait()
		close(done)
	}()
	return done, func() error {
		<-done
		return err
	}
}
