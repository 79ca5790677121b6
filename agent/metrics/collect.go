package metrics

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// family is one metric with all its labels.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// families are all there are, for Describe.
var families []*family

func define(kind prometheus.ValueType, name, help string, labels []string) *family {
	f := &family{prometheus.NewDesc(name, help, labels, nil), kind}
	families = append(families, f)
	return f
}

func gauge(name, help string, labels ...string) *family {
	return define(prometheus.GaugeValue, name, help, labels)
}

func counter(name, help string, labels ...string) *family {
	return define(prometheus.CounterValue, name, help, labels)
}

var (
	buildInfo   = gauge("secretsd_build_info", "The running version; always 1.", "version", "goversion")
	startTime   = gauge("secretsd_start_time_seconds", "When the agent started, in seconds since the epoch.")
	ready       = gauge("secretsd_ready", "Whether everything is in place, as /readyz says.")
	calls       = counter("secretsd_aws_calls_total", "Requests sent to AWS, retries and pages included, by outcome.", "operation", "outcome")
	fallbacks   = counter("secretsd_aws_batch_fallbacks_total", "Batch reads given up and repeated one secret at a time.", "reason")
	singlesOnly = gauge("secretsd_aws_batch_fallback_active", "How many pairs of Region and role are read one secret at a time for now.")
	warnings    = counter("secretsd_aws_sdk_warnings_total", "Warnings of the AWS SDK.")
	reloads     = counter("secretsd_config_reloads_total", "Reloads of the configuration.", "outcome")
	reloadOK    = gauge("secretsd_config_last_reload_successful", "Whether the latest reload, or the start, succeeded.")
	loadedAt    = gauge("secretsd_config_last_reload_success_timestamp_seconds", "When the running configuration was loaded, in seconds since the epoch.")
	auditLost   = counter("secretsd_audit_lines_lost_total", "Audit lines that could not be written.")

	secretVersion  = gauge("secretsd_secret_version_info", "The version in use; always 1.", "secret", "version_id")
	secretAge      = gauge("secretsd_secret_refresh_age_seconds", "Time since the value was last confirmed to be the right one.", "secret")
	secretRead     = gauge("secretsd_secret_last_success_timestamp_seconds", "When the secret was last read, in seconds since the epoch.", "secret")
	secretStale    = gauge("secretsd_secret_stale", "Whether the last due read failed, but for a secret that may be absent, and is.", "secret")
	secretHeld     = gauge("secretsd_secret_held", "Whether the current version is not used, because it is not what is expected.", "secret")
	secretExpired  = gauge("secretsd_secret_expired", "Whether the endpoint has stopped serving the secret, for it is older than max_stale.", "secret")
	secretPending  = gauge("secretsd_secret_pending_shown", "Whether files and environment show the version at AWSPENDING, for the current one was refused.", "secret")
	secretFailures = counter("secretsd_secret_refresh_failures_total", "Failed reads by kind.", "secret", "kind")

	fileInPlace      = gauge("secretsd_file_in_place", "Whether the file is there as the agent once made it.", "path")
	fileHeld         = gauge("secretsd_file_held", "Whether new content of the file was refused by a check or could not be rendered, so that the old stays.", "path")
	fileExpires      = gauge("secretsd_file_certificate_not_after_timestamp_seconds", "When the first of the certificates in the file expires, in seconds since the epoch.", "path")
	fileDegraded     = gauge("secretsd_file_degraded", "Whether the file cannot be brought up to date.", "path")
	fileTemplate     = gauge("secretsd_file_template_unusable", "Whether the file's template, as it is on disk, cannot be used, so that the one before stays in use.", "path")
	executions       = counter("secretsd_template_executions_total", "Templates rendered.")
	templateFailures = counter("secretsd_template_failures_total", "Templates that could not be rendered, so that their files stayed as they were.")
	publishes        = counter("secretsd_file_publishes_total", "Files replaced because what they should hold had changed.")
	publishFailures  = counter("secretsd_file_publish_failures_total", "Files that could not be looked at or replaced.")
	repairs          = counter("secretsd_file_repairs_total", "Files put right that somebody else had changed.")

	owed          = gauge("secretsd_notification_owed", "Whether the target has not been told yet.", "target")
	unconfirmed   = gauge("secretsd_target_unconfirmed", "Whether the target has not confirmed, after the last step of its ladder, that it works with what it was told.", "target")
	owedSince     = gauge("secretsd_notification_owed_since_timestamp_seconds", "When the change was published that the target has not been told of, in seconds since the epoch.", "target")
	notifications = counter("secretsd_notifications_total", "Notifications by what became of them; a failed one is tried again.", "target", "outcome")

	childRunning = gauge("secretsd_child_running", "Whether the program of exec runs.")
	childStarts  = counter("secretsd_child_starts_total", "Starts of the program of exec.")
	childHeld    = gauge("secretsd_child_environment_held", "Whether the environment of the program of exec cannot be made of the current versions, so that it has that of before or is not started.")
	childCrashes = counter("secretsd_child_crashes_total", "How often the program of exec has ended by itself.")

	requests       = counter("secretsd_endpoint_requests_total", "Requests to the endpoint by what they were answered.", "outcome")
	clientRequests = counter("secretsd_endpoint_client_requests_total", "Requests of one client by what they were answered.", "client", "outcome")
	clientSeen     = gauge("secretsd_endpoint_client_last_request_timestamp_seconds", "When the client last came, in seconds since the epoch.", "client")
	onDemand       = gauge("secretsd_endpoint_on_demand_versions", "Versions that are kept because clients asked for them.")
	delayed        = counter("secretsd_endpoint_refusals_delayed_total", "Answers to wrong tokens that were held back.")

	connsOpen    = gauge("secretsd_connections_open", "Open connections to the endpoint and to telemetry.")
	connsEvicted = counter("secretsd_connections_evicted_total", "Connections closed to make room for others while their clients kept the agent waiting.")
	connsRefused = counter("secretsd_connections_refused_total", "Connections closed at once because there was no room.")
)

// collector is a [prometheus.Collector] of what it returns.
type collector func() State

// Describe implements [prometheus.Collector].
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range families {
		ch <- f.desc
	}
	NewLatency().took.Describe(ch)
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(ch chan<- prometheus.Metric) {
	s, e := c(), exposition(ch)
	s.agent(e)
	s.aws(e)
	s.secrets(e)
	s.files(e)
	s.targets(e)
	if c := s.Child; c != nil {
		e.show(childRunning, truth(c.Running))
		e.show(childStarts, float64(c.Starts))
		e.show(childCrashes, float64(c.Crashes))
		e.show(childHeld, truth(c.EnvironmentHeld))
	}
	if s.Endpoint != nil {
		s.Endpoint.show(e)
		s.Endpoint.Latency.took.Collect(ch)
	}
}

// exposition takes samples.
type exposition chan<- prometheus.Metric

// show adds one sample. The values of labels are made UTF-8, which is all they
// have to be.
func (e exposition) show(f *family, value float64, labels ...string) {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "\uFFFD")
	}
	e <- prometheus.MustNewConstMetric(f.desc, f.kind, value, labels...)
}

// counts adds a sample for each count; labels are those before its word.
func (e exposition) counts(f *family, counts map[string]uint64, labels ...string) {
	for word, n := range counts {
		e.show(f, float64(n), append(labels[:len(labels):len(labels)], word)...)
	}
}

func (s *State) agent(e exposition) {
	e.show(buildInfo, 1, s.Version, s.GoVersion)
	e.show(startTime, seconds(s.StartedAt))
	e.show(ready, truth(s.Ready))
	e.show(reloads, float64(s.ReloadsSucceeded), "success")
	e.show(reloads, float64(s.ReloadsFailed), "failure")
	e.show(reloadOK, truth(!s.ReloadFailed))
	e.show(loadedAt, seconds(s.LoadedAt))
	e.show(auditLost, float64(s.AuditLost))
	e.show(connsOpen, float64(s.Connections.Open))
	e.show(connsEvicted, float64(s.Connections.Evicted))
	e.show(connsRefused, float64(s.Connections.Refused))
}

func (s *State) aws(e exposition) {
	for operation, outcomes := range s.AWS.Calls {
		e.counts(calls, outcomes, operation)
	}
	e.counts(fallbacks, s.AWS.Fallbacks)
	e.show(singlesOnly, float64(s.AWS.SinglesOnly))
	e.show(warnings, float64(s.AWS.SDKWarnings))
}

func (s *State) secrets(e exposition) {
	for i := range s.Secrets {
		c := &s.Secrets[i]
		if c.VersionID != "" {
			e.show(secretVersion, 1, c.Name, c.VersionID)
		}
		if !c.ConfirmedAt.IsZero() {
			e.show(secretAge, c.Age.Seconds(), c.Name)
			e.show(secretRead, seconds(c.ConfirmedAt), c.Name)
		}
		e.show(secretStale, truth(c.Stale), c.Name)
		e.show(secretExpired, truth(c.Expired), c.Name)
		e.show(secretHeld, truth(c.Held), c.Name)
		e.show(secretPending, truth(c.Pending), c.Name)
		e.counts(secretFailures, c.Failures, c.Name)
	}
}

func (s *State) files(e exposition) {
	for _, f := range s.Files {
		e.show(fileInPlace, truth(f.InPlace), f.Path)
		e.show(fileDegraded, truth(f.Degraded), f.Path)
		e.show(fileHeld, truth(f.Held), f.Path)
		e.show(fileTemplate, truth(f.TemplateUnusable), f.Path)
		if !f.ExpiresAt.IsZero() {
			e.show(fileExpires, seconds(f.ExpiresAt), f.Path)
		}
	}
	e.show(executions, float64(s.TemplateExecutions))
	e.show(templateFailures, float64(s.TemplateFailures))
	e.show(publishes, float64(s.Publishes))
	e.show(publishFailures, float64(s.PublishFailures))
	e.show(repairs, float64(s.Repairs))
}

func (s *State) targets(e exposition) {
	for _, t := range s.Targets {
		e.show(owed, truth(t.Owed), t.Name)
		e.show(unconfirmed, truth(t.Unconfirmed), t.Name)
		if t.Owed {
			e.show(owedSince, seconds(t.OwedSince), t.Name)
		}
		e.counts(notifications, t.Outcomes, t.Name)
	}
}

func (p *Endpoint) show(e exposition) {
	e.counts(requests, p.Requests)
	for _, c := range p.Clients {
		e.counts(clientRequests, c.Requests, c.Name)
		if !c.LastSeen.IsZero() {
			e.show(clientSeen, seconds(c.LastSeen), c.Name)
		}
	}
	e.show(onDemand, float64(p.OnDemand))
	e.show(delayed, float64(p.Delayed))
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
