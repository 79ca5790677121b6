package e2e

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"secretsd/agent/source/local"
)

// TestCommandsAreGivenSecretsThatTheirFilesShow has a hook and a probe that get their
// password by a variable, of which what begins with bad confirms nothing.
func TestCommandsAreGivenSecretsThatTheirFilesShow(t *testing.T) {
	svc := local.New(local.Options{})
	srv := httptest.NewServer(svc)
	t.Cleanup(srv.Close)
	o := newOutputs(t)
	o.source = "aws: {endpoint: " + srv.URL + "}"
	put := func(value string) {
		if err := svc.Put("db", `{"user": "app", "password": "`+value+`"}`); err != nil {
			t.Fatal(err)
		}
	}
	put("good-canary-1")
	o.write(`
files: [{path: DIR/f, contents: '{{ (secret "db").password }}', notify: [app]}]
targets:
  - name: app
    command: [/bin/sh, -c, 'echo "$DB $(cat DIR/f) ${AWS_ACCESS_KEY_ID:-none}" >> DIR/told']
    env: {DB: '{{ (secret "db").user }}:{{ (secret "db").password }}'}
    on_first: true
    debounce: 0s
    confirm:
      command: [/bin/sh, -c, 'case $P in good*) ;; *) echo "login of app with $P or $(printf %s "$P" | base64) failed"; exit 1 ;; esac']
      env: {P: '{{ (secret "db").password }}'}
      output: log
      timeout: 700ms
      delay: 0s
    rollback: true
audit: {path: DIR/audit.log}
`)
	env := append(cleanEnv(), "AWS_ACCESS_KEY_ID=AKIDCANARY")
	o.agent = secretsd(t, env, "run", "--config", o.conf)
	o.holds("told", "app:good-canary-1 good-canary-1 none\n")
	put("good-canary-2")
	o.holds("told", "app:good-canary-1 good-canary-1 none\napp:good-canary-2 good-canary-2 none\n")
	o.agent.until("target confirmed")
	put("bad-canary-3")
	o.agent.until("target did not confirm, it is unconfirmed")
	o.agent.until("rolled back")
	eventually(t, "it is told of the rollback", func() bool {
		return strings.HasSuffix(content(o.path("told")), "app:bad-canary-3 bad-canary-3 none\napp:good-canary-2 good-canary-2 none\n")
	})
	o.agent.signal(syscall.SIGTERM)
	log, _ := o.agent.wait()
	if !strings.Contains(log, `output="login of [redacted] with [redacted] or [redacted] failed"`) {
		t.Errorf("the output is not in the log:\n%s", log)
	}
	if strings.Contains(log, "canary") || strings.Contains(log, "Y2FuYXJ5") {
		t.Errorf("the log has a secret:\n%s", log)
	}
	written := content(o.path("audit.log"))
	if !strings.Contains(written, `"via":"command"`) || !strings.Contains(written, `"target":"app"`) || strings.Contains(written, "canary") {
		t.Errorf("audit log:\n%s", written)
	}
	states, err := filepath.Glob(o.path("state/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range states {
		if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), "canary") {
			t.Errorf("%s has a secret", path)
		}
	}
}
