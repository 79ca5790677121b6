package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"secretsd/agent"
	"secretsd/agent/notify"
)

// statusHelp documents the JSON output too; a test holds that no field is missing.
const statusHelp = `status shows every secret, file, target and client of the running agent, never a
value or a token. It asks over the agent's control socket, as root or the agent's
own user. --output wide shows ARNs and more of what clients were answered.

With --ready it prints nothing if the agent is ready and ends with 0; if it is
not, it says on standard error what is missing and ends with 1, for a Kubernetes
exec probe. Exit code 1 means otherwise that no agent runs.

--output json is one object. What is empty or does not apply is left out; times
are RFC 3339, versions are version ids.

  version, started_at, config, loaded_at, state_dir
  ready, reasons          what /readyz says
  endpoint, socket, telemetry, local
                          the addresses bound
  secrets[]  name, id, arn, optional, stage, version_id
             confirmed_at, age_seconds, next_refresh
             unlabelled   the secret is there, and no version of it at that stage
             stale        the last due read failed: kind, error, hint say why; but not
                          of an optional secret that is absent
             expired      the endpoint serves it no longer: older than max_stale
             pending_version_id
                          the version that files and environment show, for the one
                          in use was refused; its rotation has not ended
             unsettled    the one in use was refused before the start, and AWSPENDING
                          cannot be read: kind and error say why, and files wait
             held_version_id, held_reason
                          a version that is not used, for it is not what expect says
  files[]    path, bundle, state
                          in_place, waiting (waits_for), skipped, checking, held or
                          degraded
             secrets[]    name and version_id of what it was rendered from
             held[]       the same of what a check or a target has refused
             expires_at   of the first of its certificates
             error, hint, next_try
             template_error, template_hint
                          why the template on disk cannot be used; the one before is
  targets[]  name, kind, state
             owed_since, attempts, next_attempt, last_told, last_outcome
             unconfirmed  it did not confirm, after the last step of its ladder
             ladder_step  by which it was told last and is to confirm
             error, hint
  clients[]  name, token_file, token_env, uids, gids
             all          it may read everything; else secrets and roles
             requests     by outcome; last_seen
  child      state, pid, started_at, starts, crashes, last_exit, next_start
             environment_held
                          none can be made of what there is now: the child has that
                          of before, or is not started
             error, hint
  requests   to the endpoint by outcome, those of nobody known among them
  on_demand  versions that are kept because clients asked for them`

func newStatus(e env) *cobra.Command {
	var f controlFlags
	var format string
	var ready bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the running agent holds, and what is wrong",
		Long:  statusHelp,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			socket, err := f.socket(cmd)
			if err != nil {
				return err
			}
			var st agent.Status
			q := question{method: http.MethodGet, path: "/status", patience: controlPatience}
			err = ask(cmd.Context(), socket, q, func(body io.Reader) error {
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
			return printStatus(e.stdout, &st, time.Now(), format == "wide")
		},
	}
	f.add(cmd)
	outputFlag(cmd, &format, "text", "wide", "json")
	cmd.Flags().BoolVar(&ready, "ready", false, "say by the exit code whether the agent is ready")
	return cmd
}

// printStatus writes tables for people. What is wrong stands on lines of its
// own below them, whole.
func printStatus(w io.Writer, st *agent.Status, now time.Time, wide bool) error {
	var b, faults strings.Builder
	writeHead(&b, st, now)
	heading := "SECRET\tID\tVERSION\tSTAGE\tAGE\tNEXT\tSTATE"
	if wide {
		heading += "\tARN"
	}
	table(&b, heading, len(st.Secrets), func(i int) []string {
		s := &st.Secrets[i]
		if !s.Absent() {
			writeFault(&faults, "secret", s.Name, s.Error, s.Hint)
		}
		row := []string{s.Name, s.ID, s.VersionID, s.Stage, ageOf(s), until(s.NextRefresh, now), stateOf(s)}
		if wide {
			row = append(row, s.ARN)
		}
		return row
	})
	table(&b, "FILE\tSTATE\tVERSIONS", len(st.Files), func(i int) []string {
		f := &st.Files[i]
		state := strings.ReplaceAll(f.State, "_", " ") + prefixed(" for ", f.WaitsFor)
		if f.TemplateError != "" {
			state += ", template unusable"
		}
		writeFault(&faults, "file", f.Path, f.Error, f.Hint)
		writeFault(&faults, "file", f.Path, prefixed("keeps the template before: ", f.TemplateError), f.TemplateHint)
		return []string{f.Path, state, versionsOf(f.Secrets)}
	})
	table(&b, "TARGET\tKIND\tSTATE\tOWED\tFAILED", len(st.Targets), func(i int) []string {
		t := &st.Targets[i]
		writeFault(&faults, "target", t.Name, t.Error, t.Hint)
		return []string{t.Name, t.Kind, t.Describe(), since(t.OwedSince, now), fmt.Sprint(t.Attempts)}
	})
	childTable(&b, st.Child, now, func(what, name, err, hint string) { writeFault(&faults, what, name, err, hint) })
	writeClients(&b, st, now, wide)
	if faults.Len() > 0 {
		b.WriteString("\n" + faults.String())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeHead(b *strings.Builder, st *agent.Status, now time.Time) {
	state := "ready"
	if !st.Ready {
		state = "not ready"
	}
	fmt.Fprintf(b, "secretsd %s, %s, up %s, %s\n", st.Version, state, span(now.Sub(st.StartedAt)), shown(st.Config))
	var addresses []string
	for _, a := range [][2]string{{"endpoint ", st.Endpoint}, {"socket ", st.Socket}, {"telemetry ", st.Telemetry}, {"local Secrets Manager ", st.Local}} {
		if a[1] != "" {
			addresses = append(addresses, a[0]+shown(a[1]))
		}
	}
	if len(addresses) > 0 {
		fmt.Fprintln(b, strings.Join(addresses, ", "))
	}
	for _, reason := range st.Reasons {
		fmt.Fprintf(b, "  %s\n", shown(reason))
	}
}

func writeFault(b *strings.Builder, what, name, err, hint string) {
	if err == "" {
		return
	}
	fmt.Fprintf(b, "%s %s: %s\n", what, shown(name), shown(err))
	if hint != "" {
		fmt.Fprintf(b, "  hint: %s\n", shown(hint))
	}
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
	case s.Absent():
		return "absent, optional"
	case s.Unlabelled && s.Kind == "":
		return "none at " + s.Stage
	case s.VersionID == "" && s.Kind == "":
		return "not read yet"
	case s.Expired:
		return "expired, " + cmp.Or(s.Kind, "not confirmed")
	case s.VersionID == "":
		return s.Kind
	case s.Stale:
		return "stale, " + s.Kind
	case s.Held != "":
		return "held " + s.Held
	case s.Pending != "":
		return "pending " + s.Pending
	case s.Unsettled:
		return "refused, pending not readable"
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

// since writes how long ago at was, or nothing for no time.
func since(at, now time.Time) string {
	if at.IsZero() {
		return ""
	}
	return span(now.Sub(at))
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

func suffixed(s, suffix string) string {
	if s == "" {
		return ""
	}
	return s + suffix
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
