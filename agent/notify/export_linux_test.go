package notify

import (
	"context"
	"syscall"
)

// Pin pins a process as an attempt does, and returns what identifies it and
// then sends a signal.
func Pin(pid int) (tell func(syscall.Signal) error, identify func() error, err error) {
	p, err := pin(pid)
	if err != nil {
		return nil, nil, err
	}
	var id identity
	return func(sig syscall.Signal) error {
			defer p.close()
			return p.tell(sig, id)
		}, func() error {
			id, err = p.identify()
			return err
		}, nil
}

// UnitOf is what /proc/PID/cgroup says of a process.
var UnitOf = unitOf

// SignalFound signals pids as if p had just been found to be them.
func SignalFound(p *Process, pids []int, sig syscall.Signal) error {
	w := &teller{}
	return w.signalEach(context.Background(), w.finderOf(p), pids, sig, Change{}.stamped())
}
