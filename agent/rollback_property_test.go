package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"secretsd/agent/notify"
	"secretsd/agent/secret"
	"secretsd/agent/store"
)

// togetherFiles are all of one target, and all of them of the secret a.
const togetherFiles = `
source: {local: {}}
secrets: [{name: a, id: a}, {name: b, id: b}]
files:
  - {path: DIR/two, contents: 'b{{ secret "b" }} {{ secret "a" }}', notify: [app]}
  - {path: DIR/one, contents: 'T {{ secret "a" }}', notify: [app]}
bundles:
  - dir: DIR/pair
    create_dirs: true
    grace: 0s
    files: [{path: crt, contents: 'crt {{ secret "a" }}'}, {path: key, contents: 'key {{ secret "a" }}'}]
    notify: [app]
targets: [{name: app, process: {pid_file: DIR/pid}, confirm: {tcp: "127.0.0.1:1"}, rollback: true}]
`

// together is an agent's applier under whatever can come to it.
type together struct {
	*bench
	rt rapid.TB
	// awaited is what the target was told and has neither confirmed nor rejected.
	awaited *notify.Change
	written []heldState
	outputs []outputState
	// reread are rollbacks that wait for former versions, and source has all there were.
	reread []reply
	source values
	a, b   int // the latest versions
}

func (m *together) tell(_ string, c notify.Change) {
	if m.awaited != nil { // as the notifier merges them
		c.Paths = append(c.Paths, m.awaited.Paths...)
		c.Rollback = c.Rollback && m.awaited.Rollback
	}
	c.Paths = slices.Compact(slices.Sorted(slices.Values(c.Paths)))
	if c.At.IsZero() {
		c.At = time.Now()
	}
	m.awaited = &c
}

func (m *together) attach() {
	m.bench.a.tell = m.tell
	m.bench.a.remember = func(held []heldState) { m.written = held }
	m.bench.a.keep = func(list []outputState) { m.outputs = list }
	m.bench.a.reread = func(r reply, needed []notify.SecretVersion) {
		r.read = values{}
		for _, v := range needed {
			if version, ok := m.source[v]; ok || v.VersionID == "" {
				r.read[v] = version
			}
		}
		m.reread = append(m.reread, r)
	}
}

func (m *together) putA(n int) { m.put(now("a", fmt.Sprint("a", n), fmt.Sprint(n))) }

func (m *together) put(u store.Update) {
	m.source[notify.SecretVersion{Name: u.Name, VersionID: u.Version.VersionID}] = u.Version
	m.read(u)
}

func (m *together) act(what string) {
	switch what {
	case "a":
		m.a++
		m.putA(m.a)
	case "a of before":
		m.putA(max(m.a-1, 1))
	case "b":
		m.b++
		m.put(now("b", fmt.Sprint("b", m.b), fmt.Sprint(m.b)))
	case "b is gone":
		m.read(store.Update{Name: "b", Err: &secret.Error{Kind: secret.Denied}, Drop: true})
	case "confirm", "reject":
		if m.awaited != nil {
			r := reply{target: "app", told: *m.awaited, rollback: what == "reject" && !m.awaited.Rollback}
			if m.awaited = nil; what == "confirm" || r.rollback {
				m.bench.a.heed([]reply{r})
			}
		}
	case "reload", "template 1", "template 2":
		_, variant, _ := strings.Cut(what, " ")
		m.reload(strings.ReplaceAll(togetherFiles, "'T {{", "'T"+variant+" {{"))
	case "restart":
		m.plan.close()
		written := m.written
		m.bench.a = newApplier(discard, func() time.Duration { return m.now })
		m.attach()
		m.configure(togetherFiles)
		m.bench.a.recall(written)
		m.awaited = nil
	case "kill": // as restart, but what the target has not confirmed is in the state
		m.plan.close()
		written, outputs := m.written, m.outputs
		m.bench.a, m.reread = newApplier(discard, func() time.Duration { return m.now }), nil
		m.attach()
		m.configure(togetherFiles)
		m.bench.a.recall(written)
		if m.awaited != nil {
			m.bench.a.doubted(notify.Debt{Target: "app", Change: *m.awaited})
		}
		m.bench.a.recallNamed(outputs)
	case "remove":
		_ = os.Remove(filepath.Join(m.dir, "one")) // it may not be there
		m.now += 11 * time.Minute
	}
}

// version returns the version of a in a file, or "" without the file.
func (m *together) version(name string) string {
	text := m.content(name)
	if text == "(absent)" {
		return ""
	}
	fields := strings.Fields(text)
	if len(fields) != 2 {
		m.rt.Fatalf("%s holds %q", name, text)
	}
	return fields[1]
}

// play has acts come, each with the passes that it leads to.
func play(t *testing.T, rt rapid.TB, acts []string) *together {
	m := &together{bench: newBench(t, togetherFiles), rt: rt, source: values{}, a: 1, b: 1}
	m.attach()
	m.putA(1)
	m.put(now("b", "b1", "1"))
	for i, what := range acts {
		m.act(what)
		again := m.reread
		m.reread = nil
		m.bench.a.heed(again)
		for _, heal := range []bool{false, true} {
			m.bench.a.pass(context.Background(), m.st.Snapshot(), heal)
		}
		m.check(strings.Join(acts[:i+1], ", "))
	}
	return m
}

func (m *together) end() {
	m.plan.close()
	_ = os.RemoveAll(m.dir)
}

// TestFilesOfOneTargetStayTogether has versions, templates, replies, reloads and
// restarts come in any order: the files that are there are always of one version.
func TestFilesOfOneTargetStayTogether(t *testing.T) {
	acts := []string{"a", "a", "a of before", "b", "b is gone", "confirm", "reject", "reject", "reload", "template 1", "template 2", "remove", "restart", "kill", "kill"}
	rapid.Check(t, func(rt *rapid.T) {
		play(t, rt, rapid.SliceOfN(rapid.SampledFrom(acts), 1, 25).Draw(rt, "acts")).end()
	})
}

// TestFilesThatWaitedStayTogether are orders that have once led to a mixture, and the
// version that they lead to.
func TestFilesThatWaitedStayTogether(t *testing.T) {
	for acts, want := range map[string]string{
		"b is gone, confirm, a, reject, b":                 "1",
		"b is gone, confirm, a, reject, a, a of before, b": "2",
		"a, confirm, b, reject, restart, a":                "3",
		"a, confirm, a, b is gone, a, reject, b":           "2",
		"a, confirm, b, b is gone, a, reject, b":           "2",
		"a, b is gone, a, confirm, b, a, reject":           "3",
		"reload, confirm, a, kill, reject":                 "1",
		"reload, confirm, a, kill, b, reject":              "1",
		"reload, a, kill, confirm, a, kill, reject":        "2",
		"a, restart, b, b is gone, a, reject, b":           "2",
		"a, b is gone, a, restart, a, reject, restart, b":  "4",
	} {
		if got := play(t, t, strings.Split(acts, ", ")).version("one"); got != want {
			t.Errorf("after %q they are of version %s, want %s", acts, got, want)
		}
	}
}

func (m *together) check(after string) {
	e, _ := m.st.Snapshot().Get("b")
	versions := map[string]bool{}
	for _, name := range []string{"one", "two", "pair/crt", "pair/key"} {
		// What waits for b does not follow.
		if v := m.version(name); v != "" && (name != "two" || e.Version != nil) {
			versions[v] = true
		}
	}
	if len(versions) > 1 {
		m.rt.Fatalf("after %q: one %q, two %q, crt %q, key %q", after, m.content("one"), m.content("two"), m.content("pair/crt"), m.content("pair/key"))
	}
	if at, ok := m.bench.a.nextTry(); ok && at <= m.now {
		m.rt.Fatalf("after %q there is no rest", after)
	}
}
