package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"secretsd/agent"
	"secretsd/agent/config"
)

// controlPatience stands above the agent's own limit on waiting for a secret.
const controlPatience = 20 * time.Second

// controlFlags say which agent is asked.
type controlFlags struct{ stateDir, config string }

func (f *controlFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.stateDir, "state-dir", "", "state directory of the agent (default: the configuration's)")
	cmd.Flags().StringVarP(&f.config, "config", "c", config.DefaultPath, "configuration file of the agent")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	_ = cmd.MarkFlagDirname("state-dir")
}

// socket returns the path of the agent's control socket. A configuration with
// faults still says where the agent that once started with it is; the default
// one need not be there.
func (f *controlFlags) socket(cmd *cobra.Command) (string, error) {
	if f.stateDir != "" {
		return filepath.Join(f.stateDir, agent.ControlSocket), nil
	}
	cfg, err := agent.ReadConfig(f.config)
	switch {
	case err == nil:
		return filepath.Join(cfg.StateDir, agent.ControlSocket), nil
	case cmd.Flags().Changed("config"):
		return "", err
	}
	return filepath.Join(config.DefaultStateDir, agent.ControlSocket), nil
}

// question is a request to an agent.
type question struct {
	method, path string
	query        url.Values
	patience     time.Duration
}

// ask sends a question to the agent behind a control socket, and hands the body
// of its answer to read.
func ask(ctx context.Context, socket string, q question, read func(io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, q.patience)
	defer cancel()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	// The host is not looked at: the socket says who is asked.
	u := url.URL{Scheme: "http", Host: "control", Path: q.path, RawQuery: q.query.Encode()}
	req, err := http.NewRequestWithContext(ctx, q.method, u.String(), http.NoBody)
	if err != nil {
		return fmt.Errorf("ask the agent: %w", err)
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return unreachable(socket, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return refusal(res)
	}
	return read(res.Body)
}

// refusal returns the agent's own words on what is wrong.
func refusal(res *http.Response) error {
	var e agent.ControlError
	if err := json.NewDecoder(res.Body).Decode(&e); err != nil || e.Message == "" {
		return fmt.Errorf("ask the agent: it answers %s", res.Status)
	}
	if e.Missing {
		return &codedError{exitMissing, &e}
	}
	return &e
}

// hintedError is an error with a hint.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() }
func (e *hintedError) Unwrap() error { return e.err }
func (e *hintedError) Hint() string  { return e.hint }

func unreachable(socket string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &hintedError{fmt.Errorf("no agent runs with state directory %s", filepath.Dir(socket)),
			"start one with secretsd run, or name another with --state-dir or --config"}
	case errors.Is(err, fs.ErrPermission):
		return &hintedError{fmt.Errorf("connect to control socket %s: permission denied", socket),
			fmt.Sprintf("only root and the agent's own user may; this is uid %d", os.Geteuid())}
	}
	return fmt.Errorf("ask the agent: %w", err)
}

// oneID wants one argument.
func oneID(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usage("%s takes one ID, not %d", cmd.CommandPath(), len(args))
	}
	return nil
}

func newGet(e env) *cobra.Command {
	var f controlFlags
	var key string
	cmd := &cobra.Command{
		Use:   "get ID",
		Short: "Print a secret that the running agent holds",
		Long: `get prints the value of one secret, byte for byte and without a newline added. ID
is its configured name, its id or its ARN. With --key it prints one key of a JSON
secret: a string's text, anything else as JSON.

It asks the running agent over its control socket, as root or the agent's own
user. Exit code 4 means that the secret could not be read.`,
		Args: oneID,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := harden(); err != nil {
				return err
			}
			socket, err := f.socket(cmd)
			if err != nil {
				return err
			}
			query := url.Values{"id": args}
			if cmd.Flags().Changed("key") {
				query.Set("key", key)
			}
			q := question{http.MethodGet, "/secret", query, controlPatience}
			return ask(cmd.Context(), socket, q, func(body io.Reader) error {
				if _, err := io.Copy(e.stdout, body); err != nil {
					return fmt.Errorf("print secret: %w", err)
				}
				return nil
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVarP(&key, "key", "k", "", "print this key of a JSON secret")
	return cmd
}
