package endpoint

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestSDKInputs(t *testing.T) {
	long := strings.Repeat("x", 257)
	id64 := strings.Repeat("v", 64)
	for _, c := range []struct {
		body, code string
		want       params
	}{
		{`{"SecretId":"a"}`, "", params{id: "a"}},
		{` {"SecretId":"a","VersionStage":"S","VersionId":"` + id64 + `"} `, "", params{id: "a", stage: "S", versionID: id64}},
		{`{"SecretId":"\u0061","VersionStage":null,"Unknown":[{}]}`, "", params{id: "a"}},
		{`{"secretId":"a"}`, "ValidationException", params{}},
		{`{"SecretId":"a","versionstage":"S"}`, "", params{id: "a"}},
		{`{"SecretId":null}`, "ValidationException", params{}},
		{`{"SecretId":""}`, "ValidationException", params{}},
		{`{"SecretId":"` + strings.Repeat("x", 2049) + `"}`, "ValidationException", params{}},
		{`{"SecretId":1}`, "SerializationException", params{}},
		{`{"SecretId":["a"]}`, "SerializationException", params{}},
		{`{"SecretId":"a","VersionStage":"` + long + `"}`, "ValidationException", params{}},
		{`{"SecretId":"a","VersionStage":""}`, "ValidationException", params{}},
		{`{"SecretId":"a","VersionId":"short"}`, "ValidationException", params{}},
		{`{"SecretId":"a","VersionId":"` + id64 + `v"}`, "ValidationException", params{}},
		{``, "SerializationException", params{}},
		{`null`, "SerializationException", params{}},
		{`[]`, "SerializationException", params{}},
		{`"SecretId"`, "SerializationException", params{}},
		{`{"SecretId":"a"} {}`, "SerializationException", params{}},
		{`{"SecretId":"a",}`, "SerializationException", params{}},
		{`{'SecretId':'a'}`, "SerializationException", params{}},
		{`{"SecretId":"a" /* x */}`, "SerializationException", params{}},
		{"{\"SecretId\":\"a\xff\"}", "SerializationException", params{}},
		{strings.Repeat(`{"a":`, 20000), "SerializationException", params{}},
	} {
		in, err := parseSDKInput([]byte(c.body))
		var got params
		if err == nil {
			got, err = in.version()
		}
		if codeOf(err) != c.code || err == nil && !cmp.Equal(c.want, got, cmp.AllowUnexported(params{})) {
			t.Errorf("%.80s: %+v, %v; want %+v, %q", c.body, got, err, c.want, c.code)
		}
	}
}

func TestSDKBatchInputs(t *testing.T) {
	list := func(n int) string { return strings.TrimSuffix(strings.Repeat(`"a",`, n), ",") }
	for body, want := range map[string]string{
		`{"SecretIdList":["a","b"]}`:                             "",
		`{"SecretIdList":[` + list(20) + `],"Filters":null}`:     "",
		`{"SecretIdList":[` + list(21) + `]}`:                    "ValidationException",
		`{"SecretIdList":[]}`:                                    "ValidationException",
		`{"SecretIdList":[""]}`:                                  "ValidationException",
		`{"SecretIdList":"a"}`:                                   "SerializationException",
		`{"SecretIdList":["a",null]}`:                            "SerializationException",
		`{"SecretIdList":["a",1]}`:                               "SerializationException",
		`{}`:                                                     "InvalidParameterException",
		`{"Filters":[{"Key":"name","Values":["a"]}]}`:            "InvalidParameterException",
		`{"SecretIdList":["a"],"Filters":[]}`:                    "InvalidParameterException",
		`{"SecretIdList":["a"],"MaxResults":1}`:                  "InvalidParameterException",
		`{"SecretIdList":["a"],"NextToken":"x"}`:                 "InvalidNextTokenException",
		`{"secretidlist":["a"]}`:                                 "InvalidParameterException",
		`{"SecretIdList":["` + strings.Repeat("x", 2049) + `"]}`: "ValidationException",
		`{"SecretIdList":["` + strings.Repeat("x", 2048) + `"],"Unknown":{"a":1}}`: "",
	} {
		in, err := parseSDKInput([]byte(body))
		if err == nil {
			_, err = in.batch()
		}
		if codeOf(err) != want {
			t.Errorf("%.80s: %v, want %q", body, err, want)
		}
	}
}

// FuzzSDKInput compares with encoding/json, which reads the same members where
// they are spelled exactly, and holds that what gets through is within bounds.
func FuzzSDKInput(f *testing.F) {
	f.Add([]byte(`{"SecretId":"prod/db","VersionStage":"AWSCURRENT"}`))
	f.Add([]byte(`{"SecretIdList":["a","b"],"Filters":null}`))
	f.Add([]byte(`{"SecretId":"\ud800","secretid":"b"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		in, err := parseSDKInput(body)
		if err != nil {
			if codeOf(err) == "" {
				t.Fatalf("%q: %v is no answer", body, err)
			}
			return
		}
		if !json.Valid(body) || !utf8.Valid(body) {
			t.Fatalf("accepted %q, which is not JSON", body)
		}
		if ids, err := in.batch(); err == nil {
			if len(ids) < 1 || len(ids) > maxSecretList {
				t.Fatalf("%q: %d ids", body, len(ids))
			}
		} else if codeOf(err) == "" {
			t.Fatalf("%q: %v is no answer", body, err)
		}
		p, err := in.version()
		if err != nil {
			return
		}
		if p.id == "" || len(p.id) > maxSecretID || len(p.stage) > maxStage || len(p.versionID) > maxVersionID {
			t.Fatalf("%q was read as %+v", body, p)
		}
		var object map[string]any
		if err := json.Unmarshal(body, &object); err != nil || object["SecretId"] != p.id {
			t.Fatalf("%q: encoding/json has %v, %v; ours is %q", body, object["SecretId"], err, p.id)
		}
	})
}
