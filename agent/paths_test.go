package agent

import (
	"context"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"secretsd/agent/config"
	"secretsd/agent/source/local"
	"secretsd/sinks/files"
)

// TestTheConfigurationRefusesWhatABundleCannotHold holds that the configuration's
// check and the sink agree on paths.
func TestTheConfigurationRefusesWhatABundleCannotHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.StringMatching("[aAbKſK]{1,2}"), rapid.SampledFrom([]string{".", "..", "..x", "a..", "\x01", "\u0085", " ", strings.Repeat("x", 255), strings.Repeat("x", 256)}))
		path := rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(name, 1, 3).Draw(t, "names"), "/") })
		yaml, entries := "secrets: [{id: a}]\nbundles:\n- dir: /run/b\n  files:\n", []files.Entry(nil)
		for _, p := range rapid.SliceOfN(path, 1, 3).Draw(t, "paths") {
			quoted := strings.NewReplacer("\x01", `\x01`, "\u0085", `\x85`).Replace(p)
			yaml += `  - {contents: x, path: "` + quoted + "\"}\n"
			entries = append(entries, files.Entry{Path: p, Mode: 0o400, UID: -1, GID: -1})
		}
		_, err := config.Parse("agent.yaml", []byte(yaml))
		if sink := files.CheckEntries(entries); (err == nil) != (sink == nil) {
			t.Fatalf("the configuration says %v, and the sink %v, of\n%s", err, sink, yaml)
		}
	})
}

func TestCheckFindsWhatCannotBePublishedOrAsked(t *testing.T) {
	long := strings.Repeat("x", 256)
	r := &running{t: t, dir: memoryDir(t), svc: local.New(local.Options{})}
	conf := `
secrets: [{name: db, id: prod/db}]
files:
- {path: DIR/new/` + long + `, contents: x, create_dirs: true}
- {path: DIR/` + long + `/x, contents: x, create_dirs: true}
bundles:
- {dir: DIR/newer/` + long + `, explode: db, create_dirs: true}
endpoint:
  token_file: DIR/token
  socket: {path: DIR/s}
  listen: 127.0.0.1:0
  token_headers:
  - X-Foo
  - via
  - a b
  - Content-Length
`
	err := CheckConfig(context.Background(), r.config(conf), Options{Local: r.svc})
	var invalid *ConfigError
	if !errors.As(err, &invalid) {
		t.Fatalf("got %v", err)
	}
	faults := strings.Split(err.Error(), "\n")
	for i, want := range []string{
		"agent.yaml:4: open " + r.dir + "/new/" + long + ": use path",
		"agent.yaml:5: open " + r.dir + "/" + long + "/x: use path",
		"agent.yaml:7: open bundle " + r.dir + "/newer/" + long + ": use path",
		`agent.yaml:14: endpoint.token_headers: take the token from header "via": requests that have it are refused`,
		`agent.yaml:15: endpoint.token_headers: take the token from header "a b": no header can be called that`,
		`agent.yaml:16: endpoint.token_headers: take the token from header "Content-Length": it has a meaning of its own in HTTP`,
	} {
		if len(faults) != 6 || !strings.Contains(faults[i], want) {
			t.Errorf("%v\nlacks %s in line %d of 6", err, want, i+1)
		}
	}
}
