package agent

import (
	"runtime"
	"time"

	"secretsd/agent/metrics"
)

// measure returns what a scrape shows.
func (a *Agent) measure() metrics.State {
	st, p := a.Status(), a.seen.passed.Load()
	stats, done := p.build.source.Stats(), p.counted
	m := metrics.State{
		Version: st.Version, GoVersion: runtime.Version(), StartedAt: st.StartedAt, Ready: st.Ready,
		AWS:                metrics.AWS{Calls: stats.Calls, Fallbacks: stats.Fallbacks, SinglesOnly: stats.SinglesOnly, SDKWarnings: stats.SDKWarnings},
		TemplateExecutions: done.executions, TemplateFailures: done.templateFailures,
		Publishes: done.publishes, PublishFailures: done.publishFailures, Repairs: done.repairs,
		LoadedAt: st.LoadedAt, AuditLost: a.audit.lost.Load(),
		Connections: metrics.Connections{Open: a.open.Open(), Evicted: a.open.Evicted(), Refused: a.open.Refused()},
	}
	if p.build.cfg.Endpoint != nil {
		m.Endpoint = a.measureEndpoint(&st, p)
	}
	if c := st.Child; c != nil {
		m.Child = &metrics.Child{Running: c.PID > 0, Starts: c.Starts, Crashes: c.Crashes, EnvironmentHeld: c.EnvironmentHeld}
	}
	for _, s := range st.Secrets {
		m.Secrets = append(m.Secrets, metrics.Secret{Name: s.Name, VersionID: s.VersionID, ConfirmedAt: s.ConfirmedAt,
			Age: time.Duration(s.AgeSeconds * float64(time.Second)), Stale: s.Stale, Expired: s.Expired, Held: s.Held != "", Pending: s.Pending != "", Failures: s.failures})
	}
	for _, f := range st.Files {
		m.Files = append(m.Files, metrics.File{Path: f.Path, InPlace: f.inPlace, Degraded: f.State == FileDegraded, Held: f.State == FileHeld, TemplateUnusable: f.TemplateError != "", ExpiresAt: f.ExpiresAt})
	}
	a.seen.mu.Lock()
	defer a.seen.mu.Unlock()
	m.ReloadsSucceeded, m.ReloadsFailed, m.ReloadFailed = a.seen.reloadsSucceeded, a.seen.reloadsFailed, a.seen.reloadFailed
	for _, t := range st.Targets {
		m.Targets = append(m.Targets, metrics.Target{Name: t.Name, Owed: !t.OwedSince.IsZero(), OwedSince: t.OwedSince, Unconfirmed: t.Unconfirmed, Outcomes: a.seen.outcomes(t.Name)})
	}
	return m
}

func (a *Agent) measureEndpoint(st *Status, p *passed) *metrics.Endpoint {
	e := &metrics.Endpoint{Requests: st.Requests, Latency: a.seen.traffic.latency, OnDemand: st.OnDemand}
	for _, c := range st.Clients {
		e.Clients = append(e.Clients, metrics.Client{Name: c.Name, LastSeen: c.LastSeen, Requests: c.Requests})
	}
	for _, s := range p.servers {
		e.Delayed += s.Slowed()
	}
	return e
}
