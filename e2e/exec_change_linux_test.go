package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestARotationRestartsTheChild: once, with file and environment of one version.
func TestARotationRestartsTheChild(t *testing.T) {
	w := newWrapper(t)
	w.conf(`  env: {DB: '{{ secret "db" }}', VERSION: '{{ version "db" }}'}`, fmt.Sprintf("files: [{path: %s, contents: '{{ secret \"db\" }}'}]\naudit: {path: %s/audit}", w.file, w.dir))
	p := w.exec("/bin/sh", "-c", `echo "$DB $(cat "$1/out")" >> "$1/starts"; echo $$ > "$1/pid"; while :; do sleep 0.05; done`, "sh", w.dir)
	eventually(t, "the child runs", func() bool { return content(w.path("starts")) == "one one\n" })
	w.set("db", "two")
	eventually(t, "it runs with the new version", func() bool { return content(w.path("starts")) == "one one\ntwo two\n" })
	steady(t, "it was started once", func() bool { return content(w.path("starts")) == "one one\ntwo two\n" })
	if n := strings.Count(content(w.path("audit")), `"via":"environment","secret":"db"`); n != 2 {
		t.Errorf("the audit log has %d lines of the environment:\n%s", n, content(w.path("audit")))
	}
	pid := w.pid("pid")
	p.signal(syscall.SIGTERM)
	if _, code := p.wait(); code != 143 || lives(pid) {
		t.Errorf("the wrapper ends with %d, and the child lives: %v", code, lives(pid))
	}
}

// TestOnChange: what the running child is told, and that files which tell somebody
// else are not its affair.
func TestOnChange(t *testing.T) {
	const script = `trap 'echo HUP >> "$1/log"' HUP; trap 'echo TERM >> "$1/log"; exit' TERM; echo "start $DB" >> "$1/log"; while :; do sleep 0.02; done`
	for _, tt := range []struct{ name, exec, files, want string }{
		{"restart for the environment", `  env: {DB: '{{ secret "db" }}'}`, "", "start one\nTERM\nstart two\n"},
		{"restart for a file", `  on_change: restart`, `files: [{path: DIR/out, contents: '{{ secret "db" }}'}]`, "start \nTERM\nstart \n"},
		{"a signal for a file", `  on_change: signal`, `files: [{path: DIR/out, contents: '{{ secret "db" }}'}]`, "start \nHUP\n"},
		{"nothing", "  on_change: none\n" + `  env: {DB: '{{ secret "db" }}'}`, "", "start one\n"},
		{"a file of others", `  on_change: restart`, `files: [{path: DIR/out, contents: '{{ secret "db" }}', notify: [other]}]
targets: [{name: other, process: {pid_file: DIR/other.pid}}]`, "start \n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWrapper(t)
			w.conf(w.shell(script)+"\n"+tt.exec, strings.ReplaceAll(tt.files, "DIR", w.dir))
			secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf).until("msg=ready")
			eventually(t, "the child runs", func() bool { return strings.HasPrefix(content(w.path("log")), "start") })
			w.set("db", "two")
			eventually(t, "the change is done", func() bool { return content(w.path("log")) == tt.want })
			if tt.files != "" {
				eventually(t, "the file follows", func() bool { return content(w.file) == "two" })
			}
			steady(t, "it stays so", func() bool { return content(w.path("log")) == tt.want })
		})
	}
}

// TestASecretWithoutKeysLeavesTheChildAlone, with the variables it has.
func TestASecretWithoutKeysLeavesTheChildAlone(t *testing.T) {
	w := newWrapper(t)
	w.set("db", `{"pw": "one"}`)
	w.conf(w.shell(`echo "start $pw" >> "$1/log"; while :; do sleep 0.02; done`)+"\n  env_from: [{secret: db}]", "")
	p := secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf)
	p.until("msg=ready")
	eventually(t, "the child runs", func() bool { return content(w.path("log")) == "start one\n" })
	w.set("db", "{}")
	p.until("it has no keys")
	steady(t, "it is left alone", func() bool { return content(w.path("log")) == "start one\n" })
	w.set("db", `{"pw": "two"}`)
	eventually(t, "it has the next version", func() bool { return content(w.path("log")) == "start one\nstart two\n" })
}

// TestTheChildAsATarget: a file's change is told by the target's signal; one that
// comes with a new environment is one action, the restart.
func TestTheChildAsATarget(t *testing.T) {
	const script = `trap 'echo HUP >> "$1/log"' HUP; trap 'echo TERM >> "$1/log"; exit' TERM; echo "start $DB" >> "$1/log"; while :; do sleep 0.02; done`
	files := `files: [{path: DIR/out, contents: '{{ secret "db" }}', notify: [app]}]
targets: [{name: app, signal: HUP, process: {child: true}}]`
	for _, tt := range []struct{ name, exec, want string }{
		{"the file alone", "", "start \nHUP\n"},
		{"file and environment", "\n" + `  env: {DB: '{{ secret "db" }}'}`, "start one\nTERM\nstart two\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWrapper(t)
			w.conf(w.shell(script)+tt.exec, strings.ReplaceAll(files, "DIR", w.dir))
			secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf).until("msg=ready")
			eventually(t, "the child runs", func() bool { return strings.HasPrefix(content(w.path("log")), "start") })
			steady(t, "it was started after the publication", func() bool { return !strings.Contains(content(w.path("log")), "HUP") })
			w.set("db", "two")
			eventually(t, "the change is done", func() bool { return content(w.path("log")) == tt.want })
			steady(t, "it was one action", func() bool { return content(w.path("log")) == tt.want })
		})
	}
}

// TestTemplatesOfTheChildAreFollowed: a file's template, and what a variable's
// includes.
func TestTemplatesOfTheChildAreFollowed(t *testing.T) {
	w := newWrapper(t)
	write(t, w.path("file.tmpl"), "one")
	write(t, w.path("part.tmpl"), "one")
	w.conf(w.shell(`echo "start $PART $(cat "$1/out")" >> "$1/log"; while :; do sleep 0.02; done`)+"\n"+`  env: {PART: '{{ include "part.tmpl" }}'}`,
		fmt.Sprintf("files: [{path: %[1]s/out, template: %[1]s/file.tmpl}]\ntemplate_dir: %[1]s", w.dir))
	p := secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf)
	p.until("msg=ready")
	eventually(t, "the child runs", func() bool { return content(w.path("log")) == "start one one\n" })
	write(t, w.path("file.tmpl"), "two")
	eventually(t, "it runs with the new file", func() bool { return content(w.path("log")) == "start one one\nstart one two\n" })
	write(t, w.path("part.tmpl"), "{{ nonsense }}")
	p.until("cannot use a changed template of the child's environment")
	write(t, w.path("part.tmpl"), "two")
	eventually(t, "it runs with the new variable", func() bool {
		return content(w.path("log")) == "start one one\nstart one two\nstart two two\n"
	})
	// Somebody else's hand is put right, and is none of the child's affair.
	if err := os.Remove(w.path("out")); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGHUP)
	eventually(t, "the file is back", func() bool { return content(w.path("out")) == "two" })
	steady(t, "the child was left alone", func() bool { return strings.Count(content(w.path("log")), "start") == 3 })
}

// TestWhatIsWrongLeavesTheChildAlone: a value that no variable can hold, and a
// template that fails, after the child runs. The next good version counts.
func TestWhatIsWrongLeavesTheChildAlone(t *testing.T) {
	w := newWrapper(t)
	w.conf(w.shell(`echo "start $PASSWORD" >> "$1/log"; echo $$ > "$1/pid"; while :; do sleep 0.02; done`)+"\n  env_from: [{secret: db, upper: true}]", "")
	w.set("db", `{"password": "one"}`)
	p := secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf)
	p.until("msg=ready")
	pid := w.pid("pid")
	for _, bad := range []string{`CANARY no JSON`, `{"password": "CANARY", "api-key": "CANARY"}`, `{"password": "CANARY", "PASSWORD": "CANARY"}`, `{"password": "CANARY\u0000"}`} {
		seen := strings.Count(p.out.String(), "cannot bring the child's environment up to date")
		w.set("db", bad)
		eventually(t, "it is said", func() bool {
			return strings.Count(p.out.String(), "cannot bring the child's environment up to date") > seen
		})
		if !lives(pid) || content(w.path("log")) != "start one\n" {
			t.Errorf("%s has touched the child: %q", bad, content(w.path("log")))
		}
	}
	w.set("db", `{"password": "two"}`)
	eventually(t, "the good one counts", func() bool { return content(w.path("log")) == "start one\nstart two\n" })
	for _, want := range []string{"it is not a JSON object", `api-key`, "variable PASSWORD is given twice", "holds a NUL byte"} {
		if !strings.Contains(p.out.String(), want) {
			t.Errorf("nobody said %q", want)
		}
	}
	if strings.Contains(p.out.String(), "CANARY") {
		t.Errorf("the log holds a value:\n%s", p.out.String())
	}
}

// TestAHeldEnvironmentKeepsNoFileOfOthersFromTheChild: one secret's fault is none of
// the others', and everybody who looks can see it.
func TestAHeldEnvironmentKeepsNoFileOfOthersFromTheChild(t *testing.T) {
	const script = `trap 'echo "HUP $(cat "$1/out")" >> "$1/log"' HUP; trap 'echo TERM >> "$1/log"; exit' TERM; echo "start $DB_PW $(cat "$1/out")" >> "$1/log"; while :; do sleep 0.02; done`
	for _, tt := range []struct{ onChange, held, mended string }{
		{"signal", "start one eins\nHUP zwei\n", "HUP zwei\n"},
		{"restart", "start one eins\nTERM\nstart one zwei\n", "TERM\nstart three zwei\n"},
	} {
		t.Run(tt.onChange, func(t *testing.T) {
			w := newWrapper(t)
			set := func(db, other string) {
				write(t, w.secrets+".new", fmt.Sprintf("secrets: [{name: db, string: '%s'}, {name: other, string: %s}]\n", db, other))
				if err := os.Rename(w.secrets+".new", w.secrets); err != nil {
					t.Fatal(err)
				}
			}
			set(`{"pw": "one"}`, "eins")
			w.conf(w.shell(script)+"\n  env_from: [{secret: db, prefix: db_, upper: true}]\n  on_change: "+tt.onChange,
				fmt.Sprintf(`files: [{path: %s/out, contents: '{{ secret "other" }}'}]`+"\ntelemetry: {listen: '%s'}", w.dir, w.endpoint))
			write(t, w.fixture.conf, strings.Replace(content(w.fixture.conf), "{name: db, id: db}", "{name: db, id: db}, {name: other, id: other}", 1))
			p := secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf)
			p.until("msg=ready")
			eventually(t, "the child runs", func() bool { return content(w.path("log")) == "start one eins\n" })
			set(`{"a-b": "CANARY"}`, "eins")
			p.until("cannot bring the child's environment up to date")
			set(`{"a-b": "CANARY"}`, "zwei")
			eventually(t, "the child has the new file", func() bool { return content(w.path("log")) == tt.held })
			eventually(t, "the status shows the hold", func() bool {
				table, _ := runTo(t, cleanEnv(), "status", "--state-dir", w.path("state"))
				list, _ := runTo(t, cleanEnv(), "status", "--output", "json", "--state-dir", w.path("state"))
				return strings.Contains(table, "running, environment held") && strings.Contains(table, `"a-b"`) &&
					strings.Contains(list, `"environment_held": true`) && strings.Contains(list, `a-b`)
			})
			for path, want := range map[string]string{"/metrics": "secretsd_child_environment_held 1", "/": "running, environment held"} {
				if _, body := get(t, "http://"+w.endpoint+path, ""); !strings.Contains(body, want) {
					t.Errorf("%s does not show %q", path, want)
				}
			}
			set(`{"pw": "three"}`, "zwei")
			eventually(t, "the environment follows", func() bool { return content(w.path("log")) == tt.held+tt.mended })
			if _, body := get(t, "http://"+w.endpoint+"/metrics", ""); !strings.Contains(body, "secretsd_child_environment_held 0") {
				t.Error("the metric still shows the hold")
			}
		})
	}
}

// TestABrokenConfigurationNeverTouchesTheChild is a fault of a peer, which stops
// the child first and reads the configuration then.
func TestABrokenConfigurationNeverTouchesTheChild(t *testing.T) {
	w := newWrapper(t)
	const script = `trap 'echo HUP >> "$1/log"' HUP; echo "start $X" >> "$1/log"; echo $$ > "$1/pid"; while :; do sleep 0.02; done`
	good := w.shell(script) + "\n  env: {X: one}"
	w.conf(good, "")
	p := secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf)
	p.until("msg=ready")
	pid := w.pid("pid")
	for i, bad := range []string{
		"  comand: [x]", "  command: [/nowhere/program]", w.shell(script) + "\n  env: {X: '{{ nonsense }}'}", w.shell(script) + "\n  env: {1X: ''}",
		w.shell(script) + "\n  env_from: [{secret: nobody}]", w.shell(script) + "\n  kill_signal: NOSUCH", "  command: []",
	} {
		w.conf(bad, "")
		p.signal(syscall.SIGHUP)
		eventually(t, "it is refused", func() bool {
			return strings.Count(p.out.String(), "cannot reload, the running configuration stays") > i
		})
	}
	w.conf(good, "")
	p.signal(syscall.SIGHUP)
	p.until("reloaded configuration")
	if !lives(pid) || content(w.path("log")) != "start one\n" {
		t.Fatalf("the child was touched: %q", content(w.path("log")))
	}
	w.conf(w.shell(script)+"\n  env: {X: two}", "")
	p.signal(syscall.SIGHUP)
	eventually(t, "a good one counts", func() bool { return content(w.path("log")) == "start one\nstart two\n" })
	// Without exec the child ends, and with it there is one again.
	write(t, w.fixture.conf, strings.ReplaceAll(content(w.fixture.conf), "exec:", "vars_of_nobody:"))
	w.conf(good, "")
	text := content(w.fixture.conf)
	write(t, w.fixture.conf, text[:strings.Index(text, "exec:")])
	pid = w.pid("pid")
	p.signal(syscall.SIGHUP)
	eventually(t, "the child has ended", func() bool { return !lives(pid) })
	write(t, w.fixture.conf, text)
	p.signal(syscall.SIGHUP)
	eventually(t, "there is one again", func() bool { return content(w.path("log")) == "start one\nstart two\nstart one\n" })
	if strings.Contains(content(w.path("log")), "HUP") {
		t.Error("run has passed on SIGHUP")
	}
}

func TestRunForwardsAllButItsOwnSignals(t *testing.T) {
	w := newWrapper(t)
	out := w.path("signals")
	w.conf(fmt.Sprintf("  command: [%s, signals, %s]\n  kill_timeout: 2s", builtChild(t), out), "")
	p := secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf)
	p.until("msg=ready")
	eventually(t, "the child runs", func() bool { return content(out) == "ready\n" })
	p.signal(syscall.SIGHUP)
	p.until("reloaded configuration")
	p.signal(syscall.SIGUSR1)
	eventually(t, "USR1 is forwarded", func() bool { return content(out) == "ready\n10\n" })
	p.signal(syscall.SIGQUIT)
	eventually(t, "QUIT is forwarded", func() bool { return content(out) == "ready\n10\n3\n" })
	p.signal(syscall.SIGINT)
	if _, code := p.wait(); code != 0 {
		t.Errorf("run ends with %d", code)
	}
	if content(out) != "ready\n10\n3\n15\n" {
		t.Errorf("the child was sent %q", content(out))
	}
}

// TestTheEndpointOutlivesTheChild: an application may need its secrets to end.
func TestTheEndpointOutlivesTheChild(t *testing.T) {
	w := newWrapper(t)
	w.conf(w.shell(`trap 'while [ ! -e "$1/gate" ]; do sleep 0.02; done; exit' TERM; echo $$ > "$1/pid"; while :; do sleep 0.02; done`),
		fmt.Sprintf(`endpoint: {listen: "%s", token_file: %s/token}`, w.endpoint, w.dir))
	p := secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf)
	p.until("msg=ready")
	pid := w.pid("pid")
	p.signal(syscall.SIGTERM)
	steady(t, "the endpoint answers while the child ends", func() bool {
		status, _ := get(t, "http://"+w.endpoint+"/v1/db", content(w.path("token")))
		return status == http.StatusOK && lives(pid)
	})
	write(t, w.path("gate"), "")
	if _, code := p.wait(); code != 0 {
		t.Errorf("run ends with %d", code)
	}
}

// TestAHookOfALaterConfigurationIsNotTheChilds: at the start of the child the agent
// ran nobody else, and every orphan was the child's. By its end there are hooks.
func TestAHookOfALaterConfigurationIsNotTheChilds(t *testing.T) {
	w := newWrapper(t)
	child := w.shell(`echo $$ > "$1/pid.new"; mv "$1/pid.new" "$1/pid"; exec sleep 600`) + "\n  on_change: none"
	w.conf(child, "")
	p := secretsd(t, cleanEnv(), "run", "--config", w.fixture.conf)
	p.until("msg=ready")
	pid := w.pid("pid")
	w.conf(child, fmt.Sprintf(`files: [{path: %[1]s/out, contents: '{{ secret "db" }}', notify: [hook]}]
targets: [{name: hook, on_first: true, command: [/bin/sh, -c, 'echo $$ >> $0/began; while [ ! -e $0/go ]; do sleep 0.02; done', %[1]s]}]`, w.dir))
	p.signal(syscall.SIGHUP)
	hook := w.pid("began")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.until("the child has ended by itself")
	if !lives(hook) {
		t.Error("the hook was killed with the child")
	}
	write(t, w.path("go"), "")
	p.until(`"target told" target=hook reason=start paths=1 attempts=1`)
}
