package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// env is what a command has of the world.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	reload         <-chan os.Signal
}

// run executes the command line and returns the exit code.
func run(ctx context.Context, args []string, e env) int {
	root := newRoot(e)
	root.SetArgs(args)
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	err := root.ExecuteContext(ctx)
	printErrors(e.stderr, err)
	return codeOf(err)
}

func newRoot(e env) *cobra.Command {
	root := &cobra.Command{
		Use:   "secretsd",
		Short: "AWS Secrets Manager secrets for applications, kept right while they rotate",
		Long: `secretsd reads AWS Secrets Manager secrets, renders them through templates into
files on tmpfs, serves them on a token-guarded localhost endpoint, and tells the
application when they change.

Try it without AWS: secretsd dev

Exit codes: 0 done, 1 failed, 2 usage, 3 configuration invalid, 4 some secrets missing.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("there is no command %q; see secretsd --help%s", args[0], suggestion(cmd, args[0]))
			}
			_ = cmd.Help()
			return usage("name a command")
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%w; see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(newRun(e), newCheck(e), newRender(e), newPlan(e), newStatus(e), newGet(e), newRefresh(e), newDev(e), newConvert(e), newVersion(e))
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	return root
}

func suggestion(cmd *cobra.Command, word string) string {
	cmd.SuggestionsMinimumDistance = 2
	if s := cmd.SuggestionsFor(word); len(s) > 0 {
		return " (did you mean " + strings.Join(s, " or ") + "?)"
	}
	return ""
}

// noArgs refuses arguments as a usage error.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("%s takes no argument %q", cmd.CommandPath(), args[0])
	}
	return nil
}

// configFlag adds --config.
func configFlag(cmd *cobra.Command, path *string, def string) {
	text := "configuration file"
	if def == "" {
		text += " (default: a sample)"
	}
	cmd.Flags().StringVarP(path, "config", "c", def, text)
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
}

// outputFlag adds --output, which is one of formats, the first by default; they
// are text and json where none are given.
func outputFlag(cmd *cobra.Command, format *string, formats ...string) {
	if len(formats) == 0 {
		formats = []string{"text", "json"}
	}
	last := len(formats) - 1
	list := strings.Join(formats[:last], ", ")
	cmd.Flags().StringVarP(format, "output", "o", formats[0], list+", or "+formats[last]+" for programs")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if !slices.Contains(formats, *format) {
			return usage("--output is %s or %s, not %q", list, formats[last], *format)
		}
		return nil
	}
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
