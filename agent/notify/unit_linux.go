package notify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// The errors of systemd and of the bus that mean something of their own
// (org.freedesktop.systemd1(5), D-Bus specification, "Standard error names").
const (
	noSuchUnit       = "org.freedesktop.systemd1.NoSuchUnit"
	masked           = "org.freedesktop.systemd1.UnitMasked"
	notApplicable    = "org.freedesktop.systemd1.JobTypeNotApplicable"
	accessDenied     = "org.freedesktop.DBus.Error.AccessDenied"
	askInteractively = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
)

// manager connects to the system's service manager until ctx is done: over the
// system bus, or as root straight to it where there is no bus.
func manager(ctx context.Context) (*dbus.Conn, error) {
	conn, err := dbus.NewWithContext(ctx)
	switch {
	case err == nil:
		return conn, nil
	case ctx.Err() != nil:
		return nil, &failure{msg: "connect to systemd: no answer in time"}
	}
	return nil, &failure{
		msg:   "connect to systemd",
		cause: err,
		hint:  "the agent needs the socket /run/dbus/system_bus_socket, or as root /run/systemd/private: mount it into a container, or use a signal or a command",
	}
}

// act does to the unit what its action says, and returns when systemd has done it.
// It waits until ctx is done, which is after timeout.
func (u *Unit) act(ctx context.Context, timeout time.Duration) error {
	conn, err := manager(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := u.spared(ctx, conn); err != nil {
		return err
	}
	// It has room for the one result, for whoever sends it does not look whether
	// somebody is still waiting.
	result := make(chan string, 1)
	if _, err := u.job(conn)(ctx, u.Name, "replace", result); err != nil {
		return u.refusal(ctx, timeout, err)
	}
	select {
	case r := <-result:
		return u.ended(r)
	case <-ctx.Done():
		return u.late(timeout)
	}
}

// job returns what asks for the unit's action.
func (u *Unit) job(conn *dbus.Conn) func(context.Context, string, string, chan<- string) (int, error) {
	switch u.Action {
	case "reload":
		return conn.ReloadUnitContext
	case "restart":
		return conn.RestartUnitContext
	case "try-restart":
		return conn.TryRestartUnitContext
	case "reload-or-restart":
		return conn.ReloadOrRestartUnitContext
	}
	return conn.ReloadOrTryRestartUnitContext
}

func (u *Unit) late(timeout time.Duration) error {
	return &failure{
		msg:  fmt.Sprintf("%s %s: systemd was not done with it within %s, and goes on", u.Action, u.Name, timeout),
		hint: "give it a longer timeout",
	}
}

// ended says what a job's result means (org.freedesktop.systemd1(5),
// JobRemoved).
func (u *Unit) ended(result string) error {
	switch result {
	case "done":
		return nil
	case "invalid": // what systemctl says of a reload of a unit that is not active
		return &failure{class: absent, msg: fmt.Sprintf("%s %s: it is not running", u.Action, u.Name)}
	}
	return &failure{
		msg:  fmt.Sprintf("%s %s: the job ended as %s", u.Action, u.Name, result),
		hint: "journalctl -u " + u.Name + " says more",
	}
}

// refusal says why there is no job.
func (u *Unit) refusal(ctx context.Context, timeout time.Duration, err error) error {
	if ctx.Err() != nil {
		return u.late(timeout)
	}
	f := &failure{msg: u.Action + " " + u.Name, cause: err}
	answer, _ := errors.AsType[godbus.Error](err)
	switch answer.Name {
	case noSuchUnit, masked:
		f.hint = "systemctl status " + u.Name + " says more"
	case notApplicable:
		f.hint = "a unit without ExecReload= cannot be reloaded: use the action try-restart or try-reload-or-restart"
	case accessDenied, askInteractively:
		f.hint = fmt.Sprintf("uid %d may not do that: let polkit allow it org.freedesktop.systemd1.manage-units for this unit with the verb %s, as in packaging/systemd/secretsd.rules",
			os.Getuid(), u.verb())
	}
	return f
}

// verb is what polkit rules know the action by: systemd names it in its own way
// (bus_unit_method_start_generic, src/core/dbus-unit.c).
func (u *Unit) verb() string {
	if u.Action == "try-reload-or-restart" {
		return "reload-or-try-restart"
	}
	return u.Action
}

// mainProcess finds the main process of a service.
func mainProcess(service string) finder {
	return named{pid: func(ctx context.Context) (int, error) {
		conn, err := manager(ctx)
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		p, err := conn.GetServicePropertyContext(ctx, service, "MainPID")
		if err != nil {
			return 0, &failure{msg: "ask systemd for the main process of " + service, cause: err}
		}
		pid, ok := p.Value.Value().(uint32)
		if !ok || pid == 0 {
			return 0, &failure{class: absent, msg: strings.TrimSuffix(service, ".service") + " has no main process: it is not running"}
		}
		return int(pid), nil
	}}
}
