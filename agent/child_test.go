package agent

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	"secretsd/agent/secret"
	"secretsd/agent/source/local"
	"secretsd/agent/store"
)

// standing is an agent that does not run: a test says what was read, and when it passes.
// Its child is supervised by nobody.
type standing struct {
	*running
	snap *store.Snapshot
}

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
			updates = append(updates, store.Update{Name: name, Ref: c.ref, Version: v, Err: err})
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
	if got := p.Env.Reveal(); !slices.Equal(got, want) {
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
