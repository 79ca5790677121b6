package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/config"
)

func TestTargetsAreTakenOver(t *testing.T) {
	got := parse(t, minimal+`
targets:
  - name: app
    signal: 12
    process: {exe: /usr/sbin/app}
    timeout: 20s
    retry: {initial: 2s, max: 30s}
    debounce: 0s
    splay: 1m
    on_first: true
    confirm: {http: {url: "http://127.0.0.1:1/healthz", status: 204}, delay: 0s, timeout: 5s}
    ladder:
      - {signal: TERM}
      - {signal: HUP, process: {unit: app.service}}
      - {unit: app.service}
      - {command: [/usr/bin/true, "{}"], user: app, timeout: 1m}
    rollback: true
  - {name: unit, unit: {name: app.service, action: restart}, confirm: {tcp: "127.0.0.1:5432"}}
  - {name: web, http: "http://localhost/reload", confirm: {command: [/usr/bin/true], user: "33", timeout: 2s}}
`).Targets
	s := func(n int) config.Duration { return config.Duration(time.Duration(n) * time.Second) }
	exe := &config.Process{Exe: "/usr/sbin/app"}
	want := []config.Target{
		{
			Name: "app", Step: config.Step{Signal: "12", Process: exe, Timeout: s(20)},
			Retry: config.Retry{Initial: s(2), Max: s(30)}, Splay: s(60), OnFirst: true, Rollback: true,
			Confirm: &config.Confirm{HTTP: &config.HTTP{URL: "http://127.0.0.1:1/healthz", Status: 204}, Timeout: s(5)},
			Ladder: []config.Step{
				{Signal: "TERM", Process: exe, Timeout: s(20)},
				{Signal: "HUP", Process: &config.Process{Unit: "app.service"}, Timeout: s(20)},
				{Unit: &config.Unit{Name: "app.service", Action: "try-reload-or-restart"}, Timeout: s(20)},
				{Command: []string{"/usr/bin/true", "{}"}, User: "app", Timeout: s(60)},
			},
		},
		{
			Name: "unit", Step: config.Step{Unit: &config.Unit{Name: "app.service", Action: "restart"}, Timeout: s(30)}, Debounce: s(1),
			Confirm: &config.Confirm{TCP: "127.0.0.1:5432", Delay: s(1), Timeout: s(30)},
		},
		{
			Name: "web", Step: config.Step{HTTP: &config.HTTP{URL: "http://localhost/reload"}, Timeout: s(30)}, Debounce: s(1),
			Confirm: &config.Confirm{Command: []string{"/usr/bin/true"}, User: "33", Delay: s(1) / 2, Timeout: s(2)},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
}

func TestFaultsOfTargets(t *testing.T) {
	target := func(keys string) string { return minimal + "targets:\n- {name: a, " + keys + "}\n" }
	asked := func(keys string) string {
		return minimal + "targets:\n- name: a\n  command: [/x]\n  confirm: {tcp: '127.0.0.1:1'}\n  " + keys + "\n"
	}
	for _, tt := range []struct{ name, yaml, want string }{
		{"two ways", target("unit: a.service, http: 'http://localhost/'"), `agent.yaml:4: targets[0]: give process, command, http or unit, and only one of them`},
		{"signal without a process", target("signal: HUP"), `agent.yaml:4: targets[0].signal: there is no process that it could be sent to`},
		{"signal for a unit", target("unit: a.service, signal: HUP"), `targets[0].signal: only a process can be sent a signal`},
		{"user of a unit", target("unit: a.service, user: root"), `targets[0].user: only a command is run as a user`},
		{"two processes", target("process: {pid_file: /a, exe: /b}"), `agent.yaml:4: targets[0].process: give one of pid_file, exe`},
		{"no child", target("process: {child: false}"), `targets[0].process: give one of pid_file, exe`},
		{"relative program", target("process: {exe: nginx}"), `targets[0].process.exe: "nginx" is not an absolute path`},
		{"relative group", target("process: {cgroup: app.slice}"), `targets[0].process.cgroup: "app.slice" is not an absolute path`},
		{"winding pid file", target("process: {pid_file: /a/../b}"), `targets[0].process.pid_file: "/a/../b" is not a plain path`},
		{"unit without a name", target("unit: {action: reload}"), `targets[0].unit.name: missing`},
		{"request without a URL", target("http: {method: POST}"), `targets[0].http.url: missing`},
		{"short timeout", target("command: [/x], timeout: 1ms"), `targets[0].timeout: 1ms is less than 100ms`},
		{"short retry", target("command: [/x], retry: {initial: 1ms}"), `targets[0].retry.initial: 1ms is less than 100ms`},
		{"retry backwards", target("command: [/x], retry: {initial: 10s, max: 1s}"), `targets[0].retry.max: 1s is less than 10s`},
		{"ladder alone", target("command: [/x], ladder: [{unit: a.service}]"), `agent.yaml:4: targets[0].ladder: without confirm nothing leads to it`},
		{"rollback alone", target("command: [/x], rollback: true"), `agent.yaml:4: targets[0].rollback: without confirm nothing leads to it`},
		{"nobody confirms", target("command: [/x], confirm: {timeout: 5s}"), `targets[0].confirm: give one of http, command and tcp`},
		{"two confirm", target("command: [/x], confirm: {tcp: 'localhost:1', command: [/x]}"), `targets[0].confirm: give one of http, command and tcp`},
		{"user of a port", target("command: [/x], confirm: {tcp: 'localhost:1', user: root}"), `targets[0].confirm.user: only a command`},
		{"confirm without a URL", target("command: [/x], confirm: {http: {status: 200}}"), `targets[0].confirm.http.url: missing`},
		{"short confirm", target("command: [/x], confirm: {tcp: 'localhost:1', timeout: 1ms}"), `targets[0].confirm.timeout: 1ms is less than 100ms`},
		{"never asked", target("command: [/x], confirm: {tcp: 'localhost:1', timeout: 1s, delay: 1s}"), `targets[0].confirm.delay: 1s is not less than the timeout, 1s`},
		{"empty step", asked("ladder: [{}]"), `agent.yaml:7: targets[0].ladder[0]: nothing to tell`},
		{"step of two ways", asked("ladder: [{unit: a.service}, {unit: b.service, command: [/x]}]"), `agent.yaml:7: targets[0].ladder[1]: give process, command, http or unit`},
		{"signal to a command", asked("ladder: [{signal: HUP}]"), `agent.yaml:7: targets[0].ladder[0].signal: there is no process`},
		{"environment of a unit", target("unit: a.service, env: {A: b}"), `agent.yaml:4: targets[0].env: only a command has an environment`},
		{"output of a unit", target("unit: a.service, output: log"), `agent.yaml:4: targets[0].output: only a command has output`},
		{"empty variable", target("command: [/x], env: {A: }"), `agent.yaml:4: targets[0].env.A: no value`},
		{"our variable", target("command: [/x], env: {SECRETSD_REASON: x}"), `agent.yaml:4: targets[0].env.SECRETSD_REASON: variables that begin with SECRETSD_`},
		{"unknown output", target("command: [/x], output: keep"), `agent.yaml:4: targets[0].output: want discard or log, not "keep"`},
		{"environment of a port", target("command: [/x], confirm: {tcp: 'localhost:1', env: {A: b}}"), `targets[0].confirm.env: only a command`},
		{"environment of a signal", asked("ladder: [{process: {exe: /x}, env: {A: b}}]"), `agent.yaml:7: targets[0].ladder[0].env: only a command`},
		{"output of a check", minimal + "files: [{path: /run/a, contents: x, check: {command: [/x], output: all}}]\n", `agent.yaml:3: files[0].check.output: want discard or log, not "all"`},
		{"unknown key", asked("ladder: [{command: [/x], debounce: 1s}]"), `agent.yaml:7: unknown key targets[0].ladder[0].debounce`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Parse("agent.yaml", []byte(tt.yaml))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if err != nil && strings.Count(err.Error(), "\n") > 0 {
				t.Errorf("one fault is said more than once: %v", err)
			}
		})
	}
}

// What is wrong with the process of a target is not said again for the steps of
// its ladder that use it.
func TestOneFaultOfAProcessIsSaidOnce(t *testing.T) {
	_, err := config.Parse("agent.yaml", []byte(minimal+`targets: [{name: a, process: {exe: b}, confirm: {tcp: "localhost:1"}, ladder: [{signal: TERM}]}]`))
	if err == nil || strings.Count(err.Error(), "not an absolute path") != 1 {
		t.Errorf("got %v", err)
	}
}
