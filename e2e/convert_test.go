package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"secretsd/agent/source/local"
)

const certificate = `
[[capabilities.acm.certificates]]
certificate_arn = "arn:aws:acm:us-west-2:123456789012:certificate/x"
certificate_path = "/etc/x.pem"
private_key_path = "/etc/x.key"
role_arn = "arn:aws:iam::123456789012:role/r"
`

// wcpFiles are configurations that AWS's agent accepts or refuses.
var wcpFiles = []struct {
	accepted bool
	toml     string
}{
	{true, ""},
	{true, "\xef\xbb\xbf# a byte order mark\r\n"},
	{true, "[capabilities]\n[logging]\n"},
	{true, "\"http_port\" = 0x0AD5\nttl_seconds = 3_6_0_0\n"},
	{true, "http_port = \"+2773\"\nttl_seconds = \"00300\"\ncache_size = \"1\"\nmax_conn = \"1000\"\nmax_roles = \"20\"\n"},
	{true, "http_port = \"0\"\nlog_level = \"WaRn\"\nlog_to_file = false\n"},
	{true, "capabilities.secrets_manager = {http_port = 65535, cache = {ttl_seconds = 0,\n cache_size = 1000,}} # TOML 1.1\n"},
	{true, "capabilities.secrets_manager.cache = [3600, 1, \"more\"]\n"},
	{true, "[capabilities.secrets_manager]\nprefetch = [1, 10]\n"},
	{true, "ssrf_headers = [\"X-A\", \"\"]\nssrf_env_variables = [\"AWS_TOKEN\", \"\"]\npath_prefix = \"/\\u0000\\e\"\nregion = \"\"\ncredentials_file_path = \"\"\n"},
	{true, "[prefetch]\ncache_buffer_ratio = 0.09999999999\nsecrets = [{secret_id = \"\"}, [\"a\", \"b\"]]\nfilter_tags = [{key = \"\"}]\n"},
	{true, "max_roles = {}\n[prefetch]\ncache_buffer_ratio = nan\nmax_jitter_seconds = 11\n[logging]\n"},
	{true, certificate + "refresh_command = \" /bin/x -y \"\nkey_permission = {mode = \"+777\"}\ncertificate_and_chain_permission = [\"0\"]\nchain_path = \"//etc/./z\"\n"},
	{true, certificate + "chain_path = \"/etc/..\"\n"},
	{true, "[capabilities.acm]\nenabled = false\ncertificates = []\n"},

	{false, "http_port ="},
	{false, "region = \"a\"\nregion = \"a\"\n"},
	{false, "region = \"\xff\"\n"},
	{false, "# \x01\n"},
	{false, "http_prot = 2773\n"},
	{false, "HTTP_PORT = 2773\n"},
	{false, "[capabilities.secrets_manager]\nttl_seconds = 300\n"},
	{false, "[capabilities.acme]\n"},
	{false, "http_port = 1023\n"},
	{false, "http_port = 65536\n"},
	{false, "http_port = \"00\"\n"},
	{false, "http_port = \" 2773\"\n"},
	{false, "http_port = 2773.0\n"},
	{false, "http_port = true\n"},
	{false, "http_port = 2773\n[logging]\n"},
	{false, "log_level = \"info\"\n[capabilities]\n"},
	{false, "[capabilities.secrets_manager]\nhttp_port = \"2773\"\n"},
	{false, "ttl_seconds = 3601\n"},
	{false, "ttl_seconds = -1\n"},
	{false, "cache_size = 0\n"},
	{false, "cache_size = 1001\n"},
	{false, "max_conn = 0\n"},
	{false, "max_conn = 1001\n"},
	{false, "max_roles = 0\n"},
	{false, "max_roles = 21\n"},
	{false, "[capabilities.secrets_manager]\nmax_roles = 21\n"},
	{false, "[capabilities.secrets_manager]\nenabled = 1\n"},
	{false, "[capabilities.secrets_manager]\ncache = [300]\n"},
	{false, "ssrf_headers = []\n"},
	{false, "ssrf_headers = \"X-A\"\n"},
	{false, "ssrf_env_variables = []\n"},
	{false, "ssrf_env_variables = [1]\n"},
	{false, "path_prefix = \"v1/\"\n"},
	{false, "path_prefix = \"\"\n"},
	{false, "region = 1\n"},
	{false, "log_level = \"trace\"\n"},
	{false, "log_level = \" info\"\n"},
	{false, "log_level = \"\u0130nfo\"\n"},
	{false, "log_to_file = \"true\"\n"},
	{false, "ignore_transient_errors = 0\n"},
	{false, "[prefetch]\ncache_buffer_ratio = 0.09\n"},
	{false, "[prefetch]\ncache_buffer_ratio = nan\n"},
	{false, "[prefetch]\nmax_jitter_seconds = 11\n"},
	{false, "[prefetch]\nmax_jitter_seconds = 1.0\n"},
	{false, "[prefetch]\nsecrets = [{role_arn = \"a\"}]\n"},
	{false, "[prefetch]\nsecrets = [\"a\"]\n"},
	{false, "[prefetch]\nfilter_tags = [{key = \"a\", value = \"b\"}]\n"},
	{false, "[prefetch]\nsecrets = [{}]\n[logging]\n"},
	{false, certificate + certificate},
	{false, strings.Replace(certificate, "role_arn", "#", 1)},
	{false, strings.Replace(certificate, "role/r", "user/r", 1)},
	{false, strings.Replace(certificate, ":acm:", ":iam:", 1)},
	{false, strings.Replace(certificate, "/etc/x.pem", "etc/x.pem", 1)},
	{false, strings.Replace(certificate, "/etc/x.pem", "/etc/../etc/x.pem", 1)},
	{false, strings.Replace(certificate, "/etc/x.pem", "/etc//x.key", 1)},
	{false, certificate + "refresh_command = \"reload\"\n"},
	{false, certificate + "refresh_command = \"/bin/x; y\"\n"},
	{false, certificate + "key_permission = {mode = \"1000\"}\n"},
	{false, certificate + "key_permission = {mode = 600}\n"},
}

// TestConvertAcceptsWhatAWSsAgentAccepts converts each file, lets check look at
// the result, and asks AWS's agent itself where it is there.
func TestConvertAcceptsWhatAWSsAgentAccepts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three programs for each file; left out by -short")
	}
	dir := t.TempDir()
	file, converted := filepath.Join(dir, "config.toml"), filepath.Join(dir, "agent.yaml")
	env := cleanEnv("AWS_TOKEN=0123456789abcdef")
	for _, row := range wcpFiles {
		write(t, file, row.toml)
		text, code := runTo(t, env, "convert", "wcp", file)
		if want := map[bool]int{true: 0, false: 3}[row.accepted]; code != want {
			t.Errorf("the exit code is %d, want %d:\n%s\n%s", code, want, row.toml, text)
			continue
		}
		if !row.accepted {
			continue
		}
		write(t, converted, text)
		if out, code := runTo(t, env, "check", "--config", converted); code != 0 {
			t.Errorf("check finds fault with what was converted:\n%s\n%s\n%s", out, row.toml, text)
		}
	}
	t.Run("AWS's agent", func(t *testing.T) {
		agent := wcp(t)
		for _, row := range wcpFiles {
			write(t, file, row.toml)
			if got := acceptedByAgent(t, agent, dir, file); got != row.accepted {
				t.Errorf("AWS's agent accepts: %v, want %v:\n%s", got, row.accepted, row.toml)
			}
		}
	})
}

// acceptedByAgent starts AWS's agent without a token, which it misses only once
// it has accepted its file. dir is where it makes its logs.
func acceptedByAgent(t *testing.T, agent, dir, file string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, agent, "sm", "start", "--config", file)
	cmd.Dir, cmd.Env = dir, []string{}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("AWS's agent starts without a token: %v\n%s", err, out)
	}
	switch {
	case bytes.Contains(out, []byte("Could not read SSRF token")):
		return true
	case bytes.Contains(out, []byte("Configuration validation failed")), bytes.Contains(out, []byte("Failed to read config file")):
		return false
	}
	t.Fatalf("AWS's agent says something else:\n%s", out)
	return false
}

// TestConvertDiffersWhereItSays holds the three places in which a file that
// AWS's agent takes is refused, or the other way round.
func TestConvertDiffersWhereItSays(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.toml")
	for _, row := range []struct {
		toml string
		code int
		says string
	}{
		{"[capabilities.secrets_manager]\nenabled = false\n", 3, "config.toml:2: capabilities.secrets_manager.enabled: AWS's agent serves no secrets with this file"},
		{"ssrf_headers = [\"not a header\"]\n", 3, "config.toml:1: ssrf_headers: no request can have a header"},
		{strings.ReplaceAll(certificate, "/etc/x", "/nowhere/at/all/x"), 0, "/nowhere/at/all/x.pem"},
	} {
		write(t, file, row.toml)
		if out, code := runTo(t, cleanEnv(), "convert", "wcp", file); code != row.code || !strings.Contains(out, row.says) {
			t.Errorf("the exit code is %d, want %d, with %q:\n%s", code, row.code, row.says, out)
		}
	}
}

// scripted is a Secrets Manager whose secret denied/x is denied, and an STS that
// lets everybody assume every role.
func scripted(t *testing.T) (*local.Service, string) {
	t.Helper()
	service := local.New(local.Options{Region: "us-west-2", Fault: func(_, id string) *local.Fault {
		if strings.Contains(id, "denied") {
			return &local.Fault{Code: "AccessDeniedException", Message: "Not for this test."}
		}
		return nil
	}})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Target") != "" {
			service.ServeHTTP(w, r)
			return
		}
		answerSTS(w, r)
	}))
	t.Cleanup(server.Close)
	return service, server.URL
}

// answerSTS answers AssumeRole and GetCallerIdentity (AWS STS, API reference).
func answerSTS(w http.ResponseWriter, r *http.Request) {
	action := r.FormValue("Action")
	result := "<Account>123456789012</Account><Arn>arn:aws:sts::123456789012:assumed-role/r/s</Arn><UserId>AROA:s</UserId>"
	if action == "AssumeRole" {
		result = "<Credentials><AccessKeyId>ASIAEXAMPLE</AccessKeyId><SecretAccessKey>example</SecretAccessKey>" +
			"<SessionToken>example</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>" +
			"<AssumedRoleUser><Arn>" + html.EscapeString(r.FormValue("RoleArn")) + "/s</Arn><AssumedRoleId>AROA:s</AssumedRoleId></AssumedRoleUser>"
	}
	w.Header().Set("Content-Type", "text/xml")
	fmt.Fprintf(w, `<%[1]sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%[1]sResult>%[2]s</%[1]sResult></%[1]sResponse>`, action, result)
}

// TestConvertedAnswersAlike starts AWS's agent with a configuration and ours with
// what it is converted to, before one Secrets Manager, and sends both the same
// requests.
func TestConvertedAnswersAlike(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers; left out by -short")
	}
	theirs := wcp(t)
	for _, layout := range []struct{ name, toml string }{
		{"nested", `[logging]
log_level = "error"
log_to_file = false
[capabilities.secrets_manager]
http_port = PORT
region = "us-west-2"
path_prefix = "/team/"
max_conn = 50
max_roles = 2
validate_credentials = false
[capabilities.secrets_manager.cache]
ttl_seconds = 3
cache_size = 20
[capabilities.secrets_manager.security]
ssrf_headers = ["X-Team-Token", "X-Aws-Parameters-Secrets-Token"]
ssrf_env_variables = ["NOT_SET", "TEAM_TOKEN"]
[capabilities.secrets_manager.prefetch]
secrets = [{secret_id = "app/db"}, {secret_id = "not/there"}]
filter_tags = [{key = "team"}]
`},
		{"flat", `log_level = "ERROR"
log_to_file = false
http_port = "PORT"
region = "us-west-2"
path_prefix = "/team/"
ttl_seconds = "3"
max_roles = "2"
ssrf_env_variables = ["TEAM_TOKEN"]
ssrf_headers = ["X-Aws-Parameters-Secrets-Token", "X-Team-Token"]
validate_credentials = false
`},
	} {
		t.Run(layout.name, func(t *testing.T) { answersAlike(t, theirs, layout.toml) })
	}
}

const teamToken = "0123456789abcdef0123456789abcdef"

func answersAlike(t *testing.T, theirs, toml string) {
	service, backend := scripted(t)
	if err := service.Put("app/db", `{"user":"a","password":"<&>\"\\"}`); err != nil {
		t.Fatal(err)
	}
	dir := tmpfs(t)
	token, conf := filepath.Join(dir, "token"), filepath.Join(dir, "agent.yaml")
	write(t, token, teamToken+"\n")
	env := cleanEnv("AWS_ENDPOINT_URL="+backend, "TEAM_TOKEN=file://"+token, "AWS_REGION=eu-west-1")
	their, our := freePort(t), freePort(t)

	file := filepath.Join(dir, "theirs.toml")
	write(t, file, strings.ReplaceAll(toml, "PORT", port(their)))
	// The agent makes its logs where it is started.
	start(t, env, "env", "-C", dir, theirs, "sm", "start", "--config", file).until("listening on")
	readAhead(t, service, toml, 0)
	before := service.Calls()["BatchGetSecretValue"]
	ours := filepath.Join(dir, "ours.toml")
	write(t, ours, strings.ReplaceAll(toml, "PORT", port(our)))
	text, code := runTo(t, env, "convert", "wcp", ours)
	if code != 0 {
		t.Fatalf("convert: %s", text)
	}
	write(t, conf, text+"\nstate_dir: "+dir+"/state\n")
	secretsd(t, env, "run", "--config", conf)
	eventually(t, "secretsd answers", func() bool { status, _ := get(t, "http://"+our+"/ping", ""); return status == 200 })
	readAhead(t, service, toml, before)

	arn := "arn:aws:secretsmanager:us-west-2:123456789012:secret:not-there-AbCdEf"
	good := http.Header{"X-Team-Token": {teamToken}}
	for _, r := range []struct {
		method, target string
		header         http.Header
		says           string
	}{
		{"GET", "/ping", nil, "200 healthy"},
		{"GET", "/secretsmanager/get?secretId=app/db", good, `"VersionStages":["AWSCURRENT"]`},
		{"GET", "/secretsmanager/get?secretId=app%2Fdb&versionStage=AWSCURRENT", http.Header{"X-Aws-Parameters-Secrets-Token": {teamToken}}, `"VersionStages":["AWSCURRENT"]`},
		{"GET", "/team/app/db", good, `"VersionStages":["AWSCURRENT"]`},
		{"GET", "/team/app/db?refreshNow=true", good, `"VersionStages":["AWSCURRENT"]`},
		{"GET", "/v1/app/db", good, "404 "},
		{"GET", "/secretsmanager/get?secretId=app/db&versionStage=AWSPREVIOUS", good, "ResourceNotFoundException"},
		{"GET", "/secretsmanager/get?secretId=not/there", good, "ResourceNotFoundException"},
		{"GET", "/secretsmanager/get?secretId=" + url.QueryEscape(arn), good, "ResourceNotFoundException"},
		{"GET", "/secretsmanager/get?secretId=denied/x", good, "AccessDeniedException"},
		{"GET", "/secretsmanager/get", good, "400 "},
		{"GET", "/secretsmanager/get?secretId=app/db&what=1", good, "400 "},
		{"GET", "/secretsmanager/get?secretId=app/db", nil, "403 Bad Token"},
		{"GET", "/secretsmanager/get?secretId=app/db", http.Header{"X-Team-Token": {"wrong-wrong-wrong-wrong"}}, "403 Bad Token"},
		{"GET", "/secretsmanager/get?secretId=app/db", http.Header{"X-Vault-Token": {teamToken}}, "403 Bad Token"},
		{"GET", "/secretsmanager/get?secretId=app/db", http.Header{"X-Team-Token": {teamToken}, "X-Forwarded-For": {"192.0.2.1"}}, "400 Forwarded"},
		{"POST", "/secretsmanager/get?secretId=app/db", good, "405 "},
		{"GET", "/secretsmanager/get?secretId=app/db&roleArn=me", good, "400 "},
		{"GET", "/secretsmanager/get?secretId=app/db&roleArn=arn:aws:iam::123456789012:role/one", good, `"VersionStages":["AWSCURRENT"]`},
		{"GET", "/team/app/db?roleArn=arn:aws:iam::210987654321:role/two", good, `"VersionStages":["AWSCURRENT"]`},
		{"GET", "/team/app/db?roleArn=arn:aws:iam::210987654321:role/three", good, "MaxRolesExceeded"},
	} {
		want, got := ask(t, r.method, "http://"+their+r.target, r.header), ask(t, r.method, "http://"+our+r.target, r.header)
		if got != want || !strings.Contains(want, r.says) {
			t.Errorf("%s %s with %v: secretsd answers\n%s\nAWS's agent\n%s", r.method, r.target, r.header, got, want)
		}
	}
	if err := service.Put("app/db", "changed"); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{their, our} {
		eventually(t, addr+" has the new value", func() bool {
			return strings.Contains(ask(t, "GET", "http://"+addr+"/team/app/db", good), `"SecretString":"changed"`)
		})
	}
}

// readAhead waits until what the file says is read before anybody asks. before
// is how often that had been done.
func readAhead(t *testing.T, service *local.Service, toml string, before int) {
	t.Helper()
	if strings.Contains(toml, "prefetch") {
		eventually(t, "the agent reads ahead", func() bool { return service.Calls()["BatchGetSecretValue"] > before })
	}
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// ask sends a request and returns status and body of the answer.
func ask(t *testing.T, method, target string, header http.Header) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header.Clone()
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(res.Body); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", res.StatusCode, body.String())
}
