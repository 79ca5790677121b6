package agent

import (
	"errors"
	"fmt"

	"secretsd/agent/store"
)

// assess decides whether everything is in place, says so once, and keeps what
// /readyz answers: once ready, an agent stays so until a value is too old.
func (a *Agent) assess(snap *store.Snapshot) {
	if !a.ready {
		counts, waits := a.inPlace(snap)
		if waits = errors.Join(waits, a.child.waits(snap)); waits != nil {
			a.health.assess(waits)
			return
		}
		a.ready = true
		a.log.Info("ready", "secrets", counts.Secrets, "files", counts.Files, "skipped", counts.Skipped,
			"targets", counts.Targets, "endpoint", counts.Endpoint)
		a.opts.Ready(counts)
	}
	var stale error
	for _, s := range a.build.secrets {
		e, _ := snap.Get(s.name)
		expired := e.Version != nil && a.expired(e)
		if expired {
			stale = errors.Join(stale, fmt.Errorf("secret %s could not be confirmed for longer than max_stale", s.name))
		}
		if expired != a.expiredSaid[s.name] {
			a.sayExpired(s.name, expired, e.Err)
		}
	}
	a.health.assess(stale)
}

func (a *Agent) sayExpired(name string, expired bool, err error) {
	if !expired {
		delete(a.expiredSaid, name)
		a.log.Info("secret is confirmed again, serving it", "secret", name)
		return
	}
	a.expiredSaid[name] = true
	a.log.Error("secret was not confirmed for longer than max_stale: the endpoint stops serving it, files stay", "secret", name, "error", err)
}

// inPlace counts what is in place, and returns what the agent waits for.
func (a *Agent) inPlace(snap *store.Snapshot) (counts Counts, waits error) {
	counts = Counts{Secrets: snap.Len(), Targets: len(a.build.targets), Endpoint: a.listeners.endpointAddr()}
	for _, s := range a.build.secrets {
		e, _ := snap.Get(s.name)
		if e.Version == nil && (s.required || !absent(e.Err)) && (e.Held == nil || !a.build.isKept(s.name)) {
			waits = errors.Join(waits, fmt.Errorf("secret %s was not read yet", s.name))
		}
	}
	for _, o := range a.build.outputs {
		switch {
		case o.skipped:
			counts.Skipped++
		case o.inPlace, o.kept:
			counts.Files++
		default:
			waits = errors.Join(waits, fmt.Errorf("file %s is not in place", o.path))
		}
	}
	return counts, waits
}

// expired reports whether a value is too old to be served: it could not be
// confirmed for longer than max_stale. One that is merely not due yet is not.
func (a *Agent) expired(e store.Entry) bool {
	return e.Err != nil && a.clock()-e.Confirmed > a.build.cfg.Refresh.MaxStale.Std()
}
