package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"secretsd/agent"
)

type refreshFlags struct {
	control controlFlags
	refused []string
	timeout time.Duration
	format  string
}

func newRefresh(e env) *cobra.Command {
	var f refreshFlags
	cmd := &cobra.Command{
		Use:   "refresh ID",
		Short: "Have the running agent read a secret again, now",
		Long: `refresh has the agent read one secret again, and ends when what that brought is
published. ID is its configured name, its id or its ARN. It says one of

  published  there is another version, and files and endpoint have it
  pending    the version is still one that was refused; files and environment have
             the pending one of its rotation
  held       some files could not be brought to the version, and stay as they are
  unchanged  the version is the one there was

With --refused it names the version that a database, say, has just refused; it may
be given again for a second one. If the agent has another one by now it answers at
once; else it reads again and again, for up to --timeout, until the version is
another one: a rotation sets the new password before it moves AWSCURRENT. For a
secret configured with pending: true it takes the version at AWSPENDING meanwhile.

It asks the running agent over its control socket, as root or the agent's own
user. How often it reads from AWS is limited; above that the answer is what the
agent knows. Exit code 1 means held, or that the version refused is still the
current one, or that no agent runs; 4 that the secret could not be read.`,
		Args: oneID,
		RunE: func(cmd *cobra.Command, args []string) error { return runRefresh(cmd, e, &f, args[0]) },
	}
	f.control.add(cmd)
	outputFlag(cmd, &f.format)
	cmd.Flags().StringArrayVar(&f.refused, "refused", nil, "a version id that was refused")
	cmd.Flags().DurationVar(&f.timeout, "timeout", agent.MaxRefreshTimeout, "how long to look for another version than the one refused")
	return cmd
}

func runRefresh(cmd *cobra.Command, e env, f *refreshFlags, id string) error {
	if f.timeout <= 0 || f.timeout > agent.MaxRefreshTimeout {
		return usage("--timeout is a time of at most %s, not %s", agent.MaxRefreshTimeout, f.timeout)
	}
	socket, err := f.control.socket(cmd)
	if err != nil {
		return err
	}
	q := question{
		method: http.MethodPost, path: "/refresh", patience: f.timeout + controlPatience,
		query: url.Values{"id": {id}, "refused": f.refused, "timeout": {f.timeout.String()}},
	}
	var res agent.RefreshResult
	err = ask(cmd.Context(), socket, q, func(body io.Reader) error {
		if err := json.NewDecoder(body).Decode(&res); err != nil {
			return fmt.Errorf("read the agent's answer: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if f.format == "json" {
		err = printJSON(e.stdout, &res)
	} else {
		err = printRefresh(e.stdout, &res)
	}
	if err != nil {
		return err
	}
	return refreshFault(&res, f)
}

// printRefresh writes a table for people, and below it why each file is held.
func printRefresh(w io.Writer, res *agent.RefreshResult) error {
	var b strings.Builder
	table(&b, "SECRET\tSTATE\tVERSION\tPREVIOUS", 1, func(int) []string {
		return []string{res.Name, res.State, res.VersionID, res.PreviousVersionID}
	})
	if len(res.Held) > 0 {
		b.WriteString("\n")
	}
	for i := range res.Held {
		f := &res.Held[i]
		writeFault(&b, "file", f.Path, cmp.Or(f.Error, prefixed("waits for secret ", f.WaitsFor)), f.Hint)
	}
	_, err := io.WriteString(w, strings.TrimPrefix(b.String(), "\n"))
	return err
}

// refreshFault returns what keeps a refresh from being done, or nil.
func refreshFault(res *agent.RefreshResult, f *refreshFlags) error {
	switch {
	case res.State == agent.RefreshHeld:
		return fmt.Errorf("refresh secret %s: %s could not be brought to version %s", res.Name, count(len(res.Held), "file"), res.VersionID)
	case res.State == agent.RefreshUnchanged && len(f.refused) > 0:
		return &hintedError{fmt.Errorf("refresh secret %s: version %s, which was refused, is still the current one", res.Name, res.VersionID),
			"its rotation may not have finished, or something else is refused than the secret; look at what the rotation function says; " +
				"pending: true in the secret's configuration shows the new password before AWSCURRENT moves"}
	}
	return nil
}
