package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"secretsd/agent"
	"secretsd/agent/notify"
)

func newStatus(e env) *cobra.Command {
	var f controlFlags
	var format string
	var ready bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the running agent holds, and what is wrong",
		Long: `status shows every secret, file and target of the running agent, never a value.
It asks over the agent's control socket, as root or the agent's own user.

With --ready it prints nothing and ends with 0 if the agent is ready and with 1
if it is not, for a Kubernetes exec probe. Exit code 1 means otherwise that no
agent runs.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			socket, err := f.socket(cmd)
			if err != nil {
				return err
			}
			var st agent.Status
			err = ask(cmd.Context(), socket, "/status", nil, func(body io.Reader) error {
				if err := json.NewDecoder(body).Decode(&st); err != nil {
					return fmt.Errorf("read the agent's status: %w", err)
				}
				return nil
			})
			switch {
			case err != nil:
				return err
			case ready && !st.Ready:
				return errors.New("not ready: " + strings.Join(st.Reasons, "; "))
			case ready:
				return nil
			case format == "json":
				return printJSON(e.stdout, &st)
			}
			return printStatus(e.stdout, &st, time.Now())
		},
	}
	f.add(cmd)
	outputFlag(cmd, &format)
	cmd.Flags().BoolVar(&ready, "ready", false, "print nothing; say by the exit code whether the agent is ready")
	return cmd
}

// printStatus writes tables for people. What is wrong stands on lines of its
// own below them, whole.
func printStatus(w io.Writer, st *agent.Status, now time.Time) error {
	var b, faults strings.Builder
	state := "ready"
	if !st.Ready {
		state = "not ready"
	}
	fmt.Fprintf(&b, "secretsd %s, %s, up %s", st.Version, state, span(now.Sub(st.StartedAt)))
	if st.Endpoint != "" {
		fmt.Fprintf(&b, ", endpoint %s", st.Endpoint)
	}
	b.WriteString("\n")
	for _, reason := range st.Reasons {
		fmt.Fprintf(&b, "  %s\n", shown(reason))
	}
	fault := func(what, name, err, hint string) {
		if err == "" {
			return
		}
		fmt.Fprintf(&faults, "%s %s: %s\n", what, shown(name), shown(err))
		if hint != "" {
			fmt.Fprintf(&faults, "  hint: %s\n", shown(hint))
		}
	}
	table(&b, "SECRET\tVERSION\tSTAGE\tAGE\tNEXT\tSTATE", len(st.Secrets), func(i int) []string {
		s := &st.Secrets[i]
		fault("secret", s.Name, s.Error, s.Hint)
		return []string{s.Name, s.VersionID, s.Stage, ageOf(s), until(s.NextRefresh, now), stateOf(s)}
	})
	table(&b, "FILE\tSTATE\tVERSIONS", len(st.Files), func(i int) []string {
		f := &st.Files[i]
		fault("file", f.Path, f.Error, f.Hint)
		return []string{f.Path, strings.ReplaceAll(f.State, "_", " ") + prefixed(" for ", f.WaitsFor), versionsOf(f.Secrets)}
	})
	table(&b, "TARGET\tKIND\tSTATE\tOWED\tFAILED", len(st.Targets), func(i int) []string {
		t := &st.Targets[i]
		fault("target", t.Name, t.Error, "")
		owed := ""
		if !t.OwedSince.IsZero() {
			owed = span(now.Sub(t.OwedSince))
		}
		return []string{t.Name, t.Kind, string(t.State), owed, fmt.Sprint(t.Attempts)}
	})
	childTable(&b, st.Child, now, fault)
	if faults.Len() > 0 {
		b.WriteString("\n" + faults.String())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// table writes a heading and n rows below a blank line, or nothing without
// rows.
func table(b *strings.Builder, heading string, n int, row func(i int) []string) {
	if n == 0 {
		return
	}
	b.WriteString("\n")
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, heading)
	for i := range n {
		cells := row(i)
		for j, c := range cells {
			cells[j] = cmp.Or(shown(c), "-")
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	_ = w.Flush() // a strings.Builder does not fail
}

func stateOf(s *agent.SecretStatus) string {
	switch {
	case s.VersionID == "" && s.Kind == "":
		return "not read yet"
	case s.Expired:
		return "expired, " + cmp.Or(s.Kind, "not confirmed")
	case s.VersionID == "":
		return s.Kind
	case s.Stale:
		return "stale, " + s.Kind
	default:
		return "ok"
	}
}

func versionsOf(list []notify.SecretVersion) string {
	parts := make([]string, len(list))
	for i, v := range list {
		parts[i] = v.Name + "@" + v.VersionID
	}
	return strings.Join(parts, " ")
}

func ageOf(s *agent.SecretStatus) string {
	if s.ConfirmedAt.IsZero() {
		return ""
	}
	return span(time.Duration(s.AgeSeconds * float64(time.Second)))
}

func until(at, now time.Time) string {
	switch {
	case at.IsZero():
		return ""
	case !at.After(now):
		return "now"
	}
	return span(at.Sub(now))
}

// span writes a time span in its two greatest units.
func span(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return d.Truncate(time.Second).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	}
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// shown keeps what others wrote from moving the cursor of a terminal.
func shown(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
