package notify

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/dbus"
)

// CheckUnit refuses a target that is the unit of the agent's own process, as far as
// /proc tells: told of a change it would end the agent, which still owes it to that
// unit when it starts again.
func CheckUnit(name string) error {
	// Without /proc nobody knows better than systemd, when it is asked.
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil || unitOf(groups) != name {
		return nil //nolint:nilerr // see above
	}
	return ownUnit(name)
}

func ownUnit(name string) error {
	return &failure{
		msg:  fmt.Sprintf("unit %s is the agent's own, which would be told without end", name),
		hint: "name the unit of the program that reads the files; a program that the agent runs itself is process: {child: true}",
	}
}

// unitOf returns the unit that b, which is /proc/PID/cgroup, says a process belongs
// to, or "": the first on its path that is no slice, as in systemd's cg_path_get_unit.
// What is below is the unit's own affair.
func unitOf(b []byte) string {
	for line := range strings.Lines(string(b)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 || fields[1] != "" && fields[1] != "name=systemd" {
			continue
		}
		for name := range strings.SplitSeq(strings.TrimPrefix(fields[2], "/"), "/") {
			if strings.HasSuffix(name, ".slice") {
				continue
			}
			// A name that would be a file of the kernel's has a "_" before it.
			if name = strings.TrimPrefix(name, "_"); unitSyntax.MatchString(name) {
				return name
			}
			break
		}
	}
	return ""
}

// spared returns an error if what is to be done to the unit would be done to the
// agent. The unit may have several names, and the agent's may depend on it. Where
// systemd does not answer that, it is left to what it answers to the action.
func (u *Unit) spared(ctx context.Context, conn *dbus.Conn) error {
	own, err := conn.GetUnitNameByPID(ctx, 0) // whoever asks
	if err != nil {
		return CheckUnit(u.Name)
	}
	properties, err := conn.GetUnitPropertiesContext(ctx, u.Name)
	if err != nil {
		return CheckUnit(u.Name)
	}
	if own == u.Name || own == properties["Id"] {
		return ownUnit(u.Name)
	}
	if !u.restarts(properties["CanReload"] == true) || !slices.Contains(stoppedWith(ctx, conn, u.Name), own) {
		return nil
	}
	return &failure{
		msg:  fmt.Sprintf("%s %s: it would take the agent's own unit %s along, which would do it without end", u.Action, u.Name, own),
		hint: fmt.Sprintf("let %s depend on it by Wants= and After= alone, not by Requires=, BindsTo= or PartOf=, or use the action reload", own),
	}
}

// stoppedWith returns the units that systemd stops before it stops the named one,
// and that one (systemd.unit(5)).
func stoppedWith(ctx context.Context, conn *dbus.Conn, name string) []string {
	units := []string{name}
	for i := 0; i < len(units); i++ {
		properties, err := conn.GetUnitPropertiesContext(ctx, units[i])
		if err != nil {
			continue // it cannot be stopped either
		}
		for _, property := range []string{"RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo"} {
			names, _ := properties[property].([]string)
			for _, name := range names {
				if !slices.Contains(units, name) {
					units = append(units, name)
				}
			}
		}
	}
	return units
}

// restarts reports whether the action ends what the unit runs.
func (u *Unit) restarts(canReload bool) bool {
	switch u.Action {
	case "restart", "try-restart":
		return true
	case "reload":
		return false
	}
	return !canReload
}
