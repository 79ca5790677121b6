//go:build !linux

package notify

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// boottime returns 0: there is no clock here that dates processes.
func boottime() time.Duration { return 0 }

// signalProcess sends t.Signal to the process that t.PidFile names, with what
// there is without a pidfd and /proc: the process must exist and be one that
// the agent may signal, and the pid file must belong to root or to the agent's
// user. That the process took over the pid, started after the files were
// published, or has no handler yet, is not seen here; production is Linux.
func signalProcess(t Target, _ Change) error {
	file, err := readPidFile(t.PidFile)
	if err != nil {
		return err
	}
	switch {
	case file.pid == 1 || file.pid == os.Getpid():
		return &failure{msg: fmt.Sprintf("pid %d is never signalled", file.pid)}
	case !trusted(file.owner):
		return &failure{
			msg:  fmt.Sprintf("pid file %s belongs to uid %d", t.PidFile, file.owner),
			hint: "the pid file must belong to root or to the agent's user",
		}
	}
	err = syscall.Kill(file.pid, 0)
	if err == nil {
		err = syscall.Kill(file.pid, t.Signal)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ESRCH):
		return &failure{class: absent, msg: fmt.Sprintf("no process %d", file.pid)}
	}
	return &failure{msg: fmt.Sprintf("send %s to process %d", SignalName(t.Signal), file.pid), cause: err}
}
