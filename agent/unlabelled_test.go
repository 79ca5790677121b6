package agent

import (
	"strings"
	"testing"
	"time"

	"secretsd/agent/secret"
)

// never is AWSPREVIOUS of a secret that was never rotated, as a read gives it.
func never() *secret.Version { return &secret.Version{Text: secret.NewValue("")} }

// TestVariablesOfASecretThatWasNeverRotated: those of one that may be absent are left
// out, unless they ask for its value, and come with the first rotation.
func TestVariablesOfASecretThatWasNeverRotated(t *testing.T) {
	const required, optional = "", ", required: false"
	for _, tt := range []struct{ name, may, env, want, then string }{
		{"a key", optional, `env: {OLD: '{{ (secret "prev").pw }}', K: x}`, "K=x", "K=x OLD=one"},
		{"the whole", optional, `env: {OLD: '{{ secret "prev" | len }}', K: x}`, "K=x", "K=x OLD=1"},
		{"amid a text", optional, `env: {OLD: 'pw={{ secret "prev" | len }}', K: x}`, "K=x", "K=x OLD=pw=1"},
		{"a computed name", optional, `env: {OLD: '{{ (secret (print "pr" "ev")).pw }}', K: x}`, "K=x", "K=x OLD=one"},
		{"all keys", optional, `env_from: [{secret: prev, prefix: OLD_}]`, "", "OLD_pw=one"},
		{"asked by has", optional, `env: {OLD: '{{ if has "prev" }}{{ (secret "prev").pw }}{{ else }}none{{ end }}'}`, "OLD=none", "OLD=one"},
		{"asked for a key", optional, `env: {OLD: '{{ has "prev" "pw" }}'}`, "OLD=false", "OLD=true"},
		{"asked by with", optional, `env: {OLD: '{{ with secret "prev" }}{{ .pw }}{{ else }}none{{ end }}'}`, "OLD=none", "OLD=one"},
		{"asked by if", optional, `env: {OLD: '{{ if secret "prev" }}{{ (secret "prev").pw }}{{ end }}'}`, "OLD=", "OLD=one"},
		{"asked, and not asked", optional, `env: {OLD: '{{ with secret "prev" }}{{ .pw }}{{ end }}{{ (secret "prev").pw }}', K: x}`, "K=x", "K=x OLD=oneone"},
		{"another fault", optional, `env: {OLD: '{{ with secret "prev" }}{{ .pw }}{{ else }}{{ (secret "db").nokey }}{{ end }}'}`, "error: has no key", "OLD=one"},
		{"required", required, `env: {OLD: '{{ (secret "prev").pw }}'}`, "error: no version of secret \"prev\" carries AWSPREVIOUS yet", "OLD=one"},
		{"all keys, required", required, `env_from: [{secret: prev}]`, "error: exec.env_from, secret prev: no version carries AWSPREVIOUS yet", "pw=one"},
		{"the whole, required", required, `env: {OLD: '{{ secret "prev" }}'}`, "OLD=", `OLD={"pw": "one"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := stand(t, `
secrets: [{name: db, id: db}, {name: prev, id: db, stage: AWSPREVIOUS`+tt.may+`}]
exec: {command: [/bin/true], env_deny: ["*"], `+tt.env+`}`, ChildOptions{})
			s.read("db", value("db", "v1", `{"pw": "one"}`), nil)
			s.read("prev", never(), nil)
			if why, failed := strings.CutPrefix(tt.want, "error: "); failed {
				if s.agent.child.program != nil || !strings.Contains(s.agent.health.reason(), why) {
					t.Errorf("the child waits for %q, want %q", s.agent.health.reason(), why)
				}
			} else {
				s.wantVariables(tt.want)
			}
			s.read("prev", value("db", "v1", `{"pw": "one"}`), nil)
			s.wantVariables(tt.then)
		})
	}
}

// TestFilesOfASecretThatWasNeverRotated are as those of one that is absent where they
// need it, and made where they ask.
func TestFilesOfASecretThatWasNeverRotated(t *testing.T) {
	const skipped = "skipped"
	for _, tt := range []struct{ name, may, output, file, want, then string }{
		{"asked by has", "false", `files: [{path: DIR/f, contents: 'now{{ if has "prev" }}, before {{ (secret "prev").pw }}{{ end }}'}]`, "f", "now", "now, before one"},
		{"asked by with", "true", `files: [{path: DIR/f, contents: 'now{{ with secret "prev" }}, before {{ .pw }}{{ end }}'}]`, "f", "now", "now, before one"},
		{"needed", "false", `files: [{path: DIR/f, contents: '{{ (secret "prev").pw }}'}]`, "f", skipped, "one"},
		{"exploded", "false", `bundles: [{dir: DIR/b, create_dirs: true, explode: {secret: prev}}]`, "b/pw", skipped, "one"},
		{"in a bundle", "false", `bundles: [{dir: DIR/b, create_dirs: true, files: [{path: a, contents: 'a'}, {path: f, contents: '{{ (secret "prev").pw }}'}]}]`, "b/f", skipped, "one"},
		{"beside a fault", "false", `bundles: [{dir: DIR/b, create_dirs: true, files: [{path: a, contents: '{{ with secret "prev" }}{{ else }}{{ (secret "db").nokey }}{{ end }}'}, {path: f, contents: '{{ (secret "prev").pw }}'}]}]`, "b/f", "error: has no key", "one"},
		{"needed, required", "true", `files: [{path: DIR/f, contents: '{{ (secret "prev").pw }}'}]`, "f", "error: carries AWSPREVIOUS yet", "one"},
		{"exploded, required", "true", `bundles: [{dir: DIR/b, create_dirs: true, explode: {secret: prev}}]`, "b/pw", "error: explode secret prev: no version carries AWSPREVIOUS yet", "one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := stand(t, `
secrets: [{name: db, id: db}, {name: prev, id: db, stage: AWSPREVIOUS, required: `+tt.may+`}]
`+tt.output, ChildOptions{})
			s.read("db", value("db", "v1", `{"pw": "one"}`), nil)
			s.read("prev", never(), nil)
			st := s.agent.Status()
			want := map[string]string{"true": "none at AWSPREVIOUS", "false": "absent, optional"}[tt.may]
			if page := string(appendPage(&st, time.Now(), false)); !strings.Contains(page, want) || strings.Contains(page, "not read yet") {
				t.Error("the page does not show that there is no AWSPREVIOUS")
			}
			f := st.Files[0]
			switch why, failed := strings.CutPrefix(tt.want, "error: "); {
			case failed && (f.State != FileHeld || !strings.Contains(f.Error, why) || s.agent.ready):
				t.Errorf("the file is %s for %q, and the agent ready: %t; want %q", f.State, f.Error, s.agent.ready, why)
			case failed:
			case tt.want == skipped && f.State != FileSkipped, !s.agent.ready:
				t.Errorf("the file is %s for %q, and the agent ready: %t", f.State, f.Error, s.agent.ready)
			case tt.want != skipped && s.file(tt.file) != tt.want:
				t.Errorf("the file holds %q, want %q", s.file(tt.file), tt.want)
			}
			s.read("prev", value("db", "v1", `{"pw": "one"}`), nil)
			if got := s.file(tt.file); got != tt.then {
				t.Errorf("after a rotation the file holds %q, want %q", got, tt.then)
			}
		})
	}
}
