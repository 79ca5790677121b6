package e2e

import (
	"strings"
	"syscall"
	"testing"

	"secretsd/agent/source/local"
)

// TestWhatATargetDoesNotConfirmIsRolledBack has a target that cannot use what
// begins with bad.
func TestWhatATargetDoesNotConfirmIsRolledBack(t *testing.T) {
	o, _ := newServed(t)
	put := o.put
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

// TestAKillAmidALadderEndsInARollback kills the agent while its target is asked, and
// once more when it is unconfirmed: by then the former version can be read.
func TestAKillAmidALadderEndsInARollback(t *testing.T) {
	o, svc := newServed(t)
	put := o.put
	put("good-1")
	o.write(`
files: [{path: DIR/f, contents: '{{ secret "db" }}', notify: [app]}]
targets:
  - name: app
    command: [/bin/sh, -c, 'echo "${SECRETSD_ROLLBACK:-0} $(cat DIR/f)" >> DIR/told']
    debounce: 0s
    confirm: {command: [/bin/sh, -c, 'grep -q good DIR/f'], timeout: 1s, delay: 0s}
    ladder: [{command: [/bin/sh, -c, 'echo "step $(cat DIR/f)" >> DIR/told']}]
    rollback: true
`)
	kill := func() {
		o.agent.signal(syscall.SIGKILL)
		o.agent.wait()
	}
	run := func() { o.agent = secretsd(t, cleanEnv(), "run", "--config", o.conf) }
	run()
	o.agent.until("msg=ready")
	put("good-2")
	o.holds("told", "0 good-2\n")
	o.agent.until("target confirmed")
	put("bad-3")
	o.holds("told", "0 good-2\n0 bad-3\nstep bad-3\n")
	kill()

	// Without the former version it is unconfirmed, over a further kill.
	svc.SetFault(func(op, id string) *local.Fault {
		if op == "GetSecretValue" {
			return &local.Fault{Code: "InternalServiceError"}
		}
		return nil
	})
	run()
	o.agent.until("it is unconfirmed")
	kill()
	run()
	o.agent.until("target is unconfirmed since before the start")
	eventually(t, "status says so", func() bool { return strings.Contains(o.status(), "unconfirmed") })
	svc.SetFault(nil)
	o.holds("told", "0 good-2\n0 bad-3\nstep bad-3\n1 good-2\n")
	o.holds("f", "good-2")
	eventually(t, "status says held, and unconfirmed no more", func() bool {
		st := o.status()
		return strings.Contains(st, "held") && !strings.Contains(st, "unconfirmed")
	})
}
