package agent

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"secretsd/agent/source/local"
)

const seenConfig = `
refresh: {interval: 1m, max_stale: 1h}
secrets: [{name: db, id: prod/db}, {name: maybe, id: prod/maybe, required: false}, {name: late, id: prod/late}]
files:
  - {path: DIR/out, contents: '{{ secret "db" }}', notify: [app]}
  - {path: DIR/optional, contents: '{{ secret "maybe" }}'}
  - {path: DIR/late, contents: '{{ secret "late" }}'}
  - {path: DIR/broken, contents: '{{ (secret "db").key }}'}
targets: [{name: app, process: {pid_file: DIR/app.pid}}]
`

// TestStatusFollowsAnAgent walks an agent through a start with something
// missing, an outage, and a reload that fails.
func TestStatusFollowsAnAgent(t *testing.T) {
	const canary = "CANARY-hunter2"
	runAgent(t, seenConfig, func(r *running) { must(t, r.svc.Put("prod/db", canary)) }, func(r *running) {
		r.after(2 * time.Second)
		st := r.agent.Status()
		if st.Ready || !strings.Contains(strings.Join(st.Reasons, "|"), "secret late was not read yet") {
			t.Errorf("ready %v, reasons %q", st.Ready, st.Reasons)
		}
		db, late := st.Secrets[0], st.Secrets[2]
		if db.VersionID == "" || db.Stale || db.AgeSeconds != 2 || db.NextRefresh.Before(time.Now()) || db.Stage != "AWSCURRENT" {
			t.Errorf("db is %+v", db)
		}
		if late.VersionID != "" || late.Kind != "not_found" || late.Error == "" || late.AgeSeconds != 0 {
			t.Errorf("late is %+v", late)
		}
		var states []string
		for _, f := range st.Files {
			states = append(states, f.State)
		}
		if got := strings.Join(states, " "); got != "in_place skipped waiting held" {
			t.Errorf("files are %s", got)
		}
		if f := st.Files[0]; len(f.Secrets) != 1 || f.Secrets[0].VersionID != db.VersionID {
			t.Errorf("out comes from %v", f.Secrets)
		}
		if st.Files[2].WaitsFor != "late" || st.Files[3].Error == "" {
			t.Errorf("late waits for %q, broken says %q", st.Files[2].WaitsFor, st.Files[3].Error)
		}
		if st.Targets[0].OwedSince.IsZero() {
			t.Errorf("app is %+v", st.Targets[0])
		}

		r.svc.SetFault(func(string, string) *local.Fault {
			return &local.Fault{Code: "AccessDeniedException", Message: "not authorized", Status: 400}
		})
		must(t, r.svc.Put("prod/late", canary))
		r.after(10 * time.Minute)
		if db := r.agent.Status().Secrets[0]; !db.Stale || db.Kind != "denied" || db.AgeSeconds < 540 || db.Expired {
			t.Errorf("in the outage db is %+v", db)
		}
		if err := r.agent.Reload(context.Background(), r.config(`secrets: [{name: db, id: prod/db}]
files: [{path: DIR/none/out, contents: x}]`)); err == nil {
			t.Error("a reload with a fault succeeded")
		}
		_, page := r.health("/metrics")
		for _, want := range []string{
			`secretsd_ready 0`, `secretsd_secret_stale{secret="db"} 1`, `secretsd_config_reloads_total{outcome="failure"} 1`,
			`secretsd_secret_version_info{secret="db",version_id="` + db.VersionID + `"} 1`, `secretsd_file_held{path="` + r.dir + `/broken"} 1`,
			`secretsd_notification_owed{target="app"} 1`, `secretsd_file_publishes_total 1`, `secretsd_aws_calls_total{operation="GetSecretValue",outcome="denied"}`, `secretsd_template_failures_total `,
		} {
			if !strings.Contains(page, want) {
				t.Errorf("/metrics lacks %s", want)
			}
		}
		for _, not := range []string{`refresh_failures_total{secret="db",kind="denied"} 0`, `refresh_failures_total{secret="db",kind="not_found"} 1`, `age_seconds{secret="late"}`} {
			if strings.Contains(page, not) {
				t.Errorf("/metrics says %s", not)
			}
		}

		r.svc.SetFault(nil)
		r.after(20 * time.Minute)
		must(t, r.agent.Reload(context.Background(), r.config(strings.ReplaceAll(seenConfig, `(secret "db").key`, `secret "db"`))))
		r.after(time.Second)
		st = r.agent.Status()
		if !st.Ready || len(st.Reasons) != 0 || st.LoadedAt.Equal(st.StartedAt) {
			t.Errorf("after the outage: %+v", st)
		}
		text, err := json.Marshal(st)
		must(t, err)
		_, page = r.health("/metrics")
		if strings.Contains(page+string(text), canary) {
			t.Error("a value is shown")
		}
		if !strings.Contains(page, "secretsd_ready 1") || !strings.Contains(page, `config_reloads_total{outcome="success"} 1`) {
			t.Error("/metrics does not follow")
		}
	})
}

// TestWhatMayBeAbsentIsNotStale holds that status, page and metrics say of a secret
// that need not be there what is true: there is none, and nobody has to act.
func TestWhatMayBeAbsentIsNotStale(t *testing.T) {
	runAgent(t, `
refresh: {interval: 1m, max_stale: 1h}
secrets:
- {name: db, id: prod/db}
- {name: maybe, id: prod/maybe, required: false}
- {name: before, id: prod/db, stage: AWSPREVIOUS, required: false}
- {name: needed, id: prod/db, stage: AWSPREVIOUS}
- {name: late, id: prod/late}
`, func(r *running) { must(t, r.svc.Put("prod/db", "one")) }, func(r *running) {
		r.after(2 * time.Hour)
		st := r.agent.Status()
		for i, want := range []struct{ absent, unlabelled, stale bool }{{}, {absent: true}, {absent: true, unlabelled: true}, {unlabelled: true}, {stale: true}} {
			s := &st.Secrets[i]
			if s.Absent() != want.absent || s.Unlabelled != want.unlabelled || s.Stale != want.stale || s.Expired {
				t.Errorf("%s: want %+v, got %+v", s.Name, want, s)
			}
		}
		_, metrics := r.health("/metrics")
		for name, stale := range map[string]string{"db": "0", "maybe": "0", "before": "0", "needed": "0", "late": "1"} {
			if want := `secretsd_secret_stale{secret="` + name + `"} ` + stale; !strings.Contains(metrics, want) {
				t.Errorf("/metrics lacks %s", want)
			}
		}
		page := askPage(r.agent, "/", "127.0.0.1:1", "localhost:1").Body.String()
		if n := strings.Count(page, "absent, optional"); n != 2 || !strings.Contains(page, "none at AWSPREVIOUS") || strings.Contains(page, "not read yet</span>") {
			t.Errorf("the page says %d times that one is absent:\n%s", n, page)
		}

		r.svc.SetFault(func(string, string) *local.Fault {
			return &local.Fault{Code: "AccessDeniedException", Message: "not authorized", Status: 400}
		})
		r.after(2 * time.Minute)
		for _, s := range r.agent.Status().Secrets {
			if !s.Stale || s.Absent() || s.Kind != "denied" {
				t.Errorf("of what cannot be read nothing is known: %+v", s)
			}
		}
	})
}
