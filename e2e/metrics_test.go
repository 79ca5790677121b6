package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMetricsOfARunningAgent has promtool judge the page of an agent in which
// something is right and something wrong, and looks for what alerts are made of.
func TestMetricsOfARunningAgent(t *testing.T) {
	promtool := need(t, "promtool")
	f := newFixture(t)
	f.set("db", "s3cret-CANARY")
	telemetry := freePort(t)
	f.configure(`{{ secret "db" }}`, fmt.Sprintf(`endpoint:
  listen: "%s"
  clients: [{name: web, token_file: %s/web, secrets: [db]}]
telemetry: {listen: "%s"}`, f.endpoint, f.dir, telemetry))
	f.run()
	token := content(filepath.Join(f.dir, "web"))
	for _, id := range []string{"db", "unheard-of", "token-" + strings.TrimSpace(token)} {
		get(t, "http://"+f.endpoint+"/v1/"+id, token)
	}
	get(t, "http://"+f.endpoint+"/v1/db", "mistaken")
	_, page := get(t, "http://"+telemetry+"/metrics", "")
	for _, want := range []string{
		`secretsd_secret_refresh_age_seconds{secret="db"} `, `secretsd_secret_refresh_failures_total{kind="denied",secret="db"} 0`,
		`secretsd_secret_version_info{secret="db",version_id="`, `secretsd_aws_calls_total{operation="GetSecretValue",outcome="ok"} `,
		`secretsd_aws_batch_fallback_active 0`, `secretsd_template_executions_total 1`, `secretsd_template_failures_total 0`,
		`secretsd_file_publishes_total 1`, `secretsd_file_publish_failures_total 0`, `secretsd_file_repairs_total 0`,
		`secretsd_notification_owed{target="app"} 1`, `secretsd_notifications_total{outcome="failed",target="app"} 0`,
		`secretsd_endpoint_requests_total{outcome="ok"} 1`, `secretsd_endpoint_requests_total{outcome="bad_token"} 1`,
		`secretsd_endpoint_client_requests_total{client="web",outcome="denied"} 2`, `secretsd_endpoint_request_duration_seconds_count 3`,
		`secretsd_ready 1`, `secretsd_build_info{`, `secretsd_audit_lines_lost_total 0`, `process_resident_memory_bytes `,
	} {
		if !strings.Contains(page, "\n"+want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	for _, not := range []string{"CANARY", strings.TrimSpace(token), "unheard-of", "mistaken"} {
		if strings.Contains(page, not) {
			t.Errorf("/metrics holds %s, which a client has sent", not)
		}
	}
	check := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	check.Stdin = strings.NewReader(page)
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
