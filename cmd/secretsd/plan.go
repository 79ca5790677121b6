package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"secretsd/agent"
	"secretsd/agent/config"
)

func newPlan(e env) *cobra.Command {
	var path, format string
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Say what would be read, written and told, and what the reading costs",
		Long: `plan reads the configuration as check does, and prints which secrets the agent
would read and how often, which files it would write from them, whom it would
tell, which program it would run, and what the calls to AWS cost in a month in
which nothing changes. It asks no network and writes nothing.

Clients of the endpoint that read secrets on demand cause calls of their own,
which are not in the figure.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := agent.ReadConfig(path)
			if err != nil {
				return err
			}
			outlook, err := agent.Foresee(cmd.Context(), cfg, agent.Options{})
			if err != nil {
				return err
			}
			if format == "json" {
				return printJSON(e.stdout, outlook)
			}
			return printOutlook(e.stdout, &outlook)
		},
	}
	configFlag(cmd, &path, config.DefaultPath)
	outputFlag(cmd, &format)
	return cmd
}

func printOutlook(out io.Writer, o *agent.Outlook) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "READ\tID\tVERSION\tREGION\tEVERY")
	for _, s := range o.Secrets {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.Name, s.ID, cmp.Or(s.VersionID, s.Stage), cmp.Or(s.Region, "-"), s.Interval)
	}
	fmt.Fprintln(w, "\nWRITE\tFROM\tCHECK\tTELL")
	for _, f := range o.Outputs {
		path := f.Path
		if f.Bundle {
			path += "/"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", path, list(f.Secrets), list(f.Check), list(f.Notify))
	}
	fmt.Fprintln(w, "\nTELL\tBY\tOF\tVARIABLES")
	for _, t := range o.Targets {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", t.Name, t.How, list(t.ToldOf), list(t.Variables))
	}
	if c := o.Child; c != nil {
		fmt.Fprintln(w, "\nRUN\tVARIABLES\tKEYS OF\tON CHANGE")
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Program, list(c.Variables), list(c.FromSecrets), c.OnChange)
	}
	if o.CallsPerMonth > 0 {
		fmt.Fprintf(w, "\n%d calls to AWS in 30 days, %.2f USD\n", o.CallsPerMonth, o.USDPerMonth)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

func list(words []string) string { return cmp.Or(strings.Join(words, " "), "-") }
