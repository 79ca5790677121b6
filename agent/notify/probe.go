package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"time"
)

// ask asks p once, until ctx is done.
func (w *teller) ask(ctx context.Context, target string, p *Probe, c Change) error {
	switch {
	case p.HTTP != nil:
		return request(ctx, p.HTTP, p.HTTP.method(http.MethodGet), nil)
	case p.TCP != "":
		return connect(ctx, p.TCP)
	}
	limit := p.Timeout
	if deadline, ok := ctx.Deadline(); ok {
		limit = time.Until(deadline).Round(time.Millisecond)
	}
	return w.run(ctx, target, Step{Command: p.Command, User: p.User, Env: p.Env, Output: p.Output, Timeout: limit}, c)
}

// connect returns nil if addr takes a connection.
func connect(ctx context.Context, addr string) error {
	conn, err := dialLoopback(ctx, "tcp", addr)
	switch {
	case err == nil:
		return conn.Close()
	case errors.Is(err, syscall.ECONNREFUSED):
		return &failure{class: absent, msg: "nobody listens at " + addr}
	case ctx.Err() != nil:
		return &failure{msg: fmt.Sprintf("connect to %s: no answer in time", addr)}
	}
	return &failure{msg: "connect to " + addr, cause: err}
}
