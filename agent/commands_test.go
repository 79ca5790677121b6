package agent

import (
	"context"
	"encoding/json"
	"iter"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/audit"
	"secretsd/agent/notify"
	"secretsd/agent/secret"
	"secretsd/agent/source/local"
)

// given returns what the only command with an environment is given now, or the error.
func (r *running) given() string {
	r.t.Helper()
	ids := slices.Collect(maps.Keys(r.agent.build.commands))
	if len(ids) != 1 {
		r.t.Fatalf("commands: %q", ids)
	}
	vars, err := r.agent.commandVariables(ids[0])
	if err != nil {
		return "error: " + err.Error()
	}
	return strings.Join(vars, " ")
}

func (r *running) wantGiven(want string) {
	r.t.Helper()
	if got := r.given(); got != want {
		r.t.Errorf("given %q, want %q", got, want)
	}
}

func (r *running) put(name, value string) {
	r.t.Helper()
	must(r.t, r.svc.Put(name, value))
	r.after(2 * time.Minute)
}

func entryOf(t *testing.T, line string) (e audit.Entry) {
	t.Helper()
	must(t, json.Unmarshal([]byte(line), &e))
	return e
}

const commandConf = `
refresh: {interval: 1m}
secrets:
  - {name: db, id: prod/db}
  - {name: admin, id: prod/admin}
  - {name: maybe, id: prod/maybe, required: false}
files: [{path: DIR/out, contents: 'FILE', notify: [app]}]
targets:
  - name: app
    process: {pid_file: DIR/pid}
    confirm:
      tcp: 127.0.0.1:1
    ladder:
      - command: [/usr/bin/true]
        env: {PASS: 'db {{ secret "db" }}', ADMIN: '{{ secret "admin" }}', MAYBE: '{{ secret "maybe" }}'}
    rollback: true
`

func runCommands(t *testing.T, file string, body func(r *running)) {
	runAgent(t, strings.ReplaceAll(commandConf, "FILE", file), func(r *running) {
		must(t, r.svc.Put("prod/db", "one"))
		must(t, r.svc.Put("prod/admin", "root"))
	}, func(r *running) {
		r.after(time.Second)
		body(r)
	})
}

func TestACommandIsGivenTheVersionThatTheFilesShow(t *testing.T) {
	runCommands(t, `{{ $v := secret "db" }}{{ if eq $v "bad" }}{{ fail "no" }}{{ end }}{{ $v }}`, func(r *running) {
		r.wantGiven("ADMIN=root PASS=db one")
		r.put("prod/db", "two")
		r.wantGiven("ADMIN=root PASS=db two")
		// The file does not take this one, so neither does the command.
		r.put("prod/db", "bad")
		r.wantGiven("ADMIN=root PASS=db two")
		// A secret that no file shows is given as it is.
		r.put("prod/admin", "boss")
		r.put("prod/maybe", "there")
		r.wantGiven("ADMIN=boss MAYBE=there PASS=db two")
		r.put("prod/db", "three")
		r.wantGiven("ADMIN=boss MAYBE=there PASS=db three")
	})
}

func TestACommandIsGivenWhatARollbackWentBackTo(t *testing.T) {
	runCommands(t, `{{ secret "db" }}`, func(r *running) {
		told := func() notify.Change {
			return notify.Change{Reason: notify.ReasonChange, Paths: []string{filepath.Join(r.dir, "out")}, At: time.Now()}
		}
		r.agent.replies.add(reply{target: "app", told: told()}) // it confirms
		r.put("prod/db", "two")
		r.wantGiven("ADMIN=root PASS=db two")
		r.agent.replies.add(reply{target: "app", told: told(), rollback: true})
		r.after(time.Second)
		r.wantGiven("ADMIN=root PASS=db one")
		r.put("prod/db", "three")
		r.wantGiven("ADMIN=root PASS=db three")
	})
}

// Whoever is told of a rollback is told with the variables of what it went back to.
func TestARollbackGivesBeforeItTells(t *testing.T) {
	r := newRolling(t, rolledFiles)
	r.read(now("a", "a1", "1"), now("b", "b1", "1"))
	r.pass(false)
	r.confirms("app")
	r.read(now("a", "a2", "2"))
	r.pass(false)
	gives := 0
	r.a.give = func() { gives++ }
	tell := r.a.tell
	r.a.tell = func(target string, c notify.Change) {
		if c.Rollback && gives == 0 {
			t.Error("told before it was given anything")
		}
		tell(target, c)
	}
	r.wantTold(r.rejects("app"), "app rollback one,pair of a1")
}

func TestACommandThatNeedsWhatWasNeverReadFails(t *testing.T) {
	runAgent(t, strings.ReplaceAll(commandConf, "FILE", "x"), func(r *running) { must(t, r.svc.Put("prod/db", "one")) }, func(r *running) {
		r.after(time.Second)
		if got := r.given(); !strings.HasPrefix(got, "error: secret admin: not read yet: ") {
			t.Errorf("given %q", got)
		}
		r.put("prod/admin", "root")
		r.wantGiven("ADMIN=root PASS=db one")
	})
}

func TestACommandIsGivenThePendingVersionThatFilesShow(t *testing.T) {
	conf := strings.ReplaceAll(dbSecret, "SHOWN", "true") + "targets: [{name: app, command: [/usr/bin/true], env: {A: '{{ secret \"db\" }}'}}]\n"
	conf = strings.Replace(conf, "}}'}]", "}}', notify: [app]}]", 1)
	runAgent(t, conf, func(r *running) { must(t, r.svc.Put("prod/db", "one")) }, func(r *running) {
		r.after(time.Second)
		r.wantGiven("A=one")
		r.pend(pendingOne, "two")
		r.refused(r.versionID())
		r.after(time.Second)
		r.wantGiven("A=two")
	})
}

func TestACommandFollowsAReload(t *testing.T) {
	runCommands(t, `{{ secret "db" }}`, func(r *running) {
		old := slices.Collect(maps.Keys(r.agent.build.commands))[0]
		next := strings.NewReplacer("FILE", `{{ secret "db" }}`, "'db {{", "'new {{").Replace(commandConf)
		must(t, r.agent.Reload(context.Background(), r.config(next)))
		r.after(time.Second)
		r.wantGiven("ADMIN=root PASS=new one")
		if vars, err := r.agent.commandVariables(old); err != nil || !slices.Contains(vars, "PASS=db one") {
			t.Errorf("one that was about to start got %v", err)
		}
		must(t, r.agent.Reload(context.Background(), r.config(strings.ReplaceAll(next, "rollback: true", "rollback: false"))))
		r.after(time.Second)
		if _, err := r.agent.commandVariables(old); err == nil {
			t.Error("it is known for ever")
		}
	})
}

func TestWhatCommandsAreGivenIsWrittenDownOnce(t *testing.T) {
	conf := strings.ReplaceAll(commandConf, "FILE", `{{ secret "db" }}`) + "audit: {path: DIR/audit.log}\n"
	var dir string
	runAgent(t, conf, func(r *running) {
		dir = r.dir
		must(t, r.svc.Put("prod/db", "one"))
		must(t, r.svc.Put("prod/admin", "root"))
	}, func(r *running) {
		r.after(time.Second)
		for range 3 {
			r.given()
		}
		r.put("prod/db", "two")
		r.given()
		r.given()
	})
	b, err := os.ReadFile(filepath.Join(dir, "audit.log"))
	must(t, err)
	var got []string
	for line := range strings.Lines(string(b)) {
		if e := entryOf(t, line); e.Via == "command" {
			got = append(got, e.Event+" "+e.Target+" "+e.Secret)
		}
	}
	if diff := cmp.Diff([]string{"publish app admin", "publish app db", "publish app admin", "publish app db"}, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// All that a command may have seen is taken out of its output: also what files held
// before, which a rollback leads to, and what clients have asked for.
func TestValuesThatOutputMustNotShow(t *testing.T) {
	conf := strings.Replace(commandConf, "tcp: 127.0.0.1:1", "command: [/usr/bin/true]\n      output: log", 1)
	runAgent(t, strings.ReplaceAll(conf, "FILE", `{{ secret "db" }}`), func(r *running) {
		must(t, r.svc.Put("prod/db", "one"))
		must(t, r.svc.Put("prod/admin", "root"))
	}, func(r *running) {
		r.after(time.Second)
		out := filepath.Join(r.dir, "out")
		r.agent.replies.add(reply{target: "app", told: notify.Change{Paths: []string{out}, At: time.Now()}})
		r.put("prod/db", "two")
		must(t, r.svc.Put("prod/other", "three"))
		_, err := r.agent.onDemand.read(context.Background(), secret.Current("prod/other"), time.Minute, false)
		must(t, err)
		have := map[string]bool{}
		for v := range r.agent.secretValues() {
			have[v.Reveal()] = true
		}
		for _, want := range []string{"one", "two", "three", "root"} {
			if !have[want] {
				t.Errorf("%s is not among them", want)
			}
		}
	})
}

func TestAPendingVersionIsAValueThatOutputMustNotShow(t *testing.T) {
	runDB(t, "true", func(r *running, first string) {
		conf, _, _ := strings.Cut(shownSecret, "files:") // nothing else has it
		must(t, r.agent.Reload(context.Background(), r.config(conf)))
		r.pend(pendingOne, "two")
		r.refused(first)
		have := map[string]bool{}
		for v := range r.agent.secretValues() {
			have[v.Reveal()] = true
		}
		if !have["one"] || !have["two"] {
			t.Errorf("values %v", have)
		}
	})
}

// Of files that show two versions the one that was published last counts: the target is
// told of that one.
func TestACommandIsGivenTheVersionOfTheLatestFile(t *testing.T) {
	conf := strings.Replace(commandConf, "files: [", `files: [{path: DIR/a, contents: 'a{{ if eq (secret "db") "two" }}{{ fail "no" }}{{ end }}', notify: [app]}, `, 1)
	conf = strings.Replace(conf, "FILE", `{{ $v := secret "db" }}{{ if eq $v "three" }}{{ fail "no" }}{{ end }}{{ $v }}`, 1)
	runAgent(t, conf, func(r *running) {
		must(t, r.svc.Put("prod/db", "one"))
		must(t, r.svc.Put("prod/admin", "root"))
	}, func(r *running) {
		r.after(time.Second)
		r.put("prod/db", "two") // which the second takes
		r.wantGiven("ADMIN=root PASS=db two")
		r.put("prod/db", "three") // which the first takes
		r.wantGiven("ADMIN=root PASS=db three")
	})
}

// After a restart nobody knows which version a file shows that does not take the
// current one.
func TestACommandIsNotGivenAVersionThatFilesRefuse(t *testing.T) {
	file := `{{ $v := secret "db" }}{{ if eq $v "bad" }}{{ fail "no" }}{{ end }}{{ $v }}`
	runCommands(t, file, func(r *running) {
		r.put("prod/db", "bad")
		r.restart(strings.ReplaceAll(commandConf, "FILE", file))
		if got := r.given(); !strings.Contains(got, "error: secret db: the target's files could not be made of the current version") {
			t.Errorf("given %q", got)
		}
		r.put("prod/db", "two")
		r.wantGiven("ADMIN=root PASS=db two")
	})
}

func TestACommandIsNotGivenAVersionThatIsNotSettled(t *testing.T) {
	conf := strings.Replace(shownSecret, "}}'}]", "}}', notify: [app]}]", 1) +
		"targets: [{name: app, command: [/usr/bin/true], env: {A: '{{ secret \"db\" }}'}}]\n"
	shownPending(t, conf, func(r *running, _ string) {
		r.wantGiven("A=two")
		r.noPending("InternalFailure")
		r.restart(conf)
		if got := r.given(); !strings.Contains(got, "error: secret db: its current version was refused before") {
			t.Errorf("given %q", got)
		}
		r.svc.SetFault(nil)
		r.after(2 * time.Minute)
		r.wantGiven("A=two")
	})
}

// Without a bubble, for a watcher's files are not in one.
func TestACommandFollowsItsIncludedTemplates(t *testing.T) {
	conf := strings.Replace(commandConf, "PASS: 'db {{ secret \"db\" }}'", "PASS: '{{ include \"pass\" . }}'", 1)
	svc, log := local.New(local.Options{}), &lockedLog{}
	r := &running{t: t, dir: memoryDir(t), svc: svc, log: log}
	must(t, svc.Put("prod/db", "one"))
	must(t, svc.Put("prod/admin", "root"))
	include := func(text string) { must(t, os.WriteFile(filepath.Join(r.dir, "pass"), []byte(text), 0o600)) }
	include(`of {{ secret "db" }}`)
	a, err := New(context.Background(), r.config(strings.ReplaceAll(conf, "FILE", "x")), Options{
		Logger: slog.New(slog.NewTextHandler(log, nil)), Local: svc,
		listenControl: func(string) (net.Listener, error) { return newSilence(), nil },
	})
	must(t, err)
	defer a.Close()
	r.agent = a
	look := func() {
		a.retemplateCommands()
		a.pass(context.Background(), false)
	}
	a.refresh.readAll(context.Background())
	look()
	r.wantGiven("ADMIN=root PASS=of one")
	include(`by {{ secret "db" }}`)
	look()
	r.wantGiven("ADMIN=root PASS=by one")
	include(`broken {{`)
	look()
	look()
	r.wantGiven("ADMIN=root PASS=by one")
	if n := strings.Count(log.String(), "cannot use a changed template of a command's environment"); n != 1 {
		t.Errorf("it was said %d times:\n%s", n, log)
	}
	if files := a.build.templateFiles(); !slices.Contains(files, filepath.Join(r.dir, "pass")) {
		t.Errorf("watched: %q", files)
	}
}

// After a restart nobody knows either which version a file shows that cannot be made:
// here of two secrets, of which one cannot be read.
func TestACommandIsNotGivenAVersionThatFilesAreNotKnownToShow(t *testing.T) {
	file := `{{ secret "db" }}{{ secret "maybe" }}`
	runCommands(t, file, func(r *running) {
		r.wantGiven("ADMIN=root PASS=db one") // there is no file, so it shows nothing
		r.put("prod/maybe", "x")
		r.put("prod/db", "two")
		r.svc.SetFault(func(_, id string) *local.Fault {
			if id == "prod/maybe" {
				return &local.Fault{Code: "InternalServiceError"}
			}
			return nil
		})
		r.restart(strings.ReplaceAll(commandConf, "FILE", file))
		if got := r.given(); !strings.HasPrefix(got, "error: secret db: the target's files could not be made of the current version since the start") {
			t.Errorf("given %q", got)
		}
		r.svc.SetFault(nil)
		r.after(2 * time.Minute)
		r.wantGiven("ADMIN=root MAYBE=x PASS=db two")
	})
}

// A slow command may print what came after its beginning and was gone before its end.
func TestValuesOfMeanwhileAreValuesThatOutputMustNotShow(t *testing.T) {
	runCommands(t, `{{ secret "db" }}`, func(r *running) {
		began := r.agent.secretValues()
		for _, value := range []string{"two", "three", "four"} {
			r.put("prod/db", value)
		}
		have := map[string]bool{}
		for _, values := range []iter.Seq[secret.Value]{began, r.agent.secretValues()} {
			for v := range values {
				have[v.Reveal()] = true
			}
		}
		for _, want := range []string{"one", "two", "three", "four"} {
			if !have[want] {
				t.Errorf("%s is not among them", want)
			}
		}
	})
}

// Passes in which no version goes out of use leave nothing behind for a slow command.
func TestOnlyWhatGoesOutOfUseIsKeptForSlowCommands(t *testing.T) {
	runCommands(t, `{{ secret "db" }}{{ secret "admin" }}`, func(r *running) {
		r.put("prod/db", "two")
		before := r.agent.commands.Load()
		r.after(time.Hour)
		now := r.agent.commands.Load()
		if now == before || now.latest != before.latest {
			t.Error("it is not as it was")
		}
		r.put("prod/db", "three")
		if r.agent.commands.Load().latest == before.latest {
			t.Error("a version that is not used any more was not noted")
		}
	})
}

// A reload that takes the last variables away leaves a command that was about to start
// what it was to be given, and one that runs its values out of the log.
func TestACommandEndsAsItBeganOverAReloadWithoutAny(t *testing.T) {
	runCommands(t, `{{ secret "db" }}`, func(r *running) {
		old := slices.Collect(maps.Keys(r.agent.build.commands))[0]
		began := r.agent.secretValues()
		conf, _, _ := strings.Cut(strings.ReplaceAll(commandConf, "FILE", `{{ secret "db" }}`), "targets:")
		must(t, r.agent.Reload(context.Background(), r.config(strings.Replace(conf, ", notify: [app]", "", 1))))
		if vars, err := r.agent.commandVariables(old); err != nil || !slices.Contains(vars, "PASS=db one") {
			t.Errorf("one that was about to start got %v", err)
		}
		r.put("prod/db", "two")
		r.put("prod/db", "three")
		have := map[string]bool{}
		for v := range began {
			have[v.Reveal()] = true
		}
		if !have["one"] || !have["two"] { // the third is what the end knows
			t.Errorf("values %v", have)
		}
		if _, err := r.agent.commandVariables(old); err == nil {
			t.Error("it is known for ever")
		}
	})
}

// So are those of a secret that a client has asked for, which are in no snapshot.
func TestValuesReadOnDemandMeanwhileAreAmongThem(t *testing.T) {
	runCommands(t, "x", func(r *running) {
		read := func(value string) {
			must(t, r.svc.Put("prod/other", value))
			_, err := r.agent.onDemand.read(context.Background(), secret.Current("prod/other"), time.Minute, true)
			must(t, err)
		}
		read("a")
		began := r.agent.secretValues()
		read("b")
		read("c")
		r.after(time.Hour) // nobody asks any more
		have := map[string]bool{}
		for v := range began {
			have[v.Reveal()] = true
		}
		if !have["a"] || !have["b"] || !have["c"] {
			t.Errorf("values %v", have)
		}
	})
}
