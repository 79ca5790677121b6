package templates_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/secret"
	"secretsd/templates"
)

// secrets is a lookup over texts by name.
type secrets map[string]string

var errNotRead = errors.New("not read yet")

// lookup knows the texts of s, each at version v-NAME. The name key-store is
// binary, and the name pending has never been read.
func (s secrets) lookup(name string) (*secret.Version, error) {
	text, ok := s[name]
	switch {
	case name == "pending":
		return nil, errNotRead
	case !ok:
		return nil, templates.ErrUnknown
	case name == "key-store":
		return &secret.Version{VersionID: "v-" + name, Binary: secret.NewValue(text)}, nil
	}
	return &secret.Version{VersionID: "v-" + name, Text: secret.NewValue(text)}, nil
}

// render parses and renders text over s.
func render(s secrets, o templates.Options) (string, error) {
	t, err := templates.Parse(o)
	if err != nil {
		return "", err
	}
	res, err := templates.NewPass(s.lookup).Render(t)
	return string(res.Content), err
}

// mustRender renders text over s.
func mustRender(t *testing.T, s secrets, text string) string {
	t.Helper()
	got, err := render(s, templates.Options{Name: "a.tmpl", Text: text})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return got
}

// hintOf returns the hint of the first error in the chain that has one.
func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

func TestEveryDocumentedExampleGivesItsResult(t *testing.T) {
	seen := make(map[string]bool)
	for _, f := range templates.Functions() {
		if seen[f.Name] {
			t.Errorf("%s is documented twice", f.Name)
		}
		seen[f.Name] = true
		if f.Group == "" || f.Doc == "" || f.Example == "" || !strings.HasPrefix(f.Signature, f.Name) {
			t.Errorf("%s is not documented: %+v", f.Name, f)
		}
		if !strings.Contains(f.Example, f.Name) {
			t.Errorf("the example of %s does not use it: %s", f.Name, f.Example)
		}
		o := templates.OptionsOfExamples()
		o.Name, o.Text = f.Name, f.Example
		got, err := render(templates.SecretsOfExamples(), o)
		if err != nil || got != f.Result {
			t.Errorf("%s: %s\n gives %q, %v\n want %q", f.Name, f.Example, got, err, f.Result)
		}
	}
}

func TestSecretIsTextAndObject(t *testing.T) {
	s := secrets{
		"db":    `{"user":"app", "password":"<p&w>", "port":5432, "tls":{"cert" :  "PEM","chain":["a", {"b":1}]}, "on":true, "api-key":"k", "none":null, "empty":{}}`,
		"odd":   "  {\"b\":1,\"a\" : \"\\u003c<\", \"b\":2}\r\n",
		"empty": "",
		"{}":    "{ }",
		"pin":   "12345", "yes": "true", "quoted": `"x"`, "array": `["a"]`, "broken": `{"a":`, "bom": "\ufeff{}", "latin1": "{\"a\":\"\xe9\"}",
	}
	for _, row := range []struct{ text, want string }{
		{`{{ secret "odd" }}`, s["odd"]},
		{`{{ (secret "odd").b }}{{ (secret "odd").a }}`, "2<<"},
		{`{{ secret "pin" }}{{ secret "yes" }}{{ secret "quoted" }}{{ secret "array" }}{{ secret "broken" }}{{ secret "bom" }}`, "12345true\"x\"[\"a\"]{\"a\":\ufeff{}"},
		{`{{ secret "latin1" }}`, s["latin1"]},
		{`{{ (secret "db").user }} {{ (secret "db").tls.cert }}`, "app PEM"},
		{`{{ with secret "db" }}{{ .user }}:{{ .password }}{{ with .tls }}{{ .cert }}{{ $.x }}{{ end }}{{ end }}`, "*"},
		{`{{ with secret "db" }}{{ .user }}:{{ .password }}{{ with .tls }}{{ .cert }}{{ end }}{{ end }}`, "app:<p&w>PEM"},
		{`{{ $s := secret "db" }}{{ $s.user }}{{ $s.tls.cert }}{{ $s = "x" }}{{ $s }}`, "appPEMx"},
		{`{{ range $k, $v := (secret "db").tls }}{{ $k }}={{ $v }};{{ end }}`, `cert=PEM;chain=["a", {"b":1}];`},
		{`{{ range $k, $v := secret "db" }}{{ $k }} {{ end }}`, "api-key empty none on password port tls user "},
		{`{{ (secret "db").tls }}`, `{"cert" :  "PEM","chain":["a", {"b":1}]}`},
		{`{{ index (secret "db") "api-key" }}{{ index (secret "db").tls.chain 1 "b" }}{{ len (secret "db") }}`, "k18"},
		{`{{ (secret "db").port }} {{ (secret "db").port | quote }} {{ (secret "db").on }} {{ add (secret "db").port 1 }}`, `5432 "5432" true 5433`},
		{`{{ secret "db" | b64enc | b64dec }}`, s["db"]},
		{`{{ printf "%s|%v" (secret "{}") (secret "pin") }}|{{ print (secret "{}") }}|{{ println (secret "{}") }}`, "{ }|12345|{ }|{ }\n"},
		{`{{ eq (secret "{}") "{ }" }}{{ eq (secret "pin") "12345" }}{{ eq (secret "db").port 5432 }}`, "truetruetrue"},
		{`{{ if secret "{}" }}full{{ else }}empty{{ end }}1{{ if secret "empty" }}full{{ else }}empty{{ end }}2{{ if (secret "db").none }}full{{ else }}empty{{ end }}`, "empty1empty2empty"},
		{`{{ if (secret "db").empty }}full{{ else with secret "db" }}{{ .user }}{{ end }}`, "*"},
		{`{{ with (secret "db").empty }}full{{ else with secret "db" }}{{ .user }}{{ end }}`, "app"},
		{`{{ (secret "db").none | default "fallback" }}`, "fallback"},
		{`{{ define "row" }}{{ .user }}@{{ (secret "db").port }}{{ end }}{{ template "row" secret "db" }}`, "app@5432"},
		{`{{ block "b" (secret "db") }}{{ .user }}{{ end }}`, "app"},
		{`{{ range $i, $h := (secret "db").tls.chain }}{{ if $i }}{{ break }}{{ end }}{{ $h }}{{ end }}`, "a"},
		{`{{ range (secret "db").tls.chain }}{{ if kindIs "map" . }}{{ .b }}{{ continue }}{{ end }}{{ end }}`, "1"},
		{`{{ json (secret "db").password }}{{ toUnescapedJSONPretty (list "<") }}`, "\"<p&w>\"[\n  \"<\"\n]"},
		{`{{ (secret "latin1").a }}`, "*"},
		{`{{- /* a comment */ -}} x {{- if and (secret "db").on (or "" 0) }}y{{ end }}`, "x"},
	} {
		got, err := render(s, templates.Options{Name: "a.tmpl", Text: row.text})
		if row.want == "*" {
			if err == nil {
				t.Errorf("%s: renders %q, want an error", row.text, got)
			}
			continue
		}
		if err != nil || got != row.want {
			t.Errorf("%s\n gives %q, %v\n want %q", row.text, got, err, row.want)
		}
	}
}

func TestNumbersKeepTheirDigits(t *testing.T) {
	s := secrets{"n": `{"a":1.10,"b":12345678901234567890,"c":1e3,"d":-0,"e":[0.30],"f":0.0}`}
	got := mustRender(t, s, `{{ with secret "n" }}{{ .a }} {{ .b }} {{ .c }} {{ .d }} {{ index .e 0 }} {{ .a | toString }} {{ json .b }} {{ printf "%s %d" .a .b }} {{ int .c }} {{ if .f }}x{{ end }}{{ pick . "a" "e" | json }}{{ end }}`)
	if want := `1.10 12345678901234567890 1e3 -0 0.30 1.10 12345678901234567890 1.10 12345678901234567890 1000 {"a":1.10,"e":[0.30]}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, err := render(s, templates.Options{Text: `{{ int (secret "n").b }}`}); err == nil {
		t.Errorf("a number beyond an int became %s", got)
	}
}

func TestMissingKeyPrintsNothingOnlyWhereAllowed(t *testing.T) {
	s := secrets{"db": `{"user":"app"}`}
	const text = `[{{ (secret "db").x }}{{ (secret "db").x.y }}{{ if (secret "db").x }}t{{ end }}{{ (secret "db").x | default "d" }}{{ index (secret "db") "x" }}{{ quote (secret "db").x }}{{ range (secret "db").x }}r{{ end }}]`
	for _, mode := range []string{"zero", "default"} {
		if got, err := render(s, templates.Options{Text: text, MissingKey: mode}); err != nil || got != `[d""]` {
			t.Errorf("%s: %q, %v", mode, got, err)
		}
	}
	for _, mode := range []string{"", "error"} {
		if got, err := render(s, templates.Options{Text: text, MissingKey: mode}); err == nil {
			t.Errorf("%q: renders %q", mode, got)
		}
	}
	if _, err := templates.Parse(templates.Options{Name: "a", MissingKey: "ignore"}); err == nil || hintOf(err) == "" {
		t.Errorf("an unknown mode: %v", err)
	}
}

func TestDelims(t *testing.T) {
	got, err := render(secrets{"pin": "1"}, templates.Options{Text: `{{ x }} [[ secret "pin" ]]`, Delims: [2]string{"[[", "]]"}})
	if err != nil || got != "{{ x }} 1" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestBinarySecrets(t *testing.T) {
	s := secrets{"key-store": "\x00\xff\n", "pin": "1"}
	if got := mustRender(t, s, `{{ secretBinary "key-store" }}|{{ secretBinary "key-store" | base64Encode }}`); got != "\x00\xff\n|AP8K" {
		t.Errorf("got %q", got)
	}
	_, err := render(s, templates.Options{Name: "a", Text: `{{ secret "key-store" }}`})
	if err == nil || !strings.Contains(hintOf(err), "secretBinary") {
		t.Errorf("secret of a binary one: %v, hint %q", err, hintOf(err))
	}
	if _, err = render(s, templates.Options{Name: "a", Text: `{{ secretBinary "pin" }}`}); err == nil {
		t.Error("secretBinary of a text renders")
	}
}

func TestSecretsAreFoundWithoutRendering(t *testing.T) {
	text := "{{ if false }}{{ secret \"b\" }}{{ end }}\n{{ define \"d\" }}{{ (secret `a`).x.y }}{{ end }}\n" +
		`{{ with $x := secretBinary "c" | b64enc }}{{ else }}{{ "d" | secret }}{{ end }}{{ print (version ("e")) (secret "a") }}`
	tmpl, err := templates.Parse(templates.Options{Name: "agent.yaml", Place: block(text, 10, 6), Text: text})
	if err != nil {
		t.Fatal(err)
	}
	at := func(line, col int) templates.Place { return templates.Place{File: "agent.yaml", Line: line, Col: col} }
	want := []templates.SecretUse{
		{Name: "a", Place: at(11, 27)},
		{Name: "a", Place: at(12, 112)},
		{Name: "b", Place: at(10, 24)},
		{Name: "c", Place: at(12, 21)},
		{Name: "d", Place: at(12, 68)},
		{Name: "e", Place: at(12, 96)},
	}
	want[3].Decides = true
	if diff := cmp.Diff(want, tmpl.Secrets()); diff != "" {
		t.Error(diff)
	}
	if tmpl.Dynamic() {
		t.Error("all names are literal")
	}
	for _, text := range []string{`{{ range list "a" }}{{ secret . }}{{ end }}`, `{{ secret (printf "x/%s" "y") }}`, `{{ print "a" | secret }}`} {
		tmpl, err := templates.Parse(templates.Options{Text: text})
		if err != nil || !tmpl.Dynamic() {
			t.Errorf("%s: the name is computed: %v", text, err)
		}
	}
}

func TestSecretNamedThroughAVariable(t *testing.T) {
	for _, row := range []struct {
		text string
		want []string // nil: the name is known only when it is rendered
	}{
		{`{{ $n := "a" }}{{ secret $n }}`, []string{"1:19"}},
		{`{{ $n := ("a") }}{{ ($n) | secretBinary }}{{ version $n }}`, []string{"1:28", "1:46"}},
		{`{{ $n := "a" }}{{ if has $n }}{{ end }}`, []string{"1:22"}},
		{`{{ with $n := "a" }}{{ secret $n }}{{ end }}`, []string{"1:24"}},
		{`{{ $n := "a" }}{{ if true }}{{ $n = "a" }}{{ end }}{{ secret $n }}`, []string{"1:55"}},
		{`{{ $m := "a" }}{{ secret $m }}{{ define "d" }}{{ $n := "a" }}{{ secret $n }}{{ end }}`, []string{"1:19", "1:65"}},
		{`{{ $n := "b" }}{{ define "d" }}{{ $n := "a" }}{{ secret $n }}{{ end }}`, []string{"1:50"}},
		{`{{ $n := "" }}{{ if true }}{{ $n = "a" }}{{ end }}{{ secret $n }}`, nil},
		{`{{ $n := "a" }}{{ $n = print "b" }}{{ secret $n }}`, nil},
		{`{{ $n := "a" }}{{ range $n := list "b" }}{{ secret $n }}{{ end }}`, nil},
		{`{{ range $n := "a" }}{{ secret $n }}{{ end }}`, nil},
		{`{{ $n := "a" }}{{ range $i, $n = list "b" }}{{ end }}{{ secret $n }}`, nil},
		{`{{ define "d" }}{{ secret $ }}{{ end }}{{ template "d" "a" }}`, nil},
		{`{{ $n := "a" }}{{ secret $n.b }}`, nil},
		{`{{ $n := "a" | upper }}{{ secret $n }}`, nil},
	} {
		tmpl, err := templates.Parse(templates.Options{Name: "m", Text: row.text})
		if err != nil {
			t.Errorf("%s: %v", row.text, err)
			continue
		}
		var got []string
		for _, use := range tmpl.Secrets() {
			got = append(got, strings.TrimPrefix(use.String(), "m:"))
			if use.Name != "a" {
				t.Errorf("%s names %q", row.text, use.Name)
			}
		}
		if diff := cmp.Diff(row.want, got); diff != "" || tmpl.Dynamic() != (row.want == nil) {
			t.Errorf("%s: dynamic %v\n%s", row.text, tmpl.Dynamic(), diff)
		}
	}
}

func TestUsedNamesWhatWasLookedUp(t *testing.T) {
	s := secrets{"a": "1", "b": `{"x":1}`, "c": "3", "word": "hunter2"}
	for _, row := range []struct {
		text string
		used []string
		ok   bool
	}{
		{`{{ secret "c" }}{{ if false }}{{ secret "a" }}{{ end }}{{ (secret "b").x }}{{ secret "c" }}`, []string{"b", "c"}, true},
		{`{{ secret "a" }}{{ (secret "b").y }}{{ secret "c" }}`, []string{"a", "b"}, false},
		{`{{ version "a" }}`, []string{"a"}, true},
		{`{{ secret "a" }}{{ secret "pending" }}`, []string{"a", "pending"}, false},
		{`{{ secret (secret "word") }}`, []string{"word"}, false}, // hunter2 is a value, not a name
		{`static`, nil, true},
	} {
		tmpl, err := templates.Parse(templates.Options{Text: row.text})
		if err != nil {
			t.Fatal(err)
		}
		res, err := templates.NewPass(s.lookup).Render(tmpl)
		if diff := cmp.Diff(row.used, res.Used); diff != "" || (err == nil) != row.ok {
			t.Errorf("%s: %v %s", row.text, err, diff)
		}
		if err != nil && res.Content != nil {
			t.Errorf("%s: content after an error", row.text)
		}
	}
}

func TestLookupErrorsAreReachable(t *testing.T) {
	denied := &secret.Error{Kind: secret.Denied, ID: "prod/db", Code: "AccessDeniedException", Message: "no"}
	for _, text := range []string{`{{ secret "db" }}`, `{{ with secret "db" }}{{ end }}`, `{{ print (printf "%s" (secretBinary "db")) }}`, `{{ define "d" }}{{ range secret . }}{{ end }}{{ end }}{{ template "d" "db" }}`} {
		tmpl, err := templates.Parse(templates.Options{Name: "a.tmpl", Text: text})
		if err != nil {
			t.Fatal(err)
		}
		_, err = templates.NewPass(func(string) (*secret.Version, error) { return nil, denied }).Render(tmpl)
		var got *secret.Error
		var at *templates.Error
		if !errors.As(err, &got) || got != denied || !errors.As(err, &at) || at.Secret != "db" || at.Line != 1 {
			t.Errorf("%s: %v", text, err)
		}
		if !strings.Contains(err.Error(), `secret "db": read secret prod/db: AccessDeniedException`) {
			t.Errorf("%s: %v", text, err)
		}
	}
	_, err := render(secrets{}, templates.Options{Text: `{{ secret "pending" }}`})
	if !errors.Is(err, errNotRead) {
		t.Errorf("got %v", err)
	}
}

func optionsOf(text string) templates.Options { return templates.Options{Name: "a.tmpl", Text: text} }
