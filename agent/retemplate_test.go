package agent

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"secretsd/agent/source/local"
)

// TestATemplateThatCannotBeUsedIsSeen breaks the template of a file, and then what it
// includes, in ways of which the file itself shows nothing. Without a bubble, for a
// watcher's files are not in one.
func TestATemplateThatCannotBeUsedIsSeen(t *testing.T) {
	svc, log := local.New(local.Options{}), &lockedLog{}
	r := &running{t: t, dir: memoryDir(t), svc: svc, log: log}
	must(t, svc.Put("prod/db", "one"))
	tmpl, part := filepath.Join(r.dir, "tmpl"), filepath.Join(r.dir, "part")
	put := func(path, text string) { must(t, os.WriteFile(path, []byte(text), 0o600)) }
	put(tmpl, `{{ include "part" }}{{ secret "db" }}`)
	put(part, "of ")
	a, err := New(context.Background(), r.config(`
secrets: [{name: db, id: prod/db}]
files: [{path: DIR/out, template: tmpl}, {path: DIR/other, contents: x}]
template_dir: DIR
`), Options{
		Logger: slog.New(slog.NewTextHandler(log, nil)), Local: svc,
		listenControl: func(string) (net.Listener, error) { return newSilence(), nil },
	})
	must(t, err)
	defer a.Close()
	r.agent = a
	a.refresh.readAll(context.Background())
	const said = "cannot use a changed template, keeping the one in use"
	look := func(step, fault string) {
		t.Helper()
		before := strings.Count(log.String(), said)
		for range 2 {
			a.apply.retemplate()
			a.pass(context.Background(), false)
		}
		broken := fault != ""
		st := a.Status()
		f, other := &st.Files[0], &st.Files[1]
		if f.State != FileInPlace || !strings.Contains(f.TemplateError, fault) || broken != (f.TemplateError != "") || other.TemplateError != "" {
			t.Errorf("%s: the file is %+v, the other %+v", step, f, other)
		}
		page := askPage(a, "/", "127.0.0.1:1", "localhost:1").Body.String()
		if broken != strings.Contains(page, "template cannot be used, keeping the one before") || broken && !strings.Contains(page, fault) {
			t.Errorf("%s: the page is\n%s", step, page)
		}
		metric := `secretsd_file_template_unusable{path="` + r.dir + `/out"} `
		if _, metrics := r.health("/metrics"); strings.Contains(metrics, metric+"1") != broken || strings.Contains(metrics, metric+"0") == broken {
			t.Errorf("%s: /metrics does not say so", step)
		}
		if n := strings.Count(log.String(), said) - before; n > 1 || n == 1 != broken {
			t.Errorf("%s: it was said %d times:\n%s", step, n, log)
		}
	}
	look("start", "")
	put(tmpl, "{{ nonsense }}")
	look("a template that cannot be parsed", "nonsense")
	put(tmpl, `{{ include "part" }}{{ secret "db" }}`)
	look("mended", "")
	must(t, os.Remove(part))
	look("an included file that vanished", "no such file")
	if got := r.file("out"); got != "of one" {
		t.Errorf("the file holds %q", got)
	}
	put(part, "by ")
	look("the included file is there again", "")
	if got := r.file("out"); got != "by one" {
		t.Errorf("the file holds %q", got)
	}
	must(t, os.Remove(tmpl))
	look("a template that vanished", "no such file")
}
