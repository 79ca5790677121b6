package templates_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"secretsd/agent/secret"
	"secretsd/templates"
)

// secretText draws the text of a secret: JSON of every kind, with white space,
// duplicate keys and escapes, and text that is none.
func secretText() *rapid.Generator[string] {
	space := rapid.SampledFrom([]string{"", " ", "\n", "\t ", "\r\n"})
	object := rapid.Custom(func(t *rapid.T) string {
		var b strings.Builder
		b.WriteString(space.Draw(t, "space") + "{")
		for i := range rapid.IntRange(0, 4).Draw(t, "members") {
			if i > 0 {
				b.WriteString("," + space.Draw(t, "space"))
			}
			value := rapid.SampledFrom([]string{`1.10`, `"<&>"`, `"\u003c\/"`, `{"a" : [1,  2]}`, `null`, `-0`, `1E+2`, `[]`, `true`}).Draw(t, "value")
			b.WriteString(rapid.SampledFrom([]string{`"a"`, `"b"`, `""`, `"api-key"`, `"\u0061"`}).Draw(t, "key") + space.Draw(t, "space") + ":" + value)
		}
		b.WriteString("}" + space.Draw(t, "space"))
		return b.String()
	})
	return rapid.OneOf(object, rapid.String(), rapid.SampledFrom([]string{"12345", "true", `"x"`, "null", "[1, 2]", "{", "{}x", " {} ", "\xff{}"}))
}

func TestASecretPrintedWholeIsItself(t *testing.T) {
	forms := []string{
		`{{ secret "s" }}`, `{{ $s := secret "s" }}{{ $s }}`, `{{ print (secret "s") }}`, `{{ printf "%s" (secret "s") }}`, `{{ secret "s" | toString }}`,
		`{{ secret "s" | b64enc | b64dec }}`, `{{ with secret "s" }}{{ . }}{{ else }}{{ secret "s" }}{{ end }}`, `{{ range list (secret "s") }}{{ . }}{{ end }}`,
		`{{ define "d" }}{{ . }}{{ end }}{{ template "d" secret "s" }}`, `{{ first (list (secret "s")) }}`, `{{ (dict "k" (secret "s")).k }}`, `{{ cat (secret "s") }}`,
	}
	rapid.Check(t, func(t *rapid.T) {
		s := secretText().Draw(t, "secret")
		form := rapid.SampledFrom(forms).Draw(t, "form")
		got, err := render(secrets{"s": s}, templates.Options{Text: form})
		if err != nil || got != s {
			t.Errorf("%s of %q gives %q, %v", form, s, got, err)
		}
	})
}

func TestFieldsAreThoseOfTheJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOf(rapid.StringMatching(`[a-z]{1,4}`), rapid.String()).Draw(t, "object")
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range want {
			for _, form := range []string{`{{ (secret "s").` + k + ` }}`, `{{ index (secret "s") "` + k + `" }}`} {
				if got, err := render(secrets{"s": string(text)}, templates.Options{Text: form}); err != nil || got != v {
					t.Errorf("%s of %s gives %q, %v, want %q", form, text, got, err, v)
				}
			}
		}
	})
}

func TestDigitsOfAnyNumberSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.StringMatching(`-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,9})?`).Draw(t, "number")
		s := secrets{"s": `{"n":` + n + `,"l":[{"n":` + n + `}]}`}
		const text = `{{ $s := secret "s" }}{{ $s.n }} {{ index $s.l 0 "n" }} {{ $s.n | toString }} {{ json $s.n }} {{ deepCopy $s | json }}`
		got, err := render(s, templates.Options{Text: text})
		if want := fmt.Sprintf(`%s %s %s %s {"l":[{"n":%s}],"n":%s}`, n, n, n, n, n, n); err != nil || got != want {
			t.Errorf("gives %s, %v\n want %s", got, err, want)
		}
		// Whatever the exponent, these end, with a result or an error.
		for _, f := range []string{"int", "addf 1", "round", `printf "%d"`, `printf "%.2f"`, "eq 1.5", "seq", "until"} {
			_, _ = render(s, templates.Options{Text: "{{ " + f + ` (secret "s").n }}`})
		}
	})
}

func TestShellQuoteSurvivesAShell(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("sh is missing")
	}
	rapid.Check(t, func(t *rapid.T) {
		want := strings.ReplaceAll(rapid.OneOf(rapid.String(), rapid.StringMatching("['\"$`\\\\ \n!*a-c]{0,20}")).Draw(t, "text"), "\x00", "")
		quoted, err := render(secrets{"s": want}, templates.Options{Text: `{{ shellQuote (secret "s") }}`})
		if err != nil {
			t.Fatal(err)
		}
		got, err := exec.Command("sh", "-c", "printf %s "+quoted).Output()
		if err != nil || string(got) != want {
			t.Errorf("sh reads %q as %q, %v", quoted, got, err)
		}
	})
}

func TestOnePassLooksEachSecretUpOnce(t *testing.T) {
	var mu sync.Mutex
	calls := make(map[string]int)
	p := templates.NewPass(func(name string) (*secret.Version, error) {
		mu.Lock()
		defer mu.Unlock()
		calls[name]++
		return &secret.Version{Text: secret.NewValue(`{"a":{"b":["z","x"]}}`)}, nil
	})
	// The same template and different ones, all at once, over shared values that
	// they try to change.
	texts := []string{
		`{{ join "," (secret "s").a.b | printf "[%q]" | replace "," "\",\"" }}`, `{{ append (secret "s").a.b "y" | len }}`, `{{ $d := set (secret "s") "a" 1 }}{{ (secret "s").a.b }}`,
		`{{ mergeOverwrite (secret "s") (dict "a" (dict "b" 1)) | json }}`, `{{ unset (secret "s").a "b" | json }}{{ (secret "t").a }}`, `{{ reverse (secret "s").a.b }}{{ sortAlpha (secret "s").a.b }}`,
	}
	want := []string{`["z","x"]`, "3", `["z","x"]`, `{"a":{"b":1}}`, `{}{"b":["z","x"]}`, `["x","z"]["x","z"]`}
	var wg sync.WaitGroup
	for i, text := range texts {
		tmpl, err := templates.Parse(templates.Options{Text: text})
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			wg.Go(func() {
				for range 20 {
					res, err := p.Render(tmpl)
					if err != nil || string(res.Content) != want[i] {
						t.Errorf("%s: %q, %v", text, res.Content, err)
					}
				}
			})
		}
	}
	wg.Wait()
	if calls["s"] != 1 || calls["t"] != 1 {
		t.Errorf("looked up %v times", calls)
	}
}

// bombs would take hours or all memory.
var bombs = []string{
	`{{ repeat 1000000000 "xxxxxxxxxx" }}`, `{{ repeat 1048577 "x" }}`, `{{ until 1000000000 }}`, `{{ untilStep 0 1000000000 1 }}`, `{{ seq 1 1000000000 }}`, `{{ seq -9223372036854775807 9223372036854775807 }}`,
	`{{ untilStep 0 9223372036854775807 9223372036854775807 }}`, `{{ indent 1000000000 "x" }}`, `{{ nindent 1000000 "x\n\n" }}`, `{{ printf "%1000000000d" 1 }}`, `{{ printf "%.1000000s%*s" "x" 1000000000 "y" }}`,
	`{{ $s := "x" }}{{ range 100 }}{{ $s = print $s $s }}{{ end }}`, `{{ $s := list 1 }}{{ range 100 }}{{ $s = concat $s $s }}{{ end }}`, `{{ $s := list 1 }}{{ range 100 }}{{ $s = list $s $s }}{{ end }}{{ json $s }}`,
	`{{ range 1000000000 }}{{ end }}`, `{{ range 100000 }}{{ range 100000 }}{{ end }}{{ end }}`, `{{ range 1000000000 }}x{{ end }}`, `{{ range 100000 }}{{ repeat 1000 "x" }}{{ end }}`,
	`{{ define "a" }}{{ template "a" }}{{ end }}{{ template "a" }}`, `{{ define "a" }}{{ template "b" }}{{ template "b" }}{{ end }}{{ define "b" }}{{ template "a" }}{{ end }}{{ template "a" }}`,
	`{{ $d := dict }}{{ $_ := set $d "x" $d }}{{ $d }}`, `{{ $d := dict }}{{ $_ := set $d "x" $d }}{{ merge $d (dict "x" $d) | json }}`, `{{ $d := dict }}{{ $_ := set $d "x" $d }}{{ if eq $d $d }}{{ end }}`,
	`{{ $d := dict "a" 1 }}{{ range 60 }}{{ $d = dict "x" $d "y" $d }}{{ end }}{{ deepCopy $d }}`, `{{ $s := repeat 1000000 "a" }}{{ replace "" $s $s }}`, `{{ $s := repeat 1000000 "a" }}{{ replace "a" $s $s }}`,
	`{{ $s := repeat 1000000 "a" }}{{ wrapWith 1 $s $s }}`, `{{ $s := repeat 1000000 "a" }}{{ join $s (list $s $s $s) }}`, `{{ $s := repeat 1000000 "a" }}{{ regexReplaceAll "a*" $s "$0$0$0$0" }}`, `{{ $s := repeat 1000000 "a" }}{{ regexReplaceAllLiteral "a" $s $s }}`,
	`{{ $s := repeat 1000000 "a" }}{{ regexMatch "(a?){500}(a?){499}$" $s }}`, `{{ regexMatch "((a{100}){10}){10}" "a" }}`, `{{ $s := repeat 1000000 "a" }}{{ splitList "" $s }}`, `{{ $s := repeat 1000000 "a" }}{{ list $s $s $s $s $s $s $s $s $s | json }}`,
	`{{ $d := secret "deep" }}{{ json $d }}`, `{{ $s := repeat 1000000 "a" }}{{ range 100000 }}{{ $x := upper $s }}{{ end }}`, `{{ $x := list }}{{ range 100000 }}{{ $x = append $x 1 }}{{ end }}`,
	`{{ $d := list 1 }}{{ range 15 }}{{ $d = list $d $d }}{{ end }}{{ range 100000 }}{{ if eq $d $d }}{{ end }}{{ end }}`, `{{ $d := dict }}{{ $_ := set $d "x" $d }}{{ range 100000 }}{{ $x := list $d }}{{ end }}`,
	`{{ range until 90000 }}{{ range until 90000 }}{{ end }}{{ end }}`,
	`{{ parseYAML "a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]" }}`,
	`{{ parseYAML "a: &a [*a]" }}`, `{{ $l := until 90000 }}{{ range 100000 }}{{ $x := toYAML $l }}{{ end }}`, `{{ $s := repeat 1000000 "a b" }}{{ range 100000 }}{{ $x := toTitle $s }}{{ end }}`,
	`{{ range 100000 }}{{ $x := toTOML (dict "l" (until 90000)) }}{{ end }}`, `{{ explodeMap (dict (repeat 200 "a/") 1) }}`, `{{ pemCertificate (repeat 100000 "-----BEGIN X-----\n-----END X-----\n") }}`,
}

func TestBombsEndInAnError(t *testing.T) {
	s := secrets{"deep": `{"a":` + strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5001)}
	for _, text := range bombs {
		began := time.Now()
		got, err := render(s, templates.Options{Name: "a.tmpl", Text: text})
		if err == nil {
			t.Errorf("%s renders %d bytes", text, len(got))
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s took %v", text, took)
		}
	}
	_, err := render(secrets{"s": strings.Repeat("x", 64<<10)}, templates.Options{Name: "a.tmpl", Text: `{{ range 129 }}{{ secret "s" }}{{ end }}`})
	if err == nil || err.Error() != "a.tmpl:1:19: the output is larger than 8 MiB" {
		t.Errorf("more than 8 MiB: %v", err)
	}
	// What is large and allowed.
	big := secrets{"s": strings.Repeat("x", 64<<10)}
	if got := mustRender(t, big, `{{ range 100 }}{{ secret "s" }}{{ end }}`); len(got) != 100*64<<10 {
		t.Errorf("rendered %d bytes", len(got))
	}
}

// FuzzExecution: no template over any secret panics, takes longer or writes more
// than its limits allow, comes to something else the second time, or shows a
// value in its error.
func FuzzExecution(f *testing.F) {
	for _, fn := range templates.Functions() {
		f.Add(fn.Example, "", "", "", `{"a":"b"}`)
	}
	for _, text := range bombs {
		f.Add(text, "", "{{", "}}", "x")
	}
	for _, form := range failing {
		f.Add(strings.NewReplacer("%s", `(secret "word")`, "%%", "%").Replace(form), "", "", "", "")
	}
	for _, value := range hostile() {
		f.Add(`{{ include "f" (secret "fuzz") }}`, "{{ . | json }}{{ toYAML . }}{{ range . }}{{ . }}{{ end }}", "", "", value)
	}
	s := secrets{"word": canary, "obj": `{"f":"` + canary + `","g":{"h":["` + canary + `",1,null]}}`}
	for name, text := range templates.SecretsOfExamples() {
		s[name] = text
	}
	f.Fuzz(func(t *testing.T, text, included, left, right, value string) {
		s := maps.Clone(s)
		s["fuzz"], s["with"] = value, value+canary+value
		o := templates.OptionsOfExamples()
		o.Text, o.Delims, o.MaxSteps, o.MaxOutput = text, [2]string{left, right}, 100_000, 100_000
		o.Library = directory(map[string]string{"f": included, "greeting.tmpl": "hello {{ . }}"})
		began := time.Now()
		tmpl, err := templates.Parse(o)
		if err == nil {
			var res templates.Result
			res, err = templates.NewPass(s.lookup).Render(tmpl)
			if len(res.Content) > o.MaxOutput {
				t.Errorf("the output has %d bytes", len(res.Content))
			}
			again, errAgain := templates.NewPass(s.lookup).Render(tmpl)
			if string(again.Content) != string(res.Content) || fmt.Sprint(err) != fmt.Sprint(errAgain) {
				t.Errorf("two renderings differ")
			}
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("it took %v", took)
		}
		if err != nil && strings.Contains(err.Error()+hintOf(err), canary) && !strings.Contains(text+included+left+right, canary) {
			t.Errorf("the error shows a value: %v", err)
		}
	})
}
