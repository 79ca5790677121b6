package agent

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"secretsd/agent/secret"
	"secretsd/agent/source/local"
	"secretsd/agent/store"
)

// standing is an agent that does not run: a test says what was read, and when it passes.
// Its child is supervised by nobody.
type standing struct{ *running }

func stand(t *testing.T, conf string, opts ChildOptions) *standing {
	t.Helper()
	s := &standing{running: &running{t: t, dir: memoryDir(t)}}
	a, err := New(context.Background(), s.config(conf), Options{
		Logger: discard, Local: local.New(local.Options{}), Child: opts,
		listenControl: func(string) (net.Listener, error) { return newSilence(), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	s.agent = a
	return s
}

// read enters what one round has read of a secret, and passes.
func (s *standing) read(name string, v *secret.Version, err error) {
	s.t.Helper()
	var updates []store.Update
	for _, c := range s.agent.build.secrets {
		if c.name == name {
			updates = append(updates, store.Update{Name: name, Ref: c.ref, Version: v, Err: err, Wall: time.Now()})
		}
	}
	s.agent.store.Put(updates)
	s.agent.pass(context.Background(), false)
}

// value is a version of a secret that is called as its id.
func value(id, versionID, text string) *secret.Version {
	return newVersion(secret.Ref{ID: id, Stage: secret.StageCurrent}, versionID, text)
}

// wantVariables looks for these variables, NAME=VALUE, in what the child is to be started with;
// of the agent's own there are none.
func (s *standing) wantVariables(want ...string) {
	s.t.Helper()
	p := s.agent.child.program
	if p == nil {
		s.t.Errorf("the child is not started; reasons: %s", s.agent.health.reason())
		return
	}
	if got := p.Env.Reveal(); strings.Join(got, " ") != strings.Join(want, " ") {
		s.t.Errorf("the child has %q, want %q", got, want)
	}
}

// TestAnAbsentSecretKeepsNoChildWaiting: that there is no such secret may come after
// everything else is there, and after answers that say nothing.
func TestAnAbsentSecretKeepsNoChildWaiting(t *testing.T) {
	notFound := &secret.Error{Kind: secret.NotFound, ID: "no", Code: "ResourceNotFoundException"}
	broken := &secret.Error{Kind: secret.Transient, ID: "no", Code: "InternalServiceError"}
	for _, tt := range []struct {
		name, env string
		answers   []error
		want      []string
	}{
		{"a variable", `env: {A: '{{ (secret "no").x }}', K: x}`, []error{notFound}, []string{"K=x"}},
		{"all keys", `env_from: [{secret: no, prefix: no_}]`, []error{notFound}, nil},
		{"after a failure", `env: {A: '{{ (secret "no").x }}', DB: '{{ secret "db" }}'}`, []error{broken, notFound}, []string{"DB=one"}},
		{"a variable that asks", `env: {A: '{{ has "no" }}'}`, []error{broken, notFound}, []string{"A=false"}},
		{"a computed name", `env: {A: '{{ secret (print "n" "o") }}', K: x}`, []error{broken, notFound}, []string{"K=x"}},
	} {
		for _, opts := range []ChildOptions{{}, {Once: true}} {
			t.Run(tt.name, func(t *testing.T) {
				s := stand(t, `
secrets: [{name: db, id: db}, {name: no, id: no, required: false}]
exec: {command: [/bin/true], env_deny: ["*"], `+tt.env+`}`, opts)
				s.agent.pass(context.Background(), false)
				s.read("db", value("db", "v1", "one"), nil)
				for _, err := range tt.answers {
					if s.agent.child.program != nil {
						t.Fatal("the child is started before it is known that the secret does not exist")
					}
					s.read("no", nil, err)
				}
				s.wantVariables(tt.want...)
				// From then on an answer that says nothing changes nothing, and a version does.
				s.read("no", nil, broken)
				s.wantVariables(tt.want...)
			})
		}
	}
}

// TestAWaitingChildSaysForWhat: which secret, and why that was not read.
func TestAWaitingChildSaysForWhat(t *testing.T) {
	s := stand(t, `
secrets: [{name: db, id: db, required: false}]
exec: {command: [/bin/true], env: {DB: '{{ secret "db" }}'}}`, ChildOptions{})
	s.read("db", nil, &secret.Error{Kind: secret.Transient, Op: "GetSecretValue", ID: "db", Code: "InternalServiceError"})
	const want = "the child was not started yet: secret db: not read yet: "
	for _, text := range []string{s.agent.health.reason(), strings.Join(s.agent.Status().Reasons, "\n")} {
		if !strings.Contains(text, want) || !strings.Contains(text, "InternalServiceError") {
			t.Errorf("the reason is %q, want one with %q and the error", text, want)
		}
	}
}

// TestAHeldEnvironmentKeepsNoOtherNewsFromTheChild: what is told of its files while a
// version of db cannot be made into variables.
func TestAHeldEnvironmentKeepsNoOtherNewsFromTheChild(t *testing.T) {
	s := stand(t, `
secrets: [{name: db, id: db}, {name: other, id: other}]
files:
  - {path: DIR/other, contents: '{{ secret "other" }}'}
  - {path: DIR/db, contents: '{{ secret "db" }}'}
exec: {command: [/bin/true], env_deny: ["*"], env_from: [{secret: db}]}`, ChildOptions{})
	c := s.agent.child
	held := func(want ...string) {
		t.Helper()
		st := s.agent.Status().Child
		if st.EnvironmentHeld != (len(want) > 0) || (st.Error == "") != (len(want) == 0) {
			t.Errorf("held %t for %q, want %q", st.EnvironmentHeld, st.Error, want)
		}
		for _, w := range want {
			if !strings.Contains(st.Error, w) {
				t.Errorf("held for %q, want %q", st.Error, w)
			}
		}
		if m := s.agent.measure(); m.Child.EnvironmentHeld != (len(want) > 0) {
			t.Errorf("the metric says that it is held: %t", m.Child.EnvironmentHeld)
		}
	}
	s.read("other", value("other", "o1", "eins"), nil)
	s.read("db", value("db", "v1", `{"pw": "one"}`), nil)
	held()
	s.read("other", value("other", "o2", "zwei"), nil)
	if len(c.touched) > 0 {
		t.Fatal("the child is not told of a file while its environment is right")
	}

	// The file of db shows the version that the environment cannot: both wait.
	s.read("db", value("db", "v2", `{"a-b": "two"}`), nil)
	held(`a-b`, "not told of "+s.dir+"/db until then", "secret db")
	s.wantVariables("pw=one")
	s.read("other", value("other", "o3", "drei"), nil)
	if len(c.touched) != 2 || s.file("other") != "drei" {
		t.Errorf("the child is told of files that show another version than its environment; still to tell: %d", len(c.touched))
	}
	// With a version of which both can be made it is told of everything.
	s.read("db", value("db", "v3", `{"pw": "three"}`), nil)
	held()
	s.wantVariables("pw=three")
	if len(c.touched) > 0 {
		t.Error("the child is not told")
	}
}

// TestNewsOfOthersPassAHeldEnvironment: where no file shows the secret concerned.
func TestNewsOfOthersPassAHeldEnvironment(t *testing.T) {
	for _, tt := range []struct {
		name string
		hold func(s *standing)
		why  string
	}{
		{"a key that can be no variable", func(s *standing) { s.read("db", value("db", "v2", `{"a-b": "two"}`), nil) }, "a-b"},
		{"a version that is taken back", func(s *standing) {
			ref := s.agent.build.secrets[0].ref
			s.agent.store.Put([]store.Update{{Name: "db", Ref: ref, Err: &secret.Error{Kind: secret.Transient, ID: "db", Code: "InternalServiceError"}, Drop: true}})
			s.agent.pass(context.Background(), false)
		}, "InternalServiceError"},
		{"a version that was refused", func(s *standing) {
			s.unsettle(&secret.Error{Kind: secret.Denied, ID: "db", Code: "AccessDeniedException"})
		}, "AWSPENDING"},
	} {
		for _, onChange := range []string{"signal", "restart"} {
			t.Run(tt.name+", "+onChange, func(t *testing.T) {
				s := stand(t, `
secrets: [{name: db, id: db}, {name: other, id: other}]
files: [{path: DIR/other, contents: '{{ secret "other" }}'}]
exec: {command: [/bin/true], env_deny: ["*"], env_from: [{secret: db}], on_change: `+onChange+`}`, ChildOptions{})
				s.read("other", value("other", "o1", "eins"), nil)
				s.read("db", value("db", "v1", `{"pw": "one"}`), nil)
				tt.hold(s)
				before := s.agent.child.program
				s.read("other", value("other", "o2", "zwei"), nil)
				s.wantVariables("pw=one")
				if s.agent.child.program != before {
					t.Error("another program was given to the supervisor")
				}
				// Nobody is restarted with what is known to be wrong.
				waits := onChange == "restart" && strings.Contains(tt.name, "refused")
				if told := len(s.agent.child.touched) == 0; told == waits {
					t.Errorf("told: %t", told)
				}
				if st := s.agent.Status().Child; !st.EnvironmentHeld || !strings.Contains(st.Error, tt.why) || strings.Contains(st.Error, "restart") != waits {
					t.Errorf("held %t, for %q", st.EnvironmentHeld, st.Error)
				}
			})
		}
	}
}

// unsettle has the version of the first secret be refused, and AWSPENDING not be
// readable.
func (s *standing) unsettle(err error) {
	c := s.agent.build.secrets[0]
	e, _ := s.agent.store.Snapshot().Get(c.name)
	s.agent.store.Put([]store.Update{{Name: c.name, Ref: c.ref, Version: e.Version, Unsettled: &store.Unsettled{Err: err}}})
	s.agent.pass(context.Background(), false)
}

// TestAProgramThatIsGoneIsNotEndedForAFile, also while the environment is held.
func TestAProgramThatIsGoneIsNotEndedForAFile(t *testing.T) {
	program := filepath.Join(memoryDir(t), "program")
	must(t, os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755))
	s := stand(t, `
secrets: [{name: db, id: db}, {name: other, id: other}]
files: [{path: DIR/other, contents: '{{ secret "other" }}'}]
exec: {command: [`+program+`], env_deny: ["*"], env_from: [{secret: db}]}`, ChildOptions{})
	s.read("other", value("other", "o1", "eins"), nil)
	s.read("db", value("db", "v1", `{"pw": "one"}`), nil)
	s.read("db", value("db", "v2", `{"a-b": "two"}`), nil)
	must(t, os.Remove(program))
	s.read("other", value("other", "o2", "zwei"), nil)
	if len(s.agent.child.touched) == 0 {
		t.Error("a child that cannot be started again is to be restarted")
	}
	if st := s.agent.Status().Child; !strings.Contains(st.Error, "until then: start "+program) {
		t.Errorf("held for %q", st.Error)
	}
}

// TestARestartReadsFilesOfTargetsToo: a child that is started anew looks at them all, one
// that is told only at its own.
func TestARestartReadsFilesOfTargetsToo(t *testing.T) {
	for onChange, told := range map[string]bool{"signal": true, "restart": false} {
		t.Run(onChange, func(t *testing.T) {
			s := stand(t, `
secrets: [{name: db, id: db}, {name: other, id: other}]
files:
  - {path: DIR/other, contents: '{{ secret "other" }}'}
  - {path: DIR/db, contents: '{{ secret "db" }}', notify: [t]}
targets: [{name: t, command: [/bin/true]}]
exec: {command: [/bin/true], env_deny: ["*"], env_from: [{secret: db}], on_change: `+onChange+`}`, ChildOptions{})
			s.read("other", value("other", "o1", "eins"), nil)
			s.read("db", value("db", "v1", `{"pw": "one"}`), nil)
			s.read("db", value("db", "v2", `{"a-b": "two"}`), nil)
			s.read("other", value("other", "o2", "zwei"), nil)
			if got := len(s.agent.child.touched) == 0; got != told {
				t.Errorf("told of other's file: %t, want %t (%s)", got, told, s.agent.Status().Child.Error)
			}
			s.read("db", value("db", "v3", `{"pw": "three"}`), nil)
			s.wantVariables("pw=three")
			if len(s.agent.child.touched) > 0 {
				t.Error("the child is not told when its environment is right again")
			}
		})
	}
}
