package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"secretsd/cmd/secretsd/internal/wcp"
)

// newConvert has a subcommand for each program whose configuration can be
// converted.
func newConvert(e env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "convert",
		Short: "Print the agent.yaml that does what another program's configuration does",
		Long: `convert reads the configuration of another program and prints the agent.yaml that
does the same. Comments in it say what is different and what has no counterpart.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("convert cannot read configurations of %q; see %s --help%s", args[0], cmd.CommandPath(), suggestion(cmd, args[0]))
			}
			return usage("name the program that the configuration is of; see %s --help", cmd.CommandPath())
		},
	}
	cmd.AddCommand(newConvertWCP(e))
	return cmd
}

func newConvertWCP(e env) *cobra.Command {
	return &cobra.Command{
		Use:     "wcp [FILE]",
		Aliases: []string{"aws-workload-credentials-provider", "aws-secretsmanager-agent"},
		Short:   "AWS's agent: Workload Credentials Provider 3.x, Secrets Manager Agent 2.x",
		Long: `wcp prints the agent.yaml that does what FILE, a TOML file, does with AWS's agent:
the Workload Credentials Provider 3.x with its nested keys, or the Secrets Manager
Agent 2.x with its flat ones. - is standard input. Without FILE it reads
` + wcp.DefaultPath + ` where that is, as AWS's
agent does, and converts the agent's built-in configuration where it is not.

The file is refused where AWS's agent would refuse it, with all that is wrong at
once; exit code 3 says so. That the directories of certificates exist is not
looked at, so that a file can be converted anywhere.

The README, "Moving over from AWS's agent", has the steps around it:

    secretsd convert wcp config.toml > agent.yaml
    AWS_TOKEN=file:///var/run/awssmatoken secretsd check --config agent.yaml`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage("%s takes one FILE, not %d", cmd.CommandPath(), len(args))
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return []string{"toml"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := convertWCP(e.stdin, args)
			if err != nil {
				return &codedError{exitConfig, err}
			}
			if _, err := e.stdout.Write(text); err != nil {
				return fmt.Errorf("write output: %w", err)
			}
			return nil
		},
	}
}

func convertWCP(stdin io.Reader, args []string) ([]byte, error) {
	if len(args) == 0 {
		data, err := readFile(wcp.DefaultPath)
		if errors.Is(err, fs.ErrNotExist) {
			return wcp.Defaults()
		}
		if err != nil {
			return nil, err
		}
		return wcp.Convert(wcp.DefaultPath, data)
	}
	name := args[0]
	if name == "-" {
		data, err := io.ReadAll(io.LimitReader(stdin, wcp.MaxBytes+1))
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return wcp.Convert("stdin", data)
	}
	data, err := readFile(name)
	if err != nil {
		return nil, err
	}
	return wcp.Convert(name, data)
}

// readFile reads somebody else's configuration. Whose it is does not matter:
// nothing is done with it that is not printed.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &hintedError{fmt.Errorf("%s: open file: %w", path, errors.Unwrap(err)), "the path is wrong, or this user may not read it"}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, wcp.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s: read file: %w", path, errors.Unwrap(err))
	}
	return data, nil
}
