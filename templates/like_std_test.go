package templates_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"text/template"

	"github.com/Masterminds/sprig/v3"
	"pgregory.net/rapid"

	"secretsd/templates"
)

// likeStd holds secrets whose fields text/template prints as this package
// does: no numbers with other digits, no objects printed whole.
var likeStd = secrets{
	"db":  `{"user":"app","port":5432,"on":true,"off":false,"zero":0,"empty":"","none":{},"tls":{"ca":"CA"},"hosts":["a","b","c"]}`,
	"pin": "0042",
}

// stdRender renders text by text/template and sprig over likeStd.
func stdRender(text string) (string, error) {
	decode := func(name string) any {
		if m := make(map[string]any); json.Unmarshal([]byte(likeStd[name]), &m) == nil {
			return m
		}
		return likeStd[name]
	}
	t, err := template.New("t").Option("missingkey=error").Funcs(sprig.TxtFuncMap()).Funcs(template.FuncMap{"secret": decode}).Parse(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, nil)
	return b.String(), err
}

func TestControlStructuresAreThoseOfTextTemplate(t *testing.T) {
	for _, text := range []string{
		`{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $x := 3 }}{{ $x }}{{ end }}{{ $x }}`,
		`{{ if $x := secret "pin" }}{{ $x }}{{ else }}no{{ end }}`,
		`{{ with $x := "" }}a{{ else with $y := "b" }}{{ $x }}{{ $y }}{{ . }}{{ end }}`,
		`{{ range $i, $e := (secret "db").hosts }}{{ if eq $i 1 }}{{ continue }}{{ end }}{{ $i }}{{ $e }}{{ . }}{{ end }}`,
		`{{ $i := 9 }}{{ $e := 9 }}{{ range $i, $e = (secret "db").hosts }}{{ end }}{{ $i }}{{ $e }}`,
		`{{ $e := 9 }}{{ range $e = (secret "db").hosts }}{{ break }}{{ end }}{{ $e }}`,
		`{{ range $k, $v := (secret "db").tls }}{{ $k }}{{ $v }}{{ end }}{{ range (secret "db").none }}x{{ else }}none{{ end }}`,
		`{{ range 3 }}{{ . }}{{ end }}{{ range $n := 2 }}{{ $n }}{{ end }}{{ range 0 }}{{ else }}zero{{ end }}`,
		`{{ range list 1 2 }}{{ range list "a" "b" }}{{ if eq . "b" }}{{ break }}{{ end }}{{ . }}{{ end }}{{ . }}{{ end }}`,
		`{{ define "x" }}{{ . }}{{ $ }}{{ end }}{{ with "dot" }}{{ template "x" "arg" }}{{ block "y" . }}[{{ . }}]{{ end }}{{ end }}`,
		`{{ template "f" 3 }}{{ define "f" }}{{ . }}{{ if gt . 0 }}{{ template "f" (int (sub . 1)) }}{{ end }}{{ end }}`,
		`{{ "x" | printf "%s-%s" "a" | printf "%q" }} {{ printf "%d%%" (len "abc") | len }}`,
		`{{ and 1 "" 2 }}{{ or 0 "" "z" "y" }}{{ or false (index (list) 0) | print }}`,
		`{{ or true (fail "not evaluated") }}{{ and false (fail "not evaluated") }}`,
		`{{ range list 1 2 }}{{ . }}{{ range list }}{{ else }}{{ break }}x{{ end }}y{{ end }}`,
		`{{ range list 1 2 }}{{ . }}{{ range list }}{{ else }}{{ continue }}x{{ end }}y{{ end }}`,
		`{{ with secret "db" }}{{ with .tls }}{{ .ca }}{{ $.x }}{{ end }}{{ end }}`,
		`{{ (secret "db").tls.nothing }}`,
		`{{ (secret "pin").x }}`,
		`{{ 1e3 }} {{ 0x10 }} {{ 'a' }} {{ 1.50 }} {{ 1_000 }} {{ -3 }} {{ 3.0 }} {{ 1e21 }}`,
		"a {{- 1 -}} b {{- /* c */ -}} d\n  {{ 2 -}}\n e",
		`{{ $x := (secret "db").hosts }}{{ index $x 2 }}{{ len $x }}{{ slice $x 1 2 | len }}`,
		`{{ eq 1 2 1 }}{{ ne "a" "b" }}{{ lt 1 2 }}{{ le "b" "a" }}{{ gt 2.5 1.5 }}{{ ge 1 1 }}{{ not 0 }}`,
		`{{ print 1 2 "a" 3 true false "b" "c" }}|{{ println "a" 1 2 "b" }}`,
		`{{ html "<a>" "'" }}{{ js "'" }}{{ urlquery "a b" "&" }}`,
		`{{ if true }}{{ $v := 1 }}{{ end }}{{ with 1 }}{{ $v := . }}{{ $v }}{{ end }}`,
	} {
		sameAsStd(t, text)
	}
}

type failer interface {
	Helper()
	Errorf(string, ...any)
}

// sameAsStd compares what both give; where one fails, so must the other.
func sameAsStd(t failer, text string) {
	t.Helper()
	want, wantErr := stdRender(text)
	got, err := render(likeStd, templates.Options{Text: text})
	if (err == nil) != (wantErr == nil) || err == nil && got != want {
		t.Errorf("%s\n  gives          %q, %v\n  text/template: %q, %v", text, got, err, want, wantErr)
	}
}

// source draws templates of nested control structures.
type source struct {
	t     *rapid.T
	vars  []string
	n     int
	depth int
	loops int
}

func (s *source) pick(of ...string) string { return rapid.SampledFrom(of).Draw(s.t, "pick") }

// value draws an operand.
func (s *source) value() string {
	v := []string{`"x"`, `""`, "0", "1", "true", "false", `(secret "db").user`, `(secret "db").port`, `(secret "db").zero`, `(secret "db").empty`,
		`(secret "db").off`, `(secret "pin")`, `(and 1 (secret "db").empty)`, `(or "" (secret "db").user)`, `(not (secret "db").zero)`,
		`(len (secret "db").hosts)`, `(index (secret "db").hosts 1)`, `(printf "%s-%d" "a" 3)`, `(default "d" (secret "db").empty)`, `(list 1 2 | len)`}
	return s.pick(append(v, s.vars...)...)
}

func (s *source) list() string {
	return s.pick(`(list 1 2 3)`, `(list)`, `(secret "db").hosts`, `(secret "db").tls`, `(secret "db").none`, `(until 2)`, `2`, `0`)
}

func (s *source) fresh() string {
	s.n++
	return fmt.Sprintf("$v%d", s.n%3)
}

// body draws a list of nodes in a scope of its own.
func (s *source) body() string {
	mark := len(s.vars)
	s.depth++
	var b strings.Builder
	for range rapid.IntRange(0, 3).Draw(s.t, "nodes") {
		b.WriteString(s.node())
	}
	s.depth--
	s.vars = s.vars[:mark]
	return b.String()
}

func (s *source) node() string {
	kinds := []string{"text", "print", "declare", "assign"}
	if s.depth < 4 {
		kinds = append(kinds, "if", "with", "range", "range2")
	}
	if s.loops > 0 {
		kinds = append(kinds, "break", "continue")
	}
	switch s.pick(kinds...) {
	case "print":
		return "{{ " + s.value() + " }}"
	case "declare":
		v := s.fresh()
		out := "{{ " + v + " := " + s.value() + " }}"
		s.vars = append(s.vars, v)
		return out
	case "assign":
		if len(s.vars) > 0 {
			return "{{ " + s.pick(s.vars...) + " = " + s.value() + " }}"
		}
	case "if":
		return "{{ if " + s.value() + " }}" + s.body() + "{{ else if " + s.value() + " }}" + s.body() + "{{ else }}" + s.body() + "{{ end }}"
	case "with":
		return "{{ with " + s.value() + " }}{{ . }}" + s.body() + "{{ else }}" + s.body() + "{{ end }}"
	case "range":
		return "{{ range " + s.list() + " }}{{ . }}" + s.loop() + "{{ else }}" + s.body() + "{{ end }}"
	case "range2":
		k, v := s.fresh(), s.fresh()
		s.vars = append(s.vars, k, v)
		out := "{{ range " + k + ", " + v + " := " + s.list() + " }}{{ " + v + " }}" + s.loop() + "{{ end }}"
		s.vars = s.vars[:len(s.vars)-2]
		return out
	case "break":
		return "{{ if " + s.value() + " }}{{ break }}{{ end }}"
	case "continue":
		return "{{ if " + s.value() + " }}{{ continue }}{{ end }}"
	}
	return s.pick("a", " ", "\n")
}

func (s *source) loop() string {
	s.loops++
	defer func() { s.loops-- }()
	return s.body()
}

func TestAnyTemplateRendersAsInTextTemplate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &source{t: t}
		var b strings.Builder
		for range rapid.IntRange(1, 5).Draw(t, "nodes") {
			b.WriteString(s.node())
		}
		sameAsStd(t, b.String())
	})
}
