package wcp_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent"
	"secretsd/agent/config"
	"secretsd/cmd/secretsd/internal/wcp"
)

func convert(t *testing.T, toml string) (string, *config.Config) {
	t.Helper()
	text, err := wcp.Convert("config.toml", []byte(toml))
	if err != nil {
		t.Fatalf("convert: %v\n%s", err, toml)
	}
	c, err := config.Parse("agent.yaml", text)
	if err != nil {
		t.Fatalf("the result does not load: %v\n%s", err, text)
	}
	return string(text), c
}

// TestWholeFiles compares what is printed, comments and all: it is read by
// people, who decide by it.
func TestWholeFiles(t *testing.T) {
	for _, name := range []string{"flat", "nested"} {
		input, err := os.ReadFile(filepath.Join("testdata", name+".toml"))
		if err != nil {
			t.Fatal(err)
		}
		got, _ := convert(t, string(input))
		compare(t, name+".yaml", got)
	}
	got, err := wcp.Defaults()
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "defaults.yaml", string(got))
}

func compare(t *testing.T, name, got string) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", name, diff)
	}
}

// TestMeaning holds for each key of AWS's agent what it becomes.
func TestMeaning(t *testing.T) {
	type row struct {
		name, toml string
		got        func(*config.Config) any
		want       any
	}
	const service, cache = "[capabilities.secrets_manager]\n", "[capabilities.secrets_manager.cache]\n"
	const prefetch = "[capabilities.secrets_manager.prefetch]\n"
	endpoint := func(c *config.Config) config.Endpoint { return *c.Endpoint }
	demand := func(c *config.Config) config.OnDemand { return *c.Endpoint.OnDemand }
	for _, r := range []row{
		{"port", service + "http_port = 1024", func(c *config.Config) any { return endpoint(c).Listen }, "127.0.0.1:1024"},
		{"port of the system's choice", `http_port = "0"`, func(c *config.Config) any { return endpoint(c).Listen }, "127.0.0.1:0"},
		{"TTL of hours", "ttl_seconds = 3600", func(c *config.Config) any { return demand(c).Interval.Std() }, time.Hour},
		{"TTL of minutes", cache + "ttl_seconds = 120", func(c *config.Config) any { return demand(c).Interval.Std() }, 2 * time.Minute},
		{"TTL of seconds", cache + "ttl_seconds = 61", func(c *config.Config) any { return demand(c).Interval.Std() }, 61 * time.Second},
		{"TTL 0", "ttl_seconds = 0", func(c *config.Config) any { return demand(c).Interval.Std() }, 100 * time.Millisecond},
		{"TTL 0 leaves configured secrets alone", "ttl_seconds = 0", func(c *config.Config) any { return c.Refresh.Interval.Std() }, 5 * time.Minute},
		{"TTL of configured secrets", "ttl_seconds = 7", func(c *config.Config) any { return c.Refresh.Interval.Std() }, 7 * time.Second},
		{"cache size", cache + "cache_size = 1", func(c *config.Config) any { return demand(c).MaxEntries }, 1},
		{"any secret", "", func(c *config.Config) any { return demand(c).Secrets }, []string{"*"}},
		{"any role", "", func(c *config.Config) any { return demand(c).Roles }, []string{"*"}},
		{"roles", service + "max_roles = 1", func(c *config.Config) any { return demand(c).MaxRoles }, 1},
		{"connections", service + "max_conn = 1000", func(c *config.Config) any { return endpoint(c).MaxConnections }, 1000},
		{"headers", `ssrf_headers = ["X-A", "X-B"]`, func(c *config.Config) any { return endpoint(c).TokenHeaders }, []string{"X-A", "X-B"}},
		{"headers no request can have", `ssrf_headers = ["", "Host", "X-B", "é"]`, func(c *config.Config) any { return endpoint(c).TokenHeaders }, []string{"X-B"}},
		{"token", `ssrf_env_variables = ["B", "no", "null", "ö\n"]`, func(c *config.Config) any { return endpoint(c).TokenEnv }, []string{"B", "no", "null", "ö\n"}},
		{"prefix", service + `path_prefix = "/x"`, func(c *config.Config) any { return endpoint(c).PathPrefix }, "/x"},
		{"prefix no request can have", `path_prefix = "/a b"`, func(c *config.Config) any { return endpoint(c).PathPrefix }, "/v1/"},
		{"Region", `region = "eu-north-1"`, func(c *config.Config) any { return c.Source.AWS.Region }, "eu-north-1"},
		{"no Region of that name", service + `region = "Mars"`, func(c *config.Config) any { return c.Source.AWS.Region }, ""},
		{"credentials", `credentials_file_path = "a: b"`, func(c *config.Config) any { return c.Source.AWS.CredentialsFile }, "a: b"},
		{"errors ignored", "", func(c *config.Config) any { return c.Refresh.MaxStale.Std() }, 24 * time.Hour},
		{"errors not ignored", "ignore_transient_errors = false", func(c *config.Config) any { return c.Refresh.MaxStale.Std() }, 10 * time.Minute},
		{"errors not ignored, TTL 0", "ignore_transient_errors = false\nttl_seconds = 0", func(c *config.Config) any { return c.Refresh.MaxStale.Std() }, time.Second},
		{"log", "[logging]\nlog_level = \"DeBuG\"", func(c *config.Config) any { return c.Log.Level }, "debug"},
		{"no log", `log_level = "none"`, func(c *config.Config) any { return c.Log.Level }, "error"},
		{"no prefetch", "", func(c *config.Config) any { return len(c.Secrets) }, 0},
		{"prefetch", prefetch + `secrets = [{secret_id = "a"}]`, func(c *config.Config) any { return c.Secrets[0].ID }, "a"},
		{"prefetch need not work", prefetch + `secrets = [{secret_id = "a"}]`, func(c *config.Config) any { return c.Secrets[0].IsRequired() }, false},
		{"prefetch with TTL 0", "ttl_seconds = 0\n[prefetch]\nsecrets = [{secret_id = \"a\"}]", func(c *config.Config) any { return len(c.Secrets) }, 0},
		// A configured secret with a role would be served without roleArn, too.
		{"prefetch by a role", prefetch + `secrets = [{secret_id = "a", role_arn = "arn:aws:iam::123456789012:role/r"}]`, func(c *config.Config) any { return len(c.Secrets) }, 0},
		{"a list for a table", "capabilities.secrets_manager.cache = [9, 8, 7]", func(c *config.Config) any { return demand(c).MaxEntries }, 8},
	} {
		_, c := convert(t, r.toml)
		if diff := cmp.Diff(r.want, r.got(c)); diff != "" {
			t.Errorf("%s: %s becomes something else (-want +got):\n%s", r.name, r.toml, diff)
		}
	}
}

// TestNothingIsDroppedSilently gives each key that AWS's agent has, in either
// layout, and holds that the result shows it.
func TestNothingIsDroppedSilently(t *testing.T) {
	values := map[string]string{
		"log_level": `"debug"`, "log_to_file": "false", "http_port": "4000", "ttl_seconds": "1", "cache_size": "1", "max_conn": "1", "max_roles": "1",
		"ssrf_headers": `["X-A"]`, "ssrf_env_variables": `["A"]`, "path_prefix": `"/"`, "region": `"eu-west-1"`, "credentials_file_path": `"/a"`,
		"ignore_transient_errors": "false", "validate_credentials": "false", "cache_buffer_ratio": "0.1", "max_jitter_seconds": "1",
		"filter_tags": `[{key = "a"}]`, "secrets": `[{secret_id = "a"}]`,
	}
	plain, err := wcp.Defaults()
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(plain), "source:")
	const service = "capabilities.secrets_manager."
	for key, value := range values {
		path, flat := service+key, key
		switch key {
		case "log_level", "log_to_file":
			path = "logging." + key
		case "ttl_seconds", "cache_size":
			path = service + "cache." + key
		case "ssrf_headers", "ssrf_env_variables":
			path = service + "security." + key
		case "cache_buffer_ratio", "max_jitter_seconds", "filter_tags", "secrets":
			path, flat = service+"prefetch."+key, "prefetch."+key
		}
		var bodies []string
		for _, layout := range []string{path, flat} {
			text, _ := convert(t, layout+" = "+value+"\n")
			_, got, _ := strings.Cut(text, "source:")
			if got == body {
				t.Errorf("%s = %s changes nothing", layout, value)
			}
			bodies = append(bodies, got)
		}
		if diff := cmp.Diff(bodies[0], bodies[1]); diff != "" {
			t.Errorf("%s and %s mean different things (-nested +flat):\n%s", path, flat, diff)
		}
	}
	text, _ := convert(t, `[capabilities.acm]
certificates = [{certificate_arn = "arn:aws:acm:us-west-2:123456789012:certificate/x", certificate_path = "/a/b", private_key_path = "/a/c", role_arn = "arn:aws:iam::123456789012:role/r"}]`)
	for _, want := range []string{"acm has no counterpart", "certificate/x", "/a/b", "/a/c"} {
		if !strings.Contains(text, want) {
			t.Errorf("a certificate leaves out %q:\n%s", want, text)
		}
	}
}

// TestTagsAreFoundByTheCommandLine: the command is to be copied into a shell,
// so nothing of the file may get into it that a shell reads in another way.
func TestTagsAreFoundByTheCommandLine(t *testing.T) {
	text, _ := convert(t, `region = "us-west-2"
[prefetch]
filter_tags = [{key = "team"}, {key = "a'; rm -rf ~; '"}, {key = "line\nbreak: x"}, {key = "$HOME", role_arn = "x\ny"}]`)
	for _, want := range []string{
		"\n#   aws secretsmanager list-secrets --region us-west-2 --filters Key=tag-key,Values=team Key=tag-key,Values=KEY Key=tag-key,Values=KEY --query",
		`#     where KEY is "a'; rm -rf ~; '"` + "\n", `#     where KEY is "line\nbreak: x"` + "\n",
		`#   as "x\ny":` + "\n", "--filters Key=tag-key,Values=KEY --query", "#     where KEY is $HOME\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

// TestFaults holds the place of each fault and what it says.
func TestFaults(t *testing.T) {
	const acm = "[[capabilities.acm.certificates]]\ncertificate_arn = \"arn:aws:acm:us-west-2:123456789012:certificate/x\"\n" +
		"certificate_path = \"/a/b\"\nprivate_key_path = \"/a/c\"\nrole_arn = \"arn:aws:iam::123456789012:role/r\"\n"
	for _, tt := range []struct{ name, toml, want, hint string }{
		{"no TOML", "a = \n", "config.toml:1: read TOML: ", ""},
		{"key twice", "region = \"a\"\nregion = \"b\"\n", "config.toml:2: read TOML: ", ""},
		{"unknown key", "\nhttp_prot = 1\n", "config.toml:2: unknown key http_prot", "did you mean http_port?"},
		{"unknown nested key", "[capabilities.secrets_manager]\nmax_conn = 1\n\nmax_con = 1\n", "config.toml:4: unknown key capabilities.secrets_manager.max_con", "did you mean max_conn?"},
		{"key of another table", "[capabilities.secrets_manager]\nttl_seconds = 1\n", "config.toml:2: unknown key capabilities.secrets_manager.ttl_seconds", "its place is capabilities.secrets_manager.cache.ttl_seconds"},
		{"unknown key in a list", "[prefetch]\nsecrets = [\n {secret_id = \"a\"},\n {secret_id = \"b\", role = \"c\"},\n]\n", "config.toml:4: unknown key prefetch.secrets[1].role", "known keys here: secret_id, role_arn"},
		{"odd key", "\"a b\" = 1\n", `config.toml:1: unknown key "a b"`, ""},
		{"flat beside nested", "http_port = 3000\n[logging]\n", "config.toml:1: http_port: flat keys cannot stand beside [logging] and [capabilities]", "write it as capabilities.secrets_manager.http_port"},
		{"port", "[capabilities.secrets_manager]\nhttp_port = 80\n", "config.toml:2: capabilities.secrets_manager.http_port: want 0 or 1024 to 65535, not 80", ""},
		{"port as text", `http_port = "80"`, "config.toml:1: http_port: want 0 or 1024 to 65535, not 80", ""},
		{"port in words", `http_port = "http"`, `config.toml:1: http_port: want 0 or 1024 to 65535, not "http"`, ""},
		{"number as text where it is nested", "[capabilities.secrets_manager]\nhttp_port = \"3000\"\n", `http_port: want a whole number, not "3000"`, ""},
		{"TTL", "ttl_seconds = 3601", "ttl_seconds: want 0 to 3600, not 3601", ""},
		{"no headers", "ssrf_headers = []", "config.toml:1: ssrf_headers: the list is empty", "leave it out for the default, X-Aws-Parameters-Secrets-Token, X-Vault-Token"},
		{"text for a list", `ssrf_headers = "a"`, `ssrf_headers: want a list, not "a"`, ""},
		{"number in a list", "ssrf_headers = [\n\"a\",\n1]", "config.toml:3: ssrf_headers[1]: want text in quotes, not 1", ""},
		{"prefix", `path_prefix = "v1"`, `path_prefix: "v1" does not begin with /`, ""},
		{"level", "[logging]\nlog_level = \"trace\"", `config.toml:2: logging.log_level: want debug, info, warn, error or none, not "trace"`, ""},
		{"word for true", `log_to_file = "yes"`, `log_to_file: want true or false, not "yes"`, ""},
		{"ratio", "[prefetch]\ncache_buffer_ratio = 1.5", "config.toml:2: prefetch.cache_buffer_ratio: want 0.1 to 1, not 1.5", ""},
		{"no id", "[[prefetch.secrets]]\nsecret_id = \"a\"\n[[prefetch.secrets]]\nrole_arn = \"b\"\n", "config.toml:3: prefetch.secrets[1].secret_id: missing", ""},
		{"number for a table", "[capabilities]\nacm = 1979-05-27\n", "config.toml:2: capabilities.acm: want a table of keys, not a date or time", ""},
		{"short list for a table", "[capabilities.secrets_manager]\ncache = [1]\n", "cache: want a table of keys, not a list", ""},
		{"no certificate", "[[capabilities.acm.certificates]]\n", "config.toml:1: capabilities.acm.certificates[0].role_arn: missing", ""},
		{"certificate twice", acm + strings.ReplaceAll(acm, "/a/", "/d/"), "config.toml:7: capabilities.acm.certificates[1].certificate_arn: arn:aws:acm:us-west-2:123456789012:certificate/x is given twice", ""},
		{"path twice", acm + `chain_path = "/a//./b"`, `config.toml:6: capabilities.acm.certificates[0].chain_path: "/a//./b" is already capabilities.acm.certificates[0].certificate_path`, ""},
		{"path with dots", acm + `chain_path = "/a/../d"`, `"/a/../d" is not a plain path`, "write /d"},
		{"relative path", acm + `chain_path = "d"`, `"d" is not an absolute path of a file`, ""},
		{"command", acm + `refresh_command = "/bin/sh; true"`, `"/bin/sh; true" is no command`, ""},
		{"mode", acm + `key_permission = {mode = "0800"}`, `capabilities.acm.certificates[0].key_permission.mode: want an octal mode up to 777, not "0800"`, ""},
		{"serving nobody", "[capabilities.secrets_manager]\nenabled = false", "config.toml:2: capabilities.secrets_manager.enabled: AWS's agent serves no secrets with this file", ""},
		{"headers that cannot be", `ssrf_headers = ["a b"]`, `config.toml:1: ssrf_headers: no request can have a header called one of ["a b"]`, ""},
		{"large", strings.Repeat("#\n", wcp.MaxBytes/2+1), "config.toml: read TOML: larger than 1 MiB", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text, err := wcp.Convert("config.toml", []byte(tt.toml))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			if text != nil {
				t.Errorf("something is printed all the same:\n%s", text)
			}
			var fault *config.Error
			if !errors.As(err, &fault) || tt.hint != "" && fault.Hint() != tt.hint {
				t.Errorf("the hint is %q, want %q", fault.Hint(), tt.hint)
			}
		})
	}
}

func TestAllFaultsAtOnceInOrder(t *testing.T) {
	_, err := wcp.Convert("c.toml", []byte("[logging]\nlog_level = 3\n[capabilities.secrets_manager]\nmax_conn = 0\nhttp_prot = 3000\nregion = []\n[capabilities.secrets_manager.cache]\nttl_seconds = -1\n"))
	const want = `c.toml:2: logging.log_level: want text in quotes, not 3
c.toml:4: capabilities.secrets_manager.max_conn: want 1 to 1000, not 0
c.toml:5: unknown key capabilities.secrets_manager.http_prot
c.toml:6: capabilities.secrets_manager.region: want text in quotes, not a list
c.toml:8: capabilities.secrets_manager.cache.ttl_seconds: want 0 to 3600, not -1`
	if err == nil {
		t.Fatal("accepted")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("the faults differ (-want +got):\n%s", diff)
	}
}

func TestFaultsOfOneLineKeepTheirOrder(t *testing.T) {
	for range 20 {
		_, err := wcp.Convert("c.toml", []byte("capabilities = {e = 1, d = 1, c = 1, b = 1, a = 1}\n"))
		var order []byte
		for line := range strings.Lines(err.Error()) {
			order = append(order, strings.TrimSpace(line)[len("c.toml:1: unknown key capabilities.")])
		}
		if string(order) != "abcde" {
			t.Fatalf("the order is %s", order)
		}
	}
}

// TestNestingCostsNoMoreThanItsLength: a path for each level would cost the
// square.
func TestNestingCostsNoMoreThanItsLength(t *testing.T) {
	const levels = 9000
	for _, toml := range []string{
		strings.Repeat("a.", levels) + "a = 1", "[" + strings.Repeat("a.", levels) + "a]", "a = " + strings.Repeat("[", levels) + strings.Repeat("]", levels),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := wcp.Convert("c.toml", []byte(toml)); err == nil || !strings.Contains(err.Error(), "unknown key a") {
			t.Errorf("got %v", err)
		}
		runtime.ReadMemStats(&after)
		if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 40 {
			t.Errorf("%d levels take %d MiB", levels, mib)
		}
	}
}

// loads holds that secretsd check finds nothing wrong with a converted file
// where it is used: with a token, a Region, and the credentials in place.
func loads(t *testing.T, text []byte) *config.Config {
	t.Helper()
	c, err := config.Parse("/nowhere/agent.yaml", text)
	if err != nil {
		t.Fatalf("the result does not load: %v\n%s", err, text)
	}
	checked := *c
	aws, endpoint := *c.Source.AWS, *c.Endpoint
	aws.CredentialsFile, endpoint.TokenEnv = "", []string{tokenEnv}
	checked.Source.AWS, checked.Endpoint = &aws, &endpoint
	if err := agent.CheckConfig(t.Context(), &checked, agent.Options{}); err != nil {
		t.Fatalf("secretsd check refuses the result: %v\n%s", err, text)
	}
	return c
}

const tokenEnv = "SECRETSD_TEST_TOKEN"

// setUp makes an environment in which a converted file can be checked.
func setUp(setenv func(key, value string)) {
	setenv(tokenEnv, "0123456789abcdef")
	setenv("AWS_REGION", "eu-west-1")
	setenv("AWS_EC2_METADATA_DISABLED", "true")
	setenv("AWS_CONFIG_FILE", os.DevNull)
	setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
}
