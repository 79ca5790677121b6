package templates_test

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"secretsd/templates"
)

func TestErrorsSayWhereAndWhat(t *testing.T) {
	s := secrets{"db": `{"user":"app","password":"p","tls":{"ca":"x","odd key":null},"none":null,"list":[{"a":1}]}`, "pin": "12345", "array": `["a"]`, "key-store": "\x00"}
	for _, row := range []struct{ text, want, hint string }{
		{"\n  {{ (secret \"db\").pasword }}", `a.tmpl:2:19: secret "db" has no key "pasword"; its keys are: list, none, password, tls, user`, ""},
		{`{{ with secret "db" }}{{ .tls.crt }}{{ end }}`, `a.tmpl:1:30: key tls of secret "db" has no key "crt"; its keys are: ca, "odd key"`, ""},
		{`{{ $d := secret "db" }}{{ (index $d.list 0).b }}`, `a.tmpl:1:44: key list.0 of secret "db" has no key "b"; its keys are: a`, ""},
		{`{{ field "api-key" (secret "db") }}`, `a.tmpl:1:4: secret "db" has no key "api-key"; its keys are: list, none, password, tls, user`, ""},
		{`{{ index (secret "db") "x" }}`, `a.tmpl:1:4: secret "db" has no key "x"; its keys are: list, none, password, tls, user`, ""},
		{`{{ (secret "db").Data.data.user }}`, `a.tmpl:1:17: secret "db" has no key "Data"; its keys are: list, none, password, tls, user`, `write .key where a Vault template has .Data.key or .Data.data.key`},
		{`{{ (secret "pin").user }}`, `a.tmpl:1:18: secret "pin" is not a JSON object, so it has no .user`, ""},
		{`{{ field (print "us" "er") (secret "pin") }}`, `a.tmpl:1:4: secret "pin" is not a JSON object, so it has no keys`, ""},
		{`{{ (secret "db").none }}`, `a.tmpl:1:4: key none of secret "db" is JSON null`, `test it with if, or give it a default: … | default "x"`},
		{`{{ upper (secret "db").none }}`, `a.tmpl:1:4: key none of secret "db" is JSON null`, `test it with if, or give it a default: … | default "x"`},
		{`{{ (secret "db").none.x }}`, `a.tmpl:1:17: key none of secret "db" is JSON null`, "test it with if or with before asking for .x"},
		{`{{ (secret "db").user.x }}`, `a.tmpl:1:17: .x is asked of a text; only an object has keys; it is key user of secret "db"`, ""},
		{`{{ secret "nope" }}`, `a.tmpl:1:4: secret "nope": not in the configuration`, "add it under secrets:, or correct its name in the template"},
		{`{{ secret (print "no" "pe") }}`, `a.tmpl:1:4: a secret whose name is computed cannot be read`, "add it under secrets:, or correct its name in the template"},
		{`{{ secret "pending" }}`, `a.tmpl:1:4: secret "pending": not read yet`, ""},
		{`{{ secret "key-store" }}`, `a.tmpl:1:4: secret "key-store" is binary`, `its bytes are those of: secretBinary "key-store"`},
		{`{{ range secret "array" }}{{ end }}`, `a.tmpl:1:10: range needs a list, an object or a number, not a text; it is secret "array"`, `a JSON array alone is text; its elements are those of: fromJson (secret "NAME")`},
		{`{{ range (secret "db").user }}{{ end }}`, `a.tmpl:1:10: range needs a list, an object or a number, not a text; it is key user of secret "db"`, ""},
		{`{{ "abc" | atoi }}`, `a.tmpl:1:12: atoi: the text is not a whole number`, ""},
		{`{{ fromJson "{" }}`, `a.tmpl:1:4: fromJson: the text is not valid JSON`, ""},
		{`{{ regexMatch "[" "a" }}`, `a.tmpl:1:4: regexMatch: the regular expression is not valid`, "the syntax is RE2: https://golang.org/s/re2syntax"},
		{`{{ fail "no port" }}`, `a.tmpl:1:4: fail: no port`, ""},
		{`{{ fail (print "no " (secret "pin")) }}`, `a.tmpl:1:4: fail: the template says so, with a computed message that is not shown because it may hold a value`, ""},
		{`{{ div 1 0 }}`, `a.tmpl:1:4: div: a division by zero`, ""},
		{`{{ eq 1 "1" }}`, `a.tmpl:1:4: eq: a number and a text cannot be compared`, ""},
		{`{{ urlParse ":/%" }}`, `a.tmpl:1:4: urlParse: it cannot be done with these arguments`, ""},
		{`{{ define "x" }}{{ .user }}{{ end }}{{ template "x" }}`, `a.tmpl:1:20: .user is asked of nothing: . holds no value here`, `a secret's key is (secret "NAME").key`},
		{`{{ first list }}`, `a.tmpl:1:4: the value is nil`, "test it with if, or give it a default"},
		{`{{ printf "%d" "x" }}`, `a.tmpl:1:4: printf: a text is not a number`, ""},
		{`{{ printf "%s %s" "x" }}`, `a.tmpl:1:4: printf: there are fewer values than verbs in the format`, ""},
		{`{{ printf "%s" "x" "y" }}`, `a.tmpl:1:4: printf: there are more values than verbs in the format`, ""},
		{`{{ printf "%!" }}`, `a.tmpl:1:4: printf: the format is not valid`, "verbs are %s %q %v %x %X %d %b %o %c %U %e %f %g %t and %%"},
		{`{{ shellQuote "\x00" }}`, `a.tmpl:1:4: shellQuote: a NUL byte cannot stand in a word of a shell`, ""},
		{`{{ toJson "\xff" }}`, `a.tmpl:1:4: toJson: the text is not valid UTF-8, which JSON cannot hold`, "encode it with base64Encode"},
	} {
		_, err := render(s, templates.Options{Name: "a.tmpl", Text: row.text})
		if err == nil || err.Error() != row.want || hintOf(err) != row.hint {
			t.Errorf("%s\n gives %v\n       %s\n want  %s\n       %s", row.text, err, hintOf(err), row.want, row.hint)
		}
	}
}

func TestErrorsOfFunctionsNameTheSecret(t *testing.T) {
	s := secrets{"db": `{"port":"x1","tls":{"x":"y"},"list":[{"q":"z"}],"none":null}`, "pin": "abc"}
	const number = "atoi: the text is not a whole number"
	for _, row := range []struct{ text, want, secret string }{
		{`{{ atoi (secret "db").port }}`, number + `; the argument is key port of secret "db"`, "db"},
		{`{{ (secret "db").port | atoi }}`, number + `; the argument is key port of secret "db"`, "db"},
		{`{{ secret "pin" | atoi }}`, number + `; the argument is secret "pin"`, "pin"},
		{`{{ "pin" | secret | atoi }}`, number + `; the argument is secret "pin"`, "pin"},
		{`{{ $n := "pin" }}{{ secret $n | atoi }}`, number + `; the argument is secret "pin"`, "pin"},
		{`{{ with secret "db" }}{{ .port | atoi }}{{ end }}`, number + `; the argument is key port of secret "db"`, "db"},
		{`{{ $d := secret "db" }}{{ atoi $d.tls.x }}`, number + `; the argument is key tls.x of secret "db"`, "db"},
		{`{{ range (secret "db").list }}{{ atoi .q }}{{ end }}`, number + `; the argument is key list.0.q of secret "db"`, "db"},
		{`{{ secret "db" | field "port" | atoi }}`, number + `; the argument is key port of secret "db"`, "db"},
		{`{{ (field "tls" (secret "db")).x | atoi }}`, number + `; the argument is key tls.x of secret "db"`, "db"},
		{`{{ (secret "db").port | trim | atoi }}`, number + `; the argument depends on key port of secret "db"`, "db"},
		{`{{ (secret "db").none | default "x" | atoi }}`, number + `; the argument depends on key none of secret "db"`, "db"},
		{`{{ print (secret "db").port (secret "pin") | atoi }}`, number + `; the argument depends on key port of secret "db" and secret "pin"`, ""},
		{`{{ (dict "a" (secret "db").port).a | atoi }}`, number + `; the argument depends on key port of secret "db"`, "db"},
		{`{{ (secret "pin").x }}`, `secret "pin" is not a JSON object, so it has no .x`, "pin"},
		{`{{ $d := secret "db" }}{{ range $d := $d.port }}{{ end }}`, `range needs a list, an object or a number, not a text; it is key port of secret "db"`, "db"},
		// An argument that is wrong by itself speaks of no other.
		{`{{ trunc "x" (secret "pin") }}`, `trunc: a text is not a number`, ""},
		{`{{ trunc (secret "pin") "x" }}`, `trunc: a text is not a number; the argument is secret "pin"`, "pin"},
		{`{{ regexMatch "[" (secret "pin") }}`, `regexMatch: the regular expression is not valid; the arguments depend on secret "pin"`, "pin"},
		// These are from no secret, or it is not known.
		{`{{ atoi "x" }}`, number, ""},
		{`{{ version "pin" | atoi }}`, number, ""},
		{`{{ $p := (secret "db").port }}{{ atoi $p }}`, number, ""},
	} {
		_, err := render(s, templates.Options{Name: "m", Text: row.text})
		var e *templates.Error
		if !errors.As(err, &e) || e.Msg != row.want || e.Secret != row.secret {
			t.Errorf("%s\n gives %v\n want  %s", row.text, err, row.want)
		}
	}
}

func TestParseReportsEverythingWithItsPlace(t *testing.T) {
	for _, row := range []struct{ text, want, hint string }{
		{"a\n{{ if true }}", "a.tmpl:2:14: unexpected EOF", "an if, with, range, define or block has no end"},
		{"{{ secret \"db\"\n\n", "a.tmpl:3:1: unclosed action started on line 1", ""},
		{`{{ (secret "db").api-key }}`, "a.tmpl:1:21: a dash cannot stand in .api-key", `write: field "api-key" (secret "db")`},
		{`{{ (secret "db").tls.ca-cert | quote }}`, "a.tmpl:1:24: a dash cannot stand in .ca-cert", `write: field "ca-cert" (secret "db").tls`},
		{`{{ $db := secret "db" }}{{ if $db.api-key }}{{ end }}`, "a.tmpl:1:38: a dash cannot stand in .api-key", `write: field "api-key" $db`},
		{`{{ .api-key }}`, "a.tmpl:1:8: a dash cannot stand in .api-key", `write: field "api-key" ., or: field "api-key" (secret "NAME")`},
		{`host.example-1 {{ secret "x" }} a.b-c {{ $.tls-key }}`, "a.tmpl:1:47: a dash cannot stand in .tls-key", `write: field "tls-key" $`},
		{"{{ with secret \"x\" |\n .tls-key }}", "a.tmpl:2:6: a dash cannot stand in .tls-key", `write: field "tls-key" ., or: field "tls-key" (secret "NAME")`},
		{`{{ db-password }}`, "a.tmpl:1:6: a dash cannot stand in the name db-password", `a key with a dash is reached by: field "KEY" (secret "NAME")`},
		{`{{ $x }}`, `a.tmpl:1:4: undefined variable "$x"`, "a variable is set before it is used, in the same block or outside it: $x := …"},
		{`{{ print (env "HOME") }}`, `a.tmpl:1:11: environment variable "HOME" is not allowed`, "name it under allow_env: of this file, or set a variable under vars:"},
		{`{{ expandenv "$HOME" }}`, `a.tmpl:1:4: function "expandenv" is not defined`, "expandenv is left out: it would read the agent's whole environment; use env, with the names under allow_env"},
		{`{{ now }}`, `a.tmpl:1:4: function "now" is not defined`, "now is left out: its result depends on the time: the same secret would not give the same file; version \"NAME\" changes with the secret"},
		{`{{ key "a/b" }}`, `a.tmpl:1:4: function "key" is not defined`, `key is left out: it reads Consul, Vault or Nomad; here secrets come from: secret "NAME", and settings from: var "NAME"`},
		{`{{ tojson 1 }}`, `a.tmpl:1:4: function "tojson" is not defined`, "write it as toJSON"},
		{`{{ frobnicate 1 }}`, `a.tmpl:1:4: function "frobnicate" is not defined`, ""},
		{`{{ secret }}`, `a.tmpl:1:4: secret takes 1 argument, not 0`, "it is used as: secret NAME"},
		{`{{ print secret }}`, `a.tmpl:1:10: secret takes 1 argument, not 0`, "it is used as: secret NAME"},
		{`{{ "a" | trunc }}`, `a.tmpl:1:10: trunc takes 2 arguments, not 1`, "it is used as: trunc N TEXT"},
		{`{{ seq 1 2 3 4 }}`, `a.tmpl:1:4: seq takes 1 to 3 arguments, not 4`, "it is used as: seq [START [STEP]] END"},
		{`{{ eq 1 }}`, `a.tmpl:1:4: eq takes at least 2 arguments, not 1`, "it is used as: eq A B..."},
		{`{{ .user }}`, `a.tmpl:1:4: .user is asked of nothing: . holds no value here`, `a secret's key is (secret "NAME").user`},
		{`{{ range list 1 }}{{ $.Values.x }}{{ end }}`, `a.tmpl:1:23: .Values is asked of nothing: . holds no value here`, `a secret's key is (secret "NAME").Values`},
		{`{{ template "x" }}`, `a.tmpl:1:13: template "x" is not defined`, `a template is defined in the same text or one it includes: {{ define "NAME" }}…{{ end }}`},
		{`{{ "a" "b" }}`, `a.tmpl:1:4: a value that is no function is given an argument`, ""},
		{`{{ print 1i }}`, `a.tmpl:1:10: the number 1i does not fit`, ""},
		{`{{ nil }}`, `a.tmpl:1:4: nil is not a command`, ""},
		{strings.Repeat("{{ if true }}", 300) + strings.Repeat("{{ end }}", 300), "a.tmpl:1:1606: blocks and parentheses are nested too deeply", ""},
		{strings.Repeat("x", 1<<20+1), "a.tmpl: the template is larger than 1 MiB", ""},
	} {
		_, err := templates.Parse(templates.Options{Name: "a.tmpl", Text: row.text})
		if err == nil || err.Error() != row.want || hintOf(err) != row.hint {
			t.Errorf("%.60s\n gives %v\n       %s\n want  %s\n       %s", row.text, err, hintOf(err), row.want, row.hint)
		}
	}
	for n := range 300 { // whatever the depth, nothing is left unchecked
		if _, err := templates.Parse(templates.Options{Text: "{{ " + strings.Repeat("(", n) + "frobnicate" + strings.Repeat(")", n) + " }}"}); err == nil {
			t.Errorf("an unknown function in %d parentheses is accepted", n)
		}
	}
	text := "{{ now }}\n{{ expandenv }}{{ template \"x\" }}"
	_, err := templates.Parse(templates.Options{Name: "agent.yaml", Place: block(text, 7, 6), Text: text})
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) || len(joined.Unwrap()) != 3 {
		t.Fatalf("want all three errors: %v", err)
	}
	if got, want := joined.Unwrap()[1].Error(), `agent.yaml:8:10: function "expandenv" is not defined`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// block returns where a text stands that begins on a line of a file, all of its lines
// indented.
func block(text string, line, indent int) func(offset int) (int, int) {
	return func(offset int) (int, int) {
		before := text[:offset]
		return line + strings.Count(before, "\n"), indent + offset - strings.LastIndex(before, "\n")
	}
}

func TestWhatHasNoPlaceInTheFileIsSaidWithinTheText(t *testing.T) {
	// As of a value on line 22 whose first line alone is written as it is.
	place := func(offset int) (int, int) {
		if offset < 3 {
			return 22, 15 + offset
		}
		return 22, 0
	}
	for _, row := range []struct{ text, want string }{
		{"a\nb\n{{ now }}", `agent.yaml:22: contents, line 3, column 4: function "now" is not defined`},
		{"a\nb\n{{ $x }}", `agent.yaml:22: contents, line 3, column 4: undefined variable "$x"`},
		{"a\nb\n{{ secret\n", `agent.yaml:22: contents, line 4, column 1: unclosed action started on line 3 of contents`},
		{"a\n{{ secret\n", `agent.yaml:22: contents, line 3, column 1: unclosed action started on line 2 of contents`},
		{"a\nb\n{{ 1 | 2 }}", `agent.yaml:22: contents, line 3: non executable command in pipeline stage 2`},
		{strings.Repeat("x", 1<<20+1), "agent.yaml:22: the template is larger than 1 MiB"},
	} {
		_, err := templates.Parse(templates.Options{Name: "agent.yaml", Place: place, Key: "contents", Text: row.text})
		if err == nil || err.Error() != row.want {
			t.Errorf("%.60q gives %v, want %s", row.text, err, row.want)
		}
	}
}

// TestColumnOfAParseError has the place that is meant between » and «.
func TestColumnOfAParseError(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{"abc{{ x}}{{ y»}« }", "bad character U+007D '}'"},
		{"{{ with secret \"a\" }}{{ .b »}«{{ end }}", `unexpected "}" in operand`},
		{"{{ print ä.b»#« }}", "bad character U+0023 '#'"},
		{"{{ if true }}{{ $x := 1 }}{{ end }}{{/* $x */}}{{ \"$x\" }}{{ »$x« }}{{ $x }}", `undefined variable "$x"`},
		{"{{ $xy := 1 }}{{ $xy }}{{ »$x« }}", `undefined variable "$x"`},
		{"{{ »$x«\n}}", `undefined variable "$x"`},
		{"{{ define \"a\" }}{{ »$x« }}{{ end }}", `undefined variable "$x"`},
		{"{{ \"x.y-z\" }}{{ .api»-«key }}", "a dash cannot stand in .api-key"},
		{"a {{ »end« }} {{ end }}", "unexpected {{end}}"},
		{"{{ if true }}{{ else }}{{ »else« -}} x {{ end }}", "expected end; found {{else}}"},
		{"{{ »break« }}{{ break }}", "{{break}} outside {{range}}"},
		{"{{ if »}}«{{ end }}", "missing value for if"},
		{"{{ print 1 }}{{ range   -»}}« x {{ end }}", "missing value for range"},
		{"{{ (print 1) }}{{ (print 1 »}}«", "unclosed left paren"},
		{"{{ (print 1) }}{{ print 1»)« }}", "unexpected right paren"},
		{"{{ print 1 »12_b« }}", `bad number syntax: "12_b"`},
		{"{{ print | »|« 1 }}", `unexpected "|" in command`},
		{"{{ template »frobnicatedthing« }}", `unexpected "frobnicate"... in template clause`},
		{"{{ print »if« }}", "unexpected <if> in operand"},
		{"{{ x »:=« 1 }}", `unexpected ":=" in operand`},
		{"{{ range »$i« $x := 1 }}{{ end }}", `undefined variable "$i"`},
		{"{{ if true }}\n»«", "unexpected EOF"},
		// Where it cannot be told, only the line is.
		{"{{ 1 | 2 }}", "non executable command in pipeline stage 2"},
		{"{{ \"a\" }}{{ print \"a }}", "unterminated quoted string"},
		{"{{ $x, $y := 1 }}", "too many declarations in command"},
		{"{{ $x }}" + strings.Repeat(" ", 128<<10), `undefined variable "$x"`},
	} {
		before, _, placed := strings.Cut(row.text, "»")
		want := "m:1: " + row.want
		if line := strings.Count(before, "\n"); placed {
			want = fmt.Sprintf("m:%d:%d: %s", line+1, len(before)-strings.LastIndex(before, "\n"), row.want)
		}
		_, err := templates.Parse(templates.Options{Name: "m", Text: strings.NewReplacer("»", "", "«", "").Replace(row.text)})
		if err == nil || err.Error() != want {
			t.Errorf("%.80s gives %v, want %s", row.text, err, want)
		}
	}
}

func TestEveryFunctionOfSprigIsThereOrExplained(t *testing.T) {
	known := make(map[string]bool)
	for _, f := range templates.Functions() {
		known[f.Name] = true
	}
	for _, name := range templates.SprigNames() {
		if known[name] || name == "hello" {
			continue
		}
		_, err := templates.Parse(templates.Options{Text: "{{ " + name + " }}"})
		if err == nil || !strings.Contains(hintOf(err), name+" is left out: ") {
			t.Errorf("%s: %v, hint %q", name, err, hintOf(err))
		}
	}
	if _, err := render(secrets{}, templates.Options{Text: `{{ sprig_upper "a" }}`}); err != nil {
		t.Errorf("consul-template's second name: %v", err)
	}
	if _, err := render(secrets{}, templates.Options{Text: `{{ sprig_env "a" }}`}); err == nil || hintOf(err) == "" {
		t.Errorf("sprig_env: %v", err)
	}
}

const canary = "hunter2-CANARY"

// disguises are the forms in which an error could show the canary.
func disguises() []string {
	b := []byte(canary)
	return []string{
		canary, strings.ToUpper(canary), strings.ToLower(canary), base64.StdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b),
		hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)), strconv.Quote(canary)[1:8], url.QueryEscape(canary), fmt.Sprint(b), canary[:7], strings.ToUpper(canary[:7]),
	}
}

// failing are templates over the secrets word, which is the canary itself, obj,
// whose fields are the canary, and tree.
var failing = []string{
	`{{ range %s }}{{ end }}`, `{{ range $a, $b := %s }}{{ end }}`, `{{ index %s "x" }}`, `{{ index %s 99 }}`, `{{ index (list) %s }}`, `{{ (index (list %s) 0).x }}`,
	`{{ atoi %s }}`, `{{ int %s }}`, `{{ float64 %s }}`, `{{ parseBool %s }}`, `{{ parseUint %s }}`, `{{ toDecimal %s }}`, `{{ add 1 %s }}`, `{{ addf 1 %s }}`, `{{ div 1 %s }}`,
	`{{ fromJson %s }}`, `{{ base64Decode (print "*" %s) }}`, `{{ b32dec %s }}`, `{{ base64URLDecode (print "*" %s) }}`,
	`{{ regexMatch (print "(" %s) "x" }}`, `{{ regexFindAll (print "[" %s) "x" 1 }}`, `{{ mustRegexReplaceAll (print "(" %s) "x" "y" }}`,
	`{{ fail %s }}`, `{{ fail (print "x" %s) }}`, `{{ secret %s }}`, `{{ version %s }}`, `{{ secretBinary %s }}`, `{{ field %s (secret "obj") }}`, `{{ index (secret "tree") %s }}`,
	`{{ (dict %s 1).x }}`, `{{ (dict "k" %s).x }}`, `{{ field %s (dict) }}`, `{{ field "x" (fromJson (printf "{%%q:1}" %s)) }}`, `{{ dig %s "x" }}`, `{{ dig "a" "b" "c" %s }}`,
	`{{ urlParse (print "%%zz://" %s) }}`, `{{ urlJoin (dict "userinfo" (print "%%" %s) "host" 1) }}`, `{{ semverCompare %s "1.2.3" }}`, `{{ semverCompare ">1" %s }}`,
	`{{ printf "%%d" %s }}`, `{{ printf %s 1 }}`, `{{ printf "%%s" %s 1 }}`, `{{ printf "%%*d" %s 1 }}`, `{{ ternary 1 2 %s }}`, `{{ join "," %s | first }}`, `{{ first %s }}`, `{{ keys %s }}`, `{{ merge (dict) %s }}`,
	`{{ eq 1 %s }}`, `{{ lt 1 %s }}`, `{{ gt %s (list) }}`, `{{ slice %s 5 2 }}`, `{{ substr 900 901 %s }}`, `{{ repeat -1 %s }}`, `{{ repeat 10000000 %s }}`, `{{ indent -1 %s }}`, `{{ wrap %s "x" }}`, `{{ trunc %s "x" }}`,
	`{{ shellQuote (print %s "\x00") }}`, `{{ toJson (print %s "\xff") }}`, `{{ until %s }}`, `{{ seq 1 %s }}`, `{{ chunk 0 (list %s) }}`, `{{ chunk %s (list 1) }}`, `{{ set %s "a" 1 }}`, `{{ plural "a" "b" %s }}`, `{{ len (len %s) }}`,
	`{{ define "d" }}{{ .x.y }}{{ end }}{{ template "d" %s }}`, `{{ with %s }}{{ .x }}{{ end }}`, `{{ with $v := %s }}{{ $v.x }}{{ end }}`, `{{ (print %s).x }}`, `{{ untilStep 0 1 %s }}`, `{{ splitn "" %s "x" }}`, `{{ round 1 %s }}`,
	`{{ $d := dict }}{{ $_ := set $d %s $d }}{{ toJson $d }}`, `{{ $d := dict }}{{ $_ := set $d %s $d }}{{ deepCopy $d }}`, `{{ $d := dict }}{{ $_ := set $d %s $d }}{{ $d }}`,
}

func TestNoErrorShowsAValue(t *testing.T) {
	s := secrets{
		"word": canary, "obj": `{"f":"` + canary + `","` + "k" + `":["` + canary + `"]}`, "tree": `{"a":{"b":"` + canary + `"}}`,
		"json": `["` + canary + `"`, "number": "1" + canary,
	}
	errs := 0
	check := func(text string) {
		_, err := render(s, templates.Options{Name: "a.tmpl", Text: text})
		if err == nil {
			return
		}
		errs++
		var log strings.Builder
		slog.New(slog.NewJSONHandler(&log, nil)).Error("x", "err", err)
		shown := err.Error() + hintOf(err) + fmt.Sprintf("%v %+v %#v", err, err, err) + log.String()
		for _, d := range disguises() {
			if strings.Contains(shown, d) {
				t.Errorf("%s shows %q: %s", text, d, shown)
			}
		}
	}
	values := []string{`(secret "word")`, `(secret "obj").f`, `(secret "obj")`, `(secret "obj").k`, `(secret "json")`, `(secret "number")`, `(secret "tree").a`,
		`(secret "word" | b64enc)`, `(list (secret "word"))`, `(dict "f" (secret "word"))`, `(printf "%x" (secret "word"))`, `(secret "word" | upper)`}
	for _, form := range failing {
		for _, v := range values {
			check(fmt.Sprintf(strings.ReplaceAll(form, "%s", "%[1]s"), v))
		}
	}
	for _, f := range templates.Functions() {
		for n := range 5 {
			for _, v := range values {
				check("{{ " + f.Name + strings.Repeat(" "+v, n) + " }}")
				check("{{ " + f.Name + " 1" + strings.Repeat(" "+v, n) + " }}")
				check("{{ " + f.Name + strings.Repeat(" "+v, n) + " -1 }}")
			}
		}
	}
	if errs < 2000 {
		t.Errorf("only %d of the templates fail: the test proves little", errs)
	}
}

func TestResultDoesNotPrintItsContent(t *testing.T) {
	tmpl, err := templates.Parse(templates.Options{Text: `{{ secret "word" }}`})
	if err != nil {
		t.Fatal(err)
	}
	res, err := templates.NewPass(secrets{"word": canary}.lookup).Render(tmpl)
	if err != nil || string(res.Content) != canary {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, h := range []slog.Handler{slog.NewJSONHandler(&b, nil), slog.NewTextHandler(&b, nil)} {
		slog.New(h).Info("x", "res", res, "ptr", &res, "slice", []templates.Result{res})
	}
	fmt.Fprintf(&b, "%v %+v %#v %s %x %v", res, res, res, &res, res, []templates.Result{res})
	for _, d := range disguises() {
		if strings.Contains(b.String(), d) {
			t.Errorf("a result printed its content: %s", b.String())
		}
	}
}
