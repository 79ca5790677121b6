package config_test

import (
	"strings"
	"testing"

	"secretsd/agent/config"
)

const long = "0123456789abcdef"

// TestPathsThatMeet holds what cannot be published, whatever the secrets hold,
// although each part of it is right.
func TestPathsThatMeet(t *testing.T) {
	name := strings.Repeat(long, 16) // 256 bytes
	bundle := func(paths ...string) string {
		list := ""
		for _, p := range paths {
			list += "\n    - {contents: x, path: " + p + "}"
		}
		return minimal + "bundles:\n- dir: /r/b\n  files:" + list + "\n"
	}
	for _, tt := range []struct{ name, yaml, want string }{
		{"directory after its file", bundle("a", "a/b"), "agent.yaml:7: bundles[0].files[1].path: a/b collides with a, the path of files[0]"},
		{"directory before its file", bundle("a/b/c", "a/b"), "agent.yaml:7: bundles[0].files[1].path: a/b collides with a/b/c, the path of files[0]"},
		{"case", bundle("A", "a"), "bundles[0].files[1].path: a collides with A"},
		{"case of a directory", bundle("A/x", "a/y"), "bundles[0].files[1].path: a/y collides with A/x"},
		{"long name in a bundle", bundle("d/" + name), "bundles[0].files[0].path: a name has 256 bytes"},
		{"long path in a bundle", bundle(strings.Repeat(name[:250]+"/", 17) + "x"), "with its directory the path has 4273 bytes"},
		{"control character in a bundle", bundle(`"a\nb"`), `bundles[0].files[0].path: "a\nb" has control characters`},
		{"name for keys", minimal + "bundles: [{dir: /b, explode: {secret: a, name: '../{}'}}]\n", "bundles[0].explode.name: ../key leads out of the directory"},
		{"bundle in the place of a file", bundle("c") + "- {dir: /r/b/c, explode: db}\n", "agent.yaml:7: bundles[1].dir: /r/b/c is taken by bundles[0].files[0]"},
		{"bundle below the link of a file", bundle("x", "c/d") + "- {dir: /r/b/c/e, explode: db}\n", "bundles[1].dir: /r/b/c is taken by bundles[0].files[1]"},
		{"bundle in a generation", bundle("x") + "- {dir: /r/b/..data/y, explode: db}\n", `bundles[1].dir: names that begin with ".." in /r/b are those of bundles[0] itself`},
		{"file below a file", minimal + "files:\n- {path: /r/b, contents: x}\n- {path: /r/b/c/d, contents: x}\n", "agent.yaml:5: files[1].path: /r/b/c/d lies below /r/b, which is already written by files[0]"},
		{"file above a file", minimal + "files:\n- {path: /r/b/c, contents: x}\n- {path: /r/b, contents: x}\n", "agent.yaml:4: files[0].path: /r/b/c lies below /r/b, which is already written by files[1]"},
		{"bundle below a file", minimal + "files: [{path: /r/b, contents: x}]\nbundles: [{dir: /r/b/c, explode: db}]\n", "bundles[0].dir: /r/b/c lies below /r/b, which is already written by files[0]"},
		{"file below the token", minimal + "files: [{path: /t/x, contents: x}]\nendpoint: {token_file: /t}\n", "files[0].path: /t/x lies below /t, which is the endpoint's token file"},
		{"file above the token", minimal + "files: [{path: /t, contents: x}]\nendpoint: {token_file: /t/x}\n", "files[0].path: /t has to be a directory, for /t/x is the endpoint's token file"},
		{"file above the state", minimal + "files: [{path: /run, contents: x}]\n", "files[0].path: /run has to be a directory, for /run/secretsd is the state directory"},
		{"backup in the place of a file", minimal + "files:\n- {path: /b.bak, contents: x}\n- {path: /b, contents: x, backup: true}\n", "agent.yaml:5: files[1].backup: the file's backup would be /b.bak, which is already written by files[0]"},
		{"backup in the place of a bundle", minimal + "files: [{path: /b, contents: x, backup: true}]\nbundles: [{dir: /b.bak, explode: db}]\n", "files[0].backup: the file's backup would be /b.bak, which is already the directory of bundles[0]"},
		{"backup in the place of the token", minimal + "files: [{path: /b, contents: x, backup: true}]\nendpoint: {token_file: /b.bak}\n", "files[0].backup: the file's backup would be /b.bak, which is the endpoint's token file"},
		{"two backups", minimal + "files: [{path: /b, contents: x, backup: true}, {path: /b.bak, contents: x, backup: true}]\n", "files[0].backup: the file's backup would be /b.bak, which is already written by files[1]"},
		{"file below a backup", minimal + "files: [{path: /b, contents: x, backup: true}, {path: /b.bak/c, contents: x}]\n", "files[1].path: /b.bak/c lies below /b.bak, which is the backup of files[0]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Parse("agent.yaml", []byte(tt.yaml))
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %s alone", err, tt.want)
			}
		})
	}
}

// TestPathsSideBySide holds that what can be published is not refused.
func TestPathsSideBySide(t *testing.T) {
	parse(t, minimal+`
files:
- {path: /r/a, contents: x, backup: true}
- {path: /r/A, contents: x}
- {path: /r/a.b/c, contents: x}
- {path: /r/ab, contents: x}
- {path: /run/secretsd/x/y, contents: x}
- {path: /t/x, contents: x}
bundles:
- {dir: /r/b, files: [{path: a/b, contents: x}, {path: a/c, contents: x}, {path: ab, contents: x}, {path: a.b, contents: x}]}
- {dir: /r/b/c, files: [{path: a, contents: x}]}
- {dir: /r/b/c/d, explode: {secret: db, name: "x/{}.txt"}}
- {dir: /r/bb, files: [{path: `+strings.Repeat(long, 16)[:255]+`, contents: x}]}
endpoint: {token_file: /t/token}
`)
}

func TestOneAddressForTwo(t *testing.T) {
	head := "source: {local: {listen: 'LOCAL'}}\n" + minimal + "endpoint: {token_file: /t, listen: 'ENDPOINT'}\ntelemetry: {listen: 'TELEMETRY'}\n"
	for _, tt := range []struct{ local, endpoint, telemetry, want string }{
		{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", ""},
		{"127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", ""},
		{"127.0.0.1:1", "[::1]:1", "127.0.0.2:1", ""},
		{"127.0.0.1:1", "127.0.0.1:2", "node.example:2", ""},
		{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:2", "agent.yaml:5: telemetry.listen: 127.0.0.1:2 is taken by endpoint.listen, 127.0.0.1:2"},
		{"127.0.0.1:1", "localhost:2", "127.0.0.1:2", "telemetry.listen: 127.0.0.1:2 is taken by endpoint.listen, localhost:2"},
		{"127.0.0.1:1", "127.0.0.1:2", ":02", "telemetry.listen: :02 is taken by endpoint.listen"},
		{"127.0.0.1:1", "[::1]:2", "0.0.0.0:2", "telemetry.listen: 0.0.0.0:2 is taken by endpoint.listen"},
		{"localhost:2", "127.0.0.1:2", "127.0.0.1:3", "agent.yaml:1: source.local.listen: localhost:2 is taken by endpoint.listen"},
		{"127.0.0.1:3", "127.0.0.1:2", "[::]:3", "source.local.listen: 127.0.0.1:3 is taken by telemetry.listen"},
	} {
		yaml := strings.NewReplacer("LOCAL", tt.local, "ENDPOINT", tt.endpoint, "TELEMETRY", tt.telemetry).Replace(head)
		_, err := config.Parse("agent.yaml", []byte(yaml))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%+v: got %v", tt, err)
		}
	}
}

// TestPathsOfTheEndpoint holds that no secret is hidden by the endpoint's own
// paths, and that a prefix beside them is fine.
func TestPathsOfTheEndpoint(t *testing.T) {
	for _, tt := range []struct{ secret, prefix, want string }{
		{"ping", "/", "agent.yaml:2: endpoint.path_prefix: secrets[0] cannot be read at /ping, which is the endpoint's own"},
		{"secrets", "/secretsd/", "secrets[0] cannot be read at /secretsd/secrets"},
		{"{name: get, id: db}", "/secretsmanager/", "secrets[0] cannot be read at /secretsmanager/get"},
		{"ping", "/v1/", ""},
		{"db", "/", ""},
		{"db", "/ping", ""},
		{"db", "/secretsd/", ""},
	} {
		entry := tt.secret
		if !strings.HasPrefix(entry, "{") {
			entry = "{id: " + entry + "}"
		}
		_, err := config.Parse("agent.yaml", []byte("secrets: ["+entry+"]\nendpoint: {token_file: /t, path_prefix: "+tt.prefix+"}\n"))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%+v: got %v", tt, err)
		}
	}
}
