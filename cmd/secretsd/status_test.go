package main

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent"
	"secretsd/agent/notify"
)

func sampleStatus(now time.Time) *agent.Status {
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	return &agent.Status{
		Version: "v1.2.3", StartedAt: ago(50 * time.Hour), Config: "/etc/secretsd/agent.yaml", StateDir: "/run/secretsd",
		Reasons: []string{"secret late was not read yet"}, Endpoint: "127.0.0.1:2773", Socket: "/run/app/s.sock", Telemetry: "127.0.0.1:9273",
		Secrets: []agent.SecretStatus{
			{Name: "db", ID: "prod/db", ARN: "arn:db", Stage: "AWSCURRENT", VersionID: "v-1", ConfirmedAt: ago(90 * time.Second), AgeSeconds: 90, NextRefresh: now.Add(3 * time.Minute)},
			{Name: "late", ID: "prod/late", Stage: "AWSCURRENT", Kind: "denied", Error: "read secret prod/late: no\x1b[2J", Hint: "allow it", NextRefresh: ago(time.Second)},
		},
		Files: []agent.FileStatus{
			{Path: "/run/app/db.env", State: agent.FileInPlace, Secrets: []notify.SecretVersion{{Name: "db", VersionID: "v-1"}}},
			{Path: "/run/app/late", State: agent.FileWaiting, WaitsFor: "late"},
		},
		Targets: []notify.TargetStatus{{Name: "app", Kind: "signal", State: notify.StateAbsent, OwedSince: ago(time.Minute), Attempts: 2}},
		Clients: []agent.ClientStatus{
			{Name: "default", TokenEnv: []string{"TOKEN", "OTHER"}, All: true, Requests: map[string]uint64{"ok": 5, "stale": 2, "not_found": 1, "limited": 1, "failed": 3}, LastSeen: ago(5 * time.Second)},
			{Name: "web", TokenFile: "/run/t/web", UIDs: []int{7}, GIDs: []int{8, 9}, Secrets: []string{"db", "prod/web/*"}, Roles: []string{"arn:role/*"}},
			{Name: "batch", UIDs: []int{1001}, Secrets: []string{"prod/batch/*"}},
		},
		Requests: map[string]uint64{"ok": 5, "bad_token": 4, "forwarded": 1},
	}
}

func TestStatesOfSecretsThatAreNotThere(t *testing.T) {
	for want, s := range map[string]agent.SecretStatus{
		"not read yet":        {},
		"absent, optional":    {Optional: true, Stage: "AWSPREVIOUS", Unlabelled: true},
		"none at AWSPREVIOUS": {Stage: "AWSPREVIOUS", Unlabelled: true},
		"denied":              {Optional: true, Stage: "AWSPREVIOUS", Unlabelled: true, Kind: "denied", Stale: true},
		"not_found":           {Kind: "not_found", Stale: true},
	} {
		if got := stateOf(&s); got != want {
			t.Errorf("%+v is %q, want %q", s, got, want)
		}
	}
}

func TestStatusForPeople(t *testing.T) {
	now := time.Now()
	var got strings.Builder
	if err := printStatus(&got, sampleStatus(now), now, false); err != nil {
		t.Fatal(err)
	}
	want := `secretsd v1.2.3, not ready, up 2d2h, /etc/secretsd/agent.yaml
endpoint 127.0.0.1:2773, socket /run/app/s.sock, telemetry 127.0.0.1:9273
  secret late was not read yet

SECRET  ID         VERSION  STAGE       AGE    NEXT  STATE
db      prod/db    v-1      AWSCURRENT  1m30s  3m0s  ok
late    prod/late  -        AWSCURRENT  -      now   denied

FILE             STATE             VERSIONS
/run/app/db.env  in place          db@v-1
/run/app/late    waiting for late  -

TARGET  KIND    STATE   OWED  FAILED
app     signal  absent  1m0s  2

CLIENT   KNOWN BY                                    MAY READ                     ANSWERED  REFUSED  FAILED  LAST SEEN
default  token in $TOKEN or $OTHER                   everything                   7         2        3       5s ago
web      token in /run/t/web from uid 7 or gid 8 or gid 9  db prod/web/* as arn:role/*  0         0        0       -
batch    uid 1001                                    prod/batch/*                 0         0        0       -

requests of nobody known: 4 bad token, 1 forwarded

secret late: read secret prod/late: no\uFFFD[2J
  hint: allow it
`
	want = strings.ReplaceAll(want, `\uFFFD`, "\uFFFD")
	squeeze := func(s string) string { return regexp.MustCompile("  +").ReplaceAllString(s, "  ") }
	if diff := cmp.Diff(squeeze(want), squeeze(got.String())); diff != "" {
		t.Error(diff)
	}
	got.Reset()
	if err := printStatus(&got, sampleStatus(now), now, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"arn:db", "5 ok, 2 stale, 1 limited, 1 not found, 3 failed"} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("wide lacks %q:\n%s", want, got.String())
		}
	}
}

// TestHelpNamesEveryFieldOfStatus is what documents the JSON output.
func TestHelpNamesEveryFieldOfStatus(t *testing.T) {
	var walk func(typ reflect.Type)
	seen := map[reflect.Type]bool{}
	n := 0
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Slice || typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[time.Time]() || seen[typ] {
			return
		}
		seen[typ] = true
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous {
				walk(f.Type) // its fields are those of the whole
				continue
			}
			if !f.IsExported() {
				continue
			}
			n++
			if name == "" || !regexp.MustCompile(`\b`+name+`\b`).MatchString(statusHelp) {
				t.Errorf("the help says nothing of %s.%s (%q)", typ.Name(), f.Name, name)
			}
			walk(f.Type)
		}
	}
	walk(reflect.TypeFor[agent.Status]())
	if n < 40 {
		t.Errorf("looked at %d fields only", n)
	}
}
