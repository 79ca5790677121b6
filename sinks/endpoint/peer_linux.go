package endpoint

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

func peerCredentials(c *net.UnixConn) (*Peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var sockErr error
	err = raw.Control(func(fd uintptr) {
		cred, sockErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil || sockErr != nil {
		return nil, fmt.Errorf("get peer credentials: %w, %w", err, sockErr)
	}
	return &Peer{UID: int(cred.Uid), GID: int(cred.Gid), PID: int(cred.Pid)}, nil
}

// Executable returns the path of the program that the peer's process runs now,
// or "" if it cannot be known: it has gone, or belongs to somebody else. It is
// for the record only. A process may run another program meanwhile, and a number
// be used again, so nothing is decided by it.
func (p *Peer) Executable() string {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.PID))
	if err != nil {
		return ""
	}
	return exe
}
