package agent

import (
	"fmt"
	"html"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"secretsd/agent/notify"
)

// pageHead is all that the page has of style. Everything is in the one answer;
// the policy beside it forbids the browser to fetch anything. Rows become cards
// where the screen is narrow.
const pageHead = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>secretsd</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="15">
<style>
:root{--fg:#1b1f24;--bg:#fff;--soft:#59636e;--line:#d1d9e0;--ok:#1a7f37;--warn:#9a6700;--bad:#cf222e}
@media(prefers-color-scheme:dark){:root{--fg:#e6edf3;--bg:#0d1117;--soft:#9198a1;--line:#3d444d;--ok:#3fb950;--warn:#d29922;--bad:#ff7b72}}
body{font:16px/1.45 system-ui,sans-serif;color:var(--fg);background:var(--bg);margin:0 auto;padding:1rem;max-width:72rem}
h1{font-size:1.4rem;margin:0}h2{font-size:1.1rem;margin:1.6rem 0 .4rem}p{margin:.3rem 0}small,th{color:var(--soft)}
table{border-collapse:collapse;width:100%}th{text-align:left;font-weight:500;font-size:.85rem}
th,td{padding:.4rem .8rem .4rem 0;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
.ok{color:var(--ok)}.warn{color:var(--warn)}.bad{color:var(--bad)}b{font-weight:600}code{font-size:.85em}
@media(max-width:45rem){thead{position:absolute;left:-999em}tr{display:block;border-bottom:1px solid var(--line);padding:.5rem 0}
td{display:flex;gap:.6rem;border:0;padding:.1rem 0}td::before{content:attr(data-l);color:var(--soft);flex:0 0 5.5rem}td:empty{display:none}}
</style></head><body>
`

// page returns the status page's handler. It stands on a loopback listener only
// and answers to the names of loopback, so that no other site can have a
// browser read it (DNS rebinding).
func (a *Agent) page() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		if !fromHere(r) {
			http.Error(w, "Forwarded", http.StatusBadRequest)
			return
		}
		h.Set("Content-Type", "text/html; charset=utf-8")
		st := a.Status()
		_, _ = w.Write(appendPage(&st, time.Now())) // a browser that has gone is nobody's error
	})
}

// fromHere reports whether a request names a loopback host and comes neither
// through a proxy nor from another site. A browser says of an address typed by
// a person that it comes from none (Fetch Metadata, Sec-Fetch-Site).
func fromHere(r *http.Request) bool {
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "Via"} {
		if _, present := r.Header[name]; present {
			return false
		}
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return false
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	return isLoopbackHost(host)
}

// onLoopback reports whether a listener of addr can be reached from this
// machine only.
func onLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && isLoopbackHost(host)
}

func isLoopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Zone() == "" && ip.Unmap().IsLoopback()
}

// tone is how a state is coloured.
type tone string

const (
	fine tone = "ok"
	warn tone = "warn"
	bad  tone = "bad"
)

// markup is a page in the making. What is not in this file's own strings is
// escaped.
type markup struct{ strings.Builder }

func appendPage(st *Status, now time.Time) []byte {
	m := &markup{}
	m.WriteString(pageHead)
	m.heading(st, now)
	m.secrets(st.Secrets, now)
	m.files(st.Files, now)
	m.targets(st.Targets, now)
	m.WriteString("</body></html>\n")
	return []byte(m.String())
}

func (m *markup) heading(st *Status, now time.Time) {
	state, t := "ready", fine
	if !st.Ready {
		state, t = "not ready", bad
	}
	fmt.Fprintf(m, `<h1>secretsd <b class="%s">%s</b></h1>`, t, state)
	for _, reason := range st.Reasons {
		fmt.Fprintf(m, "<p class=bad>%s</p>", html.EscapeString(reason))
	}
	fmt.Fprintf(m, "<p><small>%s, up %s, %s", html.EscapeString(st.Version), ago(now.Sub(st.StartedAt)), html.EscapeString(st.Config))
	if st.Endpoint != "" {
		fmt.Fprintf(m, ", endpoint %s", html.EscapeString(st.Endpoint))
	}
	m.WriteString("</small></p>\n")
}

// table begins a table, and returns what writes a row of its cells, which are
// markup.
func (m *markup) table(title string, columns ...string) (row func(cells ...string)) {
	m.WriteString("<h2>" + title + "</h2><table><thead><tr>")
	for _, c := range columns {
		m.WriteString("<th>" + c + "</th>")
	}
	m.WriteString("</tr></thead><tbody>\n")
	return func(cells ...string) {
		m.WriteString("<tr>")
		for i, cell := range cells {
			m.WriteString(`<td data-l="` + columns[i] + `">` + cell + "</td>")
		}
		m.WriteString("</tr>\n")
	}
}

func (m *markup) secrets(list []SecretStatus, now time.Time) {
	row := m.table("Secrets", "Secret", "Version", "Stage", "Age", "Next read", "State")
	for i := range list {
		s := &list[i]
		age, next := "", ""
		if !s.ConfirmedAt.IsZero() {
			age = ago(time.Duration(s.AgeSeconds * float64(time.Second)))
		}
		if !s.NextRefresh.IsZero() {
			next = "in " + ago(s.NextRefresh.Sub(now))
		}
		state := coloured(fine, "ok")
		switch {
		case s.Expired || (s.VersionID == "" && s.Kind != ""):
			state = coloured(bad, s.Kind)
		case s.VersionID == "":
			state = coloured(warn, "not read yet")
		case s.Stale:
			state = coloured(warn, "stale, "+s.Kind)
		}
		name := "<b>" + html.EscapeString(s.Name) + "</b>"
		if s.ID != s.Name {
			name += " <small>" + html.EscapeString(s.ID) + "</small>"
		}
		row(name, code(s.VersionID), html.EscapeString(s.Stage), age, next, state+explained(s.Error, s.Hint))
	}
	m.WriteString("</tbody></table>\n")
}

func (m *markup) files(list []FileStatus, now time.Time) {
	if len(list) == 0 {
		return
	}
	row := m.table("Files", "File", "Versions", "State")
	for i := range list {
		f := &list[i]
		state := coloured(map[string]tone{FileInPlace: fine, FileSkipped: fine, FileWaiting: warn, FileDegraded: bad}[f.State], strings.ReplaceAll(f.State, "_", " "))
		if f.WaitsFor != "" {
			state += " for " + html.EscapeString(f.WaitsFor)
		}
		if !f.NextTry.IsZero() {
			state += ", again in " + ago(f.NextTry.Sub(now))
		}
		var from []string
		for _, v := range f.Secrets {
			from = append(from, html.EscapeString(v.Name)+" "+code(v.VersionID))
		}
		row("<b>"+html.EscapeString(f.Path)+"</b>", "<span>"+strings.Join(from, "<br>")+"</span>", state+explained(f.Error, f.Hint))
	}
	m.WriteString("</tbody></table>\n")
}

func (m *markup) targets(list []notify.TargetStatus, now time.Time) {
	if len(list) == 0 {
		return
	}
	row := m.table("Targets", "Target", "Kind", "Owed for", "Failed", "State")
	for i := range list {
		t := &list[i]
		owed, failed, colour := "", "", fine
		if !t.OwedSince.IsZero() {
			owed = ago(now.Sub(t.OwedSince))
		}
		if t.Attempts > 0 {
			failed, colour = fmt.Sprint(t.Attempts), warn
		}
		if t.State == notify.StateFailing {
			colour = bad
		}
		row("<b>"+html.EscapeString(t.Name)+"</b>", html.EscapeString(t.Kind), owed, failed, coloured(colour, string(t.State))+explained(t.Error, ""))
	}
	m.WriteString("</tbody></table>\n")
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

func explained(err, hint string) string {
	if err == "" {
		return ""
	}
	text := " <small>" + html.EscapeString(err)
	if hint != "" {
		text += " (" + html.EscapeString(hint) + ")"
	}
	return text + "</small>"
}

// ago writes a time span in whole seconds, and long ones in days.
func ago(d time.Duration) string {
	d = max(d, 0).Truncate(time.Second)
	if days := d / (24 * time.Hour); days > 1 {
		return fmt.Sprintf("%d days", days)
	}
	return d.String()
}
