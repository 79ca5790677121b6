package local_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"secretsd/agent/source/local"
)

// FuzzRequest: whatever is asked, the answer is JSON of a known status, and an
// error never tells a value that is stored.
func FuzzRequest(f *testing.F) {
	for op := range sdkOperations {
		f.Add(op, `{}`)
	}
	f.Add("GetSecretValue", `{"SecretId":"db","VersionStage":"AWSCURRENT"}`)
	f.Add("CreateSecret", `{"Name":"x","SecretString":"y"}`)
	f.Add("CreateSecret", `{"Name":"x","SecretString":["y"],"ClientRequestToken":7}`)
	f.Add("PutSecretValue", `{"SecretId":"db","SecretBinary":"AAE=","VersionStages":["a","AWSCURRENT"],"ClientRequestToken":"0123456789abcdef0123456789abcdef"}`)
	f.Add("UpdateSecretVersionStage", `{"SecretId":"db","VersionStage":"AWSCURRENT","MoveToVersionId":"0123456789abcdef0123456789abcdef"}`)
	f.Add("ListSecrets", `{"Filters":[{"Key":"all","Values":["!a B/c"]}],"NextToken":"cGFnZTo5"}`)
	f.Add("BatchGetSecretValue", `{"Filters":[{"Key":"name","Values":[""]}],"MaxResults":1}`)
	f.Add("TagResource", `{"SecretId":"db","Tags":[{"Key":"a"},null]}`)
	f.Add("UntagResource", `{"SecretId":"db","TagKeys":[null]}`)
	f.Add("DeleteSecret", `{"SecretId":"arn:","ForceDeleteWithoutRecovery":true}`)
	f.Add("GetRandomPassword", `{"PasswordLength":4096,"ExcludeCharacters":"é"}`)
	s := local.New(local.Options{})
	f.Fuzz(func(t *testing.T, op, body string) {
		_ = s.Put("db", canary)
		r := httptest.NewRequest(http.MethodPost, "http://localhost/", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		r.Header.Set("X-Amz-Target", "secretsmanager."+op)
		w := serve(s, r)
		switch w.Code {
		case 200:
			if w.Body.Len() > 0 && !json.Valid(w.Body.Bytes()) {
				t.Errorf("no JSON: %q", w.Body)
			}
		case 400, 413:
			var e struct {
				Type string `json:"__type"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Type == "" {
				t.Errorf("no error: %d %q", w.Code, w.Body)
			}
			if strings.Contains(w.Body.String(), canary) && !strings.Contains(body, canary) {
				t.Errorf("the error holds the value: %q", w.Body)
			}
		default:
			t.Errorf("status %d: %q", w.Code, w.Body)
		}
	})
}

// TestEveryLabelIsOnOneVersion holds for any order of writes and moves: a label
// is on one version at most, AWSCURRENT on exactly one once it is there, and
// AWSPREVIOUS on the one that AWSCURRENT left.
func TestEveryLabelIsOnOneVersion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &stageModel{backend: inProcess(local.New(local.Options{}))}
		m.ask(t, step{op: "CreateSecret", in: obj{"Name": "db"}})
		t.Repeat(map[string]func(*rapid.T){
			"put":    m.put,
			"update": m.update,
			"move":   m.move,
			"":       m.check,
		})
	})
}

type stageModel struct {
	*backend
	versions []string
}

func (m *stageModel) ask(t *rapid.T, s step) *answer {
	a, err := m.backend.ask(t.Context(), s, s.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var someLabels = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"AWSCURRENT", "AWSPENDING", "AWSPREVIOUS", "A", "B"}), 1, 3, rapid.ID)

// write sends a write, and keeps the new version if it was accepted.
func (m *stageModel) write(t *rapid.T, s step) {
	if a := m.ask(t, s); a.code == "" {
		m.versions = append(m.versions, a.out["VersionId"].(string))
	}
}

func (m *stageModel) put(t *rapid.T) {
	in := obj{"SecretId": "db", "SecretString": "x"}
	if labels := someLabels.Draw(t, "labels"); rapid.Bool().Draw(t, "labelled") {
		in["VersionStages"] = labels
	}
	m.write(t, step{op: "PutSecretValue", in: in})
}

func (m *stageModel) update(t *rapid.T) {
	m.write(t, step{op: "UpdateSecret", in: obj{"SecretId": "db", "SecretString": "x"}})
}

func (m *stageModel) move(t *rapid.T) {
	ids := rapid.SampledFrom(append([]string{""}, m.versions...))
	in := obj{"SecretId": "db", "VersionStage": someLabels.Draw(t, "label")[0]}
	if id := ids.Draw(t, "from"); id != "" {
		in["RemoveFromVersionId"] = id
	}
	if id := ids.Draw(t, "to"); id != "" {
		in["MoveToVersionId"] = id
	}
	before := m.holders(t)
	a := m.ask(t, step{op: "UpdateSecretVersionStage", in: in})
	after := m.holders(t)
	if moved := after["AWSCURRENT"] != before["AWSCURRENT"]; moved && after["AWSPREVIOUS"] != before["AWSCURRENT"] {
		t.Fatalf("AWSCURRENT left %s, AWSPREVIOUS is on %q", before["AWSCURRENT"], after["AWSPREVIOUS"])
	}
	if label := in["VersionStage"].(string); a.code == "" && in["MoveToVersionId"] != nil && after[label] != in["MoveToVersionId"] {
		t.Fatalf("%s was moved to %s and is on %s", label, in["MoveToVersionId"], after[label])
	}
}

// holders returns the version of each label, and fails if one has two.
func (m *stageModel) holders(t *rapid.T) map[string]string {
	holders := map[string]string{}
	in := obj{"SecretId": "db", "IncludeDeprecated": true}
	for {
		a := m.ask(t, step{op: "ListSecretVersionIds", in: in})
		for _, v := range a.out["Versions"].(arr) {
			labels, _ := v.(obj)["VersionStages"].(arr)
			for _, l := range labels {
				if other := holders[l.(string)]; other != "" {
					t.Fatalf("%s is on two versions", l)
				}
				holders[l.(string)] = v.(obj)["VersionId"].(string)
			}
		}
		next, more := a.out["NextToken"].(string)
		if !more {
			return holders
		}
		in["NextToken"] = next
	}
}

func (m *stageModel) check(t *rapid.T) {
	holders := m.holders(t)
	a := m.ask(t, step{op: "GetSecretValue", in: obj{"SecretId": "db"}})
	if len(m.versions) == 0 {
		if a.code != notFoundCode {
			t.Fatalf("got %+v for a secret without versions", a)
		}
		return
	}
	if holders["AWSCURRENT"] == "" || a.out["VersionId"] != holders["AWSCURRENT"] {
		t.Fatalf("AWSCURRENT is on %q, get answers %v", holders["AWSCURRENT"], a.out["VersionId"])
	}
}
