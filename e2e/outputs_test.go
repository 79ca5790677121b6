package e2e

import (
	"cmp"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"secretsd/agent/source/local"
)

// outputs is an agent with some outputs, below a directory that holds everything.
type outputs struct {
	*fixture
	agent *process
	// heal is how often files are repaired; empty for seldom.
	heal string
	// source is the local one where it is empty.
	source string
	// put gives the secret db a value, in JSON.
	put func(value string)
}

func newOutputs(t *testing.T) *outputs {
	o := &outputs{fixture: newFixture(t)}
	o.put = func(value string) { o.set("db", strings.ReplaceAll(value, "'", "''")) }
	return o
}

// newServed is newOutputs whose secret db is read from a local Secrets Manager over
// HTTP, one that outlives the agent.
func newServed(t *testing.T) (*outputs, *local.Service) {
	svc := local.New(local.Options{})
	srv := httptest.NewServer(svc)
	t.Cleanup(srv.Close)
	o := newOutputs(t)
	o.source = "aws: {endpoint: " + srv.URL + "}"
	o.put = func(value string) {
		t.Helper()
		if err := svc.Put("db", value); err != nil {
			t.Fatal(err)
		}
	}
	return o, svc
}

// conf has DIR for the fixture's directory.
func runOutputs(t *testing.T, secret, conf string) *outputs {
	o := newOutputs(t)
	o.heal = "300ms"
	o.put(secret)
	o.write(conf)
	o.agent = secretsd(t, cleanEnv(), "run", "--config", o.conf)
	o.agent.until("msg=")
	return o
}

func (o *outputs) write(conf string) {
	o.t.Helper()
	conf = "source: {" + cmp.Or(o.source, "local: {path: DIR/secrets.yaml}") + "}\nrefresh: {interval: 100ms}\nheal_interval: HEAL\nstate_dir: DIR/state\nsecrets: [{name: db, id: db}]\n" + conf
	write(o.t, o.conf, strings.NewReplacer("DIR", o.dir, "HEAL", cmp.Or(o.heal, "1h")).Replace(conf))
}

func (o *outputs) path(name string) string { return filepath.Join(o.dir, name) }

func (o *outputs) holds(name, want string) {
	o.t.Helper()
	eventually(o.t, fmt.Sprintf("%s holds %q", name, want), func() bool { return content(o.path(name)) == want })
}

func (o *outputs) gone(name string) {
	o.t.Helper()
	eventually(o.t, name+" is gone", func() bool {
		_, err := os.Lstat(o.path(name))
		return os.IsNotExist(err)
	})
}

func (o *outputs) status(extra ...string) string {
	o.t.Helper()
	out, _ := runTo(o.t, cleanEnv(), append([]string{"status", "--config", o.conf}, extra...)...)
	return out
}

func TestBundlesChangeTogether(t *testing.T) {
	o := runOutputs(t, `{"user": "u1", "password": "p1", "drop": "x"}`, `
bundles:
  - dir: DIR/app
    create_dirs: true
    grace: 300ms
    backup: true
    notify: [app]
    files:
      - {path: user, contents: '{{ (secret "db").user }}'}
      - {path: deep/password, contents: '{{ (secret "db").password }}', mode: "0440"}
  - dir: DIR/all
    create_dirs: true
    explode: {secret: db, name: "{}.txt"}
targets: [{name: app, command: [/bin/sh, -c, "echo $SECRETSD_PATHS >> DIR/told"], debounce: 0s}]
`)
	o.agent.until("msg=ready")
	o.holds("app/user", "u1")
	o.holds("app/deep/password", "p1")
	o.holds("all/drop.txt", "x")
	first, err := os.Readlink(o.path("app/..data"))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(o.path("app/deep/password")); err != nil || info.Mode() != 0o440 {
		t.Errorf("the password is %v, %v", info, err)
	}
	o.put(`{"user": "u2", "password": "p2", "fresh": {"a": [1, 2]}}`)
	o.holds("app/user", "u2")
	o.holds("app/deep/password", "p2")
	o.holds("all/fresh.txt", `{"a": [1, 2]}`)
	o.gone("all/drop.txt")
	o.holds("told", o.path("app")+"\n")
	if second, err := os.Readlink(o.path("app/..data")); err != nil || second == first {
		t.Errorf("..data still leads to %s, %v", second, err)
	}
	o.holds("app/..backup/user", "u1")
	// A link that somebody removed comes back, and nobody is told of it.
	if err := os.Remove(o.path("all/user.txt")); err != nil {
		t.Fatal(err)
	}
	o.holds("all/user.txt", "u2")

	// A key that cannot be a file name holds this bundle, not the other.
	o.put(`{"user": "u3", "password": "p3", "a/b": "x"}`)
	o.holds("app/user", "u3")
	eventually(t, "status says why", func() bool { return strings.Contains(o.status(), `its key "a/b" cannot be a file name`) })
	if got := content(o.path("all/user.txt")); got != "u2" {
		t.Errorf("the bundle that failed holds %q", got)
	}
}

func TestAFailedCheckHoldsTheNewVersion(t *testing.T) {
	conf := `
files:
  - path: DIR/app.conf
    contents: '{{ (secret "db").port }}'
    notify: [app]
    check: {command: [/bin/sh, DIR/check.sh, "{}"]}
  - {path: DIR/other, contents: '{{ secret "db" }}'}
targets: [{name: app, command: [/bin/sh, -c, "echo told >> DIR/told"], debounce: 0s}]
`
	// Versions keep their ids over a restart of the agent, as on AWS.
	svc := local.New(local.Options{})
	srv := httptest.NewServer(svc)
	t.Cleanup(srv.Close)
	o := newOutputs(t)
	o.source = "aws: {endpoint: " + srv.URL + "}"
	o.put = func(value string) {
		if err := svc.Put("db", value); err != nil {
			t.Fatal(err)
		}
	}
	write(t, o.path("check.sh"), "case $1 in */..*/app.conf) ;; *) exit 9 ;; esac\ngrep -q '^[0-9]*$' \"$1\"\n")
	o.put(`{"port": 1}`)
	o.write(conf)
	o.agent = secretsd(t, cleanEnv(), "run", "--config", o.conf)
	o.agent.until("msg=ready")
	o.holds("app.conf", "1")

	o.put(`{"port": "canary-5432"}`)
	o.holds("other", `{"port": "canary-5432"}`)
	o.agent.until("check refused new content, keeping what is published")
	eventually(t, "status says held", func() bool { return strings.Contains(o.status(), "held") })
	if got := content(o.path("app.conf")); got != "1" {
		t.Errorf("the file holds %q", got)
	}
	if strings.Contains(o.agent.out.String(), "canary") {
		t.Error("the log holds the value")
	}
	if leftovers, _ := filepath.Glob(o.path("..*")); len(leftovers) > 0 {
		t.Errorf("the check left %v", leftovers)
	}

	// What is held stays held over a restart, and the check is not asked again.
	o.agent.signal(syscall.SIGTERM)
	o.agent.wait()
	write(t, o.path("check.sh"), "touch "+o.path("asked")+"\n")
	o.agent = secretsd(t, cleanEnv(), "run", "--config", o.conf)
	eventually(t, "status says held again", func() bool { return strings.Contains(o.status(), "held") })
	if got := content(o.path("app.conf")); got != "1" {
		t.Errorf("after a restart the file holds %q", got)
	}
	if _, err := os.Stat(o.path("asked")); err == nil {
		t.Error("a restart asked the check again")
	}
	write(t, o.path("check.sh"), "grep -q '^[0-9]*$' \"$1\"\n")
	o.put(`{"port": 3}`)
	o.holds("app.conf", "3")
}

func TestACheckThatHangsHoldsOnlyItsOwnFile(t *testing.T) {
	o := runOutputs(t, `{"a": 1}`, `
files:
  - path: DIR/slow
    contents: '{{ (secret "db").a }}'
    check: {command: [/bin/sleep, "60"], timeout: 500ms}
  - {path: DIR/fast, contents: '{{ (secret "db").a }}'}
`)
	o.holds("fast", "1")
	eventually(t, "the check is ended and counts as no", func() bool {
		return strings.Contains(o.status("--output", "json"), "did not finish within 500ms")
	})
	if _, err := os.Lstat(o.path("slow")); err == nil {
		t.Error("the file was published")
	}
	// Without an earlier output ready is withheld.
	if _, code := runTo(t, cleanEnv(), "status", "--ready", "--config", o.conf); code != 1 {
		t.Errorf("status --ready ends with %d", code)
	}
}

func TestFilesThatAreDroppedAreRemoved(t *testing.T) {
	o := newOutputs(t)
	o.put(`{"a": 1}`)
	o.write(`
files:
  - {path: DIR/kept, contents: 'x{{ (secret "db").a }}'}
  - {path: DIR/dropped, contents: 'y{{ (secret "db").a }}', backup: true}
  - {path: DIR/edited, contents: 'z{{ (secret "db").a }}'}
bundles: [{dir: DIR/bundle, create_dirs: true, explode: db}]
`)
	o.agent = secretsd(t, cleanEnv(), "run", "--config", o.conf)
	o.agent.until("msg=ready")
	o.put(`{"a": 2}`)
	o.holds("dropped", "y2")
	o.holds("dropped.bak", "y1")
	o.write("files: [{path: DIR/kept, contents: 'x{{ (secret \"db\").a }}'}]\n")
	// Before the next heal pass: what somebody else wrote is his.
	write(t, o.path("edited"), "mine")
	o.agent.signal(syscall.SIGHUP)
	o.agent.until("reloaded configuration")
	o.agent.until("files=1 bundles=0 targets=0")
	o.gone("dropped")
	o.gone("dropped.bak")
	o.gone("bundle/a")
	if content(o.path("kept")) != "x2" {
		t.Error("the file that stays has gone")
	}
}

func TestOnExitRemove(t *testing.T) {
	o := runOutputs(t, `{"a": 1}`, `
on_exit: remove
files: [{path: DIR/f, contents: '{{ (secret "db").a }}'}]
bundles: [{dir: DIR/b, create_dirs: true, explode: db}]
`)
	o.agent.until("msg=ready")
	o.holds("b/a", "1")
	o.agent.signal(syscall.SIGTERM)
	if _, code := o.agent.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, name := range []string{"f", "b/a", "b/..data"} {
		if _, err := os.Lstat(o.path(name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
}

func TestATemplateThatChangesIsReloadedAlone(t *testing.T) {
	o := newOutputs(t)
	o.put(`{"a": 1}`)
	write(t, o.path("one.tmpl"), `one={{ (secret "db").a }}`)
	o.write("files: [{path: DIR/one, template: DIR/one.tmpl}, {path: DIR/two, contents: 'two={{ (secret \"db\").a }}'}]\n")
	o.agent = secretsd(t, cleanEnv(), "run", "--config", o.conf)
	o.agent.until("msg=ready")
	write(t, o.path("one.tmpl.new"), `changed={{ (secret "db").a }}`)
	if err := os.Rename(o.path("one.tmpl.new"), o.path("one.tmpl")); err != nil {
		t.Fatal(err)
	}
	o.holds("one", "changed=1")
	// One that is broken keeps the last, says so once, and is mended.
	write(t, o.path("one.tmpl"), `{{ nonsense }}`)
	o.agent.until("cannot use a changed template, keeping the one in use")
	o.put(`{"a": 2}`)
	o.holds("one", "changed=2")
	if s := o.status(); !strings.Contains(s, "in place, template unusable") || !strings.Contains(s, "keeps the template before: ") || !strings.Contains(s, "nonsense") {
		t.Errorf("status says\n%s", s)
	}
	write(t, o.path("one.tmpl"), `mended={{ (secret "db").a }}`)
	o.holds("one", "mended=2")
	if err := os.Remove(o.path("one.tmpl")); err != nil {
		t.Fatal(err)
	}
	o.agent.until("no such file")
	if strings.Contains(o.agent.out.String(), "reloaded configuration") {
		t.Error("the whole configuration was reloaded")
	}
}

func TestWhatIsNotExpectedIsHeldEverywhere(t *testing.T) {
	o := newOutputs(t)
	o.put(`{"password": "one"}`)
	o.write(fmt.Sprintf("files: [{path: DIR/f, contents: '{{ (secret \"db\").password }}'}]\nendpoint: {listen: %q, token_file: DIR/token}\n", o.endpoint))
	write(t, o.conf, strings.Replace(content(o.conf), "{name: db, id: db}", "{name: db, id: db, expect: {keys: [password]}}", 1))
	o.agent = secretsd(t, cleanEnv(), "run", "--config", o.conf)
	o.agent.until("msg=ready")
	o.put(`{"pasword": "canary"}`)
	o.agent.until("secret has a version that is not what is expected, holding it")
	status, body := get(t, "http://"+o.endpoint+"/v1/db", content(o.path("token")))
	if status != 200 || !strings.Contains(body, "one") || content(o.path("f")) != "one" {
		t.Errorf("the endpoint answers %d %s, the file holds %q", status, body, content(o.path("f")))
	}
	if s := o.status("--output", "json"); !strings.Contains(s, `"held_version_id"`) || strings.Contains(s, "canary") {
		t.Errorf("status says %s", s)
	}
	o.put(`{"password": "two"}`)
	o.holds("f", "two")
}

// What is held is no reason for an agent that is killed and started again to keep its
// pod from being ready: what was published before is in place.
func TestAnAgentIsReadyAfterAKillWithWhatItHeld(t *testing.T) {
	o, _ := newServed(t)
	o.heal = "300ms"
	conf := `
files:
  - {path: DIR/checked, contents: '{{ (secret "db").a }}', check: {command: [/bin/sh, -c, '! grep -q BAD "$0"', "{}"]}}
  - {path: DIR/expecting, contents: '{{ (secret "ex").a }}'}
bundles: [{dir: DIR/b, create_dirs: true, explode: db}]
`
	o.write(conf)
	write(t, o.conf, strings.Replace(content(o.conf), "{name: db, id: db}", "{name: db, id: db}, {name: ex, id: db, expect: {keys: [fine]}}", 1))
	o.put(`{"a": "good", "fine": 1}`)
	o.agent = secretsd(t, cleanEnv(), "run", "--config", o.conf)
	o.agent.until("msg=ready")
	o.put(`{"a": "BAD", "x/y": 1}`)
	for _, line := range []string{"check refused new content", "cannot render new content", "is not what is expected, holding it"} {
		o.agent.until(line)
	}
	eventually(t, "what is held is written down", func() bool {
		return strings.Count(content(o.path("state/state.json")), `"mark":`) == 3
	})
	o.agent.signal(syscall.SIGKILL)
	o.agent.wait()

	o.agent = secretsd(t, cleanEnv(), "run", "--config", o.conf)
	o.agent.until("msg=ready")
	o.agent.until("new content is held since before the start, keeping what is published")
	for _, name := range []string{"checked", "expecting", "b/a"} {
		if got := content(o.path(name)); got != "good" {
			t.Errorf("%s holds %q", name, got)
		}
		if err := os.Chmod(o.path(name), 0o666); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the mode of "+name+" is put right", func() bool {
			info, err := os.Stat(o.path(name))
			return err == nil && info.Mode() == 0o400
		})
	}
	if strings.Contains(o.agent.out.String(), "BAD") || strings.Contains(content(o.path("state/state.json")), "good") {
		t.Error("a value is in the log or the state")
	}
	// So has a wrapper that starts its program with these files.
	o.agent.signal(syscall.SIGKILL)
	o.agent.wait()
	o.agent = secretsd(t, cleanEnv(), "exec", "--log-level=info", "--config", o.conf, "--", "/bin/sh", "-c", `echo "starts with $(cat "$0")"; exec sleep 60`, o.path("expecting"))
	o.agent.until("starts with good")
	o.put(`{"a": "better", "fine": 1}`)
	for _, name := range []string{"checked", "expecting", "b/a"} {
		o.holds(name, "better")
	}
}
