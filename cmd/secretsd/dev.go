package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"secretsd/agent"
	"secretsd/agent/config"
)

// The addresses dev takes if they are free, and how often it reads at least:
// nobody should have to wait for what costs nothing.
const (
	devInterval = config.Duration(250 * time.Millisecond)
	devLocal    = "127.0.0.1:4599"
	devEndpoint = config.DefaultListen
)

type devFlags struct {
	config, secrets, local, endpoint string
}

func newDev(e env) *cobra.Command {
	var f devFlags
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run the agent on a local Secrets Manager, to try it or to develop against it",
		Long: `dev needs no AWS account. It starts a local Secrets Manager on a loopback port,
with a sample secret, renders sample templates into a private directory on tmpfs,
serves the endpoint, and prints what to try next. Everything it made is removed
when it ends.

With --config it runs that configuration, but reads the secrets from the local
Secrets Manager, and four times a second.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDev(cmd.Context(), e, f) },
	}
	configFlag(cmd, &f.config, "")
	cmd.Flags().StringVar(&f.secrets, "secrets", "", "YAML file the local Secrets Manager is loaded from")
	cmd.Flags().StringVar(&f.local, "listen", "", "address of the local Secrets Manager (default "+devLocal+", or a free port)")
	cmd.Flags().StringVar(&f.endpoint, "endpoint", "", "address of the endpoint of the sample (default "+devEndpoint+", or a free port)")
	_ = cmd.MarkFlagFilename("secrets", "yaml", "yml")
	return cmd
}

func runDev(ctx context.Context, e env, f devFlags) error {
	if f.local != "" && !isLoopback(f.local) {
		return usage("--listen %s is no loopback address: whoever reaches the local Secrets Manager has its secrets", f.local)
	}
	core, err := harden()
	if err != nil {
		return err
	}
	dir, err := privateDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f.local = freeAddress(ctx, f.local, devLocal)
	if f.config == "" {
		f.endpoint = freeAddress(ctx, f.endpoint, devEndpoint)
		if f.config, err = writeSample(dir, f); err != nil {
			return err
		}
	} else if f.endpoint != "" {
		return usage("--endpoint goes with the sample; with --config the configuration says it")
	}
	read := func() (*config.Config, error) { return readOnLocal(f, dir) }
	cfg, err := read()
	if err != nil {
		return err
	}
	log, level, flush := newAgentLogger(e.stderr, &cfg.Log)
	defer flush()
	s := service{log: log, level: level, signals: e.signals, read: read, stdout: e.stdout, child: agent.ChildOptions{Core: core}}
	// Only the sample's own secrets are known to exist, and worth waiting for.
	waits := filepath.Dir(f.config) == dir && f.secrets == ""
	var tries []try
	s.started = func(a *agent.Agent) {
		tries = devTries(cfg, a.Addrs(), dir)
		if !waits {
			_ = printTries(e.stdout, tries)
		}
	}
	return s.run(ctx, cfg, func(agent.Counts) {
		if waits {
			_ = printTries(e.stdout, tries)
		}
	})
}

func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip, ipErr := netip.ParseAddr(host)
	return err == nil && (host == "localhost" || ipErr == nil && ip.IsLoopback())
}

// readOnLocal reads the configuration and puts the local Secrets Manager in the
// place of its source.
func readOnLocal(f devFlags, dir string) (*config.Config, error) {
	return agent.ReadConfig(f.config, func(cfg *config.Config) {
		on := config.Local{Listen: f.local, Path: f.secrets}
		if had := cfg.Source.Local; had != nil {
			on.Listen = cmp.Or(had.Listen, on.Listen)
			on.Path = cmp.Or(on.Path, had.Path)
		}
		cfg.Source = config.Source{Local: &on}
		for i := range cfg.Secrets {
			cfg.Secrets[i].Interval = min(cfg.Secrets[i].Interval, devInterval)
		}
		if cfg.StateDir == config.DefaultStateDir {
			cfg.StateDir = filepath.Join(dir, "state")
		}
	})
}

// privateDir makes a directory that only the user can enter: on tmpfs where
// there is one.
func privateDir() (string, error) {
	parents := []string{os.Getenv("XDG_RUNTIME_DIR"), "/dev/shm"}
	if runtime.GOOS != "linux" {
		parents = []string{os.TempDir()}
	}
	var errs []error
	for _, parent := range parents {
		if parent == "" {
			continue
		}
		dir, err := os.MkdirTemp(parent, "secretsd-dev-")
		if err == nil {
			return filepath.EvalSymlinks(dir)
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("make private directory: %w", errors.Join(errs...))
}

// freeAddress returns addr, or else preferred if nobody listens there, or else
// a free port of loopback.
func freeAddress(ctx context.Context, addr, preferred string) string {
	if addr != "" {
		return addr
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", preferred)
	if err != nil {
		return "127.0.0.1:0"
	}
	_ = ln.Close()
	return preferred
}

const sampleSecrets = `# The secrets of the local Secrets Manager. Change one here, or with the AWS CLI.
secrets:
  - name: sample/database
    description: A sample that secretsd dev made.
    json: {username: app, password: first-password, host: 127.0.0.1, port: 5432}
`

const sampleTemplate = `# Rendered by secretsd from {{ version "database" }}
{{ with secret "database" -}}
DB_USER={{ .username | shellQuote }}
DB_PASSWORD={{ .password | shellQuote }}
DB_URL=postgres://{{ urlquery .username }}:{{ urlquery .password }}@{{ .host }}:{{ .port }}/app
{{ end -}}
`

// sampleConfig is filled by writeSample.
const sampleConfig = `# The configuration of secretsd dev. After a change: kill -HUP <PID>
source:
  local: {path: <DIR>/secrets.yaml, listen: "<LOCAL>"}
refresh: {interval: 250ms}
heal_interval: 2s
state_dir: <DIR>/state
secrets:
  - {name: database, id: sample/database}
  - {name: api, id: avApiKey, required: false}
files:
  - {path: <DIR>/database.env, template: <DIR>/database.env.tmpl}
  - path: <DIR>/api_key
    contents: "{{ (secret \"api\").api_key }}\n"
endpoint: {listen: "<ENDPOINT>", token_file: <DIR>/token}
telemetry: {listen: "127.0.0.1:0"}
`

// writeSample writes the sample's files into dir and returns the path of its
// configuration.
func writeSample(dir string, f devFlags) (string, error) {
	conf := strings.NewReplacer("<PID>", strconv.Itoa(os.Getpid()), "<DIR>", dir, "<LOCAL>", f.local, "<ENDPOINT>", f.endpoint).Replace(sampleConfig)
	for name, text := range map[string]string{
		"secrets.yaml": sampleSecrets, "database.env.tmpl": sampleTemplate, "agent.yaml": conf,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("write sample: %w", err)
		}
	}
	return filepath.Join(dir, "agent.yaml"), nil
}

// try is one command to try, and what it shows.
type try struct{ what, command string }

// devTries returns what can be tried on a running dev.
func devTries(cfg *config.Config, addrs agent.Addrs, dir string) []try {
	aws := "aws --endpoint-url http://" + addrs.Local + " --region us-east-1 --no-sign-request secretsmanager "
	name := "avApiKey"
	if filepath.Dir(cfg.Path()) != dir {
		name = cfg.Secrets[0].ID
	}
	tries := []try{
		{"create a secret; its file appears within a second", aws + "create-secret --name " + name + ` --secret-string '{"api_key": "super-secret"}'`},
		{"list the secrets", aws + "list-secrets"},
		{"change it; file and endpoint follow within a second", aws + "update-secret --secret-id " + name + ` --secret-string '{"api_key": "secret_v2"}'`},
	}
	if filepath.Dir(cfg.Path()) == dir {
		tries = append(tries, try{"change the sample", aws + `update-secret --secret-id sample/database --secret-string '{"username":"app","password":"second-password","host":"127.0.0.1","port":5432}'`})
	}
	for _, f := range cfg.Files {
		tries = append(tries, try{"read the file", "cat " + f.Path})
	}
	if e := cfg.Endpoint; e != nil && e.TokenFile.Path != "" {
		tries = append(tries, try{"ask the endpoint", fmt.Sprintf(`curl -s -H "X-Aws-Parameters-Secrets-Token: $(cat %s)" 'http://%s/secretsmanager/get?secretId=%s'`,
			e.TokenFile.Path, addrs.Endpoint, cfg.Secrets[0].ID)})
	}
	if exe, err := os.Executable(); err == nil {
		tries = append(tries, try{"see what the agent holds, and what is wrong", exe + " status --state-dir " + cfg.StateDir})
	}
	if addrs.Telemetry != "" {
		tries = append(tries, try{"the same as a page for browsers; metrics are at /metrics", "http://" + addrs.Telemetry + "/"})
	}
	return tries
}

func printTries(w io.Writer, tries []try) error {
	var b strings.Builder
	b.WriteString("\nsecretsd dev is running. Try, in another terminal:\n")
	for _, t := range tries {
		fmt.Fprintf(&b, "\n  # %s\n  %s\n", t.what, t.command)
	}
	b.WriteString("\nCtrl-C ends it and removes everything it made.\n\n")
	_, err := io.WriteString(w, b.String())
	return err
}
