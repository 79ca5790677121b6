package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// look is what a page tells of itself.
type look struct {
	Title, Text        string
	Width, Scroll      int
	Light, Dark        float64 // luminance of the text and of the ground
	Worst              float64
	WorstOf            string
	Foreign            int
	Refresh, Connected bool
}

// measure looks at the page as its readers do: how wide it is, and how well each
// text stands out from its ground (WCAG 2.2, relative luminance and contrast).
const measure = `(() => {
  const rgb = (s) => s.match(/[\d.]+/g).map(Number);
  const lum = (c) => { const f = c.slice(0, 3).map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  let worst = 21, worstOf = "";
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n; (n = walker.nextNode());) {
    if (!n.data.trim()) continue;
    const e = n.parentElement, a = lum(rgb(getComputedStyle(e).color)), b = lum(ground(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst) { worst = ratio; worstOf = n.data; }
  }
  return {
    Title: document.title, Text: document.body.innerText, Width: innerWidth, Scroll: document.documentElement.scrollWidth,
    Light: lum(rgb(getComputedStyle(document.body).color)), Dark: lum(ground(document.body)), Worst: worst, WorstOf: worstOf,
    Foreign: document.querySelectorAll("script,img,iframe,link,object,embed,form,[onerror],[onload],[style]").length,
    Refresh: document.querySelector("meta[http-equiv=refresh]") !== null,
  };
})()`

// pageFixture runs an agent whose state has everything in it that a page could
// stumble over: markup in paths and errors, and names without a place to break.
func pageFixture(t *testing.T) (f *fixture, url string, shown []string) {
	t.Helper()
	f = newFixture(t)
	long := "prod/" + strings.Repeat("no-place-to-break", 12)
	write(t, f.secrets, fmt.Sprintf("secrets:\n  - {name: db, string: 'CANARY-one'}\n  - {name: %s, string: CANARY-two}\n", long))
	telemetry := freePort(t)
	hostile := filepath.Join(f.dir, `<img src=x onerror=document.title=1>`)
	write(t, f.conf, fmt.Sprintf(`
source: {local: {path: %[1]s/secrets.yaml}}
refresh: {interval: 1m}
state_dir: %[1]s/state
secrets: [{name: db, id: db}, {name: long, id: %[2]s}, {name: late, id: prod/late}, {name: maybe, id: prod/maybe, required: false}]
files:
  - {path: %[1]s/out, contents: '{{ secret "db" }}', notify: [app]}
  - {path: '%[3]s', contents: '{{ secret "db" }}'}
  - {path: %[1]s/broken, contents: '{{ field "<script>document.title=2</script>" (secret "db") }}'}
  - {path: %[1]s/late, contents: '{{ secret "late" }}'}
  - {path: %[1]s/maybe, contents: '{{ secret "maybe" }}'}
targets: [{name: app, process: {pid_file: %[1]s/app.pid}}]
endpoint:
  listen: "%[4]s"
  token_file: %[1]s/token
  socket: {path: %[1]s/s.sock}
  clients: [{name: web, token_file: %[1]s/web, secrets: [db, prod/web/*]}, {name: batch, uids: [1001], secrets: [prod/batch/*]}]
telemetry: {listen: "%[5]s"}
`, f.dir, long, hostile, f.endpoint, telemetry))
	agent := secretsd(t, cleanEnv(), "run", "--config", f.conf)
	agent.until("cannot render new content, keeping what is published")
	agent.until("cannot read secret, trying again")
	for _, name := range []string{"db", "nothing"} {
		get(t, "http://"+f.endpoint+"/v1/"+name, content(filepath.Join(f.dir, "web")))
	}
	get(t, "http://"+f.endpoint+"/v1/db", "wrong")
	return f, "http://" + telemetry + "/", []string{"not ready", "secret late was not read yet", long, "prod/late", "not_found", "Hint: ", hostile,
		"<script>document.title=2</script>", "held", "waiting for late", "skipped for maybe", "absent, optional", "app", "web", "token in " + f.dir + "/web",
		"prod/web/*", "uid 1001", "1 bad token", "arn:aws:secretsmanager:", "AWSCURRENT", f.endpoint, telemetry, f.dir + "/s.sock", f.conf}
}

func TestStatusPageInABrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Chromium; left out by -short")
	}
	b := startBrowser(t)
	f, url, shown := pageFixture(t)
	shown = append(shown, versionOf(t, f))
	p := b.open()
	for _, s := range []struct {
		width, height int
		scheme        string
	}{{360, 800, "light"}, {360, 800, "dark"}, {1280, 800, "light"}, {1280, 800, "dark"}} {
		t.Run(fmt.Sprintf("%d %s", s.width, s.scheme), func(t *testing.T) {
			p.screen(s.width, s.height, s.scheme)
			p.visit(url)
			p.picture(fmt.Sprintf("page-%d-%s", s.width, s.scheme))
			var l look
			p.eval(measure, &l)
			if l.Width != s.width || l.Scroll > s.width {
				t.Errorf("on a screen of %d the page is %d wide", l.Width, l.Scroll)
			}
			if l.Worst < 4.5 {
				t.Errorf("the contrast of %q is %.1f", l.WorstOf, l.Worst)
			}
			if dark := s.scheme == "dark"; dark != (l.Light > 0.5 && l.Dark < 0.1) || dark == (l.Light < 0.1 && l.Dark > 0.9) {
				t.Errorf("the text's luminance is %.2f, the ground's %.2f", l.Light, l.Dark)
			}
			if l.Title != "secretsd" || l.Foreign != 0 || l.Refresh {
				t.Errorf("title %q, %d elements that nobody wrote, reloads itself: %v", l.Title, l.Foreign, l.Refresh)
			}
			for _, want := range shown {
				if !strings.Contains(l.Text, want) {
					t.Errorf("the page does not show %q", want)
				}
			}
			if strings.Contains(l.Text, "CANARY") {
				t.Error("the page shows a value")
			}
			readAloud(t, p)
			if trouble := p.trouble(url); trouble != "" {
				t.Errorf("the page fetched or said\n%s", trouble)
			}
		})
	}
	t.Run("following", func(t *testing.T) {
		p.visit(url + "?follow")
		var l look
		p.eval(measure, &l)
		if !l.Refresh || p.trouble(url+"?follow") != "" {
			t.Errorf("reloads itself: %v; %s", l.Refresh, p.trouble(url+"?follow"))
		}
	})
	if t.Failed() {
		t.Log(output(t, os.Environ(), need(t, "curl"), "-s", url))
	}
}

// readAloud looks at the page as a screen reader has it: tables with names, and in
// them rows and columns with headers, on a narrow screen too.
func readAloud(t *testing.T, p *tab) {
	t.Helper()
	type text struct{ Value any }
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name text
		}
	}
	p.call("Accessibility.getFullAXTree", object{}, &tree)
	count := map[string]int{}
	var tables []string
	for _, n := range tree.Nodes {
		role, name := fmt.Sprint(n.Role.Value), fmt.Sprint(n.Name.Value)
		if n.Ignored {
			continue
		}
		count[role]++
		switch {
		case role == "table":
			tables = append(tables, name)
		case (role == "rowheader" || role == "columnheader") && name == "":
			t.Errorf("there is a %s without a name", role)
		}
	}
	if want := []string{"Secrets", "Files", "Targets", "Clients"}; !slices.Equal(tables, want) {
		t.Errorf("the tables are called %q", tables)
	}
	// 4 secrets, 5 files, a target and 3 clients; 6, 3, 6 and 7 columns.
	if count["rowheader"] != 13 || count["columnheader"] != 22 || count["heading"] != 5 || count["main"] != 1 {
		t.Errorf("what is read aloud: %v", count)
	}
}

// versionOf returns the version id of the first secret.
func versionOf(t *testing.T, f *fixture) string {
	t.Helper()
	out, _ := runTo(t, cleanEnv(), "status", "--config", f.conf, "--output", "json")
	var status struct {
		Secrets []struct {
			VersionID string `json:"version_id"`
		}
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil || len(status.Secrets) == 0 || status.Secrets[0].VersionID == "" {
		t.Fatalf("status: %v\n%s", err, out)
	}
	return status.Secrets[0].VersionID
}
