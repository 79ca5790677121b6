// Package metrics shows the agent's state to Prometheus. It is the one place
// that names Prometheus, its metrics and their types.
//
// Almost everything is pulled: a scrape asks for a [State] and shows it. Only
// the time that requests take is recorded where they happen, in [Latency].
// Labels hold configured names, version ids and words from fixed lists, so that
// their number is bounded by the configuration; no value, nor its length or
// hash, is among them, and nothing that a client has sent.
package metrics

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// State is what one scrape shows. It is plain data.
type State struct {
	// Version and GoVersion say what is running.
	Version, GoVersion string
	StartedAt          time.Time
	Ready              bool

	Secrets []Secret
	Files   []File
	Targets []Target
	// Child is nil where none is run.
	Child *Child

	AWS AWS

	// Templates rendered and failed to, files replaced and failed to be, and
	// files put right, all since the start.
	TemplateExecutions, TemplateFailures uint64
	Publishes, PublishFailures, Repairs  uint64

	// Endpoint is nil where there is none.
	Endpoint    *Endpoint
	Connections Connections

	// Reloads, without the configuration that was loaded at the start.
	ReloadsSucceeded, ReloadsFailed uint64
	// ReloadFailed says that the latest reload failed.
	ReloadFailed bool
	// LoadedAt is when the running configuration was loaded.
	LoadedAt time.Time

	// AuditLost counts the audit lines that could not be written.
	AuditLost uint64
}

// Child is the supervised child.
type Child struct {
	Running         bool
	Starts, Crashes uint64
	// EnvironmentHeld says that no environment can be made of what there is now.
	EnvironmentHeld bool
}

// AWS is what was asked of AWS since the source was opened.
type AWS struct {
	// Calls are the requests sent, by operation and outcome.
	Calls map[string]map[string]uint64
	// Fallbacks are the batches given up, by reason, and SinglesOnly how many
	// pairs of Region and role do without batches for the time being.
	Fallbacks   map[string]uint64
	SinglesOnly int
	SDKWarnings uint64
}

// Secret is one configured secret.
type Secret struct {
	Name string
	// VersionID is the version in use, or empty if none was ever read.
	VersionID string
	// Age is the time since the version was last confirmed, and ConfirmedAt
	// that moment; both are without meaning if none was ever read.
	Age            time.Duration
	ConfirmedAt    time.Time
	Stale, Expired bool
	// Held says that a version is current that is not used, because it is not what
	// is expected.
	Held bool
	// Pending says that files and environment show the pending version.
	Pending bool
	// Failures are the failed reads by kind.
	Failures map[string]uint64
}

// File is one configured file.
type File struct {
	Path              string
	InPlace, Degraded bool
	// Held says that new content was refused by a check, or could not be rendered.
	Held bool
	// TemplateUnusable says that its template on disk cannot be used, and the one
	// before is.
	TemplateUnusable bool
	// ExpiresAt is when the first of its certificates does, or zero.
	ExpiresAt time.Time
}

// Target is one configured target.
type Target struct {
	Name string
	// Owed says that it has not been told yet, since OwedSince.
	Owed      bool
	OwedSince time.Time
	// Unconfirmed says that it has not confirmed what it was told last.
	Unconfirmed bool
	// Outcomes count notifications by what became of them.
	Outcomes map[string]uint64
}

// Endpoint is what the endpoint has answered.
type Endpoint struct {
	// Requests are counted by outcome.
	Requests map[string]uint64
	Clients  []Client
	Latency  *Latency
	// OnDemand is how many versions are kept because clients asked for them.
	OnDemand int
	// Delayed are the answers to wrong tokens that were held back.
	Delayed uint64
}

// Client is one configured client of the endpoint.
type Client struct {
	Name string
	// LastSeen is zero if it never came.
	LastSeen time.Time
	Requests map[string]uint64
}

// Connections are those of all listeners, and what became of those that were too
// many.
type Connections struct {
	Open int
	// Evicted waited for their clients and were closed to make room; Refused found
	// none.
	Evicted, Refused uint64
}

// scrapes is how many are answered at a time; those above it get 503.
const scrapes = 4

// Handler returns a handler that answers a scrape with what state returns, which
// is called once for each, by any goroutine, and with what the operating system
// says of the process. What cannot be shown is logged and left out.
func Handler(state func() State, log *slog.Logger) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector(state), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		ErrorLog:            scrapeLog{log},
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: scrapes,
		// A page is some kilobytes, mostly over loopback, and a compressor would
		// keep more memory than the rest of the agent.
		DisableCompression: true,
	})
}

// scrapeLog takes what promhttp reports.
type scrapeLog struct{ log *slog.Logger }

// Println implements [promhttp.Logger]. Of what it is given the last is the
// error.
func (l scrapeLog) Println(v ...any) {
	l.log.Warn("cannot show all metrics", "error", v[len(v)-1])
}

// Latency records how long requests took. Its methods may be called from any
// goroutine.
type Latency struct{ took prometheus.Histogram }

// NewLatency returns a record of no requests. The bounds are those of a hit, a
// hit under load, a read from AWS, a slow one, and one that ran into its limit.
func NewLatency() *Latency {
	return &Latency{prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "secretsd_endpoint_request_duration_seconds",
		Help:    "Time from a request's head to its answer, without requests that wait for a change and those with a wrong token.",
		Buckets: []float64{0.0001, 0.0005, 0.001, 0.005, 0.05, 0.5, 5, 15},
	})}
}

// Observe records one request. It waits for nothing and allocates nothing.
func (l *Latency) Observe(took time.Duration) { l.took.Observe(took.Seconds()) }
