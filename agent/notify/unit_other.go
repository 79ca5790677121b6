//go:build !linux

package notify

import (
	"context"
	"time"
)

// act fails: there is no systemd here.
func (u *Unit) act(context.Context, time.Duration) error {
	return &failure{msg: u.Action + " " + u.Name + ": units need Linux with systemd"}
}
