package metrics_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"secretsd/agent/metrics"
)

// hostile is a name that a configuration may hold and that a careless writer
// would break the page with.
const hostile = "a\"b\\c\nd} 1\n\xffé"

func whole() metrics.State {
	at := time.UnixMilli(1_700_000_000_500)
	latency := metrics.NewLatency()
	for _, took := range []time.Duration{time.Microsecond, 5 * time.Millisecond, time.Second, time.Minute} {
		latency.Observe(took)
	}
	return metrics.State{
		Version: "v1.2.3", GoVersion: "go1.26", StartedAt: at, Ready: true,
		Secrets: []metrics.Secret{
			{Name: "db", VersionID: "v-1", Age: 90 * time.Second, ConfirmedAt: at, Stale: true, Expired: true, Pending: true, Failures: map[string]uint64{"denied": 2, "throttled": 0}},
			{Name: hostile},
		},
		Files:   []metrics.File{{Path: "/run/a", InPlace: true}, {Path: "/run/b", Degraded: true, Held: true, TemplateUnusable: true, ExpiresAt: time.Unix(1700000000, 0)}},
		Targets: []metrics.Target{{Name: "app", Owed: true, OwedSince: at, Unconfirmed: true, Outcomes: map[string]uint64{"delivered": 3, "failed": 1}}, {Name: "idle"}},
		AWS: metrics.AWS{
			Calls:     map[string]map[string]uint64{"GetSecretValue": {"ok": 7, "denied": 2}, "AssumeRole": {"ok": 1}},
			Fallbacks: map[string]uint64{"denied": 1}, SinglesOnly: 3, SDKWarnings: 2,
		},
		TemplateExecutions: 11, TemplateFailures: 6, Publishes: 5, PublishFailures: 8, Repairs: 1,
		Endpoint: &metrics.Endpoint{
			Requests: map[string]uint64{"ok": 4, "denied": 0, "bad_token": 9},
			Clients:  []metrics.Client{{Name: "web", LastSeen: at, Requests: map[string]uint64{"ok": 3, "denied": 1}}, {Name: "idle"}},
			Latency:  latency, OnDemand: 12, Delayed: 24,
		},
		Connections:      metrics.Connections{Open: 21, Evicted: 22, Refused: 23},
		ReloadsSucceeded: 2, ReloadsFailed: 1, ReloadFailed: true, LoadedAt: at, AuditLost: 4,
	}
}

func scrape(t *testing.T, s metrics.State) []byte {
	t.Helper()
	w := httptest.NewRecorder()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	metrics.Handler(func() metrics.State { return s }, log).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if got := w.Header().Get("Content-Type"); w.Code != http.StatusOK || !strings.HasPrefix(got, "text/plain; version=0.0.4; charset=utf-8") {
		t.Errorf("%d, content type %q", w.Code, got)
	}
	return w.Body.Bytes()
}

// TestExpositionSaysTheState reads the page with Prometheus's own parser.
func TestExpositionSaysTheState(t *testing.T) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(scrape(t, whole())))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for name, f := range families {
		if !strings.HasPrefix(name, "secretsd_") {
			continue // what the operating system says of the process
		}
		for _, m := range f.GetMetric() {
			key := name
			for _, l := range m.GetLabel() {
				key += " " + l.GetName() + "=" + l.GetValue()
			}
			got[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			for _, b := range m.GetHistogram().GetBucket() {
				got[key+" le="+model.SampleValue(b.GetUpperBound()).String()] = float64(b.GetCumulativeCount())
			}
			if h := m.GetHistogram(); h != nil {
				got[key+" sum"], got[key+" count"] = h.GetSampleSum(), float64(h.GetSampleCount())
			}
		}
	}
	shown := strings.ToValidUTF8(hostile, "\uFFFD")
	want := map[string]float64{
		"secretsd_build_info goversion=go1.26 version=v1.2.3":                1,
		"secretsd_start_time_seconds":                                        1700000000.5,
		"secretsd_ready":                                                     1,
		"secretsd_aws_calls_total operation=GetSecretValue outcome=ok":       7,
		"secretsd_aws_calls_total operation=GetSecretValue outcome=denied":   2,
		"secretsd_aws_calls_total operation=AssumeRole outcome=ok":           1,
		"secretsd_aws_batch_fallback_active":                                 3,
		"secretsd_aws_batch_fallbacks_total reason=denied":                   1,
		"secretsd_aws_sdk_warnings_total":                                    2,
		"secretsd_config_reloads_total outcome=success":                      2,
		"secretsd_config_reloads_total outcome=failure":                      1,
		"secretsd_config_last_reload_successful":                             0,
		"secretsd_config_last_reload_success_timestamp_seconds":              1700000000.5,
		"secretsd_audit_lines_lost_total":                                    4,
		"secretsd_secret_version_info secret=db version_id=v-1":              1,
		"secretsd_secret_refresh_age_seconds secret=db":                      90,
		"secretsd_secret_last_success_timestamp_seconds secret=db":           1700000000.5,
		"secretsd_secret_stale secret=db":                                    1,
		"secretsd_secret_stale secret=" + shown:                              0,
		"secretsd_secret_expired secret=db":                                  1,
		"secretsd_secret_expired secret=" + shown:                            0,
		"secretsd_secret_refresh_failures_total kind=denied secret=db":       2,
		"secretsd_secret_refresh_failures_total kind=throttled secret=db":    0,
		"secretsd_file_in_place path=/run/a":                                 1,
		"secretsd_file_in_place path=/run/b":                                 0,
		"secretsd_file_degraded path=/run/a":                                 0,
		"secretsd_file_degraded path=/run/b":                                 1,
		"secretsd_secret_held secret=db":                                     0,
		"secretsd_secret_pending_shown secret=db":                            1,
		"secretsd_secret_pending_shown secret=" + shown:                      0,
		"secretsd_secret_held secret=a\"b\\c\nd} 1\n�é":                      0,
		"secretsd_file_held path=/run/a":                                     0,
		"secretsd_file_held path=/run/b":                                     1,
		"secretsd_file_template_unusable path=/run/a":                        0,
		"secretsd_file_template_unusable path=/run/b":                        1,
		"secretsd_file_certificate_not_after_timestamp_seconds path=/run/b":  1700000000,
		"secretsd_template_executions_total":                                 11,
		"secretsd_template_failures_total":                                   6,
		"secretsd_file_publish_failures_total":                               8,
		"secretsd_file_publishes_total":                                      5,
		"secretsd_file_repairs_total":                                        1,
		"secretsd_notification_owed target=app":                              1,
		"secretsd_notification_owed target=idle":                             0,
		"secretsd_target_unconfirmed target=app":                             1,
		"secretsd_target_unconfirmed target=idle":                            0,
		"secretsd_notification_owed_since_timestamp_seconds target=app":      1700000000.5,
		"secretsd_notifications_total outcome=delivered target=app":          3,
		"secretsd_notifications_total outcome=failed target=app":             1,
		"secretsd_endpoint_requests_total outcome=ok":                        4,
		"secretsd_endpoint_requests_total outcome=denied":                    0,
		"secretsd_endpoint_requests_total outcome=bad_token":                 9,
		"secretsd_endpoint_client_requests_total client=web outcome=ok":      3,
		"secretsd_endpoint_client_requests_total client=web outcome=denied":  1,
		"secretsd_endpoint_client_last_request_timestamp_seconds client=web": 1700000000.5,
		"secretsd_endpoint_on_demand_versions":                               12,
		"secretsd_connections_open":                                          21,
		"secretsd_connections_evicted_total":                                 22,
		"secretsd_connections_refused_total":                                 23,
		"secretsd_endpoint_refusals_delayed_total":                           24,
		"secretsd_endpoint_request_duration_seconds":                         0,
		"secretsd_endpoint_request_duration_seconds le=0.0001":               1,
		"secretsd_endpoint_request_duration_seconds le=0.0005":               1,
		"secretsd_endpoint_request_duration_seconds le=0.001":                1,
		"secretsd_endpoint_request_duration_seconds le=0.005":                2,
		"secretsd_endpoint_request_duration_seconds le=0.05":                 2,
		"secretsd_endpoint_request_duration_seconds le=0.5":                  2,
		"secretsd_endpoint_request_duration_seconds le=5":                    3,
		"secretsd_endpoint_request_duration_seconds le=15":                   3,
		"secretsd_endpoint_request_duration_seconds le=+Inf":                 4,
		"secretsd_endpoint_request_duration_seconds sum":                     61.005001,
		"secretsd_endpoint_request_duration_seconds count":                   4,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestExpositionIsClean holds the page to promlint's rules, which are those of
// promtool check metrics.
func TestExpositionIsClean(t *testing.T) {
	problems, err := promlint.New(bytes.NewReader(scrape(t, whole()))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestPromtoolFindsNothing asks the tool itself.
func TestPromtoolFindsNothing(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("promtool is missing; .ci/run has to install it")
		}
		t.Skip("promtool is not installed")
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = bytes.NewReader(scrape(t, whole()))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// TestTheProcessIsShown has what says whether the agent is too big.
func TestTheProcessIsShown(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("what is shown depends on the system")
	}
	page := string(scrape(t, whole()))
	for _, want := range []string{"\nprocess_resident_memory_bytes ", "\nprocess_open_fds ", "\nprocess_cpu_seconds_total "} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

// TestWithoutAnEndpoint shows nothing of one.
func TestWithoutAnEndpoint(t *testing.T) {
	s := whole()
	s.Endpoint = nil
	if page := string(scrape(t, s)); strings.Contains(page, "secretsd_endpoint") || !strings.Contains(page, "secretsd_ready 1\n") {
		t.Errorf("the page is\n%s", page)
	}
}

// TestAPageSurvivesWhatCannotBeShown has two files of one path, which no
// configuration has: the rest is shown, and the log says so.
func TestAPageSurvivesWhatCannotBeShown(t *testing.T) {
	s := whole()
	s.Files = append(s.Files, s.Files[0])
	var logged bytes.Buffer
	w := httptest.NewRecorder()
	metrics.Handler(func() metrics.State { return s }, slog.New(slog.NewTextHandler(&logged, nil))).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "secretsd_ready 1\n") || !strings.Contains(logged.String(), "cannot show all metrics") {
		t.Errorf("%d, logged %q", w.Code, &logged)
	}
}

// TestScrapesWhileObserving holds, under the race detector, that a histogram's
// buckets always add up.
func TestScrapesWhileObserving(t *testing.T) {
	s := whole()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 2000 {
			s.Endpoint.Latency.Observe(time.Millisecond)
		}
	}()
	for range 50 {
		var inf, count string
		for line := range strings.Lines(string(scrape(t, s))) {
			if rest, ok := strings.CutPrefix(line, `secretsd_endpoint_request_duration_seconds_bucket{le="+Inf"} `); ok {
				inf = rest
			}
			if rest, ok := strings.CutPrefix(line, `secretsd_endpoint_request_duration_seconds_count `); ok {
				count = rest
			}
		}
		if inf == "" || inf != count {
			t.Fatalf("the last bucket holds %q, the count is %q", inf, count)
		}
	}
	<-done
}
