//go:build !linux

package notify

import (
	"context"
	"time"
)

// CheckUnit refuses nothing: there is no systemd here.
func CheckUnit(string) error { return nil }

// act fails: there is no systemd here.
func (u *Unit) act(context.Context, time.Duration) error {
	return &failure{msg: u.Action + " " + u.Name + ": units need Linux with systemd"}
}
