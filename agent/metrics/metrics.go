// Package metrics shows the agent's state to Prometheus, in its text format
// (Prometheus documentation, "Exposition formats", version 0.0.4). It is the
// one place that knows names and types of metrics.
//
// Almost everything is pulled: a scrape asks for a [State] and writes it down.
// Only requests to the endpoint are counted where they happen, in [Requests].
// Labels hold configured names, version ids and words from fixed lists, so that
// their number is bounded by the configuration; no value, nor its length or
// hash, is among them.
//
// The format is written here and not by client_golang because that costs every
// agent 1.8 MB of resident memory and 1.9 MB of binary, scraped or not, for
// types a pulled state has no use for. Its parser and linter hold the tests.
package metrics

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
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

	// Calls to AWS by operation, batches given up by reason, and the SDK's
	// warnings, since the source was opened.
	Calls, Fallbacks map[string]uint64
	SDKWarnings      uint64

	TemplateExecutions, Publishes, Repairs uint64

	// Requests to the endpoint; nil where there is none.
	Requests *Requests

	// Reloads, without the configuration that was loaded at the start.
	ReloadsSucceeded, ReloadsFailed uint64
	// ReloadFailed says that the latest reload failed.
	ReloadFailed bool
	// LoadedAt is when the running configuration was loaded.
	LoadedAt time.Time

	// AuditLost counts the audit lines that could not be written.
	AuditLost uint64
}

// Secret is one configured secret.
type Secret struct {
	Name string
	// VersionID is the version in use, or empty if none was ever read.
	VersionID string
	// Age is the time since the version was last confirmed, and ConfirmedAt
	// that moment; both are without meaning if none was ever read.
	Age         time.Duration
	ConfirmedAt time.Time
	Stale       bool
	// Failures are the failed reads by kind.
	Failures map[string]uint64
}

// File is one configured file.
type File struct {
	Path              string
	InPlace, Degraded bool
}

// Target is one configured target.
type Target struct {
	Name string
	// Owed says that it has not been told yet, since OwedSince.
	Owed      bool
	OwedSince time.Time
	// Outcomes count notifications by what became of them.
	Outcomes map[string]uint64
}

// Handler returns a handler that answers a scrape with what state returns,
// which is called once for each, by any goroutine.
func Handler(state func() State) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		s := state()
		_, _ = w.Write(s.Append(nil)) // a scraper that has gone is nobody's error
	})
}

// Append appends s to b in the text format.
func (s *State) Append(b []byte) []byte {
	e := &exposition{b: b}
	s.agent(e)
	s.secrets(e)
	s.files(e)
	s.targets(e)
	if s.Requests != nil {
		s.Requests.expose(e)
	}
	return e.b
}

func (s *State) agent(e *exposition) {
	e.family("secretsd_build_info", gauge, "The running version; always 1.")
	e.sample(1, "version", s.Version, "goversion", s.GoVersion)
	e.family("secretsd_start_time_seconds", gauge, "When the agent started, in seconds since the epoch.")
	e.sample(seconds(s.StartedAt))
	e.family("secretsd_ready", gauge, "Whether everything is in place, as /readyz says.")
	e.sample(truth(s.Ready))
	e.counts("secretsd_aws_calls_total", "Requests sent to AWS, retries and pages included.", "operation", s.Calls)
	e.counts("secretsd_aws_batch_fallbacks_total", "Batch reads given up and repeated one secret at a time.", "reason", s.Fallbacks)
	e.family("secretsd_aws_sdk_warnings_total", counter, "Warnings of the AWS SDK.")
	e.sample(float64(s.SDKWarnings))
	e.counts("secretsd_config_reloads_total", "Reloads of the configuration.", "outcome",
		map[string]uint64{"success": s.ReloadsSucceeded, "failure": s.ReloadsFailed})
	e.family("secretsd_config_last_reload_successful", gauge, "Whether the latest reload, or the start, succeeded.")
	e.sample(truth(!s.ReloadFailed))
	e.family("secretsd_config_last_reload_success_timestamp_seconds", gauge, "When the running configuration was loaded, in seconds since the epoch.")
	e.sample(seconds(s.LoadedAt))
	e.family("secretsd_audit_lines_lost_total", counter, "Audit lines that could not be written.")
	e.sample(float64(s.AuditLost))
}

func (s *State) secrets(e *exposition) {
	e.family("secretsd_secret_version_info", gauge, "The version in use; always 1.")
	for i := range s.Secrets {
		if c := &s.Secrets[i]; c.VersionID != "" {
			e.sample(1, "secret", c.Name, "version_id", c.VersionID)
		}
	}
	e.family("secretsd_secret_refresh_age_seconds", gauge, "Time since the value was last confirmed to be the right one.")
	for i := range s.Secrets {
		if c := &s.Secrets[i]; !c.ConfirmedAt.IsZero() {
			e.sample(c.Age.Seconds(), "secret", c.Name)
		}
	}
	e.family("secretsd_secret_last_success_timestamp_seconds", gauge, "When the secret was last read, in seconds since the epoch.")
	for i := range s.Secrets {
		if c := &s.Secrets[i]; !c.ConfirmedAt.IsZero() {
			e.sample(seconds(c.ConfirmedAt), "secret", c.Name)
		}
	}
	e.family("secretsd_secret_stale", gauge, "Whether the last due read failed.")
	for i := range s.Secrets {
		e.sample(truth(s.Secrets[i].Stale), "secret", s.Secrets[i].Name)
	}
	e.family("secretsd_secret_refresh_failures_total", counter, "Failed reads by kind.")
	for i := range s.Secrets {
		c := &s.Secrets[i]
		for _, kind := range slices.Sorted(maps.Keys(c.Failures)) {
			e.sample(float64(c.Failures[kind]), "secret", c.Name, "kind", kind)
		}
	}
}

func (s *State) files(e *exposition) {
	e.family("secretsd_file_in_place", gauge, "Whether the file is there as the agent once made it.")
	for _, f := range s.Files {
		e.sample(truth(f.InPlace), "path", f.Path)
	}
	e.family("secretsd_file_degraded", gauge, "Whether the file cannot be brought up to date.")
	for _, f := range s.Files {
		e.sample(truth(f.Degraded), "path", f.Path)
	}
	e.family("secretsd_template_executions_total", counter, "Templates rendered.")
	e.sample(float64(s.TemplateExecutions))
	e.family("secretsd_file_publishes_total", counter, "Files replaced because what they should hold had changed.")
	e.sample(float64(s.Publishes))
	e.family("secretsd_file_repairs_total", counter, "Files put right that somebody else had changed.")
	e.sample(float64(s.Repairs))
}

func (s *State) targets(e *exposition) {
	e.family("secretsd_notification_owed", gauge, "Whether the target has not been told yet.")
	for _, t := range s.Targets {
		e.sample(truth(t.Owed), "target", t.Name)
	}
	e.family("secretsd_notification_owed_since_timestamp_seconds", gauge, "When the change was published that the target has not been told of, in seconds since the epoch.")
	for _, t := range s.Targets {
		if t.Owed {
			e.sample(seconds(t.OwedSince), "target", t.Name)
		}
	}
	e.family("secretsd_notifications_total", counter, "Notifications by what became of them; a failed one is tried again.")
	for _, t := range s.Targets {
		for _, outcome := range slices.Sorted(maps.Keys(t.Outcomes)) {
			e.sample(float64(t.Outcomes[outcome]), "target", t.Name, "outcome", outcome)
		}
	}
}

type kind string

const (
	gauge     kind = "gauge"
	counter   kind = "counter"
	histogram kind = "histogram"
)

// exposition is a page in the making.
type exposition struct {
	b    []byte
	name string
}

// family begins the metric that the samples after it belong to.
func (e *exposition) family(name string, k kind, help string) {
	e.name = name
	e.b = append(e.b, "# HELP "+name+" "+help+"\n# TYPE "+name+" "+string(k)+"\n"...)
}

// sample adds one sample of the family begun last; labels are names and values
// in turn.
func (e *exposition) sample(value float64, labels ...string) { e.part("", value, labels...) }

// part adds a sample whose name has a suffix, as those of histograms.
func (e *exposition) part(suffix string, value float64, labels ...string) {
	e.b = append(append(e.b, e.name...), suffix...)
	for i := 0; i+1 < len(labels); i += 2 {
		e.b = append(e.b, "{,"[min(i, 1)])
		e.b = append(append(e.b, labels[i]...), `="`...)
		e.b = append(appendEscaped(e.b, labels[i+1]), '"')
	}
	if len(labels) > 0 {
		e.b = append(e.b, '}')
	}
	e.b = strconv.AppendFloat(append(e.b, ' '), value, 'g', -1, 64)
	e.b = append(e.b, '\n')
}

func (e *exposition) counts(name, help, label string, counts map[string]uint64) {
	e.family(name, counter, help)
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		e.sample(float64(counts[key]), label, key)
	}
}

// appendEscaped appends a label's value. Backslash, quote and line feed are
// escaped; what is not UTF-8 becomes U+FFFD, for a scraper would refuse the
// whole page.
func appendEscaped(b []byte, s string) []byte {
	for _, r := range s {
		switch r {
		case '\\':
			b = append(b, `\\`...)
		case '"':
			b = append(b, `\"`...)
		case '\n':
			b = append(b, `\n`...)
		default:
			b = append(b, string(r)...)
		}
	}
	return b
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
