package agent

import (
	"context"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"

	"golang.org/x/time/rate"

	"secretsd/agent/audit"
	"secretsd/agent/config"
	"secretsd/agent/notify"
	"secretsd/sinks/endpoint"
)

// maxAuditedID bounds what a client can write into the audit log: as long as a
// secret id may be (GetSecretValue, API reference).
const maxAuditedID = 2048

// Requests of nobody known have strangerBurst lines, and then strangerRate a
// second. They need no token, so that a flood of them could fill the disk, or the
// queue in place of lines that say who got what.
const (
	strangerBurst = 500
	strangerRate  = 10
)

// auditor is the audit log in use, if there is one. A reload opens it again.
type auditor struct {
	log  atomic.Pointer[audit.Log]
	lost atomic.Uint64
	// strangers is of newStrangers, and withheld counts the lines it has kept back
	// since the last one.
	strangers *rate.Limiter
	withheld  atomic.Uint64
}

func newStrangers() *rate.Limiter { return rate.NewLimiter(strangerRate, strangerBurst) }

// stranger reports whether a request of nobody known has a line, and if so how
// many before it had none.
func (r *auditor) stranger() (withheld uint64, ok bool) {
	if !r.strangers.Allow() {
		r.withheld.Add(1)
		return 0, false
	}
	return r.withheld.Swap(0), true
}

// prepareAudit opens the audit log anew, for it may have been rotated. At the
// commit it takes the place of the old one.
func (l *listeners) prepareAudit(a *Agent, c *config.Audit) error {
	l.nextAudit = nil
	if c != nil {
		stdout := a.opts.Stdout
		if stdout == nil {
			stdout = io.Discard
		}
		next, err := audit.Open(audit.Options{Path: c.Path, Required: c.Required, Stdout: stdout, Lost: &a.audit.lost, Logger: a.log})
		if err != nil {
			return err
		}
		l.nextAudit = next
	}
	next := l.nextAudit
	l.onCommit = append(l.onCommit, func() { go closeAudit(a.audit.log.Swap(next)) })
	return nil
}

// closeAudit lets a log write what it holds, for as long as a shutdown takes.
func closeAudit(l *audit.Log) {
	if l == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	_ = l.Close(ctx) // what it could not write is counted and was said
}

// record writes an audit line, if that is asked for. The error is one that has
// to be obeyed: it is nil unless the configuration requires the line.
func (r *auditor) record(e audit.Entry) error {
	l := r.log.Load()
	if l == nil {
		return nil
	}
	if err := l.Record(e); err != nil && l.Required() {
		return err
	}
	return nil
}

// observe counts one request to the endpoint and writes it down.
func (a *Agent) observe(e *endpoint.Exchange) error {
	a.seen.traffic.count(e)
	if e.Outcome == endpoint.OutcomePing || a.audit.log.Load() == nil {
		return nil
	}
	entry := audit.Entry{
		Event: eventOf(e), Via: "endpoint", Operation: e.Operation, Client: e.Client, Remote: e.Remote, RoleARN: cut(e.Role),
	}
	if e.Client == "" {
		withheld, ok := a.audit.stranger()
		if !ok {
			return nil
		}
		entry.Withheld = withheld
	}
	if e.PID > 0 {
		entry.Peer = auditedPeer(e.UID, e.GID, e.PID)
	}
	parts := e.Parts
	if len(parts) == 0 {
		parts = []endpoint.Part{{Secret: e.Secret, ARN: e.ARN, VersionID: e.VersionID, Outcome: e.Outcome}}
	}
	for _, p := range parts {
		entry.Secret, entry.ARN, entry.VersionID, entry.Outcome = cut(p.Secret), p.ARN, p.VersionID, string(p.Outcome)
		if err := a.audit.record(entry); err != nil {
			return err
		}
	}
	return nil
}

// eventOf says what a request to the endpoint was. An SDK names an operation; else
// a POST is a refresh.
func eventOf(e *endpoint.Exchange) string {
	switch e.Operation {
	case "GetSecretValue", "BatchGetSecretValue":
		return "get"
	case "DescribeSecret":
		return "describe"
	case "":
		if e.Method == http.MethodPost && e.Waited {
			return "refresh"
		}
		return "get"
	default:
		return "call"
	}
}

// auditedPeer names the program too, as far as it can still be found out: the
// kernel's word on the peer is of the moment it connected.
func auditedPeer(uid, gid, pid int) *audit.Peer {
	p := &audit.Peer{UID: uid, GID: gid, PID: pid}
	if exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe"); err == nil {
		p.Exe = exe
	}
	return p
}

// recordPublished writes down that a file now holds these versions.
func (a *Agent) recordPublished(path string, versions []notify.SecretVersion) {
	for _, v := range versions {
		_ = a.audit.record(audit.Entry{Event: "publish", Via: "file", Path: path, Secret: v.Name, VersionID: v.VersionID, Outcome: "ok"})
	}
}

// recordEnvironment writes down that the child's environment is made of these
// versions.
func (a *Agent) recordEnvironment(made versions) {
	for _, v := range made.named() {
		_ = a.audit.record(audit.Entry{Event: "publish", Via: "environment", Secret: v.Name, VersionID: v.VersionID, Outcome: "ok"})
	}
}

// recordCommand writes down that a command of a target is given these versions, unless
// it was given the same before.
func (a *Agent) recordCommand(id, target string, made versions) {
	versions := made.named()
	if !a.recorded.isNew(id, versions) {
		return
	}
	for _, v := range versions {
		_ = a.audit.record(audit.Entry{Event: "publish", Via: "command", Target: target, Secret: v.Name, VersionID: v.VersionID, Outcome: "ok"})
	}
}

func cut(id string) string { return id[:min(len(id), maxAuditedID)] }
