package agent

import (
	"testing"

	"secretsd/agent/config"
)

// TestOrphansAreTheChildsIfTheAgentStartsNobodyElse: of an orphan nobody can say
// whether the child left it behind or a command of the agent's.
func TestOrphansAreTheChildsIfTheAgentStartsNobodyElse(t *testing.T) {
	for _, tt := range []struct {
		name, yaml string
		alone      bool
	}{
		{"nobody else", "files: [{path: /a, contents: x}]", true},
		{"targets without a command", "targets: [{name: a, process: {child: true}}, {name: b, http: 'http://localhost/', confirm: {tcp: 'localhost:1'}, ladder: [{unit: a.service}]}]", true},
		{"a file's check", "files: [{path: /a, contents: x, check: {command: [/bin/true]}}]", false},
		{"a bundle's check", "bundles: [{dir: /b, explode: a, check: {command: [/bin/true]}}]", false},
		{"a target", "targets: [{name: a, command: [/bin/true]}]", false},
		{"the second target", "targets: [{name: a, unit: a.service}, {name: b, command: [/bin/true]}]", false},
		{"a confirmation", "targets: [{name: a, unit: a.service, confirm: {command: [/bin/true]}}]", false},
		{"a step of a ladder", "targets: [{name: a, unit: a.service, confirm: {tcp: 'localhost:1'}, ladder: [{unit: a.service}, {command: [/bin/true]}]}]", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := config.Parse("/etc/agent.yaml", []byte("secrets: [{id: a}]\nexec: {command: [/bin/true], env: {A: x}, env_from: [{secret: a}]}\n"+tt.yaml+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			if startsProcesses(cfg) == tt.alone {
				t.Errorf("the agent starts others: %v, want %v", tt.alone, !tt.alone)
			}
		})
	}
}
