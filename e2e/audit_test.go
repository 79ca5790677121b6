package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// audited is one line of the audit log, as its readers know it.
type audited struct {
	Event, Via, Remote, Secret, Path, Outcome string
	VersionID                                 string `json:"version_id"`
	Peer                                      struct {
		UID, PID int
		Exe      string
	}
}

func auditLines(t *testing.T, path string) []audited {
	t.Helper()
	var list []audited
	for line := range strings.Lines(content(path)) {
		var a audited
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			return nil // a line in the making, or no file yet
		}
		list = append(list, a)
	}
	return list
}

func TestAuditSaysWhoGotWhat(t *testing.T) {
	f := newFixture(t)
	f.set("db", "s3cret-CANARY")
	log := filepath.Join(f.dir, "audit.log")
	f.configure(`{{ secret "db" }}`, fmt.Sprintf("endpoint: {listen: \"%s\", token_file: %s/token}\naudit: {path: %s}", f.endpoint, f.dir, log))
	agent := f.run()
	token := content(filepath.Join(f.dir, "token"))
	get(t, "http://"+f.endpoint+"/ping", token)
	get(t, "http://"+f.endpoint+"/v1/db", token)
	get(t, "http://"+f.endpoint+"/v1/db", "wrong")
	if out, code := runTo(t, cleanEnv(), "get", "db", "--config", f.conf); code != 0 || out != "s3cret-CANARY" {
		t.Fatalf("get ends with %d: %s", code, out)
	}
	if out, code := runTo(t, cleanEnv(), "refresh", "db", "--config", f.conf); code != 0 {
		t.Fatalf("refresh ends with %d: %s", code, out)
	}
	refreshed, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+f.endpoint+"/secretsd/refresh?secretId=db", nil)
	if err != nil {
		t.Fatal(err)
	}
	refreshed.Header.Set("X-Vault-Token", strings.TrimSpace(token))
	if res, err := http.DefaultClient.Do(refreshed); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("refresh over the endpoint: %v %v", res, err)
	}
	eventually(t, "six lines are written", func() bool { return len(auditLines(t, log)) >= 6 })
	lines := auditLines(t, log)
	for i, want := range []audited{
		{Event: "publish", Via: "file", Secret: "db", Path: f.file, Outcome: "ok"},
		{Event: "get", Via: "endpoint", Secret: "db", Outcome: "ok"},
		{Event: "get", Via: "endpoint", Outcome: "bad_token"},
		{Event: "get", Via: "control", Secret: "db", Outcome: "ok"},
		{Event: "refresh", Via: "control", Secret: "db", Outcome: "ok"},
		{Event: "refresh", Via: "endpoint", Secret: "db", Outcome: "ok"},
	} {
		got := lines[i]
		if (got.VersionID == "") != (want.Outcome != "ok" || want.Event == "refresh" && want.Via == "endpoint") || (got.Remote == "") != (want.Via != "endpoint") {
			t.Errorf("line %d: version id %q, remote %q", i, got.VersionID, got.Remote)
		}
		if want.Via == "control" && (got.Peer.UID != os.Geteuid() || got.Peer.PID == 0) {
			t.Errorf("line %d: peer %+v", i, got.Peer)
		}
		got.VersionID, got.Remote, got.Peer = "", "", want.Peer
		if got != want {
			t.Errorf("line %d: %+v, want %+v", i, got, want)
		}
	}
	if len(lines) != 6 || strings.Contains(content(log), "CANARY") {
		t.Errorf("the log holds\n%s", content(log))
	}

	// A rotation: renamed, then SIGHUP.
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	agent.signal(syscall.SIGHUP)
	agent.until("reloaded configuration")
	get(t, "http://"+f.endpoint+"/v1/db", token)
	eventually(t, "the new file has the line", func() bool { return len(auditLines(t, log)) == 1 })
	if n := len(auditLines(t, log+".1")); n != 6 {
		t.Errorf("the old file has %d lines", n)
	}

	// What is queued at the end is written.
	get(t, "http://"+f.endpoint+"/v1/db", token)
	agent.signal(syscall.SIGTERM)
	agent.wait()
	if n := len(auditLines(t, log)); n != 2 {
		t.Errorf("after the end the file has %d lines", n)
	}
}

// TestAuditOnAFullDisk uses /dev/full, where every write ends in ENOSPC.
func TestAuditOnAFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("there is no /dev/full")
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		required     bool
		status, code int
	}{{false, 200, 0}, {true, 500, 1}} {
		f := newFixture(t)
		telemetry := freePort(t)
		f.configure(`{{ secret "db" }}`, fmt.Sprintf("endpoint: {listen: \"%s\", token_file: %s/token}\ntelemetry: {listen: \"%s\"}\naudit: {path: \"-\", required: %v}",
			f.endpoint, f.dir, telemetry, row.required))
		agent := start(t, cleanEnv(), need(t, "sh"), "-c", "exec "+path+" run --config "+f.conf+" >/dev/full")
		agent.until("msg=ready")
		agent.until("cannot write audit log")
		if status, body := get(t, "http://"+f.endpoint+"/v1/db", content(filepath.Join(f.dir, "token"))); status != row.status || strings.Contains(body, "one") == row.required {
			t.Errorf("required %v: the endpoint answers %d %s", row.required, status, body)
		}
		if out, code := runTo(t, cleanEnv(), "get", "db", "--config", f.conf); code != row.code || (row.required && !strings.Contains(out, "audit log is required")) {
			t.Errorf("required %v: get ends with %d: %s", row.required, code, out)
		}
		eventually(t, "three lost lines are counted", func() bool {
			_, page := get(t, "http://"+telemetry+"/metrics", "")
			return strings.Contains(page, "\nsecretsd_audit_lines_lost_total 3\n")
		})
		if content(f.file) != "one" {
			t.Errorf("required %v: the file holds %q", row.required, content(f.file))
		}
	}
}
