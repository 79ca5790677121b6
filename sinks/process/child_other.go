//go:build !linux

package process

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"

	"secretsd/agent/disposition"
)

// attributes are those of a child.
func attributes(group bool) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: group} }

// run waits for stops and the end of the process. There is no waitid with WNOWAIT
// to be had here, so it is reaped at once.
func (w *watched) run() {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(w.pid, &ws, syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err == nil && pid == w.pid && ws.Stopped():
			select {
			case w.stops <- ws.StopSignal():
			default: // the last one has not been looked at
			}
		default:
			w.mu.Lock()
			w.reaped, w.status = true, ws
			w.mu.Unlock()
			close(w.exited)
			return
		}
	}
}

// kin is the child and its process group; there is no telling here who else
// descends from it.
type kin struct {
	leader  *watched
	grouped bool
}

func newKin(w *watched, _ *atomic.Bool, grouped bool) *kin { return &kin{leader: w, grouped: grouped} }

func (k *kin) note() {}

func (k *kin) others() bool { return false }

func (k *kin) send(sig syscall.Signal, to scope) error {
	pid := k.leader.pid
	if to != leader && k.grouped {
		pid = -pid
	}
	return k.leader.kill(pid, sig)
}

// handling cannot be told here, so that the signal is sent.
func handling(int, syscall.Signal) disposition.Disposition { return disposition.Handled }

// argumentLimit is ARG_MAX of macOS.
func argumentLimit() int { return 1 << 20 }

// adopt does nothing: only Linux lets a process be the parent of orphans.
func adopt() {}

// ReapOrphans waits for ever: no orphan becomes a child of this process here.
func ReapOrphans(<-chan os.Signal) { select {} }

// terminal is the controlling terminal. Here the child shares it with the agent,
// in one process group.
type terminal struct{ file *os.File }

func openTerminal(bool) *terminal {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	return &terminal{file: f}
}

func (t *terminal) close() error                     { return t.file.Close() }
func (t *terminal) shared() bool                     { return t != nil }
func (t *terminal) ours() bool                       { return false }
func (t *terminal) remember()                        {}
func (t *terminal) give(int)                         {}
func (t *terminal) take(int)                         {}
func (t *terminal) reset()                           {}
func (t *terminal) suspend(int, syscall.Signal) bool { return false }
