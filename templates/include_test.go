package templates_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/secret"
	"secretsd/templates"
)

// directory returns a Library of files by name.
func directory(files map[string]string) *templates.Library {
	return templates.NewLibrary("/t", func(name string) ([]byte, error) {
		text, ok := files[name]
		if !ok {
			return nil, fmt.Errorf("open file: %w", fs.ErrNotExist)
		}
		return []byte(text), nil
	})
}

func TestInclude(t *testing.T) {
	s := secrets{"db": `{"user":"app","hosts":["a","b"]}`}
	files := map[string]string{
		"user.tmpl":     `user={{ (secret "db").user }}`,
		"value.tmpl":    `[{{ . }}{{ $ }}]`,
		"sub/host.tmpl": "{{ range . }}{{ . }};{{ end }}",
		"lib.tmpl":      `{{ define "row" }}<{{ . }}>{{ end }}{{ block "title" . }}default{{ end }}`,
		"nested.tmpl":   "a{{ include \"sub/host.tmpl\" (secret \"db\").hosts }}b",
		"two.tmpl":      `{{ include "lib.tmpl" }}{{ template "row" 2 }}`,
		"set.tmpl":      `{{ $x := 2 }}{{ $x }}`,
		"empty.tmpl":    "",
	}
	for _, row := range []struct{ text, want string }{
		{`{{ include "user.tmpl" }}`, "user=app"},
		{`{{ include "value.tmpl" 1 }}{{ include "value.tmpl" (secret "db").user }}`, "[11][appapp]"},
		{`{{ with secret "db" }}{{ include "sub/host.tmpl" .hosts | upper | printf "%q" }}{{ end }}`, `"A;B;"`},
		{`{{ include "nested.tmpl" }}`, "aa;b;b"},
		{`{{ include "./sub/../user.tmpl" }}`, "user=app"},
		{`{{ include "lib.tmpl" }}{{ template "row" 1 }}`, "default<1>"},
		{`{{ define "title" }}mine{{ end }}{{ include "lib.tmpl" }}{{ template "title" }}`, "minemine"},
		{`{{ include "two.tmpl" }}{{ include "lib.tmpl" }}`, "default<2>default"},
		{`{{ $x := 1 }}{{ include "set.tmpl" }}{{ $x }}`, "21"},
		{`{{ include "empty.tmpl" }}`, ""},
		{`{{ define "x" }}{{ .user }}{{ end }}{{ executeTemplate "x" (secret "db") | quote }}{{ $n := "x" }}{{ executeTemplate $n (secret "db") }}`, `"app"app`},
	} {
		got, err := render(s, templates.Options{Text: row.text, Library: directory(files)})
		if err != nil || got != row.want {
			t.Errorf("%s\n gives %q, %v\n want %q", row.text, got, err, row.want)
		}
	}
	got, err := render(s, templates.Options{Text: `<% include "a" %>`, Delims: [2]string{"<%", "%>"}, Library: directory(map[string]string{"a": "{{ <% 1 %> }}"})})
	if err != nil || got != "{{ 1 }}" {
		t.Errorf("included files have the same delimiters: %q, %v", got, err)
	}
}

func TestIncludeErrorsNameTheFileTheyAreIn(t *testing.T) {
	files := map[string]string{
		"bad.tmpl":     "x\n{{ if }}",
		"unknown.tmpl": "x\n {{ frobnicate }}",
		"missing.tmpl": "\n{{ (secret \"db\").pasword }}",
		"deep.tmpl":    `{{ include "missing.tmpl" }}`,
		"a.tmpl":       `{{ include "b.tmpl" }}`,
		"b.tmpl":       "\n{{ include \"sub/c.tmpl\" }}",
		"sub/c.tmpl":   `{{ include "./b.tmpl" }}`,
		"self.tmpl":    `{{ include "self.tmpl" }}`,
		"x.tmpl":       `{{ define "row" }}x{{ end }}`,
		"y.tmpl":       `{{ define "row" }}y{{ end }}`,
		"dot.tmpl":     `{{ .user }}`,
	}
	for _, row := range []struct{ text, want, hint string }{
		{`{{ include "none.tmpl" }}`, `m.tmpl:1:4: include "none.tmpl": open file: file does not exist`, ""},
		{`{{ define "row" }}{{ end }}{{ include "row" }}`, `m.tmpl:1:31: include "row": open file: file does not exist`, `what a defined template renders to is: executeTemplate "row" VALUE`},
		{`{{ include "bad.tmpl" }}`, "/t/bad.tmpl:2:7: missing value for if", ""},
		{`{{ include "unknown.tmpl" }}`, `/t/unknown.tmpl:2:5: function "frobnicate" is not defined`, ""},
		{`{{ include "missing.tmpl" }}`, `/t/missing.tmpl:2:17: secret "db" has no key "pasword"; its keys are: password`, ""},
		{`{{ include "deep.tmpl" }}`, `/t/missing.tmpl:2:17: secret "db" has no key "pasword"; its keys are: password`, ""},
		{`{{ include "dot.tmpl" (secret "db") }}`, `/t/dot.tmpl:1:4: secret "db" has no key "user"; its keys are: password`, ""},
		{`{{ include "a.tmpl" }}`, "/t/sub/c.tmpl:1:4: include goes in a circle: b.tmpl includes sub/c.tmpl includes b.tmpl", ""},
		{`{{ include "self.tmpl" }}`, "/t/self.tmpl:1:4: include goes in a circle: self.tmpl includes self.tmpl", ""},
		{`{{ include "../etc/shadow" }}`, `m.tmpl:1:4: include "../etc/shadow" does not name a file in the template directory`, "files are named relative to template_dir, and lie in it"},
		{`{{ include "sub/../../x" }}`, `m.tmpl:1:4: include "sub/../../x" does not name a file in the template directory`, "files are named relative to template_dir, and lie in it"},
		{`{{ include "/etc/shadow" }}`, `m.tmpl:1:4: include "/etc/shadow" does not name a file in the template directory`, "files are named relative to template_dir, and lie in it"},
		{`{{ include "" }}`, `m.tmpl:1:4: include "" does not name a file in the template directory`, "files are named relative to template_dir, and lie in it"},
		{`{{ include (secret "db").password }}`, "m.tmpl:1:4: the name of an included file is computed", `it stands in the template: include "NAME"`},
		{`{{ "x.tmpl" | include }}`, "m.tmpl:1:15: the name of an included file is computed", `it stands in the template: include "NAME"`},
		{`{{ include "x.tmpl" }}{{ include "y.tmpl" }}`, `m.tmpl: template "row" is defined in /t/x.tmpl and in /t/y.tmpl`, "define it in m.tmpl, whose own templates go before those it includes, or give one another name"},
		{`{{ executeTemplate "none" }}`, `m.tmpl:1:4: template "none" is not defined`, `a template is defined in the same text or one it includes: {{ define "NAME" }}…{{ end }}`},
		{`{{ executeTemplate (secret "db").password }}`, "m.tmpl:1:4: executeTemplate: a template whose name is computed is not defined; the argument is key password of secret \"db\"", ""},
	} {
		_, err := render(secrets{"db": `{"password":"` + canary + `"}`}, templates.Options{Name: "m.tmpl", Text: row.text, Library: directory(files)})
		if err == nil || err.Error() != row.want || hintOf(err) != row.hint {
			t.Errorf("%s\n gives %v\n       %s\n want  %s\n       %s", row.text, err, hintOf(err), row.want, row.hint)
		}
	}
	if _, err := templates.Parse(templates.Options{Name: "m", Text: `{{ include "x" }}`}); err == nil || err.Error() != "m:1:4: there is no directory to include from" {
		t.Errorf("without a library: %v", err)
	}
}

func TestIncludedFilesAreKnown(t *testing.T) {
	var reads atomic.Int32
	files := map[string]string{"a": `{{ include "b" }}{{ secret "one" }}`, "b": "{{ if false }}\n{{ secret \"two\" }}{{ end }}", "c": ""}
	library := templates.NewLibrary("/t", func(name string) ([]byte, error) {
		reads.Add(1)
		return []byte(files[name]), nil
	})
	for range 3 {
		tmpl, err := templates.Parse(templates.Options{Name: "m", Text: `{{ include "a" }}{{ include "b" }}`, Library: library})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"a", "b"}, tmpl.Files()); diff != "" {
			t.Error(diff)
		}
		want := []templates.SecretUse{{Name: "one", Place: templates.Place{File: "/t/a", Line: 1, Col: 21}}, {Name: "two", Place: templates.Place{File: "/t/b", Line: 2, Col: 4}}}
		if diff := cmp.Diff(want, tmpl.Secrets()); diff != "" {
			t.Error(diff)
		}
	}
	if reads.Load() != 2 {
		t.Errorf("the files were read %d times", reads.Load())
	}
}

func TestIncludesAreBounded(t *testing.T) {
	files := map[string]string{"big": strings.Repeat("x", 900<<10), "loop": `{{ template "again" }}{{ define "again" }}{{ executeTemplate "again" }}{{ end }}`}
	for i := range 200 {
		files[fmt.Sprint(i)] = fmt.Sprintf(`{{ include "%d" }}{{ include "%d" }}`, i+1, i+2)
	}
	files["200"], files["201"] = "x", "x"
	for _, row := range []struct{ text, want string }{
		{`{{ range 2 }}{{ include "big" }}{{ end }}`, ""},
		{`{{ include "0" }}`, "/t/99:1:4: the template includes more than 100 files"},
		{`{{ include "150" }}`, "the template does more work than is allowed"}, // 2^50 times "x"
		{`{{ include "loop" }}`, "/t/loop:1:46: executeTemplate: templates call one another too deeply"},
		{`{{ define "b" }}{{ include "big" }}{{ include "big" }}{{ end }}{{ executeTemplate "b" }}`, "m:1:39: the output is larger than 1 MiB"},
	} {
		_, err := render(secrets{}, templates.Options{Name: "m", Text: row.text, Library: directory(files)})
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s\n gives %.300s\n want %s", row.text, fmt.Sprint(err), row.want)
		}
	}
}

func TestVariables(t *testing.T) {
	vars := map[string]string{"db_host": "h", "empty": ""}
	env := map[string]string{"ZONE": "z", "EMPTY": ""}
	o := templates.Options{
		Name: "m", Vars: vars, AllowEnv: []string{"ZONE", "EMPTY", "UNSET"},
		LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	}
	for _, row := range []struct{ text, want, hint string }{
		{`{{ var "db_host" }}:{{ var "empty" }}:{{ $n := "db_host" }}{{ var $n }}`, "h::h", ""},
		{`{{ var "db_hots" }}`, `m:1:4: variable "db_hots" is not in the configuration`, "variables set under vars: db_host, empty"},
		{`{{ var (print "db" "x") }}`, "m:1:4: var: a variable whose name is computed is not in the configuration", "variables set under vars: db_host, empty"},
		{`{{ env "ZONE" }}:{{ env "EMPTY" }}:{{ env "UNSET" }}:{{ sprig_env "ZONE" }}`, "z:::z", ""},
		{`{{ envOrDefault "ZONE" "d" }}:{{ envOrDefault "EMPTY" "d" }}:{{ envOrDefault "UNSET" "d" }}`, "z::d", ""},
		{`{{ mustEnv "ZONE" }}{{ range list "ZONE" }}{{ env . }}{{ end }}`, "zz", ""},
		{`{{ mustEnv "UNSET" }}`, `m:1:4: mustEnv: environment variable "UNSET" is empty`, ""},
		{`{{ mustEnv "EMPTY" }}`, `m:1:4: mustEnv: environment variable "EMPTY" is empty`, ""},
		{`{{ env "PATH" }}`, `m:1:4: environment variable "PATH" is not allowed`, "name it under allow_env: of this file, or set a variable under vars:"},
		{`{{ envOrDefault "HOME" "x" }}`, `m:1:4: environment variable "HOME" is not allowed`, "name it under allow_env: of this file, or set a variable under vars:"},
		{`{{ env (print "PA" "TH") }}`, "m:1:4: env: an environment variable whose name is computed is not allowed", "name it under allow_env: of this file, or set a variable under vars:"},
	} {
		o.Text = row.text
		got, err := render(secrets{}, o)
		if err != nil {
			got = err.Error()
		}
		if got != row.want || hintOf(err) != row.hint {
			t.Errorf("%s\n gives %s\n       %s\n want  %s\n       %s", row.text, got, hintOf(err), row.want, row.hint)
		}
	}
	if _, err := render(secrets{}, templates.Options{Text: `{{ var "x" }}`}); err == nil || hintOf(err) != "variables are set under vars:" {
		t.Errorf("without variables: %v, %s", err, hintOf(err))
	}
	t.Setenv("SECRETSD_TEST_ENV", "real")
	if got, err := render(secrets{}, templates.Options{Text: `{{ env "SECRETSD_TEST_ENV" }}`, AllowEnv: []string{"SECRETSD_TEST_ENV"}}); got != "real" {
		t.Errorf("the process's environment: %q, %v", got, err)
	}
}

// The environment is read once, so that a template renders the same bytes for
// as long as it lives.
func TestTheEnvironmentIsThatOfParse(t *testing.T) {
	t.Setenv("SECRETSD_TEST_ENV", "old")
	tmpl, err := templates.Parse(templates.Options{Text: `{{ env "SECRETSD_TEST_ENV" }}`, AllowEnv: []string{"SECRETSD_TEST_ENV"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SECRETSD_TEST_ENV", "new")
	res, err := templates.NewPass(secrets{}.lookup).Render(tmpl)
	if err != nil || string(res.Content) != "old" {
		t.Errorf("got %q, %v", res.Content, err)
	}
}

func TestDigestChangesWithWhatARenderingDependsOn(t *testing.T) {
	digest := func(change func(*templates.Options)) [32]byte {
		o := templates.Options{
			Name: "m", Text: `{{ include "a" }}{{ var "v" }}{{ env "E" }}`, Library: directory(map[string]string{"a": "1"}),
			Vars: map[string]string{"v": "1", "unused": "1"}, AllowEnv: []string{"E", "UNUSED"},
			LookupEnv: func(string) (string, bool) { return "1", true },
		}
		change(&o)
		tmpl, err := templates.Parse(o)
		if err != nil {
			t.Fatal(err)
		}
		return tmpl.Digest()
	}
	base := digest(func(*templates.Options) {})
	for name, change := range map[string]func(*templates.Options){
		"name":         func(o *templates.Options) { o.Name, o.Place, o.Key = "other", block(o.Text, 7, 6), "contents" },
		"unused var":   func(o *templates.Options) { o.Vars = map[string]string{"v": "1", "unused": "2"} },
		"unused env":   func(o *templates.Options) { o.AllowEnv = []string{"E"} },
		"same include": func(o *templates.Options) { o.Library = directory(map[string]string{"a": "1", "b": "2"}) },
	} {
		if digest(change) != base {
			t.Errorf("%s: the digest changed", name)
		}
	}
	seen := map[[32]byte]string{base: "base"}
	for name, change := range map[string]func(*templates.Options){
		"text":        func(o *templates.Options) { o.Text += " " },
		"include":     func(o *templates.Options) { o.Library = directory(map[string]string{"a": "2"}) },
		"var":         func(o *templates.Options) { o.Vars = map[string]string{"v": "2"} },
		"env":         func(o *templates.Options) { o.LookupEnv = func(string) (string, bool) { return "2", true } },
		"unset":       func(o *templates.Options) { o.LookupEnv = func(string) (string, bool) { return "", false } },
		"empty":       func(o *templates.Options) { o.LookupEnv = func(string) (string, bool) { return "", true } },
		"missing_key": func(o *templates.Options) { o.MissingKey = "zero" },
		"limit":       func(o *templates.Options) { o.MaxOutput = 10 },
		"computed":    func(o *templates.Options) { o.Text += `{{ $v := "unused" }}{{ var $v }}` },
		"computed 2": func(o *templates.Options) {
			o.Text += `{{ $v := "unused" }}{{ var $v }}`
			o.Vars = map[string]string{"v": "1", "unused": "2"}
		},
	} {
		d := digest(change)
		if seen[d] != "" {
			t.Errorf("%s has the digest of %s", name, seen[d])
		}
		seen[d] = name
	}
}

// optional is a lookup in which absent is a secret that AWS says does not
// exist, denied one that may not be read, and unrotated AWSPREVIOUS of one that was
// never rotated.
func optional(name string) (*secret.Version, error) {
	switch name {
	case "absent":
		return nil, fmt.Errorf("not read yet: %w", &secret.Error{Kind: secret.NotFound, ID: "x", Code: "ResourceNotFoundException"})
	case "unrotated":
		return &secret.Version{Text: secret.NewValue("")}, nil
	case "denied":
		return nil, &secret.Error{Kind: secret.Denied, ID: "x", Code: "AccessDeniedException"}
	}
	return secrets{"db": `{"user":"app","tls":{"ca":"x"},"null":null,"list":["a"]}`, "text": "x"}.lookup(name)
}

func TestHasAsksForASecretOrAKey(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{`{{ has "db" }}`, "true"},
		{`{{ "db" | has }}`, "true"},
		{`{{ has "text" }}`, "true"},
		{`{{ has "absent" }}`, "false"},
		{`{{ has "absent" "user" }}`, "false"},
		{`{{ has "db" "user" }}{{ has "db" "pasword" }}{{ has "db" "null" }}`, "truefalsefalse"},
		{`{{ has "db" "tls" "ca" }}{{ has "db" "tls" "key" }}{{ has "db" "no" "ca" }}{{ has "db" "null" "ca" }}`, "truefalsefalsefalse"},
		{`{{ range list "db" "absent" }}{{ has . }}{{ end }}`, "truefalse"},
		{`{{ if has "absent" }}{{ (secret "absent").user }}{{ else }}none{{ end }}`, "none"},
		{`{{ has "a" (list "a" "b") }}{{ has "c" (list "a" "b") }}{{ list "a" | has "a" }}{{ has 1 (list 1) }}`, "truefalsetruetrue"},
		{`{{ has "a" (secret "db").list }}{{ mustHas "a" (list "a") }}{{ sprig_has "a" (list) }}`, "truetruefalse"},
		{`{{ has "unrotated" }}{{ has "unrotated" "user" }}{{ "unrotated" | has }}`, "falsefalsefalse"},
		{`{{ if has "unrotated" }}{{ (secret "unrotated").user }}{{ else }}none{{ end }}`, "none"},
		{`{{ with secret "unrotated" }}{{ .user }}{{ else }}none{{ end }}[{{ secret "unrotated" }}{{ version "unrotated" }}]`, "none[]"},
		{`{{ (secret "unrotated").user }}`, `m:1:24: no version of secret "unrotated" carries AWSPREVIOUS yet, so it has no .user`},
		{`{{ has "denied" }}`, `m:1:4: secret "denied": read secret x: AccessDeniedException`},
		{`{{ has "pending" }}`, `m:1:4: secret "pending": not read yet`},
		{`{{ has "nope" }}`, `m:1:4: secret "nope": not in the configuration`},
		{`{{ has "text" "key" }}`, `m:1:4: secret "text" is not a JSON object, so it has no .key`},
		{`{{ has "db" "user" "x" }}`, `m:1:4: has: .x is asked of a text; only an object has keys`},
		{`{{ $k := "user" }}{{ has "db" $k }}`, `m:1:22: has: a computed argument of has is not a list`},
	} {
		tmpl, err := templates.Parse(templates.Options{Name: "m", Text: row.text})
		if err != nil {
			t.Fatal(err)
		}
		res, err := templates.NewPass(optional).Render(tmpl)
		got := string(res.Content)
		if err != nil {
			got = err.Error()
		}
		if got != row.want {
			t.Errorf("%s\n gives %s\n want  %s", row.text, got, row.want)
		}
	}
}

func TestHasSaysWhichSecretsATemplateCanDoWithout(t *testing.T) {
	tmpl, err := templates.Parse(templates.Options{Name: "m", Text: `{{ if has "a" }}{{ secret "a" }}{{ end }}{{ has "b" "k" }}{{ has "c" (list) }}{{ has "d" $ }}{{ secret "e" | has "f" }}`})
	if err != nil {
		t.Fatal(err)
	}
	at := func(col int) templates.Place { return templates.Place{File: "m", Line: 1, Col: col} }
	want := []templates.SecretUse{{Name: "a", Place: at(7), Test: true}, {Name: "a", Place: at(20)}, {Name: "b", Place: at(45), Test: true}, {Name: "e", Place: at(97)}}
	if diff := cmp.Diff(want, tmpl.Secrets()); diff != "" || tmpl.Dynamic() {
		t.Errorf("%s dynamic %v", diff, tmpl.Dynamic())
	}
	tmpl, err = templates.Parse(templates.Options{Text: `{{ if has "absent" "k" }}{{ end }}`})
	if err != nil {
		t.Fatal(err)
	}
	// It runs again when the secret appears.
	if res, err := templates.NewPass(optional).Render(tmpl); err != nil || !cmp.Equal(res.Used, []string{"absent"}) {
		t.Errorf("used %v, %v", res.Used, err)
	}
}

func TestFailShowsOnlyWhatHoldsNoValue(t *testing.T) {
	o := templates.Options{Name: "m", Vars: map[string]string{"app": "web"}, AllowEnv: []string{"E"}, LookupEnv: func(string) (string, bool) { return canary, true }}
	const hidden = "the template says so, with a computed message that is not shown because it may hold a value"
	for _, row := range []struct{ text, want string }{
		{`{{ fail "no port" }}`, "no port"},
		{`{{ "no port" | fail }}`, "no port"},
		{`{{ printf "%s: %d" "no port" 1 | fail }}`, "no port: 1"},
		{`{{ fail (printf "%s of %s is short" (version "db") (var "app")) }}`, "v-db of web is short"},
		{"{{ fail \"two\\nlines\" }}", "two lines"},
		{`{{ fail (secret "db").password }}`, hidden},
		{`{{ printf "%s" (secret "db") | fail }}`, hidden},
		{`{{ with secret "db" }}{{ fail . }}{{ end }}`, hidden},
		{`{{ $x := "a" }}{{ fail $x }}`, hidden},
		{`{{ fail (env "E") }}`, hidden},
		// That a value equals a word of the template is not told either.
		{`{{ if eq 1 2 }}{{ print "hunter2-CANARY" }}{{ end }}{{ fail (secret "db").password }}`, hidden},
		{`{{ define "x" }}{{ fail "in x" }}{{ end }}{{ template "x" secret "db" }}`, "in x"},
		{`{{ fail (executeTemplate "x") }}{{ define "x" }}{{ secret "db" }}{{ end }}`, hidden},
		{`{{ fail (has "db" | print) }}`, hidden},
	} {
		o.Text = row.text
		_, err := render(secrets{"db": `{"password":"` + canary + `"}`}, o)
		var e *templates.Error
		if !errors.As(err, &e) || e.Msg != "fail: "+row.want || !e.Refused {
			t.Errorf("%s\n gives %v\n want  %s", row.text, err, row.want)
		}
	}
	_, err := render(secrets{}, templates.Options{Text: `{{ div 1 0 }}`})
	if e := new(templates.Error); !errors.As(err, &e) || e.Refused {
		t.Errorf("an error that is not the template's wish: %v", err)
	}
}

func TestLimitsAreOptions(t *testing.T) {
	if got, err := render(secrets{}, templates.Options{Text: "12345", MaxOutput: 5}); err != nil || got != "12345" {
		t.Errorf("at the limit: %q, %v", got, err)
	}
	for text, want := range map[string]string{"123456": "the output is larger than 5 bytes", `1234{{ "56" }}`: "the output is larger than 5 bytes", `{{ define "x" }}123456{{ end }}{{ executeTemplate "x" }}`: "the output is larger than 5 bytes"} {
		if got, err := render(secrets{}, templates.Options{Text: text, MaxOutput: 5}); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	const loop = `{{ range 1000 }}{{ end }}`
	if _, err := render(secrets{}, templates.Options{Text: loop}); err != nil {
		t.Error(err)
	}
	if _, err := render(secrets{}, templates.Options{Text: loop, MaxSteps: 500}); err == nil || !strings.HasSuffix(err.Error(), "the template does more work than is allowed") {
		t.Errorf("more steps than allowed: %v", err)
	}
}
