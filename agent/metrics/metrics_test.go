package metrics_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
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
	requests := metrics.NewRequests("ok", "denied")
	for _, took := range []time.Duration{time.Microsecond, 5 * time.Millisecond, time.Second, time.Minute} {
		requests.Observe("ok", took)
	}
	requests.Observe("unheard of", time.Second)
	return metrics.State{
		Version: "v1.2.3", GoVersion: "go1.26", StartedAt: at, Ready: true,
		Secrets: []metrics.Secret{
			{Name: "db", VersionID: "v-1", Age: 90 * time.Second, ConfirmedAt: at, Stale: true, Failures: map[string]uint64{"denied": 2, "throttled": 0}},
			{Name: hostile},
		},
		Files:   []metrics.File{{Path: "/run/a", InPlace: true}, {Path: "/run/b", Degraded: true}},
		Targets: []metrics.Target{{Name: "app", Owed: true, OwedSince: at, Outcomes: map[string]uint64{"delivered": 3, "failed": 1}}, {Name: "idle"}},
		Calls:   map[string]uint64{"GetSecretValue": 7}, Fallbacks: map[string]uint64{"denied": 1}, SDKWarnings: 2,
		TemplateExecutions: 11, Publishes: 5, Repairs: 1, Requests: requests,
		ReloadsSucceeded: 2, ReloadsFailed: 1, ReloadFailed: true, LoadedAt: at, AuditLost: 4,
	}
}

func scrape(t *testing.T, s metrics.State) []byte {
	t.Helper()
	w := httptest.NewRecorder()
	metrics.Handler(func() metrics.State { return s }).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if got := w.Header().Get("Content-Type"); got != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("content type %q", got)
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
		"secretsd_build_info version=v1.2.3 goversion=go1.26":             1,
		"secretsd_start_time_seconds":                                     1700000000.5,
		"secretsd_ready":                                                  1,
		"secretsd_aws_calls_total operation=GetSecretValue":               7,
		"secretsd_aws_batch_fallbacks_total reason=denied":                1,
		"secretsd_aws_sdk_warnings_total":                                 2,
		"secretsd_config_reloads_total outcome=success":                   2,
		"secretsd_config_reloads_total outcome=failure":                   1,
		"secretsd_config_last_reload_successful":                          0,
		"secretsd_config_last_reload_success_timestamp_seconds":           1700000000.5,
		"secretsd_audit_lines_lost_total":                                 4,
		"secretsd_secret_version_info secret=db version_id=v-1":           1,
		"secretsd_secret_refresh_age_seconds secret=db":                   90,
		"secretsd_secret_last_success_timestamp_seconds secret=db":        1700000000.5,
		"secretsd_secret_stale secret=db":                                 1,
		"secretsd_secret_stale secret=" + shown:                           0,
		"secretsd_secret_refresh_failures_total secret=db kind=denied":    2,
		"secretsd_secret_refresh_failures_total secret=db kind=throttled": 0,
		"secretsd_file_in_place path=/run/a":                              1,
		"secretsd_file_in_place path=/run/b":                              0,
		"secretsd_file_degraded path=/run/a":                              0,
		"secretsd_file_degraded path=/run/b":                              1,
		"secretsd_template_executions_total":                              11,
		"secretsd_file_publishes_total":                                   5,
		"secretsd_file_repairs_total":                                     1,
		"secretsd_notification_owed target=app":                           1,
		"secretsd_notification_owed target=idle":                          0,
		"secretsd_notification_owed_since_timestamp_seconds target=app":   1700000000.5,
		"secretsd_notifications_total target=app outcome=delivered":       3,
		"secretsd_notifications_total target=app outcome=failed":          1,
		"secretsd_endpoint_requests_total outcome=ok":                     4,
		"secretsd_endpoint_requests_total outcome=denied":                 0,
		"secretsd_endpoint_request_duration_seconds":                      0,
		"secretsd_endpoint_request_duration_seconds le=0.0005":            1,
		"secretsd_endpoint_request_duration_seconds le=0.005":             2,
		"secretsd_endpoint_request_duration_seconds le=0.05":              2,
		"secretsd_endpoint_request_duration_seconds le=0.5":               2,
		"secretsd_endpoint_request_duration_seconds le=5":                 4,
		"secretsd_endpoint_request_duration_seconds le=+Inf":              5,
		"secretsd_endpoint_request_duration_seconds sum":                  62.005001,
		"secretsd_endpoint_request_duration_seconds count":                5,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestExpositionIsClean holds the page to the rules of promtool check metrics,
// which are promlint's; the tool itself has its say where it is installed.
func TestExpositionIsClean(t *testing.T) {
	page := scrape(t, whole())
	problems, err := promlint.New(bytes.NewReader(page)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		return // what it would say has been said by promlint
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin, cmd.Env = bytes.NewReader(page), os.Environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// TestScrapesWhileCounting holds, under the race detector, that a histogram's
// buckets always add up.
func TestScrapesWhileCounting(t *testing.T) {
	s := whole()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 2000 {
			s.Requests.Observe("ok", time.Millisecond)
		}
	}()
	for range 50 {
		var inf, count string
		for line := range strings.Lines(string(s.Append(nil))) {
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
