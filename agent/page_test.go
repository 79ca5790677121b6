package agent

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"secretsd/agent/source/local"
)

func askPage(a *Agent, path, listen, host string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodGet, path, nil)
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
		w := askPage(r.agent, "/", "127.0.0.1:1", "localhost:1")
		page, csp := w.Body.String(), w.Header().Get("Content-Security-Policy")
		if w.Code != 200 || !strings.Contains(csp, "default-src 'none'") || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%d, policy %q", w.Code, csp)
		}
		version := r.agent.Status().Secrets[0].VersionID
		for _, want := range []string{"not ready", "prod/db", version, "arn:aws:secretsmanager:", "stale, denied", "&lt;script&gt;alert(1)", r.dir + "/broken", "held", "app", "prefers-color-scheme:dark", "width=device-width"} {
			if !strings.Contains(page, want) {
				t.Errorf("the page lacks %q", want)
			}
		}
		// Nothing of others becomes markup, nothing is fetched, no value is shown.
		for _, not := range []string{"<script", "<b onload", canary, "src=", "href=", "url(", "@import", "http-equiv", "style="} {
			if strings.Contains(strings.Replace(page, `<a href="?follow">`, "<a>", 1), not) {
				t.Errorf("the page holds %q", not)
			}
		}
		for _, tag := range []string{"table", "caption", "thead", "tbody", "tr", "th", "td", "div", "small", "span", "b", "p", "ul", "li", "a", "h1", "h2", "code", "main"} {
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
			w := askPage(r.agent, "/", row.listen, row.host, row.headers...)
			if w.Code != row.want || (w.Code != 200) == strings.Contains(w.Body.String(), "prod/db") {
				t.Errorf("%+v: %d", row, w.Code)
			}
		}
	})
}

// TestMetricsOnLoopbackAreNotForOtherSites has scrapers and probes pass, also
// those behind a proxy, and what a page of another site can have a browser send
// refused.
func TestMetricsOnLoopbackAreNotForOtherSites(t *testing.T) {
	runAgent(t, oneSecret, func(r *running) { must(t, r.svc.Put("prod/db", "one")) }, func(r *running) {
		r.after(time.Second)
		for _, row := range []struct {
			listen, host string
			want         int
			headers      []string
		}{
			{"127.0.0.1:9273", "127.0.0.1:9273", 200, nil},
			{"127.0.0.1:9273", "localhost:9273", 200, nil},
			{"127.0.0.1:9273", "", 200, nil}, // HTTP/1.0
			{"127.0.0.1:9273", "10.1.2.3:8443", 200, []string{"X-Forwarded-For", "10.9.9.9"}},
			{"127.0.0.1:9273", "[2001:db8::1]:8443", 200, nil},
			{"127.0.0.1:9273", "evil.example:9273", 400, nil},
			{"127.0.0.1:9273", "127.0.0.1.evil.example", 400, nil},
			{"127.0.0.1:9273", "127.0.0.1:9273", 400, []string{"Sec-Fetch-Site", "cross-site"}},
			{"127.0.0.1:9273", "127.0.0.1:9273", 400, []string{"Sec-Fetch-Site", "same-site"}},
			{":9273", "node.example:9273", 200, nil},
		} {
			for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
				w := askPage(r.agent, path, row.listen, row.host, row.headers...)
				if w.Code != row.want || w.Code != 200 && strings.Contains(w.Body.String(), `"db"`) {
					t.Errorf("%s, %+v: %d", path, row, w.Code)
				}
			}
		}
	})
}

func TestThePolicyNamesThePagesOwnStyle(t *testing.T) {
	runAgent(t, oneSecret, func(*running) {}, func(r *running) {
		r.after(time.Second)
		w := askPage(r.agent, "/?follow", "127.0.0.1:1", "localhost:1")
		style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(w.Body.String())
		if style == nil {
			t.Fatal("there is no style")
		}
		sum := sha256.Sum256([]byte(style[1]))
		policy := w.Header().Get("Content-Security-Policy")
		if want := "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(policy, want) || strings.Contains(policy, "unsafe") {
			t.Errorf("policy %q lacks %s", policy, want)
		}
		if !strings.Contains(w.Body.String(), `http-equiv="refresh"`) {
			t.Error("who asks to follow cannot")
		}
	})
}
