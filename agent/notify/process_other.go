//go:build !linux

package notify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// boottime returns 0: there is no clock here that dates processes.
func boottime() time.Duration { return 0 }

// told is of no use here: there are no processes to be found, so never several.
type told struct{}

// signalProcess sends s.Signal to the process that a pid file names or to the
// child, with what there is without a pidfd and /proc: the process must exist and
// be one that the agent may signal, and a pid file must belong to root or to the
// agent's user. That the process took over the pid, started after the files
// were published, or has no handler yet, is not seen here; production is Linux.
func (w *teller) signalProcess(_ context.Context, s Step, _ Change) error {
	pid, err := w.pidOf(s.Process)
	if err != nil {
		return err
	}
	if pid == 1 || pid == os.Getpid() {
		return &failure{msg: fmt.Sprintf("pid %d is never signalled", pid)}
	}
	err = syscall.Kill(pid, 0)
	if err == nil {
		err = syscall.Kill(pid, s.Signal)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ESRCH):
		return &failure{class: absent, msg: fmt.Sprintf("no process %d", pid)}
	}
	return &failure{msg: fmt.Sprintf("send %s to process %d", SignalName(s.Signal), pid), cause: err}
}

func (w *teller) pidOf(p *Process) (int, error) {
	switch {
	case p.Child:
		return w.childPid()
	case p.PidFile == "":
		return 0, &failure{msg: "looking for a process needs Linux", hint: "on this system only a pid file works"}
	}
	file, err := readPidFile(p.PidFile)
	if err == nil && !trusted(file.owner) {
		return 0, &failure{
			msg:  fmt.Sprintf("pid file %s belongs to uid %d", p.PidFile, file.owner),
			hint: "the pid file must belong to root or to the agent's user",
		}
	}
	return file.pid, err
}
