package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"secretsd/agent"
	"secretsd/agent/config"
	"secretsd/agent/notify"
	"secretsd/sinks/process"
)

// execWait is how long exec waits for an answer of AWS before it gives up.
const execWait = time.Minute

// execFlags are the flags of exec. Those that name keys of the configuration are
// empty where they were not given.
type execFlags struct {
	config                       string
	secrets                      []string
	prefix                       string
	upper                        bool
	onChange, signal, killSignal string
	killTimeout, wait            time.Duration
	logLevel                     string
}

func newExec(e env) *cobra.Command {
	var f execFlags
	cmd := &cobra.Command{
		Use:   "exec [flags] -- COMMAND [ARGUMENT...]",
		Short: "Run a program with secrets in its environment, and again when they change",
		Long: `exec runs one program and ends with its exit code: 128 and the signal's number if
a signal has ended it, 127 if it is not found and 126 if it cannot be run.

With --secret, which may be given several times, no configuration is needed:
each key of the JSON secret becomes a variable.

    secretsd exec --secret prod/app -- ./server

Otherwise it takes everything from a configuration: exec: says what is in the
environment, and files and the endpoint work as with run.

The program starts when all of that is in place. A secret that does not exist or
is denied ends exec with 4 at once, and one that AWS does not answer for after
--wait. When what it was started with changes, the program is ended and started
again; --on-change signal or none does otherwise. Every signal is passed on to
it, but SIGPROF and 32 to 34, which no program in Go can catch. SIGTERM gives it
--kill-timeout to end, before it and all that it has started are killed; another
one, a second later or more, kills them.

The program inherits the environment of exec, AWS_ variables among it, unless the
configuration says otherwise (env_allow, env_deny).`,
		Example: `  secretsd exec --secret prod/app -- ./server --port 8080
  secretsd exec --secret prod/db --prefix DB_ --upper -- psql
  secretsd exec --config agent.yaml -- ./server`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return runExec(cmd, e, &f, args) },
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows the command belongs to it
	configFlag(cmd, &f.config, config.DefaultPath)
	flags.StringArrayVarP(&f.secrets, "secret", "s", nil, "a JSON secret whose keys become variables: ID, or NAME=ID to call it NAME in messages; may be repeated")
	flags.StringVar(&f.prefix, "prefix", "", "what the names of these variables begin with")
	flags.BoolVar(&f.upper, "upper", false, "turn the names of these variables to capitals")
	flags.StringVar(&f.onChange, "on-change", "", "what a change does: restart, signal or none (default restart)")
	flags.StringVar(&f.signal, "signal", "", "the signal of --on-change signal (default HUP)")
	flags.StringVar(&f.killSignal, "kill-signal", "", "the signal that ends the program for a restart (default TERM)")
	flags.DurationVar(&f.killTimeout, "kill-timeout", 0, "how long the program may take to end (default 30s)")
	flags.DurationVar(&f.wait, "wait", execWait, "how long to wait for secrets that AWS does not answer for")
	flags.StringVar(&f.logLevel, "log-level", "", "debug, info, warn or error (default: the configuration's, or warn)")
	return cmd
}

func runExec(cmd *cobra.Command, e env, f *execFlags, args []string) error {
	if err := f.check(cmd); err != nil {
		return err
	}
	core, err := harden()
	if err != nil {
		return err
	}
	dir, err := stateDirectory()
	if err != nil {
		return err
	}
	remove := func() { _ = os.RemoveAll(dir) }
	defer remove()
	cfg, err := f.read(cmd, args, dir)
	if err != nil {
		return err
	}
	if err := findCommand(cfg.Exec); err != nil {
		return err
	}
	log, level, flush := newAgentLogger(e.stderr, &cfg.Log)
	defer flush()
	s := service{
		log: log, level: level, signals: e.signals, stdout: e.stdout, leaving: remove,
		child: agent.ChildOptions{Once: true, Wait: f.wait, Core: core},
	}
	return s.exec(cmd.Context(), cfg)
}

func (f *execFlags) check(cmd *cobra.Command) error {
	if len(f.secrets) > 0 && cmd.Flags().Changed("config") {
		return usage("--secret goes without --config: name the secret in the configuration, under secrets and exec.env_from")
	}
	if len(f.secrets) == 0 && (f.prefix != "" || f.upper) {
		return usage("--prefix and --upper go with --secret")
	}
	for name, d := range map[string]time.Duration{"--kill-timeout": f.killTimeout, "--wait": f.wait} {
		if d < 0 {
			return usage("%s: %s is less than no time", name, d)
		}
	}
	if _, err := process.ParseOnChange(cmp.Or(f.onChange, "none")); err != nil {
		return usage("--on-change: %w", err)
	}
	for name, sig := range map[string]string{"--signal": f.signal, "--kill-signal": f.killSignal} {
		if _, err := notify.ParseSignal(cmp.Or(sig, "TERM")); err != nil {
			return usage("%s: %w", name, err)
		}
	}
	if !slices.Contains([]string{"", "debug", "info", "warn", "error"}, f.logLevel) {
		return usage("--log-level is debug, info, warn or error, not %q", f.logLevel)
	}
	return nil
}

// exec runs a wrapper to its end. The error has the exit code of the child.
func (s *service) exec(ctx context.Context, cfg *config.Config) error {
	var ran *agent.Agent
	s.started = func(a *agent.Agent) { ran = a }
	err := s.run(ctx, cfg, func(agent.Counts) {})
	var not *agent.NotStartedError
	var failed *process.StartError
	switch {
	case errors.As(err, &failed):
		return &codedError{failed.Status(), err}
	case errors.As(err, &not) && not.Missing:
		return &codedError{exitMissing, err}
	case err != nil:
		return err
	case ran.ChildStatus() != 0:
		return &codedError{code: ran.ChildStatus()}
	}
	return nil
}

// findCommand finds a command that was typed, for a shell's exit codes.
func findCommand(e *config.Exec) error {
	if !e.Typed {
		return nil
	}
	_, err := process.Find(e.Command[0])
	var failed *process.StartError
	if errors.As(err, &failed) {
		return &codedError{failed.Status(), err}
	}
	return err
}

// read returns the configuration of the wrapper. Its state directory is dir unless
// the file names one: there may be many wrappers on one machine.
func (f *execFlags) read(cmd *cobra.Command, args []string, dir string) (*config.Config, error) {
	cfg, err := f.load(cmd)
	if err != nil {
		return nil, err
	}
	f.adjust(cmd, cfg, args, dir)
	if len(cfg.Exec.Command) == 0 {
		return nil, usage("name a command: %s", cmd.UseLine())
	}
	return cfg, nil
}

func (f *execFlags) load(cmd *cobra.Command) (*config.Config, error) {
	if len(f.secrets) > 0 {
		text, err := f.text()
		if err != nil {
			return nil, err
		}
		cfg, _ := config.Parse("command line", text) // agent.New reports its faults, with all others
		return cfg, nil
	}
	cfg, err := agent.ReadConfig(f.config)
	if errors.Is(err, fs.ErrNotExist) && !cmd.Flags().Changed("config") {
		return nil, usage("name a secret or a configuration: there is no %s", f.config)
	}
	return cfg, err
}

func (f *execFlags) adjust(cmd *cobra.Command, cfg *config.Config, args []string, dir string) {
	e := cfg.EnsureExec()
	if len(args) > 0 {
		e.Command, e.Typed = args, true
	}
	e.OnChange = cmp.Or(f.onChange, e.OnChange)
	e.Signal = cmp.Or(f.signal, e.Signal)
	e.KillSignal = cmp.Or(f.killSignal, e.KillSignal)
	if cmd.Flags().Changed("kill-timeout") {
		e.KillTimeout = config.Duration(f.killTimeout)
	}
	if !cfg.Mentions(&cfg.StateDir) {
		cfg.StateDir = dir
	}
	if !cfg.Mentions(&cfg.Log.Level) {
		cfg.Log.Level = "warn" // the standard error is the program's, too
	}
	cfg.Log.Level = cmp.Or(f.logLevel, cfg.Log.Level)
}

// localName is what a secret may be called beside its id.
var localName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// text returns the configuration that --secret stands for. JSON is YAML.
func (f *execFlags) text() ([]byte, error) {
	type entry map[string]any
	var secrets, from []entry
	for _, s := range f.secrets {
		name, id, ok := strings.Cut(s, "=")
		if !ok || !localName.MatchString(name) {
			name, id = s, s
		}
		secrets = append(secrets, entry{"name": name, "id": id})
		from = append(from, entry{"secret": name, "prefix": f.prefix, "upper": f.upper})
	}
	text, err := json.Marshal(entry{"secrets": secrets, "exec": entry{"env_from": from}})
	if err != nil {
		return nil, fmt.Errorf("read flags: %w", err)
	}
	return text, nil
}

// stateDirectory makes a private directory for what a wrapper has to keep, none of
// which is secret: in memory if possible.
func stateDirectory() (string, error) {
	dir, err := privateDir()
	if err == nil || runtime.GOOS != "linux" {
		return dir, err
	}
	dir, tempErr := os.MkdirTemp("", "secretsd-exec-")
	if tempErr != nil {
		return "", fmt.Errorf("make a directory for the state: %w", errors.Join(err, tempErr))
	}
	return filepath.EvalSymlinks(dir)
}
