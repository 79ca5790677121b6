package agent

import (
	"cmp"
	"syscall"

	"secretsd/sinks/endpoint"
)

const (
	// reservedFiles are descriptors that connections leave to files, hooks, AWS
	// and the control socket.
	reservedFiles = 128
	// idleConnections are those there is room for beside the busy ones.
	idleConnections = 128
)

// openLimit returns how many connections may be open in all: as many as the
// endpoint answers, with a limit of its own for the address and the socket, as
// many that wait for a change, and some that are idle. Where the process may have
// only few descriptors (RLIMIT_NOFILE, getrlimit(2)) it is what they leave, but
// never so few that one client could use them up.
func openLimit(maxConnections int) int {
	limit := 2*cmp.Or(maxConnections, endpoint.DefaultMaxConnections) + idleConnections
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return limit
	}
	most := int(min(files.Cur, 1<<20))
	return min(limit, max(most-reservedFiles, most/2))
}
