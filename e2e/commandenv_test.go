package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestCommandsAreGivenSecretsThatTheirFilesShow has a hook and a probe that get their
// password by a variable, of which what begins with bad confirms nothing.
func TestCommandsAreGivenSecretsThatTheirFilesShow(t *testing.T) {
	o, _ := newServed(t)
	put := func(value string) { o.put(`{"user": "app", "password": "` + value + `"}`) }
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

// TestWhatASlowCommandHasReadMeanwhileIsNotLogged has a command that prints a version
// that came after its beginning and was gone before its end.
func TestWhatASlowCommandHasReadMeanwhileIsNotLogged(t *testing.T) {
	o, _ := newServed(t)
	put := o.put
	put("aaqwzy-first")
	o.write(`
files: [{path: DIR/f, contents: '{{ secret "db" }}', notify: [app]}]
targets:
  - name: app
    command: [/bin/sh, -c, 'test -e DIR/began && exit 1; touch DIR/began; while test -d DIR && ! grep -q third DIR/f; do sleep 0.02; done; x=$(cat DIR/f); touch DIR/seen; while test -d DIR && ! grep -q fifth DIR/f; do sleep 0.02; done; echo "tried $x in vain"; exit 1']
    on_first: true
    output: log
`)
	o.agent = secretsd(t, cleanEnv(), "run", "--config", o.conf)
	o.holds("began", "")
	for _, value := range []string{"plmokn-second", "bhuygv-third"} {
		put(value)
		o.holds("f", value)
	}
	o.holds("seen", "")
	for _, value := range []string{"cftxdr-fourth", "zsewaq-fifth"} {
		put(value)
		o.holds("f", value)
	}
	o.agent.until(`output="tried [redacted] in vain"`)
}

// TestACommandIsNotGivenWhatIsBeingCheckedAfterARestart has a file of before a kill
// beside a newer version that its check has yet to judge.
func TestACommandIsNotGivenWhatIsBeingCheckedAfterARestart(t *testing.T) {
	o, _ := newServed(t)
	put := o.put
	put("one")
	o.write(`
files: [{path: DIR/f, contents: '{{ secret "db" }}', notify: [app], check: {command: [/bin/sh, -c, 'grep -q one "$0" || while test -d DIR && ! test -e DIR/judged; do sleep 0.02; done', '{}']}}]
targets:
  - name: app
    command: [/bin/sh, -c, 'echo "$V $(cat DIR/f)" >> DIR/told; grep -q two DIR/f']
    env: {V: '{{ secret "db" }}'}
    on_first: true
    debounce: 0s
    retry: {initial: 100ms, max: 100ms}
`)
	o.agent = secretsd(t, cleanEnv(), "run", "--config", o.conf)
	o.agent.until("exited with status 1")
	o.agent.signal(syscall.SIGKILL)
	o.agent.wait()
	put("two")
	o.agent = secretsd(t, cleanEnv(), "run", "--config", o.conf)
	o.agent.until("owed since before the start")
	steady(t, "nobody is given what is being checked", func() bool { return !strings.Contains(content(o.path("told")), "two") })
	write(t, o.path("judged"), "")
	eventually(t, "it is told of the new version", func() bool { return strings.HasSuffix(content(o.path("told")), "two two\n") })
	if told := content(o.path("told")); strings.Contains(told, "two one") {
		t.Errorf("told:\n%s", told)
	}
}
