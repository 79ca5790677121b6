package agent

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/config"
	"secretsd/agent/notify"
)

// targetsOf returns the targets of a configuration, and what is wrong with them.
func targetsOf(t *testing.T, yaml string) ([]notify.Target, error) {
	t.Helper()
	cfg, _ := config.Parse("/etc/agent.yaml", []byte("secrets: [{id: a}]\n"+yaml)) // its faults are joined by CheckConfig
	p, err := newPlan(cfg)
	p.close()
	return p.targets, err
}

func TestTargetsOfAConfiguration(t *testing.T) {
	got, err := targetsOf(t, `
exec: {command: [/bin/true]}
targets:
  - name: app
    signal: usr1
    process: {exe: /usr/sbin/app}
    timeout: 20s
    retry: {initial: 2s, max: 30s}
    splay: 1m
    confirm: {http: {url: "http://127.0.0.1:1/healthz", status: 204}, timeout: 5s}
    ladder:
      - {signal: TERM}
      - {unit: app.service, timeout: 1m}
      - {command: [/bin/true, "{}"], user: root}
    rollback: true
  - {name: pid, process: {pid_file: /run/pid}, debounce: 0s}
  - {name: argv0, process: {argv0: app}}
  - {name: group, process: {cgroup: /app}}
  - {name: service, process: {unit: app.service}}
  - {name: child, process: {child: true}}
  - {name: web, http: {url: "https://localhost/", method: PUT}, on_first: true, confirm: {tcp: "127.0.0.1:1"}}
  - {name: unit, unit: {name: app.socket, action: restart}, confirm: {command: [/bin/true], user: "0", delay: 0s}}
`)
	if err != nil {
		t.Fatal(err)
	}
	s := time.Second
	app := &notify.Process{Exe: "/usr/sbin/app"}
	signal := func(p notify.Process) notify.Step {
		return notify.Step{Process: &p, Signal: syscall.SIGHUP, Timeout: 30 * s}
	}
	want := []notify.Target{
		{
			Name: "app", Step: notify.Step{Process: app, Signal: syscall.SIGUSR1, Timeout: 20 * s},
			Debounce: s, Splay: 60 * s, Retry: notify.Retry{Initial: 2 * s, Max: 30 * s}, Rollback: true,
			Confirm: &notify.Probe{HTTP: &notify.HTTP{URL: "http://127.0.0.1:1/healthz", Status: 204}, Delay: s, Timeout: 5 * s},
			Ladder: []notify.Step{
				{Process: app, Signal: syscall.SIGTERM, Timeout: 20 * s},
				{Unit: &notify.Unit{Name: "app.service", Action: "try-reload-or-restart"}, Timeout: 60 * s},
				{Command: []string{"/bin/true", "{}"}, User: "root", Timeout: 20 * s},
			},
		},
		{Name: "pid", Step: signal(notify.Process{PidFile: "/run/pid"})},
		{Name: "argv0", Step: signal(notify.Process{Argv0: "app"}), Debounce: s},
		{Name: "group", Step: signal(notify.Process{Cgroup: "/app"}), Debounce: s},
		{Name: "service", Step: signal(notify.Process{Unit: "app.service"}), Debounce: s},
		{Name: "child", Step: signal(notify.Process{Child: true}), Debounce: s},
		{
			Name: "web", Step: notify.Step{HTTP: &notify.HTTP{URL: "https://localhost/", Method: "PUT"}, Timeout: 30 * s}, OnFirst: true, Debounce: s,
			Confirm: &notify.Probe{TCP: "127.0.0.1:1", Delay: s, Timeout: 30 * s},
		},
		{
			Name: "unit", Step: notify.Step{Unit: &notify.Unit{Name: "app.socket", Action: "restart"}, Timeout: 30 * s}, Debounce: s,
			Confirm: &notify.Probe{Command: []string{"/bin/true"}, User: "0", Timeout: 30 * s},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	for _, target := range got {
		if err := target.Validate(); err != nil {
			t.Errorf("%s: %v", target.Name, err)
		}
	}
}

// What only agent/notify knows is said at its place too, and once.
func TestFaultsThatNotifyFinds(t *testing.T) {
	asked := "confirm: {tcp: '127.0.0.1:1'},\n  "
	for _, tt := range []struct{ target, want, hint string }{
		{"signal: HUPP, process: {pid_file: /a}", `/etc/agent.yaml:3: parse signal "HUPP": no such signal`, "HUP"},
		{"process: {unit: app}", `/etc/agent.yaml:3: unit "app" is no service`, "whole name"},
		{"unit: app", `/etc/agent.yaml:3: unit "app" is no unit's name`, "whole name"},
		{"unit: {name: a.service, action: stop}", `/etc/agent.yaml:3: action "stop" is unknown`, "try-restart"},
		{"http: 'http://example.com/'", `/etc/agent.yaml:3: url "http://example.com/" leads away from this machine`, "curl"},
		{"http: {url: 'http://localhost/', method: DELETE}", `method "DELETE" cannot be used`, "POST"},
		{"command: [/no/such/hook]", `/etc/agent.yaml:3: find command "/no/such/hook"`, ""},
		{"command: [/bin/true], user: no such user", `/etc/agent.yaml:3: look up user "no such user"`, "/etc/passwd"},
		{"command: [bin/true]", `command "bin/true" is a relative path`, "absolute"},
		{"command: [/bin/true], confirm: {tcp: '10.0.0.1:1'}", `tcp 10.0.0.1:1 leads away`, "loopback"},
		{"command: [/bin/true], confirm: {http: 'http://localhost/', timeout: 9s}, ladder: [{signal: 0, process: {pid_file: /a}}]", `parse signal 0: not a signal`, "HUP"},
		{"command: [/bin/true], confirm: {command: [/no/such/probe]}", `find command "/no/such/probe"`, ""},
		{"command: [/bin/true], " + asked + "ladder: [{unit: a}]", `/etc/agent.yaml:4: unit "a" is no unit's name`, "whole name"},
		{"command: [/bin/true], " + asked + "ladder: [{command: [/bin/true], user: nosuch}]", `/etc/agent.yaml:4: look up user "nosuch"`, "/etc/passwd"},
		{"process: {unit: app}, " + asked + "ladder: [{signal: TERM}]", `/etc/agent.yaml:3: unit "app" is no service`, ""},
	} {
		_, err := targetsOf(t, "targets: [\n{name: app, "+tt.target+"}]\n")
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.target, err, tt.want)
			continue
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: said more than once: %v", tt.target, err)
		}
		if !strings.Contains(hintOf(err), tt.hint) {
			t.Errorf("%s: hint %q, want %q in it", tt.target, hintOf(err), tt.hint)
		}
	}
}

// A rollback of files beside an environment that stays would be a mixture.
func TestNoRollbackOfHalfOfWhatAChildHas(t *testing.T) {
	conf := func(secret string) string {
		return `files: [{path: /dev/shm/secretsd-test-f, contents: '{{ secret "a" }}', notify: [app]}]
exec: {command: [/bin/true], env: {A: '` + secret + `'}}
targets: [{name: app, process: {child: true}, confirm: {tcp: "127.0.0.1:1"}, rollback: true}]
`
	}
	if _, err := targetsOf(t, conf("no secret")); err != nil {
		t.Errorf("refused: %v", err)
	}
	_, err := targetsOf(t, conf(`{{ secret "a" }}`))
	if err == nil || !strings.Contains(err.Error(), `agent.yaml:4: targets[0].rollback: `) || !strings.Contains(hintOf(err), "in files only") {
		t.Errorf("got %v", err)
	}
}

// A rotation of one user leaves nothing to go back to.
func TestNoRollbackOfASecretWithOneUser(t *testing.T) {
	conf := func(pending string) string {
		return `files: [{path: /dev/shm/secretsd-test-f, contents: '{{ secret "one" }}', notify: [app]}]
targets: [{name: app, command: [/bin/true], confirm: {tcp: "127.0.0.1:1"}, rollback: true}]
secrets: [{name: one, id: prod/one, pending: ` + pending + `}]
`
	}
	for pending, want := range map[string]string{"false": "", "true": `agent.yaml:2: targets[0].rollback: /dev/shm/secretsd-test-f shows secret "one"`} {
		cfg, err := config.Parse("agent.yaml", []byte(conf(pending)))
		must(t, err)
		plan, err := newPlan(cfg)
		plan.close()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("pending %s: %v", pending, err)
		}
	}
}
