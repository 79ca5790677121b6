package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"secretsd/agent"
	"secretsd/agent/config"
)

func newRender(e env) *cobra.Command {
	var path, format string
	cmd := &cobra.Command{
		Use:   "render",
		Short: "Read the secrets and write the files once, for init containers and cron",
		Long: `render reads every configured secret, writes the files that differ, and ends. It
tells no target and serves nothing. Files whose secrets could be read are written
even if others could not; the exit code is then 4.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := harden(); err != nil {
				return err
			}
			cfg, err := agent.ReadConfig(path)
			if err != nil {
				return err
			}
			log, _ := newLogger(e.stderr, &cfg.Log)
			report, err := agent.Render(cmd.Context(), cfg, agent.Options{Logger: log, Version: buildVersion()})
			if err != nil {
				return err
			}
			if err := printReport(e.stdout, report, format); err != nil {
				return err
			}
			if len(report.Missing) > 0 && !report.Failed() {
				return &codedError{exitMissing, report.Err()}
			}
			return report.Err()
		},
	}
	configFlag(cmd, &path, config.DefaultPath)
	outputFlag(cmd, &format)
	return cmd
}

func printReport(w io.Writer, r agent.Report, format string) error {
	if format == "json" {
		return printJSON(w, r)
	}
	for _, f := range r.Files {
		if _, err := fmt.Fprintf(w, "%-9s %s\n", f.Outcome, f.Path); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	return nil
}
