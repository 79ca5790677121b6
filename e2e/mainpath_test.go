package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// application starts a process that counts the SIGHUPs it gets, and returns
// its pid file and a function that reads the count.
func application(t *testing.T, dir string) (pidFile string, hups func() int) {
	t.Helper()
	pidFile, log := filepath.Join(dir, "app.pid"), filepath.Join(dir, "app.hups")
	write(t, log, "")
	// The trap comes before the pid file, as in any program that wants to live.
	start(t, os.Environ(), "/bin/sh", "-c",
		`trap 'echo hup >> "$2"' HUP; echo $$ > "$1.new"; mv "$1.new" "$1"; while :; do sleep 0.05; done`, "app", pidFile, log)
	eventually(t, "the application runs", func() bool { _, err := os.Stat(pidFile); return err == nil })
	return pidFile, func() int { return strings.Count(content(log), "hup") }
}

// TestMainPath is the main job end to end, against two Secrets Managers: our
// own and one that nobody here wrote. The AWS CLI creates and changes the
// secret.
func TestMainPath(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers and the AWS CLI; left out by -short")
	}
	need(t, "aws")
	t.Run("local", func(t *testing.T) {
		addr := freePort(t)
		dev := secretsd(t, cleanEnv(), "dev", "--listen", addr, "--endpoint", freePort(t))
		dev.until("secretsd dev is running")
		mainPath(t, "http://"+addr)
	})
	t.Run("moto", func(t *testing.T) {
		moto := need(t, "moto_server")
		addr := freePort(t)
		host, port, _ := strings.Cut(addr, ":")
		start(t, cleanEnv(), moto, "-H", host, "-p", port)
		eventually(t, "moto answers", func() bool { status, _ := get(t, "http://"+addr+"/moto-api/data.json", ""); return status == 200 })
		mainPath(t, "http://"+addr)
	})
}

func mainPath(t *testing.T, service string) {
	env := cleanEnv("AWS_ENDPOINT_URL_SECRETS_MANAGER=" + service)
	aws := func(args ...string) string {
		return output(t, env, "aws", append([]string{"--endpoint-url", service, "--output", "json", "secretsmanager"}, args...)...)
	}
	aws("create-secret", "--name", "avApiKey", "--secret-string", `{"api_key": "super-secret"}`)
	if list := aws("list-secrets"); !strings.Contains(list, `"avApiKey"`) {
		t.Fatalf("list-secrets does not name the secret: %s", list)
	}

	dir := tmpfs(t)
	endpoint := freePort(t)
	file, tokenFile := filepath.Join(dir, "app.conf"), filepath.Join(dir, "token")
	pidFile := filepath.Join(dir, "app.pid")
	conf := filepath.Join(dir, "agent.yaml")
	write(t, conf, fmt.Sprintf(`
refresh: {interval: 100ms}
state_dir: %[1]s/state
secrets: [{name: av, id: avApiKey}]
files:
  - path: %[2]s
    contents: "key={{ (secret \"av\").api_key }}\n"
    notify: [app]
targets: [{name: app, signal: HUP, process: {pid_file: %[3]s}}]
endpoint: {listen: "%[4]s", token_file: %[5]s}
`, dir, file, pidFile, endpoint, tokenFile))
	agent := secretsd(t, env, "run", "--config", conf)
	agent.until("msg=ready secrets=1 files=1 skipped=0 targets=1")

	if got := content(file); got != "key=super-secret\n" {
		t.Fatalf("the file holds %q", got)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o400 {
		t.Errorf("the file's mode is %v, want 0400 (%v)", info.Mode(), err)
	}
	served := func() string {
		status, body := get(t, "http://"+endpoint+"/secretsmanager/get?secretId=avApiKey", content(tokenFile))
		if status != 200 {
			return fmt.Sprintf("%d %s", status, body)
		}
		var answer struct{ SecretString string }
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Errorf("the endpoint's answer %q: %v", body, err)
		}
		return answer.SecretString
	}
	if got := served(); got != `{"api_key": "super-secret"}` {
		t.Fatalf("the endpoint serves %q", got)
	}
	if status, body := get(t, "http://"+endpoint+"/secretsmanager/get?secretId=avApiKey", "not-the-token-at-all"); status != 403 || body != "Bad Token" {
		t.Errorf("a wrong token is answered with %d %q", status, body)
	}

	// The kernel dates processes to a hundredth of a second: one that starts in
	// the same as the publication would be signalled for it, to be sure.
	published := time.Now()
	eventually(t, "the application starts after the publication", func() bool { return time.Since(published) > 50*time.Millisecond })
	_, hups := application(t, dir)
	aws("update-secret", "--secret-id", "avApiKey", "--secret-string", `{"api_key": "secret_v2"}`)
	eventually(t, "the file has the second value", func() bool { return content(file) == "key=secret_v2\n" })
	eventually(t, "the endpoint serves the second value", func() bool { return served() == `{"api_key": "secret_v2"}` })
	eventually(t, "the application is signalled", func() bool { return hups() > 0 })
	steady(t, "the application was signalled once", func() bool { return hups() == 1 })

	agent.signal(syscall.SIGTERM)
	out, code := agent.wait()
	if code != 0 {
		t.Errorf("SIGTERM ends the agent with code %d", code)
	}
	if content(file) != "key=secret_v2\n" {
		t.Error("the file did not outlive the agent")
	}
	for _, value := range []string{"super-secret", "secret_v2", strings.TrimSpace(content(tokenFile))} {
		if strings.Contains(out, value) {
			t.Errorf("the log holds a value: %s", out)
		}
	}
}

// TestDev runs what a newcomer runs, and then what dev told them to try.
func TestDev(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the AWS CLI; left out by -short")
	}
	need(t, "aws")
	need(t, "curl")
	dev := secretsd(t, cleanEnv(), "dev", "--listen", freePort(t), "--endpoint", freePort(t))
	dev.until("Ctrl-C ends it")
	dir := regexp.MustCompile(`/dev/shm/secretsd-dev-\d+|/run/user/\d+/secretsd-dev-\d+`).FindString(dev.out.String())
	if got := content(filepath.Join(dir, "database.env")); !strings.Contains(got, "DB_PASSWORD='first-password'") {
		t.Errorf("the sample's file holds %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "api_key")); err == nil {
		t.Error("the file of the optional secret is there before the secret")
	}
	// Every command that was printed works as it was printed.
	env := cleanEnv()
	var last string
	for line := range strings.Lines(dev.out.String()) {
		command := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(command, "aws "):
			last = output(t, env, "sh", "-c", command)
		case strings.Contains(command, " status --state-dir "):
			if out := output(t, env, "sh", "-c", command); !strings.Contains(out, "sample/database") {
				t.Errorf("%s prints\n%s", command, out)
			}
		case strings.HasPrefix(command, "http://"):
			if status, body := get(t, command, ""); status != 200 || !strings.Contains(body, "sample/database") {
				t.Errorf("%s answers %d", command, status)
			}
		case strings.HasPrefix(command, "curl "):
			eventually(t, "the endpoint serves the changed sample", func() bool {
				last = output(t, env, "sh", "-c", command)
				return strings.Contains(last, "second-password")
			})
		}
	}
	if !strings.Contains(last, `"Name":"sample/database"`) {
		t.Errorf("the endpoint answered %s", last)
	}
	eventually(t, "the sample's file follows", func() bool {
		return strings.Contains(content(filepath.Join(dir, "database.env")), "DB_PASSWORD='second-password'")
	})
	eventually(t, "the new secret's file appears and follows", func() bool { return content(filepath.Join(dir, "api_key")) == "secret_v2\n" })

	dev.signal(syscall.SIGINT)
	if _, code := dev.wait(); code != 0 {
		t.Errorf("Ctrl-C ends dev with code %d", code)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("dev left %s behind", dir)
	}
}

// TestDevWithAConfiguration runs a configuration made for AWS, whose interval
// is minutes, on the local Secrets Manager.
func TestDevWithAConfiguration(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the AWS CLI; left out by -short")
	}
	need(t, "aws")
	dir, addr := tmpfs(t), freePort(t)
	conf, file := filepath.Join(dir, "agent.yaml"), filepath.Join(dir, "out")
	write(t, conf, fmt.Sprintf(`
source: {aws: {region: eu-west-1}}
secrets: [{name: av, id: avApiKey}]
files: [{path: %s, contents: '{{ (secret "av").api_key }}'}]
`, file))
	dev := secretsd(t, cleanEnv(), "dev", "--config", conf, "--listen", addr)
	dev.until("Ctrl-C ends it")
	aws := func(args ...string) {
		output(t, cleanEnv(), "aws", append([]string{"--endpoint-url", "http://" + addr, "secretsmanager"}, args...)...)
	}
	aws("create-secret", "--name", "avApiKey", "--secret-string", `{"api_key": "super-secret"}`)
	eventually(t, "the file appears", func() bool { return content(file) == "super-secret" })
	aws("update-secret", "--secret-id", "avApiKey", "--secret-string", `{"api_key": "secret_v2"}`)
	eventually(t, "the file follows", func() bool { return content(file) == "secret_v2" })
}
