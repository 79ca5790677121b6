package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"secretsd/agent"
	"secretsd/agent/config"
)

func newRun(e env) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the agent",
		Long: `run reads the secrets, writes the files, serves the endpoint, tells the targets,
and goes on doing so until it is told to end. It says "ready" on one line when
everything is in place.

SIGHUP reads configuration, templates and tokens again, and makes sockets again that
somebody has removed; a configuration that is wrong changes nothing and says so.
SIGTERM and SIGINT finish what is under way and end; files stay as they are. A second
one ends at once.

With exec: in the configuration it also runs a program, with secrets in its
environment, and starts it again when they change or when it ends by itself. At
the end the program is asked to end first, and killed after its kill_timeout; at a
second signal, a second later or more, it is killed at once. All other signals
are passed on to it.

What AWS or the credential chain answers never ends run: it tries again.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			core, err := harden()
			if err != nil {
				return err
			}
			read := func() (*config.Config, error) { return agent.ReadConfig(path) }
			cfg, err := read()
			if err != nil {
				return err
			}
			log, level, flush := newAgentLogger(e.stderr, &cfg.Log)
			defer flush()
			s := service{log: log, level: level, signals: e.signals, read: read, stdout: e.stdout, child: agent.ChildOptions{Core: core}}
			return s.run(cmd.Context(), cfg, func(agent.Counts) {})
		},
	}
	configFlag(cmd, &path, config.DefaultPath)
	return cmd
}

// service runs one agent with everything around it: reloads, and what the
// service manager is told.
type service struct {
	log     *slog.Logger
	level   *slog.LevelVar
	signals *signals
	stdout  io.Writer
	// child says how a child is supervised.
	child agent.ChildOptions
	// leaving is done before an exit that waits for nothing. It may be nil.
	leaving func()
	// read reads the configuration again.
	read func() (*config.Config, error)
	// started is called with the agent before it runs. It may be nil.
	started func(*agent.Agent)
	// ready is set once the agent has been ready.
	ready atomic.Bool
}

func (s *service) run(ctx context.Context, cfg *config.Config, ready func(agent.Counts)) error {
	warnSwap(s.log)
	a, err := agent.New(ctx, cfg, agent.Options{Logger: s.log, Version: buildVersion(), Stdout: s.stdout, Child: s.child, Ready: func(c agent.Counts) {
		s.ready.Store(true)
		notifyManager(s.log, managerReady, status(c))
		ready(c)
	}})
	if err != nil {
		return err
	}
	if s.started != nil {
		s.started(a)
	}
	s.supervise(a, cfg)
	ctx, cancel := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error {
		defer cancel()
		return a.Run(ctx)
	})
	g.Go(func() error { s.reloads(ctx, a); return nil })
	g.Go(func() error { s.passOn(ctx, a); return nil })
	err = g.Wait()
	notifyManager(s.log, managerStopping)
	return err
}

func status(c agent.Counts) string {
	return fmt.Sprintf("STATUS=%s, %s in place", count(c.Secrets, "secret"), count(c.Files, "file"))
}

// reloads reads the configuration again whenever it is asked to, until ctx is
// done.
func (s *service) reloads(ctx context.Context, a *agent.Agent) {
	for {
		select {
		case <-ctx.Done():
			notifyManager(s.log, managerStopping)
			return
		case <-s.signals.reload:
			// An agent that has not been ready yet must not become so by a
			// reload: READY=1 ends both.
			wasReady := s.ready.Load()
			if wasReady {
				notifyManager(s.log, managerReloading)
			}
			s.reloadOnce(ctx, a)
			if wasReady {
				notifyManager(s.log, managerReady)
			}
		}
	}
}

func (s *service) reloadOnce(ctx context.Context, a *agent.Agent) {
	cfg, err := s.read()
	if err == nil {
		err = a.Reload(ctx, cfg)
	} else {
		a.CountFailedReload(err)
	}
	if err == nil {
		s.level.Set(levelOf(&cfg.Log))
		s.supervise(a, cfg)
		s.log.Info("reloaded configuration", "config", cfg.Path(), "secrets", len(cfg.Secrets), "files", len(cfg.Files),
			"bundles", len(cfg.Bundles), "targets", len(cfg.Targets))
		return
	}
	if ctx.Err() != nil {
		return
	}
	for _, f := range findings(err) {
		args := []any{"error", f.Error}
		if f.Hint != "" {
			args = append(args, "hint", f.Hint)
		}
		s.log.Error("cannot reload, the running configuration stays", args...)
	}
}

// newAgentLogger is newLogger for a program that must not wait for whoever
// reads its log. The caller calls flush at its end.
func newAgentLogger(w io.Writer, l *config.Log) (log *slog.Logger, level *slog.LevelVar, flush func()) {
	notice, _ := newLogger(w, l)
	q := newQueuedWriter(w, notice)
	log, level = newLogger(q, l)
	return log, level, q.flush
}

// newLogger returns the logger for l, and its level, which a reload may set.
func newLogger(w io.Writer, l *config.Log) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(levelOf(l))
	opts := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts)), level
	}
	return slog.New(slog.NewTextHandler(w, opts)), level
}

func levelOf(l *config.Log) slog.Level {
	var level slog.Level
	_ = level.UnmarshalText([]byte(l.Level)) // the configuration's own check knows the names
	return level
}
