package agent

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"secretsd/agent/source/local"
)

func askPage(a *Agent, listen, host string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodGet, "/", nil)
	req.Host = host
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	a.telemetry(listen).ServeHTTP(w, req)
	return w
}

func TestStatusPage(t *testing.T) {
	const canary = "CANARY-hunter2"
	hostile := strings.Replace(seenConfig, "name: late,", `name: "<script>alert(1)</script>",`, 1)
	hostile = strings.Replace(hostile, `secret "late"`, `secret "<script>alert(1)</script>"`, 1)
	runAgent(t, hostile, func(r *running) { must(t, r.svc.Put("prod/db", canary)) }, func(r *running) {
		r.after(time.Second)
		r.svc.SetFault(func(string, string) *local.Fault {
			return &local.Fault{Code: "AccessDeniedException", Message: `not <b onload="x">authorized</b>`, Status: 400}
		})
		r.after(5 * time.Minute)
		w := askPage(r.agent, "127.0.0.1:1", "localhost:1")
		page, csp := w.Body.String(), w.Header().Get("Content-Security-Policy")
		if w.Code != 200 || !strings.Contains(csp, "default-src 'none'") || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%d, policy %q", w.Code, csp)
		}
		version := r.agent.Status().Secrets[0].VersionID
		for _, want := range []string{"not ready", "prod/db", version, "stale, denied", "&lt;script&gt;alert(1)", r.dir + "/broken", "degraded", "app", "prefers-color-scheme:dark", "width=device-width"} {
			if !strings.Contains(page, want) {
				t.Errorf("the page lacks %q", want)
			}
		}
		// Nothing of others becomes markup, nothing is fetched, no value is shown.
		for _, not := range []string{"<script", "<b onload", canary, "src=", "href=", "url(", "@import"} {
			if strings.Contains(page, not) {
				t.Errorf("the page holds %q", not)
			}
		}
		for _, tag := range []string{"table", "tr", "td", "small", "span", "b", "p", "h2", "code"} {
			opened := len(regexp.MustCompile(`<`+tag+`[ >]`).FindAllString(page, -1))
			if closed := strings.Count(page, "</"+tag+">"); opened != closed {
				t.Errorf("%d <%s> are opened, %d closed", opened, tag, closed)
			}
		}
	})
}

func TestStatusPageStaysHere(t *testing.T) {
	runAgent(t, oneSecret, func(r *running) { must(t, r.svc.Put("prod/db", "one")) }, func(r *running) {
		r.after(time.Second)
		for _, row := range []struct {
			listen, host string
			want         int
			headers      []string
		}{
			{"127.0.0.1:9273", "127.0.0.1:9273", 200, nil},
			{"[::1]:9273", "[::1]:9273", 200, nil},
			{"localhost:9273", "LOCALHOST", 200, []string{"Sec-Fetch-Site", "none"}},
			{"127.0.0.1:9273", "evil.example:9273", 400, nil},
			{"127.0.0.1:9273", "127.0.0.1.evil.example", 400, nil},
			{"127.0.0.1:9273", "", 400, nil},
			{"127.0.0.1:9273", "localhost", 400, []string{"X-Forwarded-For", ""}},
			{"127.0.0.1:9273", "localhost", 400, []string{"Via", "1.1 x"}},
			{"127.0.0.1:9273", "localhost", 400, []string{"Sec-Fetch-Site", "cross-site"}},
			{":9273", "localhost", 404, nil},
			{"0.0.0.0:9273", "127.0.0.1", 404, nil},
			{"10.0.0.1:9273", "10.0.0.1", 404, nil},
		} {
			w := askPage(r.agent, row.listen, row.host, row.headers...)
			if w.Code != row.want || (w.Code != 200) == strings.Contains(w.Body.String(), "prod/db") {
				t.Errorf("%+v: %d", row, w.Code)
			}
		}
	})
}
