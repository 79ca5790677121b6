//go:build !linux

package endpoint

import (
	"errors"
	"net"
)

// peerCredentials knows nobody here, so that clients on the socket need tokens.
func peerCredentials(*net.UnixConn) (*Peer, error) {
	return nil, errors.New("get peer credentials: not on this system")
}

// Executable returns "": it is not known on this system.
func (p *Peer) Executable() string { return "" }
