package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// browser is a headless Chromium with a profile of its own, driven over its
// debugging pipe: JSON messages of the DevTools protocol, each ended by a zero
// byte, on descriptors 3 and 4. There is no port that somebody else could find,
// and the dozen of messages that are needed here need no library.
type browser struct {
	t   *testing.T
	in  *os.File
	log lockedBuffer

	mu      sync.Mutex
	last    int
	waiting map[int]chan message
	tabs    map[string]*tab
}

// message is a command, its answer or an event.
type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// startBrowser starts Chromium and ends it with the test. Names lead nowhere but
// to this machine.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	path := need(t, "chromium")
	home := t.TempDir()
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--user-data-dir="+home+"/profile", "--remote-debugging-pipe", "--no-proxy-server", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP evil.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1")
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home)
	theirIn, ourIn, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ourOut, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, in: ourIn, waiting: map[int]chan message{}, tabs: map[string]*tab{}}
	cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = []*os.File{theirIn, theirOut}, &b.log, &b.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = theirIn.Close(), theirOut.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.read(ourOut)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		b.send(message{Method: "Browser.close"})
		timer := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		<-done
		timer.Stop()
		_, _ = ourIn.Close(), ourOut.Close()
		if t.Failed() {
			t.Logf("chromium printed:\n%s", b.log.String())
		}
	})
	return b
}

// read hands on what the browser says, until it has ended.
func (b *browser) read(from *os.File) {
	r := bufio.NewReader(from)
	for {
		line, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(line[:len(line)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		answer, tab := b.waiting[m.ID], b.tabs[m.Session]
		delete(b.waiting, m.ID)
		b.mu.Unlock()
		switch {
		case answer != nil:
			answer <- m
		case tab != nil && m.Method != "":
			tab.event(m)
		}
	}
}

// send sends a command and returns the channel of its answer.
func (b *browser) send(m message) <-chan message {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	m.ID = b.last
	answer := make(chan message, 1)
	b.waiting[m.ID] = answer
	line, err := json.Marshal(m)
	if err == nil {
		_, err = b.in.Write(append(line, 0))
	}
	if err != nil {
		b.t.Logf("tell the browser: %v", err)
	}
	return answer
}

// call sends a command, waits for its answer, and reads it into out unless that
// is nil.
func (b *browser) call(session, method string, params, out any) {
	b.t.Helper()
	encoded, err := json.Marshal(params)
	if err != nil {
		b.t.Fatal(err)
	}
	select {
	case m := <-b.send(message{Session: session, Method: method, Params: encoded}):
		if m.Error != nil {
			b.t.Fatalf("%s: %s", method, m.Error.Message)
		}
		if out == nil {
			return
		}
		if err := json.Unmarshal(m.Result, out); err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
	case <-time.After(patience):
		b.t.Fatalf("%s was not answered", method)
	}
}

type object = map[string]any

// tab is one page of the browser.
type tab struct {
	b       *browser
	session string

	mu       sync.Mutex
	loaded   chan struct{} // closed by the next load
	requests []string
	said     []string
}

// open opens a tab with an empty page.
func (b *browser) open() *tab {
	b.t.Helper()
	var target struct{ TargetID string }
	var session struct{ SessionID string }
	b.call("", "Target.createTarget", object{"url": "about:blank"}, &target)
	b.call("", "Target.attachToTarget", object{"targetId": target.TargetID, "flatten": true}, &session)
	p := &tab{b: b, session: session.SessionID}
	b.mu.Lock()
	b.tabs[p.session] = p
	b.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Log", "Network", "Accessibility"} {
		p.call(domain+".enable", object{}, nil)
	}
	return p
}

func (p *tab) call(method string, params, out any) {
	p.b.t.Helper()
	p.b.call(p.session, method, params, out)
}

// event notes what the page does.
func (p *tab) event(m message) {
	var e struct {
		Request struct{ URL string }
		Entry   struct{ Source, Level, Text, URL string }
	}
	if json.Unmarshal(m.Params, &e) != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch m.Method {
	case "Page.loadEventFired":
		if p.loaded != nil {
			close(p.loaded)
			p.loaded = nil
		}
	case "Network.requestWillBeSent":
		p.requests = append(p.requests, e.Request.URL)
	case "Log.entryAdded":
		p.said = append(p.said, fmt.Sprintf("%s %s: %s %s", e.Entry.Source, e.Entry.Level, e.Entry.Text, e.Entry.URL))
	case "Runtime.consoleAPICalled", "Runtime.exceptionThrown":
		p.said = append(p.said, m.Method+" "+string(m.Params))
	}
}

// visit goes to url as if it had been typed, and waits until it has loaded.
func (p *tab) visit(url string) {
	p.b.t.Helper()
	loaded := make(chan struct{})
	p.mu.Lock()
	p.loaded, p.requests, p.said = loaded, nil, nil
	p.mu.Unlock()
	p.call("Page.navigate", object{"url": url}, nil)
	select {
	case <-loaded:
	case <-time.After(patience):
		p.b.t.Fatalf("%s did not load", url)
	}
}

// eval evaluates an expression in the page, waits for it if it is a promise, and
// reads its value into out.
func (p *tab) eval(expression string, out any) {
	p.b.t.Helper()
	var res struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	p.call("Runtime.evaluate", object{"expression": expression, "awaitPromise": true, "returnByValue": true}, &res)
	if res.ExceptionDetails != nil {
		p.b.t.Fatalf("the page threw %s", res.ExceptionDetails)
	}
	if err := json.Unmarshal(res.Result.Value, out); err != nil {
		p.b.t.Fatalf("the page answered %s: %v", res.Result.Value, err)
	}
}

// screen makes the tab that of a screen with that many pixels, light or dark.
func (p *tab) screen(width, height int, scheme string) {
	p.b.t.Helper()
	p.call("Emulation.setDeviceMetricsOverride", object{"width": width, "height": height, "deviceScaleFactor": 2, "mobile": width < 600}, nil)
	p.call("Emulation.setEmulatedMedia", object{"features": []object{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// trouble returns what the page has said on its console, violations of its policy
// among it, and what it has fetched beside itself.
func (p *tab) trouble(url string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	others := slices.DeleteFunc(slices.Clone(p.requests), func(u string) bool { return u == url })
	return strings.Join(append(others, p.said...), "\n")
}

// picture writes what the tab shows, whole, to a file where somebody has asked
// for one: SECRETSD_E2E_PICTURES names a directory.
func (p *tab) picture(name string) {
	dir := os.Getenv("SECRETSD_E2E_PICTURES")
	if dir == "" {
		return
	}
	var shot struct{ Data []byte }
	p.call("Page.captureScreenshot", object{"format": "png", "captureBeyondViewport": true}, &shot)
	if err := os.WriteFile(dir+"/"+name+".png", shot.Data, 0o600); err != nil {
		p.b.t.Error(err)
	}
}
