package local_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/source/local"
)

// must plays steps against a backend, as a row of the table does.
func must(t testing.TB, b *backend, steps ...step) {
	t.Helper()
	if err := b.play(t.Context(), row{steps: steps}); err != nil {
		t.Fatal(err)
	}
}

// arnOf returns a secret's ARN.
func arnOf(t testing.TB, b *backend, id string) string {
	t.Helper()
	a, err := b.call(t.Context(), "DescribeSecret", obj{"SecretId": id})
	if err != nil || a.code != "" {
		t.Fatalf("describe %s: %v %v", id, a, err)
	}
	return a.out["ARN"].(string)
}

// current returns the text and the version id that a plain get answers.
func current(t testing.TB, b *backend, id string) (text, version string) {
	t.Helper()
	a, err := b.call(t.Context(), "GetSecretValue", obj{"SecretId": id})
	if err != nil || a.code != "" {
		t.Fatalf("get %s: %v %v", id, a, err)
	}
	return a.out["SecretString"].(string), a.out["VersionId"].(string)
}

func TestARNHoldsPartitionRegionAndAccount(t *testing.T) {
	for region, prefix := range map[string]string{
		"":              "arn:aws:secretsmanager:us-east-1:",
		"eu-west-1":     "arn:aws:secretsmanager:eu-west-1:",
		"cn-north-1":    "arn:aws-cn:secretsmanager:cn-north-1:",
		"us-gov-west-1": "arn:aws-us-gov:secretsmanager:us-gov-west-1:",
	} {
		s := local.New(local.Options{Region: region, Account: "000000000000"})
		if err := s.Put("db", "x"); err != nil {
			t.Fatal(err)
		}
		b := inProcess(s)
		arn := arnOf(t, b, "db")
		if !strings.HasPrefix(arn, prefix+"000000000000:secret:db-") || len(arn) != len(prefix)+len("000000000000:secret:db-")+6 {
			t.Errorf("region %q: ARN %s", region, arn)
		}
		must(t, b, get(arn, "x"))
	}
}

func TestDatesHaveMilliseconds(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 234_567_890, time.UTC)
	s := local.New(local.Options{Now: func() time.Time { return now }})
	b := inProcess(s)
	must(t, b, create("db", "x"), get("db", "x"))
	var d struct{ CreatedDate, LastChangedDate, LastAccessedDate json.Number }
	a, err := b.raw(t.Context(), "DescribeSecret", `{"SecretId":"db"}`)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(a.out)
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if d.CreatedDate != "1777863721.234" || d.LastChangedDate != "1777863721.234" || d.LastAccessedDate != "1777852800" {
		t.Errorf("got %+v", d)
	}
}

func TestSecretGoesAtTheEndOfItsWindow(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := local.New(local.Options{Now: func() time.Time { return now }})
	b := inProcess(s)
	must(t, b, create("db", "x"), remove("db").with("RecoveryWindowInDays", 7))
	now = now.Add(7*24*time.Hour - time.Second)
	must(t, b, step{op: "DescribeSecret", in: obj{"SecretId": "db"}})
	now = now.Add(time.Second)
	must(t, b,
		step{op: "RestoreSecret", in: obj{"SecretId": "db"}, code: notFoundCode},
		step{op: "ListSecrets", in: obj{"IncludePlannedDeletion": true}, want: obj{"SecretList": arr{}}},
		create("db", "y"), get("db", "y"))
}

func TestPutCreatesThenAddsVersions(t *testing.T) {
	s := local.New(local.Options{})
	b := inProcess(s)
	for _, value := range []string{"one", "two"} {
		if err := s.Put("app/db", value); err != nil {
			t.Fatal(err)
		}
		must(t, b, get("app/db", value))
	}
	must(t, b, step{op: "GetSecretValue", in: obj{"SecretId": "app/db", "VersionStage": "AWSPREVIOUS"},
		want: obj{"SecretString": "one", "VersionId": matches(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)}})
	for _, bad := range []struct{ name, value string }{{"", "x"}, {"a b", "x"}, {"a", ""}, {"a", tooLong}, {"a", "\xff"}} {
		if err := s.Put(bad.name, bad.value); err == nil {
			t.Errorf("Put(%q, …) was accepted", bad.name)
		} else if len(bad.value) > 1 && strings.Contains(err.Error(), bad.value) {
			t.Errorf("the error holds the value")
		}
	}
	must(t, b, remove("app/db"))
	if err := s.Put("app/db", "three"); err == nil {
		t.Error("Put wrote to a secret marked for deletion")
	}
}

func TestSameRandomSourceSameARNs(t *testing.T) {
	make := func() string {
		s := local.New(local.Options{Rand: rand.NewChaCha8([32]byte{1})})
		_ = s.Put("db", "x")
		return arnOf(t, inProcess(s), "db")
	}
	if a, b := make(), make(); a != b {
		t.Errorf("got %s and %s", a, b)
	}
}

func TestCallsCountsRequests(t *testing.T) {
	s := local.New(local.Options{})
	b := inProcess(s)
	must(t, b, create("a", "x"), batch("a", "b"), get("a", "x"), get("a", "x"),
		step{op: "GetSecretValue", in: obj{"SecretId": "none"}, code: notFoundCode},
		step{op: "MakeCoffee", body: "{}", code: "UnknownOperationException"})
	if diff := cmp.Diff(map[string]int{"CreateSecret": 1, "BatchGetSecretValue": 1, "GetSecretValue": 3}, s.Calls()); diff != "" {
		t.Error(diff)
	}
}

// TestConcurrentUse is for the race detector; it also checks that no write is
// lost.
func TestConcurrentUse(t *testing.T) {
	s := local.New(local.Options{})
	b := onLoopback(t, s)
	must(t, b, create("db", "0"))
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			steps := []step{
				{op: "PutSecretValue", in: obj{"SecretId": "db", "SecretString": fmt.Sprint(w)}},
				create(fmt.Sprint("s", w), "x"), batch("db"), batchBy("name", "s"), list(),
				{op: "ListSecretVersionIds", in: obj{"SecretId": "db", "IncludeDeprecated": true}},
				tagged(fmt.Sprint("k", w), "v").with("SecretId", "db"),
				{op: "GetRandomPassword", in: obj{}},
			}
			if err := b.play(context.Background(), row{steps: steps}); err != nil {
				t.Error(err)
			}
			s.SetFault(nil)
			_ = s.Calls()
		})
	}
	wg.Wait()
	must(t, b,
		step{op: "ListSecretVersionIds", in: obj{"SecretId": "db", "IncludeDeprecated": true}, want: obj{"Versions": count(9)}},
		step{op: "DescribeSecret", in: obj{"SecretId": "db"}, want: obj{"Tags": count(8)}})
}
