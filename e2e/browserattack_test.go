package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// attacks are the ways in which a web page can have its reader's browser ask
// somebody else, each with what the page gets to see. They are given the base URL
// of what is attacked, a path on it, and the right token, which no page would have.
const attacks = `async (base, path, token) => {
  const url = base + path, header = { "X-Aws-Parameters-Secrets-Token": token };
  const seen = async (r) => { r = await r; return r.type + " " + r.status + " " + (await r.text()); };
  const soon = (p) => Promise.race([p, new Promise(done => setTimeout(done, 2000, "nothing"))]);
  const element = (tag, attributes) => soon(new Promise(done => {
    const e = Object.assign(document.createElement(tag), attributes);
    e.onload = () => { let text = ""; try { text = e.contentDocument.body.innerText; } catch {} done("loaded " + text); };
    e.onerror = () => done("error");
    document.body.append(e);
  }));
  const form = (method) => soon(new Promise(done => {
    const frame = Object.assign(document.createElement("iframe"), { name: "f" + method });
    const f = Object.assign(document.createElement("form"), { method, action: url, target: frame.name, enctype: "text/plain" });
    f.append(Object.assign(document.createElement("input"), { name: "secretId", value: "db" }));
    document.body.append(frame, f);
    frame.onload = () => { let text = ""; try { text = frame.contentDocument.body.innerText; } catch {} if (text || frame.dataset.sent) done("loaded " + text); };
    frame.dataset.sent = "1";
    f.submit();
  }));
  const list = {
    "fetch": () => seen(fetch(url)),
    "fetch with the token": () => seen(fetch(url, { headers: header })),
    "fetch with credentials": () => seen(fetch(url, { credentials: "include" })),
    "fetch without cors": () => seen(fetch(url, { mode: "no-cors" })),
    "post without cors": () => seen(fetch(base + "/secretsd/refresh?secretId=db", { method: "POST", mode: "no-cors", body: "x" })),
    "XMLHttpRequest": () => new Promise(done => { const x = new XMLHttpRequest(); x.open("GET", url); x.onload = () => done("loaded " + x.responseText); x.onerror = () => done("error"); x.send(); }),
    "img": () => element("img", { src: url }),
    "script": () => element("script", { src: url }),
    "module": () => import(url).then(m => "loaded " + JSON.stringify(m)),
    "style": () => element("link", { rel: "stylesheet", href: url }),
    "iframe": () => element("iframe", { src: url }),
    "object": () => element("object", { data: url }),
    "video": () => element("video", { src: url }),
    "get by a form": () => form("get"),
    "post by a form": () => form("post"),
    "beacon": async () => "queued " + navigator.sendBeacon(url, "x"),
    "event source": () => soon(new Promise(done => { const s = new EventSource(url); s.onmessage = (m) => done("loaded " + m.data); s.onerror = () => { s.close(); done("error"); }; })),
    "worker": () => soon(new Promise(done => { const w = new Worker(url); w.onmessage = (m) => done("loaded " + m.data); w.onerror = () => done("error"); })),
  };
  const got = {};
  await Promise.all(Object.keys(list).map(async (name) => {
    try { got[name] = await list[name](); } catch (e) { got[name] = "error " + e.name; }
  }));
  return got;
}`

// seesNothing runs all attacks from the page in the tab, and reports those that
// learn more than that they were refused.
func seesNothing(t *testing.T, p *tab, base, path, token string) {
	t.Helper()
	args, err := json.Marshal([]string{base, path, token})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	p.eval("("+attacks+")(..."+string(args)+")", &got)
	if len(got) != 18 {
		t.Errorf("%d attacks were made", len(got))
	}
	for name, answer := range got {
		if strings.Contains(answer, "CANARY") || strings.Contains(answer, "secretsd_") || strings.Contains(answer, `"db"`) {
			t.Errorf("%s of %s%s: %s", name, base, path, answer)
		}
	}
}

// requestsTo returns how many requests the endpoint has counted, by outcome.
func requestsTo(t *testing.T, telemetry string) map[string]int {
	t.Helper()
	_, page := get(t, "http://"+telemetry+"/metrics", "")
	counts := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^secretsd_endpoint_requests_total\{outcome="(\w+)"\} (\d+)$`).FindAllStringSubmatch(page, -1) {
		counts[m[1]], _ = strconv.Atoi(m[2])
	}
	return counts
}

// evilSite serves an empty page on addr until it is closed.
func evilSite(t *testing.T, addr string) *httptest.Server {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	site := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!DOCTYPE html><title>evil</title><link rel=icon href=data:,><body>"))
	}))
	_ = site.Listener.Close()
	site.Listener = ln
	site.Start()
	t.Cleanup(site.Close)
	return site
}

// TestBrowsersCannotReadTheEndpoint has pages of other sites try: of another port
// of this machine, of another name of it, of a name that is not its own, and of
// one that has come to lead here (DNS rebinding). All of them know the token.
func TestBrowsersCannotReadTheEndpoint(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Chromium; left out by -short")
	}
	b := startBrowser(t)
	f := newFixture(t)
	f.set("db", "s3cret-CANARY")
	telemetry, log := freePort(t), filepath.Join(f.dir, "audit.log")
	f.configure(`{{ secret "db" }}`, fmt.Sprintf("endpoint: {listen: \"%s\", token_file: %s/token}\ntelemetry: {listen: \"%s\"}\naudit: {path: %s}",
		f.endpoint, f.dir, telemetry, log))

	// Two pages are loaded while their addresses are still somebody else's.
	var rebound []*tab
	for _, addr := range []string{f.endpoint, telemetry} {
		site, p := evilSite(t, addr), b.open()
		p.visit("http://evil.test:" + portOf(addr) + "/")
		rebound = append(rebound, p)
		site.Close()
	}

	f.run()
	token := strings.TrimSpace(content(filepath.Join(f.dir, "token")))
	if status, body := get(t, "http://"+f.endpoint+"/v1/db", token); status != 200 || !strings.Contains(body, "CANARY") {
		t.Fatalf("a program with the token gets %d %s", status, body)
	}
	p, site := b.open(), portOf(evilSite(t, "127.0.0.1:0").Listener.Addr().String())
	for _, host := range []string{"127.0.0.1", "localhost", "evil.test"} {
		for _, target := range []string{"127.0.0.1", "localhost", "evil.test"} {
			attack := func(addr, path string) {
				p.visit("http://" + host + ":" + site + "/")
				seesNothing(t, p, "http://"+target+":"+portOf(addr), path, token)
			}
			before := requestsTo(t, telemetry)["forwarded"]
			attack(f.endpoint, "/v1/db")
			if n := requestsTo(t, telemetry)["forwarded"] - before; n < 15 {
				t.Errorf("from %s to %s %d attacks have reached the endpoint", host, target, n)
			}
			attack(telemetry, "/metrics")
			attack(telemetry, "/")
		}
	}
	var body string
	for i, path := range []string{"/v1/db", "/metrics"} {
		// To its browser such a page is the endpoint's own, so that it may read what
		// it is answered: there must be nothing to read.
		rebound[i].eval(fmt.Sprintf(`fetch(%q, {headers: {"X-Aws-Parameters-Secrets-Token": %q}}).then(async r => r.status + " " + await r.text())`, path, token), &body)
		if !strings.HasPrefix(body, "400 Forwarded") {
			t.Errorf("after rebinding the page reads %q", body)
		}
		seesNothing(t, rebound[i], "http://evil.test:"+portOf([]string{f.endpoint, telemetry}[i]), path, token)
	}
	// A person who types the endpoint's address sees no more.
	p.visit("http://" + f.endpoint + "/v1/db")
	p.eval("document.body.innerText", &body)
	if body != "Forwarded" {
		t.Errorf("typed, the address shows %q", body)
	}
	countedAll(t, telemetry, log)
}

// countedAll compares what audit and metrics have of the attacks, and of the one
// request that was none.
func countedAll(t *testing.T, telemetry, log string) {
	audited := func() map[string]int {
		counts := map[string]int{}
		for _, line := range auditLines(t, log) {
			if line.Via == "endpoint" {
				counts[line.Outcome]++
			}
		}
		return counts
	}
	// A page may still be at it.
	counts := map[string]int{}
	eventually(t, "the audit has a line for each attack", func() bool {
		counts = requestsTo(t, telemetry)
		return audited()["forwarded"] == counts["forwarded"]
	})
	all := 0
	for _, n := range counts {
		all += n
	}
	if got := audited(); got["ok"] != 1 || counts["ok"] != 1 || counts["forwarded"] < 100 || counts["ok"]+counts["forwarded"] != all {
		t.Errorf("the audit has %v, the metrics %v", got, counts)
	}
}

func portOf(addr string) string {
	_, port, _ := strings.Cut(addr, ":")
	return port
}
