package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/config"
)

func TestExecHasDefaults(t *testing.T) {
	got := parse(t, minimal+"exec: {command: [app]}\n").Exec
	want := &config.Exec{Command: []string{"app"}, OnChange: "restart", Signal: "HUP", KillSignal: "TERM", KillTimeout: config.Duration(30 * time.Second)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the defaults differ (-want +got):\n%s", diff)
	}
	c := parse(t, minimal)
	if c.Exec != nil {
		t.Error("there is a child that nobody asked for")
	}
	want.Command = nil
	if diff := cmp.Diff(want, c.EnsureExec()); diff != "" {
		t.Errorf("the one that is made differs (-want +got):\n%s", diff)
	}
}

func TestExecKeepsChoices(t *testing.T) {
	got := parse(t, minimal+`exec:
  command: [/app, -v, 1]
  env:
    B: '{{ secret "db" }}'
    A: 12345
    TRUE: true
    EMPTY: ""
    BLOCK: |
      one
      two
  env_from: [{secret: db, prefix: db_, upper: true}, {secret: other}]
  env_allow: [PATH, "LC_*"]
  env_deny: ["AWS_*"]
  on_change: signal
  signal: USR1
  kill_signal: QUIT
  kill_timeout: 0s
`).Exec
	text := func(s string) *string { return &s }
	want := &config.Exec{
		Command: []string{"/app", "-v", "1"},
		Env:     map[string]*string{"A": text("12345"), "B": text(`{{ secret "db" }}`), "BLOCK": text("one\ntwo\n"), "EMPTY": text(""), "TRUE": text("true")},
		EnvFrom: []config.EnvFrom{{Secret: "db", Prefix: "db_", Upper: true}, {Secret: "other"}}, EnvAllow: []string{"PATH", "LC_*"}, EnvDeny: []string{"AWS_*"},
		OnChange: "signal", Signal: "USR1", KillSignal: "QUIT",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the choices differ (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"A", "B", "BLOCK", "EMPTY", "TRUE"}, got.EnvNames()); diff != "" {
		t.Errorf("the names (-want +got):\n%s", diff)
	}
}

func TestThePlaceOfAVariableIsKnown(t *testing.T) {
	c := parse(t, "secrets: [{id: a}]\nexec:\n  command: [x]\n  env:\n    A: one\n    B: |\n      two\n")
	for name, want := range map[string][2]int{"A": {5, 9}, "B": {7, 8}} {
		offset := strings.IndexAny(*c.Exec.Env[name], "nw")
		if line, column := c.Text(c.Exec.Env[name]).Place(offset); line != want[0] || column != want[1] {
			t.Errorf("the text of %s stands at %d:%d, want %v", name, line, column, want)
		}
	}
}

func TestFaultsOfExec(t *testing.T) {
	for _, tt := range []struct{ name, yaml, want string }{
		{"unknown key", "exec: {comand: [x]}", "agent.yaml:3: unknown key exec.comand"},
		{"a list of variables", "exec: {env: [A, B]}", "agent.yaml:3: exec.env: want a mapping of names, not a list"},
		{"a variable twice", "exec:\n  env:\n    A: 1\n    A: 2", "agent.yaml:6: key exec.env.A is given twice"},
		{"a variable that is a list", "exec: {env: {A: [1]}}", "agent.yaml:3: exec.env.A: want text, not a list"},
		{"a variable without a value", "exec:\n  env:\n    A:\n", "agent.yaml:5: exec.env.A: no value"},
		{"no secret", "exec: {env_from: [{prefix: A}]}", "agent.yaml:3: exec.env_from[0].secret: missing"},
		{"no glob", "exec: {env_allow: ['A[']}", `exec.env_allow[0]: "A[" is no glob`},
		{"an empty glob", "exec: {env_deny: [A, '']}", `exec.env_deny[1]: "" is no glob`},
		{"what happens", "exec: {on_change: reload}", `exec.on_change: want restart, signal or none, not "reload"`},
		{"a signal for nothing", "exec: {signal: HUP}", "exec.signal: it is not sent with on_change: restart"},
		{"no time", "exec: {kill_timeout: soon}", "exec.kill_timeout: want a duration"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := config.Parse("agent.yaml", []byte(minimal+tt.yaml+"\n")); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
