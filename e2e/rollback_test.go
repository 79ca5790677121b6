package e2e

import (
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"secretsd/agent/source/local"
)

// TestWhatATargetDoesNotConfirmIsRolledBack has a target that cannot use what
// begins with bad.
func TestWhatATargetDoesNotConfirmIsRolledBack(t *testing.T) {
	svc := local.New(local.Options{})
	srv := httptest.NewServer(svc)
	t.Cleanup(srv.Close)
	o := newOutputs(t)
	o.source = "aws: {endpoint: " + srv.URL + "}"
	put := func(value string) {
		if err := svc.Put("db", value); err != nil {
			t.Fatal(err)
		}
	}
	put("good-1")
	o.write(`
files: [{path: DIR/f, contents: '{{ secret "db" }}', notify: [app]}]
targets:
  - name: app
    command: [/bin/sh, -c, 'echo "${SECRETSD_ROLLBACK:-0} $(cat DIR/f)" >> DIR/told']
    debounce: 0s
    confirm: {command: [/bin/sh, -c, 'grep -q good DIR/f'], timeout: 500ms, delay: 0s}
    rollback: true
`)
	o.agent = secretsd(t, cleanEnv(), "run", "--config", o.conf)
	o.agent.until("msg=ready")
	put("good-2")
	o.holds("f", "good-2")
	o.holds("told", "0 good-2\n")
	put("bad-3")
	o.holds("told", "0 good-2\n0 bad-3\n1 good-2\n")
	o.holds("f", "good-2")
	eventually(t, "status says held", func() bool { return strings.Contains(o.status(), "held") })

	// It stays refused, by a reload and by a restart, until there is another.
	o.agent.signal(syscall.SIGHUP)
	o.agent.until("reloaded configuration")
	o.agent.signal(syscall.SIGTERM)
	o.agent.wait()
	o.agent = secretsd(t, cleanEnv(), "run", "--config", o.conf)
	o.agent.until("msg=ready")
	if got := content(o.path("f")); got != "good-2" {
		t.Errorf("after a restart the file holds %q", got)
	}
	put("good-4")
	o.holds("f", "good-4")
}
