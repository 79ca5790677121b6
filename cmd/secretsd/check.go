package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"secretsd/agent"
	"secretsd/agent/config"
)

func newCheck(e env) *cobra.Command {
	var path, format string
	var online, diff bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Find all that is wrong with configuration and templates",
		Long: `check reads the configuration, the templates and the places that files go to, and
reports everything that is wrong at once, each fault with file and line. It asks
no network and writes nothing. Exit code 3 means that something is wrong.

With --online it also reads the secrets, renders everything, and says of each file
whether it would change, and of each environment whether it can be made. It still
writes nothing, runs no check of the configuration and tells nobody. --diff shows
the lines that would change, with the name of each value in its place; what the
files hold now is not shown. Exit code 4 means that some secrets could not be read.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if diff && !online {
				return usage("--diff goes with --online")
			}
			if online {
				return checkOnline(cmd.Context(), e, path, format, diff)
			}
			cfg, err := agent.ReadConfig(path)
			if err == nil {
				err = agent.CheckConfig(cmd.Context(), cfg, agent.Options{})
			}
			if format == "json" {
				out := struct {
					Valid  bool      `json:"valid"`
					Errors []finding `json:"errors,omitempty"`
				}{err == nil, findings(err)}
				if jsonErr := printJSON(e.stdout, out); jsonErr != nil {
					return jsonErr
				}
				return err
			}
			if err != nil {
				return err
			}
			for i := range cfg.Targets {
				if t := &cfg.Targets[i]; t.Rollback {
					fmt.Fprintf(e.stdout, "note: target %s rolls back: right where the previous credential still works, as with alternating users, wrong with single-user rotation\n", t.Name)
				}
			}
			_, err = fmt.Fprintf(e.stdout, "%s is valid: %s\n", path, contents(cfg))
			return err
		},
	}
	configFlag(cmd, &path, config.DefaultPath)
	outputFlag(cmd, &format)
	cmd.Flags().BoolVar(&online, "online", false, "read the secrets and render everything, without writing")
	cmd.Flags().BoolVar(&diff, "diff", false, "with --online, show the lines that would change, without values")
	return cmd
}

func checkOnline(ctx context.Context, e env, path, format string, diff bool) error {
	if _, err := harden(); err != nil {
		return err
	}
	cfg, err := agent.ReadConfig(path)
	if err != nil {
		return err
	}
	preview, err := agent.PreviewRender(ctx, cfg, agent.Options{Version: buildVersion()}, diff)
	if err != nil {
		return err
	}
	if format == "json" {
		err = printJSON(e.stdout, preview)
	} else {
		err = printPreview(e.stdout, &preview)
	}
	switch {
	case err != nil:
		return err
	case len(preview.Missing) > 0 && !preview.Failed():
		return &codedError{exitMissing, preview.Err()}
	}
	return preview.Err()
}

func printPreview(w io.Writer, p *agent.Preview) error {
	for _, f := range p.Files {
		_, err := fmt.Fprintf(w, "%-10s %s\n", f.Outcome, f.Path)
		for _, line := range f.Diff {
			if err == nil {
				_, err = fmt.Fprintf(w, "  %s\n", line)
			}
		}
		if err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	if p.Child != "" {
		if _, err := fmt.Fprintf(w, "%-10s environment of the child\n", p.Child); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	for _, c := range p.Commands {
		if _, err := fmt.Fprintf(w, "%-10s %s of target %s\n", c.Outcome, c.Key, c.Target); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	return nil
}

// contents says how much there is in a configuration, and of bundles only where
// there are any.
func contents(cfg *config.Config) string {
	parts := []string{count(len(cfg.Secrets), "secret"), count(len(cfg.Files), "file")}
	if n := len(cfg.Bundles); n > 0 {
		parts = append(parts, count(n, "bundle"))
	}
	return strings.Join(append(parts, count(len(cfg.Targets), "target")), ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
