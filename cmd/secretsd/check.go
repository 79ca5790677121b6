package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"secretsd/agent"
	"secretsd/agent/config"
)

func newCheck(e env) *cobra.Command {
	var path, format string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Find all that is wrong with configuration and templates, without the network",
		Long: `check reads the configuration, the templates and the places that files go to, and
reports everything that is wrong at once, each fault with file and line. It asks
no network and writes nothing. Exit code 3 means that something is wrong.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
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
			_, err = fmt.Fprintf(e.stdout, "%s is valid: %s, %s, %s\n", path,
				count(len(cfg.Secrets), "secret"), count(len(cfg.Files), "file"), count(len(cfg.Targets), "target"))
			return err
		},
	}
	configFlag(cmd, &path, config.DefaultPath)
	outputFlag(cmd, &format)
	return cmd
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
