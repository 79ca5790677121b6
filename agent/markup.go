package agent

import (
	"fmt"
	"html"
	"strings"
	"time"

	"secretsd/agent/notify"
	"secretsd/sinks/endpoint"
	"secretsd/sinks/process"
)

// tone is how a state is coloured.
type tone string

const (
	fine tone = "ok"
	warn tone = "warn"
	bad  tone = "bad"
)

// markup is a page in the making. What is not in this file's own strings is
// escaped. html/template would do that too, but costs 3.8 MB of binary: with it
// the linker has to keep every method there is.
type markup struct{ strings.Builder }

func appendPage(st *Status, now time.Time, follow bool) []byte {
	m := &markup{}
	m.WriteString(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>secretsd</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
`)
	if follow {
		m.WriteString(`<meta http-equiv="refresh" content="` + followEvery + `">` + "\n")
	}
	m.WriteString("<style>" + pageStyle + "</style></head><body><main>\n")
	m.heading(st, now, follow)
	m.secrets(st.Secrets, now)
	m.files(st.Files, now)
	m.targets(st.Targets, now)
	m.child(st.Child, now)
	m.clients(st, now)
	m.WriteString("</main></body></html>\n")
	return []byte(m.String())
}

func (m *markup) heading(st *Status, now time.Time, follow bool) {
	state, t := "ready", fine
	if !st.Ready {
		state, t = "not ready", bad
	}
	fmt.Fprintf(m, "<h1>secretsd <b class=\"%s\">%s</b></h1>\n", t, state)
	if len(st.Reasons) > 0 {
		m.WriteString(`<ul class="bad">`)
		for _, reason := range st.Reasons {
			m.WriteString("<li>" + html.EscapeString(reason) + "</li>")
		}
		m.WriteString("</ul>\n")
	}
	fmt.Fprintf(m, `<p class="soft">%s, up %s, %s<br>`, html.EscapeString(st.Version), ago(now.Sub(st.StartedAt)), html.EscapeString(st.Config))
	for _, a := range [][2]string{{"endpoint", st.Endpoint}, {"socket", st.Socket}, {"telemetry", st.Telemetry}, {"local Secrets Manager", st.Local}} {
		if a[1] != "" {
			fmt.Fprintf(m, "%s %s<br>", a[0], html.EscapeString(a[1]))
		}
	}
	action := `<a href="?follow">follow</a>`
	if follow {
		action = "every " + followEvery + ` s, <a href="/">stop</a>`
	}
	utc := now.UTC()
	fmt.Fprintf(m, "as of <time datetime=\"%s\">%s</time>, %s</p>\n", utc.Format(time.RFC3339), utc.Format("2006-01-02 15:04:05 UTC"), action)
}

// table begins a table, and returns what writes a row of its cells, which are
// markup; the first names the row. The roles say what the elements are for
// browsers that forget it where a style shows them as blocks.
func (m *markup) table(title string, columns ...string) (row func(cells ...string)) {
	m.WriteString(`<table role="table"><caption><h2>` + title + `</h2></caption><thead role="rowgroup"><tr role="row">`)
	for _, c := range columns {
		m.WriteString(`<th scope="col" role="columnheader">` + c + "</th>")
	}
	m.WriteString(`</tr></thead><tbody role="rowgroup">` + "\n")
	return func(cells ...string) {
		m.WriteString(`<tr role="row"><th scope="row" role="rowheader">` + cells[0] + "</th>")
		for i, cell := range cells[1:] {
			m.WriteString(`<td role="cell" data-l="` + columns[i+1] + `">` + cell + "</td>")
		}
		m.WriteString("</tr>\n")
	}
}

func (m *markup) end() { m.WriteString("</tbody></table>\n") }

func (m *markup) secrets(list []SecretStatus, now time.Time) {
	if len(list) == 0 {
		return
	}
	defer m.end()
	row := m.table("Secrets", "Secret", "State", "Version", "Stage", "Age", "Next read")
	for i := range list {
		s := &list[i]
		age, next := "", ""
		if !s.ConfirmedAt.IsZero() {
			age = ago(time.Duration(s.AgeSeconds * float64(time.Second)))
		}
		if !s.NextRefresh.IsZero() {
			next = "in " + ago(s.NextRefresh.Sub(now))
		}
		state, why := coloured(fine, "ok"), explained(s.Error, s.Hint)
		switch {
		case s.Expired:
			state = coloured(bad, "expired, "+s.Kind)
		case s.Absent():
			state, why = coloured(fine, "absent, optional"), ""
		case s.VersionID == "" && s.Kind != "":
			state = coloured(bad, s.Kind)
		case s.Unlabelled:
			state = coloured(fine, "none at "+s.Stage)
		case s.VersionID == "":
			state = coloured(warn, "not read yet")
		case s.Stale:
			state = coloured(warn, "stale, "+s.Kind)
		case s.Held != "":
			state, why = coloured(bad, "held "+s.Held), explained(s.HeldReason, "")
		case s.Pending != "":
			state = coloured(warn, "pending "+s.Pending)
		case s.Unsettled:
			state = coloured(warn, "refused, pending not readable")
		}
		id := s.ID
		if id == s.Name || id == s.ARN {
			id = ""
		}
		row(html.EscapeString(s.Name)+small(id)+small(s.ARN), cell(state+why), code(s.VersionID), html.EscapeString(s.Stage), age, next)
	}
}

func (m *markup) files(list []FileStatus, now time.Time) {
	if len(list) == 0 {
		return
	}
	defer m.end()
	row := m.table("Files", "File", "State", "Rendered from")
	tones := map[string]tone{FileInPlace: fine, FileSkipped: fine, FileWaiting: warn, FileChecking: warn, FileHeld: bad, FileDegraded: bad}
	for i := range list {
		f := &list[i]
		text := strings.ReplaceAll(f.State, "_", " ")
		if f.WaitsFor != "" {
			text += " for " + f.WaitsFor
		}
		if !f.NextTry.IsZero() {
			text += ", again in " + ago(f.NextTry.Sub(now))
		}
		state := coloured(tones[f.State], text) + explained(f.Error, f.Hint)
		if f.TemplateError != "" {
			state += "<br>" + coloured(bad, "template cannot be used, keeping the one before") + explained(f.TemplateError, f.TemplateHint)
		}
		var from []string
		for _, v := range f.Secrets {
			from = append(from, html.EscapeString(v.Name)+" "+code(v.VersionID))
		}
		for _, v := range f.Held {
			from = append(from, "held: "+html.EscapeString(v.Name)+" "+code(v.VersionID))
		}
		row(html.EscapeString(f.Path), cell(state), cell(strings.Join(from, "<br>")))
	}
}

func (m *markup) targets(list []notify.TargetStatus, now time.Time) {
	if len(list) == 0 {
		return
	}
	defer m.end()
	row := m.table("Targets", "Target", "State", "Kind", "Owed for", "Failed", "Last told")
	for i := range list {
		t := &list[i]
		failed, colour := "", fine
		if t.Attempts > 0 {
			failed, colour = fmt.Sprint(t.Attempts), warn
		}
		if t.State == notify.StateFailing || t.Unconfirmed {
			colour = bad
		}
		row(html.EscapeString(t.Name), cell(coloured(colour, t.Describe())+explained(t.Error, t.Hint)), html.EscapeString(t.Kind),
			past(t.OwedSince, now, ""), failed, past(t.LastTold, now, " ago"))
	}
}

func (m *markup) child(c *ChildStatus, now time.Time) {
	if c == nil {
		return
	}
	defer m.end()
	row := m.table("Child", "Process", "State", "For", "Starts", "Crashes", "Last exit")
	colour, since, pid := warn, "", "none"
	if c.State == process.Running {
		colour, since, pid = fine, ago(now.Sub(c.StartedAt)), fmt.Sprint(c.PID)
	}
	state := strings.ReplaceAll(string(c.State), "_", " ")
	if c.EnvironmentHeld {
		colour, state = bad, state+", environment held"
	}
	row(pid, cell(coloured(colour, state)+explained(c.Error, c.Hint)), since,
		fmt.Sprint(c.Starts), fmt.Sprint(c.Crashes), html.EscapeString(c.LastExit))
}

func (m *markup) clients(st *Status, now time.Time) {
	if len(st.Clients) == 0 {
		return
	}
	row := m.table("Clients", "Client", "Known by", "May read", "Answered", "Refused", "Failed", "Last seen")
	for i := range st.Clients {
		c := &st.Clients[i]
		count := func(of []endpoint.Outcome) string {
			return cell(fmt.Sprint(Total(c.Requests, of)) + small(ListOutcomes(c.Requests, of)))
		}
		row(html.EscapeString(c.Name), html.EscapeString(c.KnownBy()), html.EscapeString(c.MayRead()),
			count(OutcomesAnswered), count(OutcomesRefused), count(OutcomesFailed), past(c.LastSeen, now, " ago"))
	}
	m.end()
	if list := ListOutcomes(st.Requests, OutcomesUnknown); list != "" {
		m.WriteString("<p>Requests of nobody known: " + html.EscapeString(list) + "</p>\n")
	}
}

// cell keeps markup of several elements one item of the grid that a cell is on a
// narrow screen.
func cell(s string) string {
	if s == "" {
		return ""
	}
	return "<div>" + s + "</div>"
}

func coloured(t tone, text string) string {
	return `<span class="` + string(t) + `">` + html.EscapeString(text) + "</span>"
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "<code>" + html.EscapeString(s) + "</code>"
}

func small(s string) string {
	if s == "" {
		return ""
	}
	return "<small>" + html.EscapeString(s) + "</small>"
}

func explained(err, hint string) string {
	if hint != "" {
		hint = "Hint: " + hint
	}
	return small(err) + small(hint)
}

// past writes how long ago at was, or nothing for no time.
func past(at, now time.Time, suffix string) string {
	if at.IsZero() {
		return ""
	}
	return ago(now.Sub(at)) + suffix
}

// ago writes a time span in whole seconds, and long ones in days.
func ago(d time.Duration) string {
	d = max(d, 0).Truncate(time.Second)
	if days := d / (24 * time.Hour); days > 1 {
		return fmt.Sprintf("%d days", days)
	}
	return d.String()
}
