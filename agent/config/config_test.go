package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"secretsd/agent/config"
)

const minimal = `
secrets: [{name: db, id: prod/db}]
`

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("/etc/secretsd/agent.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return c
}

func TestDefaultsAreSafe(t *testing.T) {
	got := parse(t, `
secrets: [{id: prod/db}]
files: [{path: /run/app/db, contents: x}]
targets: [{name: app, process: {pid_file: /run/app.pid}}, {name: hook, command: [/bin/true]}]
endpoint: {token_file: /run/secretsd/token}
telemetry: {}
`)
	grace := config.Duration(5 * time.Minute)
	want := &config.Config{
		Source:  config.Source{AWS: &config.AWS{}},
		Refresh: config.Refresh{Interval: config.Duration(5 * time.Minute), MaxStale: config.Duration(24 * time.Hour)},
		Secrets: []config.Secret{{Name: "prod/db", ID: "prod/db", Stage: "AWSCURRENT", Interval: config.Duration(5 * time.Minute)}},
		Files:   []config.File{{Path: "/run/app/db", TemplateSource: config.TemplateSource{Contents: "x", MissingKey: "error"}, Mode: 0o400, Method: "rename"}},
		Targets: []config.Target{
			{Name: "app", Step: config.Step{Signal: "HUP", Process: &config.Process{PIDFile: "/run/app.pid"}, Timeout: config.Duration(30 * time.Second)}, Debounce: config.Duration(time.Second)},
			{Name: "hook", Step: config.Step{Command: []string{"/bin/true"}, Timeout: config.Duration(30 * time.Second)}, Debounce: config.Duration(time.Second)},
		},
		Endpoint: &config.Endpoint{
			Listen: "127.0.0.1:2773", TokenFile: config.TokenFile{Path: "/run/secretsd/token", Mode: 0o400}, TokenGrace: &grace,
			PathPrefix: "/v1/", TokenHeaders: []string{"X-Aws-Parameters-Secrets-Token", "X-Vault-Token"}, MaxConnections: 800,
		},
		Telemetry:    &config.Telemetry{Listen: "127.0.0.1:9273"},
		Log:          config.Log{Level: "info", Format: "text"},
		TemplateDir:  "/etc/secretsd",
		HealInterval: config.Duration(time.Minute), OnExit: "keep",
		StateDir: "/run/secretsd",
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(config.Config{})); diff != "" {
		t.Errorf("the defaults differ (-want +got):\n%s", diff)
	}
	if !got.Secrets[0].IsRequired() {
		t.Error("a secret is not required by default")
	}
}

func TestChoicesAreKept(t *testing.T) {
	got := parse(t, `
source: {aws: {region: eu-west-1, endpoint: "https://vpce.example", role_arn: "arn:aws:iam::123456789012:role/app", external_id: x, credentials_file: /run/creds, fips: true}}
refresh: {interval: 100ms, max_stale: 2h}
secrets:
  - {name: db, id: "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf", stage: AWSPENDING, interval: 1m, required: false}
  - {name: pinned, id: rds!db-1, version_id: 01234567-89ab-cdef-0123-456789abcdef, region: us-east-1, role_arn: "arn:aws:iam::123456789012:role/other"}
  - {name: 12345, id: 678}
files:
  - {path: /run/a, template: a.tmpl, mode: "0440", owner: app, group: "33", create_dirs: true, allow_disk: true, delims: ["[[", "]]"], missing_key: zero, notify: [app, app2]}
  - {path: /run/b, contents: ""}
targets: [{name: app, signal: USR1, process: {pid_file: /run/p}, debounce: 0s}, {name: app2, command: [/bin/true, "{}"], timeout: 3s, on_first: true}]
endpoint: {listen: "[::1]:0", token_env: [A, B], token_grace: 0s, path_prefix: /other, token_headers: [X-Foo], allowed_hosts: [db.local], max_connections: 3, unsafe_any_signature: true}
log: {level: debug, format: json}
template_dir: tmpl
heal_interval: 2s
state_dir: /run/other
`)
	if d := got.Targets[0].Debounce; d != 0 {
		t.Errorf("debounce 0s became %s", d.Std())
	}
	if !got.Endpoint.UnsafeAnySignature {
		t.Error("unsafe_any_signature is not taken over")
	}
	if *got.Endpoint.TokenGrace != 0 {
		t.Error("token_grace 0s is a choice")
	}
	if f := got.Files[0]; f.Template != "/etc/secretsd/tmpl/a.tmpl" || f.Mode.Perm() != 0o440 || !cmp.Equal(f.Notify, []string{"app", "app2"}) {
		t.Errorf("the file became %+v", f)
	}
	if s := got.Secrets[2]; s.Name != "12345" || s.ID != "678" {
		t.Errorf("a name of digits became %+v", s)
	}
	if s := got.Secrets[1]; s.Stage != "" || s.IsRequired() != true || got.Secrets[0].IsRequired() {
		t.Errorf("the secrets became %+v", got.Secrets)
	}
	if got.Source.AWS.FIPS != true || got.Source.AWS.Region != "eu-west-1" {
		t.Errorf("the source became %+v", got.Source.AWS)
	}
}

func client(keys string) string { return minimal + "endpoint: {clients: [{" + keys + "}]}\n" }

// TestFaults holds for each fault: its line, what it says, and that it is found
// although the file is otherwise right.
func TestFaults(t *testing.T) {
	for _, tt := range []struct{ name, yaml, want string }{
		{"unknown key", minimal + "sekrets: []\n", `agent.yaml:3: unknown key sekrets`},
		{"unknown nested key", "secrets:\n  - id: a\n    colour: red\n", `agent.yaml:3: unknown key secrets[0].colour`},
		{"key twice", "secrets:\n  - id: a\n    id: b\n", `agent.yaml:3: key secrets[0].id is given twice`},
		{"empty file", "", `agent.yaml: the file is empty`},
		{"not YAML", "secrets: [\n", `agent.yaml:`},
		{"two documents", minimal + "---\nsecrets: []\n", `more than one YAML document`},
		{"a list for a mapping", "source: [aws]\nsecrets: [{id: a}]\n", `agent.yaml:1: source: want a mapping of keys, not a list`},
		{"text for a list", "secrets: a\n", `agent.yaml:1: secrets: want a list, not "a"`},
		{"a mapping for text", "secrets: [{id: {a: b}}]\n", `secrets[0].id: want text, not a mapping`},
		{"number for a duration", minimal + "heal_interval: 5\n", `agent.yaml:3: heal_interval: want a duration, not "5"`},
		{"negative duration", minimal + "heal_interval: -5s\n", `heal_interval: want a duration`},
		{"short interval", "refresh: {interval: 99ms}\n" + minimal, `agent.yaml:1: refresh.interval: 99ms is less than 100ms`},
		{"short secret interval", "secrets: [{id: a, interval: 1ms}]\n", `secrets[0].interval: 1ms is less than 100ms`},
		{"word for a bool", "secrets: [{id: a, required: perhaps}]\n", `secrets[0].required: want true or false, not "perhaps"`},
		{"bare mode", minimal + "files: [{path: /a, contents: x, mode: 0400}]\n", `files[0].mode: want a mode in quoted octal, not 0400`},
		{"mode with set-uid", minimal + "files: [{path: /a, contents: x, mode: \"4755\"}]\n", `files[0].mode: mode "4755" is outside`},
		{"no secrets", "log: {level: info}\n", `secrets: none is configured`},
		{"no id", "secrets: [{name: a}]\n", `agent.yaml:1: secrets[0].id: missing`},
		{"bad id", "secrets: [{id: 'a b'}]\n", `secrets[0].id: "a b" is no secret id`},
		{"name twice", "secrets:\n- {name: a, id: a}\n- {name: a, id: b}\n", `agent.yaml:3: secrets[1].name: "a" is already the name of secrets[0]`},
		{"stage and version", "secrets: [{id: a, stage: AWSCURRENT, version_id: 01234567-89ab-cdef-0123-456789abcdef}]\n", `give stage or version_id, not both`},
		{"short version id", "secrets: [{id: a, version_id: v1}]\n", `a version id has 32 to 64 characters, this one 2`},
		{"Region against ARN", "secrets: [{id: 'arn:aws:secretsmanager:eu-west-1:123456789012:secret:a-AbCdEf', region: us-east-1}]\n", `contradicts the Region of the ARN, eu-west-1`},
		{"role", "secrets: [{id: a, role_arn: me}]\n", `"me" is no role ARN`},
		{"external id alone", "source: {aws: {external_id: x}}\n" + minimal, `there is no role_arn`},
		{"pending and stage", "secrets: [{id: a, stage: AWSPREVIOUS, pending: true}]\n", `secrets[0].pending: it is for a secret that follows AWSCURRENT`},
		{"pending and version", "secrets: [{id: a, version_id: 01234567-89ab-cdef-0123-456789abcdef, pending: true}]\n", `secrets[0].pending: it is for a secret that follows AWSCURRENT`},
		{"pending under one of two names", "secrets: [{id: a, pending: true}, {id: a, name: b}]\n", `secrets[0].pending: secrets[1] is the same secret without it`},
		{"pending beside AWSPREVIOUS", "secrets: [{id: a, pending: true}, {id: a, name: b, stage: AWSPREVIOUS}]\n", `secrets[0].pending: secrets[1] shows AWSPREVIOUS of the same secret`},
		{"aws and local", "source: {aws: {}, local: {}}\n" + minimal, `give aws or local, not both`},
		{"local on the network", "source: {local: {listen: 0.0.0.0:80}}\n" + minimal, `source.local.listen: 0.0.0.0:80 is not a loopback address`},
		{"relative path", minimal + "files: [{path: a, contents: x}]\n", `files[0].path: "a" is not an absolute path`},
		{"path with dots", minimal + "files: [{path: /a/../b, contents: x}]\n", `files[0].path: "/a/../b" is not a plain path`},
		{"path twice", minimal + "files:\n- {path: /a, contents: x}\n- {path: /a, contents: y}\n", `agent.yaml:5: files[1].path: /a is already written by files[0]`},
		{"path of the token", minimal + "files: [{path: /t, contents: x}]\nendpoint: {token_file: /t}\n", `files[0].path: /t is the endpoint's token file`},
		{"path of a template", minimal + "files: [{path: /t, template: /t}]\n", `files[0].path: /t is the template of files[0]`},
		{"path of a pid file", minimal + "files: [{path: /t, contents: x}]\ntargets: [{name: a, process: {pid_file: /t}}]\n", `files[0].path: /t is a pid file of target a`},
		{"path of a pid file in a ladder", minimal + "files: [{path: /t, contents: x}]\ntargets: [{name: a, command: [/x], confirm: {tcp: '127.0.0.1:1'}, ladder: [{command: [/x]}, {process: {pid_file: /t}}]}]\n", `files[0].path: /t is a pid file of target a`},
		{"path of a pid file in a bundle", minimal + "bundles: [{dir: /b, files: [{path: d/x, contents: x}]}]\ntargets: [{name: a, process: {pid_file: /b/d/x}}]\n", `agent.yaml:3: bundles[0].files[0].path: /b/d/x is a pid file of target a`},
		{"path of a client's token", minimal + "files: [{path: /t, contents: x}]\nendpoint: {clients: [{name: c, token_file: /t, secrets: [a]}]}\n", `files[0].path: /t is the token file of client c`},
		{"path of the socket", minimal + "files: [{path: /t, contents: x}]\nendpoint: {token_file: /u, socket: {path: /t}}\n", `files[0].path: /t is the endpoint's socket`},
		{"path of the audit log", minimal + "files: [{path: /t, contents: x}]\naudit: {path: /t}\n", `files[0].path: /t is the audit log`},
		{"path of AWS credentials", "source: {aws: {credentials_file: /t}}\n" + minimal + "files: [{path: /t, contents: x}]\n", `files[0].path: /t is the file of AWS credentials`},
		{"path in the state directory", minimal + "files: [{path: /run/secretsd/lock, contents: x}]\n", `files[0].path: /run/secretsd/lock is a file of the state directory`},
		{"no template", minimal + "files: [{path: /a}]\n", `files[0]: give either template (a file) or contents`},
		{"template and contents", minimal + "files: [{path: /a, template: b, contents: c}]\n", `files[0]: give either template (a file) or contents`},
		{"one delimiter", minimal + "files: [{path: /a, contents: x, delims: ['[[']}]\n", `files[0].delims: want two delimiters`},
		{"missing_key", minimal + "files: [{path: /a, contents: x, missing_key: print}]\n", `files[0].missing_key: want error or zero, not "print"`},
		{"unknown target", minimal + "files: [{path: /a, contents: x, notify: [app]}]\n", `files[0].notify: there is no target "app"`},
		{"expect of no key", "secrets: [{id: a, expect: {keys: ['']}}]\n", `secrets[0].expect.keys: no key is called that`},
		{"expect of half a pair", "secrets: [{id: a, expect: {pem_pair: {key: k}}}]\n", `secrets[0].expect.pem_pair: want the keys of a certificate`},
		{"expect of too much", "secrets: [{id: a, expect: {min_bytes: 65537}}]\n", `secrets[0].expect.min_bytes: a secret has 1 to 65536 bytes`},
		{"method", minimal + "files: [{path: /a, contents: x, method: truncate}]\n", `files[0].method: want rename or inplace, not "truncate"`},
		{"backup in place", minimal + "files: [{path: /a, contents: x, method: inplace, backup: true}]\n", `files[0].backup: not with method: inplace`},
		{"check of nothing", minimal + "files: [{path: /a, contents: x, check: {}}]\n", `files[0].check.command: missing`},
		{"environment variable", minimal + "files: [{path: /a, contents: x, allow_env: [1A]}]\n", `files[0].allow_env: "1A" is no name`},
		{"variable from nowhere", minimal + "vars: {host: {env: a-b}}\n", `agent.yaml:3: vars.host.env: "a-b" is no name`},
		{"on exit", minimal + "on_exit: burn\n", `on_exit: want keep or remove, not "burn"`},
		{"bundle without files", minimal + "bundles: [{dir: /b}]\n", `agent.yaml:3: bundles[0]: it has no files`},
		{"bundle without a directory", minimal + "bundles: [{explode: a}]\n", `bundles[0].dir: missing`},
		{"bundle twice", minimal + "bundles: [{dir: /b, explode: a}, {dir: /b, explode: a}]\n", `bundles[1].dir: /b is already the directory of bundles[0]`},
		{"bundle with a file out of it", minimal + "bundles: [{dir: /b, files: [{path: ../x, contents: x}]}]\n", `bundles[0].files[0].path: ../x leads out`},
		{"bundle with a name of its own", minimal + "bundles: [{dir: /b, files: [{path: a/..data, contents: x}]}]\n", `bundles[0].files[0].path: a/..data`},
		{"bundle with a file twice", minimal + "bundles: [{dir: /b, files: [{path: x, contents: x}, {path: x, contents: y}]}]\n", `bundles[0].files[1].path: x is already the path of files[0]`},
		{"bundle with a file of no template", minimal + "bundles: [{dir: /b, files: [{path: x}]}]\n", `bundles[0].files[0]: give either template`},
		{"explode without a place for the key", minimal + "bundles: [{dir: /b, explode: {secret: a, name: x}}]\n", `bundles[0].explode.name: "x" has no {}`},
		{"bundle for nobody", minimal + "bundles: [{dir: /b, explode: a, notify: [x]}]\n", `bundles[0].notify: there is no target "x"`},
		{"file in a bundle", minimal + "bundles: [{dir: /b, explode: a}]\nfiles: [{path: /b/x, contents: x}]\n", `files[0].path: /b/x lies in the directory of bundles[0]`},
		{"target without a name", minimal + "targets: [{command: [/bin/true]}]\n", `targets[0].name: missing`},
		{"target twice", minimal + "targets: [{name: a, command: [/x]}, {name: a, command: [/y]}]\n", `targets[1].name: "a" is already the name of targets[0]`},
		{"target of nothing", minimal + "targets: [{name: a}]\n", `targets[0]: nothing to tell`},
		{"target of two kinds", minimal + "targets: [{name: a, command: [/x], process: {pid_file: /p}}]\n", `targets[0]: give process, command, http or unit, and only one of them`},
		{"signal for a command", minimal + "targets: [{name: a, command: [/x], signal: HUP}]\n", `targets[0].signal: only a process can be sent a signal`},
		{"process of nothing", minimal + "targets: [{name: a, process: {}}]\n", `targets[0].process: give one of pid_file, exe, argv0, cgroup, unit and child: true`},
		{"endpoint without a token", minimal + "endpoint: {}\n", `agent.yaml:3: endpoint: there is no token_file, nor token_env`},
		{"two tokens", minimal + "endpoint: {token_file: /t, token_env: [A]}\n", `give token_file or token_env, not both`},
		{"endpoint on the network", minimal + "endpoint: {token_file: /t, listen: 0.0.0.0:2773}\n", `endpoint.listen: 0.0.0.0:2773 is not a loopback address`},
		{"endpoint anywhere, by what name", minimal + "endpoint: {token_file: /t, listen: 0.0.0.0:2773, unsafe_any_address: true}\n", `agent.yaml:3: endpoint.allowed_hosts: names none of the hosts`},
		{"endpoint anywhere, on a name", minimal + "endpoint: {token_file: /t, listen: example.com:2773, unsafe_any_address: true, allowed_hosts: [example.com]}\n", `endpoint.listen: example.com:2773 is not an address`},
		{"endpoint on a name", minimal + "endpoint: {token_file: /t, listen: example.com:2773}\n", `is not a loopback address`},
		{"endpoint without a port", minimal + "endpoint: {token_file: /t, listen: 127.0.0.1}\n", `endpoint.listen: "127.0.0.1" is no address`},
		{"token mode", minimal + "endpoint: {token_file: {path: /t, mode: \"0444\"}}\n", `endpoint.token_file.mode: want "0400" or "0440"`},
		{"prefix", minimal + "endpoint: {token_file: /t, path_prefix: v1}\n", `endpoint.path_prefix: "v1" does not begin with /`},
		{"no connections", minimal + "endpoint: {token_file: /t, max_connections: 0}\n", `endpoint.max_connections: want at least 1`},
		{"any signature for nobody", minimal + "endpoint:\n  clients: [{name: a, token_file: /a, secrets: [x]}]\n  unsafe_any_signature: true\n", `agent.yaml:5: endpoint.unsafe_any_signature: there is no token_file, nor token_env, so that nobody's rights would apply`},
		{"any signature over a socket", minimal + "endpoint: {token_file: /t, socket: {path: /s}, unsafe_any_signature: true}\n", `agent.yaml:3: endpoint.unsafe_any_signature: it is about programs that come over TCP`},
		{"any signature from anywhere", minimal + "endpoint: {token_file: /t, listen: 0.0.0.0:1, allowed_hosts: [x], unsafe_any_address: true, unsafe_any_signature: true}\n", `agent.yaml:3: endpoint.unsafe_any_signature: not together with unsafe_any_address`},
		{"client without a name", client("token_file: /a, secrets: [x]"), `endpoint.clients[0].name: "" is no name`},
		{"client with a path for a name", client("name: a/b, token_file: /a, secrets: [x]"), `"a/b" is no name`},
		{"client called default", client("name: default, token_file: /a, secrets: [x]"), `agent.yaml:3: endpoint.clients[0].name: default is what logs call`},
		{"client twice", client("name: a, token_file: /a, secrets: [x]}, {name: a, token_file: /b, secrets: [x]"), `endpoint.clients[1].name: "a" is already the name of endpoint.clients[0]`},
		{"client without a token", client("name: a, secrets: [x]"), `endpoint.clients[0]: there is no token_file, nor uids or gids`},
		{"client with another's file", client("name: a, token_file: /a, secrets: [x]}, {name: b, token_file: /a, secrets: [x]"), `endpoint.clients[1].token_file: /a is already that of endpoint.clients[0]`},
		{"client with the top level's file", minimal + "endpoint: {token_file: /a, clients: [{name: b, token_file: /a, secrets: [x]}]}\n", `/a is already that of endpoint.token_file`},
		{"client with a relative file", client("name: a, token_file: a, secrets: [x]"), `endpoint.clients[0].token_file: "a" is not an absolute path`},
		{"client with a loose file", client("name: a, token_file: {path: /a, mode: '0404'}, secrets: [x]"), `endpoint.clients[0].token_file.mode: want`},
		{"client without secrets", client("name: a, token_file: /a"), `endpoint.clients[0].secrets: it may read none`},
		{"client with a blank pattern", client("name: a, token_file: /a, secrets: ['']"), `endpoint.clients[0].secrets: "" matches no secret`},
		{"client with a negative uid", minimal + "endpoint: {socket: {path: /s}, clients: [{name: a, uids: [-1], secrets: [x]}]}\n", `endpoint.clients[0].uids: -1 is no id`},
		{"uids without a socket", client("name: a, uids: [1], secrets: [x]"), `endpoint.clients[0]: uids and gids are known over a socket only`},
		{"socket without a path", minimal + "endpoint: {token_file: /t, socket: {}}\n", `agent.yaml:3: endpoint.socket.path: missing`},
		{"socket that is run", minimal + "endpoint: {token_file: /t, socket: {path: /s, mode: '0777'}}\n", `endpoint.socket.mode: want`},
		{"socket beside the network", minimal + "endpoint: {token_file: /t, socket: {path: /s}, listen: 0.0.0.0:1}\n", `endpoint.listen: 0.0.0.0:1 is not a loopback address`},
		{"nothing on demand", minimal + "endpoint: {token_file: /t, on_demand: {}}\n", `agent.yaml:3: endpoint.on_demand.secrets: none may be read`},
		{"no room on demand", minimal + "endpoint: {token_file: /t, on_demand: {secrets: [a], max_entries: 0}}\n", `endpoint.on_demand.max_entries: want at least 1`},
		{"short interval on demand", minimal + "endpoint: {token_file: /t, on_demand: {secrets: [a], interval: 1ms}}\n", `endpoint.on_demand.interval: 1ms is less than 100ms`},
		{"no roles at a time", minimal + "endpoint: {token_file: /t, on_demand: {secrets: [a], roles: ['*'], max_roles: 0}}\n", `agent.yaml:3: endpoint.on_demand.max_roles: want at least 1`},
		{"name of a role on demand", minimal + "endpoint:\n  token_file: /t\n  on_demand:\n    secrets: [a]\n    roles:\n    - '*'\n    - app\n", `agent.yaml:9: endpoint.on_demand.roles: "app" matches no role`},
		{"client with the name of a role", minimal + "endpoint: {on_demand: {secrets: [a], roles: ['*']}, clients: [{name: a, token_file: /a, secrets: [x], roles: ['app/*']}]}\n", `endpoint.clients[0].roles: "app/*" matches no role`},
		{"client with roles that nobody may assume", client("name: a, token_file: /a, secrets: [x], roles: ['*']"), `agent.yaml:3: endpoint.clients[0].roles: no role is assumed`},
		{"telemetry", minimal + "telemetry: {listen: nowhere}\n", `telemetry.listen: "nowhere" is no address`},
		{"log level", minimal + "log: {level: loud}\n", `agent.yaml:3: log.level: want debug, info, warn or error, not "loud"`},
		{"log format", minimal + "log: {format: xml}\n", `log.format: want text or json, not "xml"`},
		{"relative state", minimal + "state_dir: state\n", `agent.yaml:3: state_dir: "state" is not an absolute path`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := config.Parse("agent.yaml", []byte(tt.yaml))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			if c == nil {
				t.Error("the caller gets no configuration to look for further faults in")
			}
			var placed *config.Error
			if !errors.As(err, &placed) || placed.Place == "" {
				t.Errorf("the fault has no place: %v", err)
			}
		})
	}
}

// TestRolesThatMayBeAssumed holds what is right about roles: with on_demand.roles,
// and with a configured secret that is read with one.
func TestRolesThatMayBeAssumed(t *testing.T) {
	const clients = "clients: [{name: a, token_file: /a, secrets: [x], roles: ['arn:aws:iam::*:role/app/*']}]"
	for _, text := range []string{
		"source: {aws: {external_id: x}}\n" + minimal + "endpoint: {on_demand: {secrets: [a], roles: ['*']}, " + clients + "}\n",
		"secrets: [{id: a, role_arn: 'arn:aws:iam::123456789012:role/app/a'}]\nendpoint: {" + clients + "}\n",
	} {
		c, err := config.Parse("agent.yaml", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if d := c.Endpoint.OnDemand; d != nil && d.MaxRoles != 20 {
			t.Errorf("max_roles is %d where it is not given", d.MaxRoles)
		}
		if roles := c.Endpoint.Clients[0].Roles; len(roles) != 1 {
			t.Errorf("the client's roles are %v", roles)
		}
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	_, err := config.Parse("agent.yaml", []byte(`
refresh: {intervall: 1m}
secrets:
  - {id: 'a b'}
  - {name: x}
files:
  - {path: rel, mode: 400}
log: {level: loud}
`))
	for _, want := range []string{"agent.yaml:2: unknown key refresh.intervall", "agent.yaml:4:", "agent.yaml:5:", "agent.yaml:7: files[0].path", "agent.yaml:7: files[0].mode", "agent.yaml:8:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not among\n%v", want, err)
		}
	}
}

func TestUnknownKeyNamesTheOneThatWasMeant(t *testing.T) {
	_, err := config.Parse("agent.yaml", []byte("refresh: {intervall: 1m}\n"+minimal))
	var placed *config.Error
	if !errors.As(err, &placed) || placed.Hint() != "did you mean interval?" {
		t.Errorf("the hint is %q", placed.Hint())
	}
}

// TestExampleLoads keeps agent.yaml.example true: it is valid, and it shows
// every key there is.
func TestExampleLoads(t *testing.T) {
	path := filepath.Join("..", "..", "agent.yaml.example")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := config.Parse(path, data); err != nil {
		t.Errorf("agent.yaml.example is not valid:\n%v", err)
	}
	for _, key := range config.Keys() {
		name := key[strings.LastIndexByte(key, '.')+1:]
		if !slices.ContainsFunc(strings.Split(string(data), "\n"), func(line string) bool {
			line = strings.TrimLeft(strings.TrimSpace(line), "#- {")
			return strings.HasPrefix(line, name+":") || strings.Contains(line, " "+name+":") || strings.Contains(line, "{"+name+":")
		}) {
			t.Errorf("agent.yaml.example does not show %s", key)
		}
	}
}

func TestOnlyTrustedFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.yaml")
	if err := os.WriteFile(path, []byte(minimal), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path); err != nil {
		t.Fatalf("a file that only its owner can write is refused: %v", err)
	}
	for _, tt := range []struct {
		name  string
		spoil func() error
		want  string
	}{
		{"others write it", func() error { return os.Chmod(path, 0o646) }, "users other than root and the agent's can write it"},
		{"the group writes it", func() error { return os.Chmod(path, 0o664) }, "users other than root and the agent's can write it"},
		{"others write the directory", func() error { return errors.Join(os.Chmod(path, 0o644), os.Chmod(dir, 0o777)) }, "trust directory"},
		{"the group writes the directory", func() error { return os.Chmod(dir, 0o770) }, "trust directory"},
		{"others write a directory above", func() error {
			above := filepath.Join(dir, "above")
			target := filepath.Join(above, "conf", "agent.yaml")
			return errors.Join(os.Chmod(dir, 0o700), os.MkdirAll(filepath.Dir(target), 0o700), os.WriteFile(target, []byte(minimal), 0o600),
				os.Chmod(above, 0o777), os.Remove(path), os.Symlink(target, path))
		}, "trust directory"},
		{"it is a named pipe", func() error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) }, "not a regular file"},
		{"it is a link into a directory that others write", func() error {
			open := filepath.Join(t.TempDir(), "open")
			target := filepath.Join(open, "agent.yaml")
			return errors.Join(os.Chmod(dir, 0o700), os.Mkdir(open, 0o700), os.WriteFile(target, []byte(minimal), 0o600),
				os.Chmod(open, 0o777), os.Remove(path), os.Symlink(target, path))
		}, "trust directory"},
		{"it is a directory", func() error { return errors.Join(os.Chmod(dir, 0o700), os.Remove(path), os.Mkdir(path, 0o700)) }, "not a regular file"},
		{"it is missing", func() error { return os.Remove(path) }, "open file: no such file or directory"},
	} {
		if err := tt.spoil(); err != nil {
			t.Fatal(err)
		}
		if c, err := config.Load(path); err == nil || !strings.Contains(err.Error(), tt.want) || c != nil {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
	if os.Geteuid() != 0 {
		t.Log("that another user's file is refused needs root to be tried")
		return
	}
	if err := os.WriteFile(path, []byte(minimal), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 65534, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path); err == nil || !strings.Contains(err.Error(), "it belongs to uid 65534") {
		t.Errorf("another user's file is read: %v", err)
	}
}

// FuzzParse: no file makes the parser panic or accept what validation would
// not, and every fault has a place.
func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte("secrets: [{id: a}]\nfiles: [{path: /a, contents: &x y, notify: [*x]}]\n"))
	f.Add([]byte("a: &a [*a]\nsecrets: *a\n"))
	if data, err := os.ReadFile(filepath.Join("..", "..", "agent.yaml.example")); err == nil {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse("agent.yaml", data)
		if c == nil {
			t.Fatal("no configuration")
		}
		if err == nil && len(c.Secrets) == 0 {
			t.Error("accepted without a secret")
		}
		if err != nil && !strings.HasPrefix(err.Error(), "agent.yaml") {
			t.Errorf("a fault without its place: %v", err)
		}
	})
}
