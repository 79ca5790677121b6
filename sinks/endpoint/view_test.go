package endpoint_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

var errElsewhere = errors.New("asked the reader")

// elsewhere is a reader whose answer shows that it was asked.
var elsewhere = readerFunc(func(context.Context, endpoint.Query) (endpoint.Answer, error) {
	return endpoint.Answer{}, errElsewhere
})

// TestANameIsNotAnotherAccounts has a secret of another account configured by its
// ARN, before our own of the same name.
func TestANameIsNotAnotherAccounts(t *testing.T) {
	theirs, ours := version("prod/db", "theirs", secret.StageCurrent), version("prod/db", "ours", secret.StageCurrent)
	theirs.ARN = strings.Replace(theirs.ARN, "123456789012", "999999999999", 1)
	previous := version("prod/db", "before", secret.StagePrevious)
	partner := endpoint.Entry{Name: "partner", IDs: []string{theirs.ARN, theirs.Name}, Stage: secret.StageCurrent, Version: theirs}
	byName := endpoint.Entry{Name: "db", IDs: []string{"prod/db", ours.ARN}, Stage: secret.StageCurrent, Version: ours}
	unread := endpoint.Entry{Name: "db", IDs: []string{"prod/db"}, Stage: secret.StageCurrent}
	byARN := endpoint.Entry{Name: "db", IDs: []string{ours.ARN, "prod/db"}, Stage: secret.StageCurrent, Version: ours}
	before := endpoint.Entry{Name: "old", IDs: []string{"prod/db", previous.ARN}, Stage: secret.StagePrevious, Version: previous}
	theirRoles := endpoint.Entry{Name: "partner", IDs: []string{"prod/db", theirs.ARN}, Role: "arn:aws:iam::999999999999:role/r", Stage: secret.StageCurrent, Version: theirs}
	for what, c := range map[string]struct {
		entries []endpoint.Entry
		want    string
	}{
		"configured by name":                            {[]endpoint.Entry{partner, byName}, "ours"},
		"not read yet":                                  {[]endpoint.Entry{partner, unread}, ""},
		"configured by ARN, and by name":                {[]endpoint.Entry{partner, byARN, before}, "ours"},
		"configured by ARN, and another role's by name": {[]endpoint.Entry{theirRoles, byARN}, "ours"},
		"theirs alone, known by its name":               {[]endpoint.Entry{partner}, "theirs"},
	} {
		s := start(t, endpoint.Options{}, elsewhere, c.entries...)
		got := do(t, s, "GET", "/v1/prod/db", tokenT)
		if id := strings.Contains(got.body, `"VersionId":"`+c.want+`"`); id != (c.want != "") {
			t.Errorf("%s: %d %s, want version %q", what, got.status, got.body, c.want)
		}
		if got := do(t, s, "GET", "/v1/partner", tokenT); !strings.Contains(got.body, `"VersionId":"theirs"`) {
			t.Errorf("%s: by its own name: %d %s", what, got.status, got.body)
		}
	}
}

// TestWhichEntryIsMeant has two stages of one secret and a pinned version
// configured. want is the version id answered, or "" for the reader.
func TestWhichEntryIsMeant(t *testing.T) {
	current := version("prod/db", "v2", secret.StageCurrent)
	current.Stages = []string{secret.StageCurrent, "BLUE"}
	previous := version("prod/db", "v1", secret.StagePrevious)
	pinned := version("pinned", "v7", "GREEN")
	lonely := version("lonely", "v3", secret.StagePrevious)
	shadow := version("shadow", "v4", secret.StageCurrent)
	ids := func(v *secret.Version) []string { return []string{v.Name, v.ARN} }
	s := start(t, endpoint.Options{}, elsewhere,
		endpoint.Entry{Name: "old", IDs: ids(previous), Stage: secret.StagePrevious, Version: previous},
		endpoint.Entry{Name: "db", IDs: ids(current), Stage: secret.StageCurrent, Version: current},
		endpoint.Entry{Name: "pin", IDs: ids(pinned), Version: pinned},
		endpoint.Entry{Name: "lonely", IDs: ids(lonely), Stage: secret.StagePrevious, Version: lonely},
		// A name that is another entry's id means that id.
		endpoint.Entry{Name: "prod/db", IDs: ids(shadow), Stage: secret.StageCurrent, Version: shadow},
		// Of two entries for one id and stage, and of two with a name, the first.
		endpoint.Entry{Name: "db", IDs: ids(current), Stage: secret.StageCurrent, Version: shadow},
	)
	for target, want := range map[string]string{
		"prod/db":                                "v2",
		arn("prod/db"):                           "v2",
		"db":                                     "v2",
		"old":                                    "v1",
		"prod/db?versionStage=AWSPREVIOUS":       "v1",
		"prod/db?versionStage=AWSCURRENT":        "v2",
		"prod/db?versionStage=BLUE":              "",
		"prod/db?versionId=v1":                   "v1",
		"prod/db?versionId=v2":                   "v2",
		"prod/db?versionId=v0":                   "",
		"prod/db?refreshNow=1":                   "",
		"prod/db?versionId=v2&versionStage=BLUE": "v2",
		"prod/db?versionId=v2&versionStage=AWSPREVIOUS": "",
		"old?versionStage=AWSCURRENT":                   "",
		"old?versionStage=AWSPREVIOUS":                  "v1",
		"pin":                                           "v7",
		"pinned":                                        "",
		"pinned?versionId=v7":                           "v7",
		"pinned?versionStage=GREEN":                     "",
		"lonely":                                        "",
		"lonely?versionStage=AWSPREVIOUS":               "v3",
		"shadow":                                        "v4",
		"PROD/DB":                                       "",
		"prod":                                          "",
		"unknown":                                       "",
	} {
		got := do(t, s, "GET", "/v1/"+target, tokenT)
		body := `{"__type":"InternalFailure"}`
		if want != "" {
			v := map[string]*secret.Version{"v1": previous, "v2": current, "v3": lonely, "v4": shadow, "v7": pinned}[want]
			body = object(v.Name, v.VersionID, v.Stages[0])
			if want == "v2" {
				body = `{"ARN":"` + arn("prod/db") + `","Name":"prod/db","VersionId":"v2","SecretString":"hunter2","VersionStages":["AWSCURRENT","BLUE"],"CreatedDate":"1569534789.046"}`
			}
		}
		if got.body != body {
			t.Errorf("%s: got %s, want version %q", target, got.body, want)
		}
	}
}

func TestEntryWithoutVersion(t *testing.T) {
	s := start(t, endpoint.Options{}, elsewhere,
		endpoint.Entry{Name: "starting", IDs: []string{"starting"}, Stage: secret.StageCurrent},
		failing("failed", &secret.Error{Code: "ResourceNotFoundException", Message: "no", Status: 400}))
	for target, want := range map[string]string{
		"starting":            `{"__type":"InternalFailure"}`,
		"failed":              `{"__type":"ResourceNotFoundException","message":"no"}`,
		"failed?refreshNow=1": `{"__type":"InternalFailure"}`,
		"failed?versionId=x":  `{"__type":"InternalFailure"}`,
	} {
		if got := do(t, s, "GET", "/v1/"+target, tokenT); got.body != want {
			t.Errorf("%s: got %s, want %s", target, got.body, want)
		}
	}
}

func TestStaleAnswersSayTheirAge(t *testing.T) {
	confirmed := time.Now().Add(-90 * time.Second)
	v := version("MyTest", defaultVersion, secret.StageCurrent)
	stale, fresh, unknown := entry(v), entry(v), entry(v)
	stale.IDs, stale.Confirmed, stale.Stale = []string{"stale"}, confirmed, true
	fresh.IDs, fresh.Confirmed = []string{"fresh"}, confirmed
	unknown.IDs, unknown.Confirmed, unknown.Stale = []string{"unknown"}, time.Time{}, true
	s := start(t, endpoint.Options{}, readerFunc(func(context.Context, endpoint.Query) (endpoint.Answer, error) {
		return endpoint.Answer{Version: v, Confirmed: confirmed, Stale: true}, nil
	}), stale, fresh, unknown)
	for id, c := range map[string]struct {
		stale string
		age   bool
	}{"stale": {"true", true}, "fresh": {"", false}, "unknown": {"true", false}, "read": {"true", true}} {
		got := do(t, s, "GET", "/v1/"+id, tokenT)
		if got.status != 200 || got.header.Get("X-Secretsd-Stale") != c.stale {
			t.Errorf("%s: status %d, X-Secretsd-Stale %q, want 200 and %q", id, got.status, got.header.Get("X-Secretsd-Stale"), c.stale)
		}
		age, err := strconv.Atoi(got.header.Get("Age"))
		if c.age && (err != nil || age < 90 || age > 120) || !c.age && len(got.header.Values("Age")) > 0 {
			t.Errorf("%s: Age %q", id, got.header.Values("Age"))
		}
		if cc := got.header.Get("Cache-Control"); cc != "no-store" {
			t.Errorf("%s: Cache-Control %q, want no-store", id, cc)
		}
	}
}

func TestPublishReplacesTheWholeView(t *testing.T) {
	a, b := version("a", "v1", secret.StageCurrent), version("b", "v1", secret.StageCurrent)
	first := endpoint.NewView(nil, []endpoint.Entry{entry(a), entry(b)})
	s := start(t, endpoint.Options{}, elsewhere)
	body := func(id string) string { return do(t, s, "GET", "/v1/"+id, tokenT).body }
	const none = `{"__type":"InternalFailure"}`

	s.Publish(first)
	if body("a") != object("a", "v1", secret.StageCurrent) || body("b") != object("b", "v1", secret.StageCurrent) {
		t.Error("the first view is not served")
	}
	s.Publish(endpoint.NewView(first, []endpoint.Entry{entry(version("a", "v2", secret.StageCurrent))}))
	if got := body("a"); got != object("a", "v2", secret.StageCurrent) {
		t.Errorf("a after its rotation: %s", got)
	}
	if got := body("b"); got != none {
		t.Errorf("b, which the second view has not: %s", got)
	}
	s.Publish(nil)
	if got := body("a"); got != none {
		t.Errorf("a after publishing no view: %s", got)
	}
}
