package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
)

// What the service manager is told, in the words of sd_notify(3).
const (
	managerReady     = daemon.SdNotifyReady
	managerStopping  = daemon.SdNotifyStopping
	managerReloading = daemon.SdNotifyReloading
)

// notifyManager sends states to the service manager, if one is listening, as
// one datagram: a reload has to carry its time with it (sd_notify(3),
// MONOTONIC_USEC), or systemctl reload waits for ever.
func notifyManager(log *slog.Logger, states ...string) {
	if states[0] == managerReloading {
		states = append(states, fmt.Sprintf("MONOTONIC_USEC=%d", monotonicMicroseconds()))
	}
	if _, err := daemon.SdNotify(false, strings.Join(states, "\n")); err != nil {
		log.Warn("cannot tell the service manager", "state", states[0], "error", err)
	}
}
