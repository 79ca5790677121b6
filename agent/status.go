package agent

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"secretsd/agent/notify"
	"secretsd/agent/secret"
	"secretsd/agent/store"
	"secretsd/sinks/endpoint"
)

// Status is the state of an agent, for people and programs. It is plain data
// that the caller owns, and holds no secret value.
type Status struct {
	// Version is that of secretsd itself.
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	// Config is the configuration file that is running, since LoadedAt.
	Config   string    `json:"config"`
	LoadedAt time.Time `json:"loaded_at"`
	// Ready is what /readyz answers, and Reasons say why not.
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons,omitempty"`
	// Endpoint, Telemetry and Local, the local Secrets Manager, are the addresses
	// bound, and Socket is the endpoint's unix socket; each is empty where there is
	// none. The control socket is in StateDir.
	Endpoint  string `json:"endpoint,omitempty"`
	Socket    string `json:"socket,omitempty"`
	Telemetry string `json:"telemetry,omitempty"`
	Local     string `json:"local,omitempty"`
	StateDir  string `json:"state_dir"`

	Secrets []SecretStatus        `json:"secrets"`
	Files   []FileStatus          `json:"files"`
	Targets []notify.TargetStatus `json:"targets"`

	// Clients are those of the endpoint. Requests are all that it has answered, by
	// outcome, those of nobody known among them, such as "bad_token". OnDemand is
	// how many versions it keeps because clients have asked for them. All three are
	// empty where there is no endpoint.
	Clients  []ClientStatus    `json:"clients,omitempty"`
	Requests map[string]uint64 `json:"requests,omitempty"`
	OnDemand int               `json:"on_demand,omitempty"`
	// Child is nil where the configuration has none.
	Child *ChildStatus `json:"child,omitempty"`
}

// SecretStatus is the state of one configured secret.
type SecretStatus struct {
	Name string `json:"name"`
	ID   string `json:"id"`
	// ARN is the one the service has answered with; empty before.
	ARN string `json:"arn,omitempty"`
	// Optional says that it may be absent.
	Optional bool `json:"optional,omitempty"`
	// Stage is the staging label that is followed; empty for a pinned version.
	Stage string `json:"stage,omitempty"`
	// VersionID is the version in use; empty if none was ever read.
	VersionID string `json:"version_id,omitempty"`
	// Unlabelled says that the secret is there and that none of its versions is at
	// Stage, as AWSPREVIOUS before the first rotation: templates see an empty text.
	Unlabelled bool `json:"unlabelled,omitempty"`
	// Pending is the version at AWSPENDING where files and environment show it in
	// place of VersionID, which was refused.
	Pending string `json:"pending_version_id,omitempty"`
	// Unsettled says that VersionID was refused before the agent was started, and that
	// AWSPENDING cannot be read: files and environment wait for it. Error says why.
	Unsettled bool `json:"unsettled,omitempty"`
	// ConfirmedAt is when the version was last confirmed, AgeSeconds ago, on a
	// clock that counts on in suspend. Both are zero if none was ever read.
	ConfirmedAt time.Time `json:"confirmed_at,omitzero"`
	AgeSeconds  float64   `json:"age_seconds,omitempty"`
	// NextRefresh is when it is read next; a read under way leaves it in the
	// past.
	NextRefresh time.Time `json:"next_refresh,omitzero"`
	// Stale says that the last due read failed, and Expired that the endpoint
	// has stopped serving the value for it. What is absent, and may be, is neither.
	Stale   bool `json:"stale"`
	Expired bool `json:"expired,omitempty"`
	// Kind and Error say why the last read failed.
	Kind  string `json:"kind,omitempty"`
	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`
	// Held is the version that is current at the source and not used, for it is
	// not what the configuration expects; HeldReason says why.
	Held       string `json:"held_version_id,omitempty"`
	HeldReason string `json:"held_reason,omitempty"`

	failures map[string]uint64
}

// Absent reports whether there is no such secret, or no version of it at its stage,
// and need not be.
func (s *SecretStatus) Absent() bool {
	return s.Optional && s.VersionID == "" && (s.Kind == secret.NotFound.String() || s.Unlabelled && s.Kind == "")
}

// The states of a file.
const (
	// FileInPlace: it holds what it should.
	FileInPlace = "in_place"
	// FileWaiting: a secret that it needs was never read.
	FileWaiting = "waiting"
	// FileSkipped: a secret that it needs may be absent, and is.
	FileSkipped = "skipped"
	// FileChecking: new content is being checked; what was published stays.
	FileChecking = "checking"
	// FileHeld: new content could not be rendered, a check has refused it, or a target
	// did not confirm it and it was rolled back; what was published stays until a
	// version or the template changes.
	FileHeld = "held"
	// FileDegraded: it cannot be brought up to date, and stays as it is.
	FileDegraded = "degraded"
)

// FileStatus is the state of one configured file or bundle.
type FileStatus struct {
	// Path is that of the file, or the directory of the bundle.
	Path   string `json:"path"`
	Bundle bool   `json:"bundle,omitempty"`
	State  string `json:"state"`
	// Secrets are the versions that the file was rendered from.
	Secrets []notify.SecretVersion `json:"secrets,omitempty"`
	// Held are the versions of the content that is held.
	Held []notify.SecretVersion `json:"held,omitempty"`
	// ExpiresAt is when the first of the certificates in it does; zero without one.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// WaitsFor is the secret that the file waits for.
	WaitsFor string `json:"waits_for,omitempty"`
	Error    string `json:"error,omitempty"`
	Hint     string `json:"hint,omitempty"`
	// TemplateError says why the file's template, as it is on disk, cannot be used;
	// the one before is, with new versions too. Empty where it is in use.
	TemplateError string `json:"template_error,omitempty"`
	TemplateHint  string `json:"template_hint,omitempty"`
	// NextTry is when publishing is tried again; zero if that waits for a
	// change.
	NextTry time.Time `json:"next_try,omitzero"`

	inPlace bool
	// deps are the secrets whose change has the file rendered again.
	deps []string
}

// passed is what the last pass left behind. It is immutable: what changes between
// passes is asked for when the status is.
type passed struct {
	build   *build
	snap    *store.Snapshot
	files   []FileStatus
	counted counted
	bound   Addrs
	servers []*endpoint.Server
	// childHeld is why the child's environment is not that of now, or nil.
	childHeld error
}

// counted is what the applying goroutine has done so far.
type counted struct {
	executions, templateFailures        uint64
	publishes, publishFailures, repairs uint64
}

// seen is what status and metrics show beside what passes leave.
type seen struct {
	startedAt time.Time
	passed    atomic.Pointer[passed]
	traffic   *traffic

	mu                              sync.Mutex
	loadedAt                        time.Time
	reloadsSucceeded, reloadsFailed uint64
	reloadFailed                    bool
	// notified counts outcomes by target.
	notified map[string]map[string]uint64
}

func newSeen() *seen {
	now := time.Now()
	return &seen{startedAt: now, loadedAt: now, traffic: newTraffic(), notified: map[string]map[string]uint64{}}
}

func (s *seen) reloaded(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reloadFailed = err != nil
	if err != nil {
		s.reloadsFailed++
		return
	}
	s.reloadsSucceeded++
	s.loadedAt = time.Now()
}

func (s *seen) settled(target string, o notify.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.notified[target] == nil {
		s.notified[target] = map[string]uint64{}
	}
	s.notified[target][o.Kind.String()]++
}

// outcomes returns the counts of one target, each kind among them.
func (s *seen) outcomes(target string) map[string]uint64 {
	counts := map[string]uint64{}
	for _, k := range notify.OutcomeKinds() {
		counts[k.String()] = s.notified[target][k.String()]
	}
	return counts
}

// CountFailedReload counts a reload that failed before there was a
// configuration to give to [Agent.Reload].
func (a *Agent) CountFailedReload(err error) { a.seen.reloaded(err) }

// note keeps what a pass has left for Status.
func (a *Agent) note(snap *store.Snapshot) {
	p := &passed{
		build: a.build, snap: snap, files: make([]FileStatus, len(a.build.outputs)), counted: a.apply.counted,
		bound: a.Addrs(), servers: a.listeners.servers(), childHeld: a.child.held,
	}
	now, wall := a.clock(), time.Now()
	for i, o := range a.build.outputs {
		p.files[i] = o.status(now, wall)
	}
	a.seen.passed.Store(p)
	a.noted.reach(snap.Generation())
}

func (o *output) status(now time.Duration, wall time.Time) FileStatus {
	f := FileStatus{Path: o.path, Bundle: o.bundle, State: FileInPlace, Secrets: o.named, ExpiresAt: o.expires, WaitsFor: o.waiting, inPlace: o.inPlace, deps: o.deps}
	if err := o.templateErr; err != nil {
		f.TemplateError, f.TemplateHint = err.Error(), hintOf(err)
	}
	switch {
	case o.skipped:
		f.State = FileSkipped
	case o.waiting != "":
		f.State = FileWaiting
	case o.gate.held != nil:
		f.State, f.Held, f.Error, f.Hint = FileHeld, o.gate.held.versions, o.gate.held.reason.Error(), hintOf(o.gate.held.reason)
	case o.refused != nil:
		f.State, f.Held, f.Error, f.Hint = FileHeld, o.refused.names(), o.refused.reason.Error(), hintOf(o.refused.reason)
	case o.gate.asking != nil:
		f.State = FileChecking
	case o.err != nil:
		f.State, f.Error, f.Hint = FileDegraded, o.err.Error(), hintOf(o.err)
		if o.dirty {
			f.NextTry = wall.Add(o.retryAt - now)
		}
	case !o.healable(now):
		f.State, f.Error = FileDegraded, "somebody else changes it again and again"
		f.NextTry = wall.Add(o.repairs[0] + repairWindow - now)
	case !o.inPlace:
		f.State = FileWaiting
	}
	return f
}

// Status returns the state as the last pass left it, with ages, next refreshes
// and targets as they are now. Any goroutine may call it, and it waits for
// nobody.
func (a *Agent) Status() Status {
	p := a.seen.passed.Load()
	a.seen.mu.Lock()
	loadedAt := a.seen.loadedAt
	a.seen.mu.Unlock()
	s := Status{
		Version: a.opts.Version, StartedAt: a.seen.startedAt, Config: p.build.cfg.Path(), LoadedAt: loadedAt,
		Endpoint: p.bound.Endpoint, Socket: p.bound.Socket, Telemetry: p.bound.Telemetry, Local: p.bound.Local, StateDir: a.state.root.Name(),
		Secrets: make([]SecretStatus, 0, len(p.build.secrets)), Files: slices.Clone(p.files), Targets: a.notifier.Status(),
	}
	if reason := a.health.reason(); reason != "" {
		s.Reasons = strings.Split(reason, "\n")
	}
	s.Ready = len(s.Reasons) == 0
	if e := p.build.cfg.Endpoint; e != nil {
		s.Clients, s.Requests, s.OnDemand = a.seen.traffic.clientStatus(e), a.seen.traffic.counts(a.seen.traffic.all), a.onDemand.size()
	}
	s.Child = a.childState(p)
	plans := a.refresh.plans()
	now, wall := a.clock(), time.Now()
	for _, c := range p.build.secrets {
		e, _ := p.snap.Get(c.name)
		s.Secrets = append(s.Secrets, secretStatus(c, e, plans[c.name], now, wall, p.build.cfg.Refresh.MaxStale.Std()))
	}
	return s
}

func secretStatus(c *schedule, e store.Entry, plan refreshPlan, now time.Duration, wall time.Time, maxStale time.Duration) SecretStatus {
	s := SecretStatus{Name: c.name, ID: c.ref.ID, Optional: !c.required, Stage: c.ref.Stage, Stale: e.Err != nil, failures: map[string]uint64{}}
	if e.Version != nil {
		s.ARN, s.VersionID, s.ConfirmedAt = e.Version.ARN, e.Version.VersionID, e.ConfirmedAt
		s.AgeSeconds = (now - e.Confirmed).Round(time.Millisecond).Seconds()
		s.Unlabelled = e.Version.Unlabelled()
		s.Expired = e.Err != nil && now-e.Confirmed > maxStale
	}
	if e.Pending != nil {
		s.Pending = e.Pending.VersionID
	}
	if e.Held != nil {
		s.Held, s.HeldReason = e.Held.VersionID, e.Held.Err.Error()
	}
	if plan.known {
		s.NextRefresh = wall.Add(plan.next - now)
	}
	if e.Err != nil {
		s.Kind, s.Error, s.Hint = secret.KindOf(e.Err).String(), e.Err.Error(), hintOf(e.Err)
	}
	if s.Unsettled = e.Unsettled != nil; s.Unsettled && e.Err == nil {
		s.Kind, s.Error, s.Hint = secret.KindOf(e.Unsettled.Err).String(), e.Unsettled.Err.Error(), hintOf(e.Unsettled.Err)
	}
	if s.Absent() {
		s.Stale, s.Expired = false, false
	}
	for k, n := range plan.failed {
		s.failures[secret.Kind(k).String()] = n
	}
	return s
}

// refreshPlan is what the refresher knows of one secret.
type refreshPlan struct {
	known  bool
	next   time.Duration
	failed failureCounts
}

// failureCounts count failed reads by kind.
type failureCounts [secret.Invalid + 1]uint64

func (r *refresher) plans() map[string]refreshPlan {
	r.mu.Lock()
	defer r.mu.Unlock()
	plans := make(map[string]refreshPlan, len(r.secrets))
	for name, s := range r.secrets {
		plans[name] = refreshPlan{known: true, next: s.next, failed: s.failed}
	}
	return plans
}
