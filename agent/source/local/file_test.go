package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/source/local"
)

const canary = "CANARY-hunter2"

// write writes a secrets file and returns its path.
func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func secretsFile(t testing.TB, text string) string {
	t.Helper()
	return write(t, filepath.Join(t.TempDir(), "secrets.yaml"), text)
}

func load(t testing.TB, s *local.Service, path string) {
	t.Helper()
	if err := s.Load(path); err != nil {
		t.Fatal(err)
	}
}

func TestLoadExample(t *testing.T) {
	s := local.New(local.Options{})
	load(t, s, "testdata/secrets.yaml")
	must(t, inProcess(s),
		get("prod/db", `{"user":"app","password":"p<&>ss","port":5432,"ratio":1.50,"ids":[1,12345678901234567890],"tls":{"ca":null,"verify":true}}`),
		step{op: "DescribeSecret", in: obj{"SecretId": "prod/db"}, want: obj{"Description": "main database", "Tags": arr{obj{"Key": "app", "Value": "shop"}, obj{"Key": "tier", "Value": "1"}}}},
		get("prod/licence", "LINE ONE\nLINE TWO\n"),
		get("prod/pin", "007"),
		step{op: "GetSecretValue", in: obj{"SecretId": "prod/keystore"}, want: obj{"SecretBinary": "AAECAw=="}, absent: []string{"SecretString"}},
		list().finds("prod/db", "prod/licence", "prod/pin", "prod/keystore"))
}

func TestLoadKeepsWhatJSONCanHold(t *testing.T) {
	for text, want := range map[string]string{
		`{b: 1, a: 2}`:                           `{"b":1,"a":2}`,
		`{n: 1.10, e: 1e400, z: -0.0, i: 0}`:     `{"n":1.10,"e":1e400,"z":-0.0,"i":0}`,
		`{t: True, f: FALSE, n: ~, y: yes}`:      `{"t":true,"f":false,"n":null,"y":"yes"}`,
		`{d: 2026-01-02, v: 1.2.3, s: '1'}`:      `{"d":"2026-01-02","v":"1.2.3","s":"1"}`,
		`{1: one, true: yes, "a b": c}`:          `{"1":"one","true":"yes","a b":"c"}`,
		`{a: &x [1, 2], b: *x}`:                  `{"a":[1,2],"b":[1,2]}`,
		`{u: "\u00e9\U0001f511\u2028\"\\\n"}`:    `{"u":"é🔑\u2028\"\\\n"}`,
		"\n      k: |\n        one\n        two": `{"k":"one\ntwo\n"}`,
		`{}`:                                     `{}`,
	} {
		s := local.New(local.Options{})
		load(t, s, secretsFile(t, "secrets:\n  - name: a\n    json: "+text+"\n"))
		if got, _ := current(t, inProcess(s), "a"); got != want {
			t.Errorf("%s became %s, want %s", text, got, want)
		}
	}
}

func TestLoadTellsAllFaultsAtOnce(t *testing.T) {
	path := secretsFile(t, `secrets:
  - name: a
    strng: `+canary+`
  - string: `+canary+`
  - name: 'b c'
    string: x
  - `+canary+`
  - name: d
    string: `+canary+`
    json: {a: `+canary+`}
  - name: e
    json: `+canary+`
  - name: f
    binary: `+canary+`!
  - name: g
    json: {a: 0x1F, b: .inf, a: 1, <<: {c: 2}}
  - name: g
    string:
  - name: h
    string: !secret `+canary+`
    tags: [`+canary+`]
  - name: i
    string: ''
    tags: {a: `+canary+`, a: x, 'aws:x': y}
    description: {`+canary+`: 1}
    `+canary+`: x
extra: 1
`)
	err := local.New(local.Options{}).Load(path)
	if err == nil {
		t.Fatal("no error")
	}
	want := strings.TrimSpace(strings.ReplaceAll(`
P:27: unknown key extra
P:3: unknown key strng
P:2: a secret needs exactly one of string, json and binary, and this one has 0
P:4: a secret needs a name
P:5: the name is not valid
P:7: a secret must be a mapping with a name and a value
P:8: a secret needs exactly one of string, json and binary, and this one has 2
P:12: json must be a mapping
P:14: binary is not base64
P:16: a number that JSON cannot hold
P:16: a number that JSON cannot hold
P:16: a key stands here twice
P:16: json does not know YAML's merge key <<
P:18: string has no value
P:17: secret g stands on line 15 already
P:20: string has a YAML tag that means nothing here
P:21: tags must be a mapping
P:26: unknown key
P:23: a secret's value must not be empty
P:25: description must be a single value
P:24: a tag's key stands here twice
P:24: Tag keys that start with aws: are reserved.
`, "P:", path+":"))
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(err.Error(), canary) {
		t.Error("the error holds a value")
	}
	var first *local.FileError
	if !errors.As(err, &first) || first.Hint() == "" || first.Place != path+":27" {
		t.Errorf("got %+v", first)
	}
	var hints []string
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		hints = append(hints, e.(*local.FileError).Hint())
		if strings.Contains(hints[len(hints)-1], canary) {
			t.Error("a hint holds a value")
		}
	}
	if hints[1] != "did you mean string?" {
		t.Errorf("got hint %q", hints[1])
	}
}

func TestLoadRefusesWholeFiles(t *testing.T) {
	bomb := "secrets:\n  - name: a\n    json:\n      a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 9; i++ {
		a, b := string(rune('0'+i)), string(rune('0'+i-1))
		bomb += "      a" + a + ": &a" + a + " [" + strings.TrimSuffix(strings.Repeat("*a"+b+", ", 10), ", ") + "]\n"
	}
	for name, c := range map[string]struct{ text, want string }{
		"empty":           {"", ": the file is empty"},
		"comments only":   {"# nothing\n", ": the file is empty"},
		"null":            {"~\n", ":1: the file must be a mapping"},
		"no secrets":      {"{}\n", ":1: secrets is missing"},
		"a list":          {"- a\n", ":1: the file must be a mapping"},
		"secrets mapping": {"secrets: {a: " + canary + "}\n", ":1: secrets must be a list"},
		"two documents":   {"secrets: []\n---\nsecrets: []\n", ":2: the file holds more than one YAML document"},
		"syntax":          {"secrets:\n  - name: [\n", ": read YAML: "},
		"tab":             {"secrets:\n\t- name: a\n", ": read YAML: found character that cannot start any token"},
		"unknown alias":   {"secrets:\n  - name: a\n    string: *" + canary + "\n", ": read YAML: an alias, anchor or tag that does not exist"},
		"later document":  {"secrets: []\n---\n*" + canary + "\n", ": read YAML: an alias, anchor or tag that does not exist"},
		"bytes":           {"secrets: \xff\n", ": read YAML: "},
		"itself":          {"secrets:\n  - name: a\n    json: &a {b: *a, c: *a}\n", ":3: json is nested more than 64 levels deep"},
		"bomb":            {bomb, ":4: a secret's value has at most 65536 bytes"},
		"too long":        {"secrets:\n  - name: a\n    string: " + tooLong + "\n", ":3: a secret's value has at most 65536 bytes"},
		"long":            {"secrets:\n  - name: a\n    string: x\n    description: " + longest + "\n", ":4: 1 validation error detected: Value at 'description'"},
		"too many tags":   {"secrets:\n  - name: a\n    string: x\n    tags: {" + strings.Join(manyPairs(51), ", ") + "}\n", ":4: A secret can have at most 50 tags."},
	} {
		t.Run(name, func(t *testing.T) {
			s := local.New(local.Options{})
			_ = s.Put("kept", "x")
			path := secretsFile(t, c.text)
			err := s.Load(path)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), path) || strings.Contains(err.Error(), canary) || strings.Count(err.Error(), "\n") > 0 {
				t.Errorf("got %v, want …%s…", err, c.want)
			}
			must(t, inProcess(s), list().finds("kept"))
		})
	}
}

func manyPairs(n int) []string {
	var pairs []string
	for _, l := range labels(n) {
		pairs = append(pairs, l+": v")
	}
	return pairs
}

func TestLoadNeedsAFile(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "find secrets file: no such file or directory",
		dir:                        "the secrets file is not a regular file",
	} {
		err := local.New(local.Options{}).Load(path)
		if err == nil || err.Error() != path+": "+want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	err := local.New(local.Options{}).Load(filepath.Join(dir, "none"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v is not ErrNotExist", err)
	}
}

const (
	one = "secrets:\n  - {name: a, string: one, description: d, tags: {t: '1', u: '1'}}\n  - {name: b, string: same}\n"
	two = "secrets:\n  - {name: b, string: same}\n  - {name: a, string: two, description: e, tags: {t: '2'}}\n"
)

func TestLoadAgainMakesVersionsOfEditedEntriesOnly(t *testing.T) {
	s := local.New(local.Options{})
	b := inProcess(s)
	path := secretsFile(t, one)
	load(t, s, path)
	arn := arnOf(t, b, "a")
	_, kept := current(t, b, "b")
	load(t, s, path)
	must(t, b, step{op: "ListSecretVersionIds", in: obj{"SecretId": "a", "IncludeDeprecated": true}, want: obj{"Versions": count(1)}})

	load(t, s, write(t, path, two))
	must(t, b, get("a", "two"),
		step{op: "GetSecretValue", in: obj{"SecretId": "a", "VersionStage": "AWSPREVIOUS"}, want: obj{"SecretString": "one"}},
		step{op: "DescribeSecret", in: obj{"SecretId": "a"}, want: obj{"Description": "e", "Tags": arr{obj{"Key": "t", "Value": "2"}}}})
	if got := arnOf(t, b, "a"); got != arn {
		t.Errorf("the ARN went from %s to %s", arn, got)
	}
	if _, got := current(t, b, "b"); got != kept {
		t.Error("an entry that was not edited got a new version")
	}
}

func TestLoadAgainKeepsWhatTheAPIChanged(t *testing.T) {
	s := local.New(local.Options{})
	b := inProcess(s)
	path := secretsFile(t, one)
	load(t, s, path)
	must(t, b,
		step{op: "PutSecretValue", in: obj{"SecretId": "a", "SecretString": "by API"}},
		step{op: "UpdateSecret", in: obj{"SecretId": "a", "Description": "by API"}},
		tagged("mine", "x").with("SecretId", "a"),
		remove("b"))
	load(t, s, write(t, path, one+"  - {name: c, string: new}\n"))
	must(t, b, get("a", "by API"), get("c", "new"),
		step{op: "DescribeSecret", in: obj{"SecretId": "a"}, want: obj{"Description": "by API", "Tags": count(3)}},
		refused(get("b", ""), request, ""))

	// Only now is the entry itself edited.
	load(t, s, write(t, path, two))
	must(t, b, get("a", "two"), get("c", "new"), refused(get("b", ""), request, ""),
		step{op: "DescribeSecret", in: obj{"SecretId": "a"}, want: obj{"Tags": arr{obj{"Key": "t", "Value": "2"}, obj{"Key": "mine", "Value": "x"}}}})

	// An edited entry brings a deleted secret back, one that is only there does not.
	load(t, s, write(t, path, "secrets: [{name: b, string: edited}]"))
	must(t, b, get("b", "edited"), get("a", "two"))
}

func TestLoadAgainAfterAnEditBackToTheAPIsValue(t *testing.T) {
	s := local.New(local.Options{})
	b := inProcess(s)
	path := secretsFile(t, "secrets: [{name: a, string: one}]")
	load(t, s, path)
	must(t, b, step{op: "PutSecretValue", in: obj{"SecretId": "a", "SecretString": "two"}})
	_, version := current(t, b, "a")
	load(t, s, write(t, path, "secrets: [{name: a, string: two}]"))
	if _, got := current(t, b, "a"); got != version {
		t.Error("a value that was current already became a version of its own")
	}
	load(t, s, write(t, path, "secrets: [{name: a, binary: dHdv}]"))
	must(t, b, step{op: "GetSecretValue", in: obj{"SecretId": "a"}, want: obj{"SecretBinary": "dHdv"}})
}

func TestLoadTakesOverSecretsOfTheAPI(t *testing.T) {
	s := local.New(local.Options{})
	b := inProcess(s)
	must(t, b, create("a", "by API"), create("gone", "x"))
	arn := arnOf(t, b, "a")
	load(t, s, secretsFile(t, "secrets: [{name: a, string: by file}]"))
	must(t, b, get("a", "by file"), get(arn, "by file"), get("gone", "x"))
}

// FuzzLoad: no file makes the loader panic, and a file that it accepts gives
// values that the service can answer.
func FuzzLoad(f *testing.F) {
	example, err := os.ReadFile("testdata/secrets.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(example))
	f.Add(one)
	f.Add("secrets: [{name: a, json: {b: [1, {c: ~}], d: &x 0x1, e: *x}}]")
	f.Add("secrets: [{name: a, json: &a {b: *a, <<: *a}}]")
	f.Add("%YAML 1.1\n---\n!!map {? secrets : !!seq []}")
	f.Add("secrets: &s [*s]")
	f.Add("secrets:\n- name: a\n  binary: !!binary |\n   AAE=\n  tags: {a: b}")
	path := filepath.Join(f.TempDir(), "secrets.yaml")
	f.Fuzz(func(t *testing.T, text string) {
		write(t, path, text)
		s := local.New(local.Options{})
		if err := s.Load(path); err != nil {
			if !strings.HasPrefix(err.Error(), path) {
				t.Errorf("an error without its place: %v", err)
			}
			return
		}
		b := inProcess(s)
		a, err := b.raw(t.Context(), "ListSecrets", "{}")
		if err != nil || a.status != 200 {
			t.Fatal(a, err)
		}
		for _, e := range a.out["SecretList"].(arr) {
			if a, err := b.call(t.Context(), "GetSecretValue", obj{"SecretId": e.(obj)["Name"]}); err != nil || a.status != 200 {
				t.Errorf("cannot be read: %v %v", a, err)
			}
		}
		if err := s.Load(path); err != nil {
			t.Errorf("the second load failed: %v", err)
		}
	})
}
