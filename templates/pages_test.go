package templates_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"secretsd/templates"
)

var update = flag.Bool("update", false, "write FUNCTIONS.md anew")

// functionsPage is the page that describes every function.
func functionsPage() string {
	var b strings.Builder
	b.WriteString("# Template functions\n\n<!-- Made from the table of functions by: go test ./templates -run FunctionsPage -update -->\n\n" +
		"The language is that of Go's [text/template](https://pkg.go.dev/text/template). A name in capitals is an\n" +
		"argument, one in brackets may be left out, one with dots may be repeated. The\n" +
		"last argument may come through a pipe. No function reaches the network, the\n" +
		"time or a random source, and the same versions of secrets give the same bytes.\n\n" +
		"Every example is a test. They use these secrets, and a few names besides: the\n" +
		"variable `db_host` is `db.internal`, the environment variable `ZONE` is `eu-1a`,\n" +
		"and `greeting.tmpl` holds `hello {{ . }}`.\n\n| secret | text |\n| --- | --- |\n")
	texts := templates.SecretsOfExamples()
	texts["tls"], texts["key-store"] = `{"certificate": …, "chain": …, "key": …}, each a PEM text`, "three bytes: 00 01 ff"
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		fmt.Fprintf(&b, "| %s | `%s` |\n", name, strings.ReplaceAll(texts[name], "\n", "⏎"))
	}
	group := ""
	functions := templates.Functions()
	for i, f := range functions {
		if strings.HasPrefix(f.Doc, "Another name of ") {
			continue
		}
		if f.Group != group {
			group = f.Group
			b.WriteString("\n## " + strings.ToUpper(group[:1]) + group[1:] + "\n")
		}
		fmt.Fprintf(&b, "\n**`%s`**", f.Signature)
		var also []string
		for _, other := range functions[i+1:] {
			if other.Doc != "Another name of "+f.Name+"." {
				break
			}
			also = append(also, "`"+other.Name+"`")
		}
		if also != nil {
			b.WriteString(" (also " + strings.Join(also, ", ") + ")")
		}
		b.WriteString("<br>\n" + strings.NewReplacer("<", "&lt;", "*", `\*`).Replace(f.Doc) + "\n\n")
		b.WriteString("    " + strings.ReplaceAll(f.Example, "\n", "\n    ") + "\n")
		if f.Result != "" {
			b.WriteString("    → " + strings.ReplaceAll(f.Result, "\n", "⏎") + "\n")
		}
	}
	return b.String()
}

func TestFunctionsPageIsThatOfTheTable(t *testing.T) {
	want := functionsPage()
	if *update {
		if err := os.WriteFile("FUNCTIONS.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("FUNCTIONS.md")
	if err != nil || string(got) != want {
		t.Errorf("FUNCTIONS.md is not that of the table (%v): go test ./templates -run FunctionsPage -update", err)
	}
}

// code finds the code spans of a line of a table, in which | is written \|.
var code = regexp.MustCompile("`([^`]*)`")

// TestMovingPage renders our side of the tables of MOVING.md, and holds that it
// says of every name that is left out why.
func TestMovingPage(t *testing.T) {
	page, err := os.ReadFile("MOVING.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := 0
	for line := range strings.SplitSeq(string(page), "\n") {
		cells := strings.Split(strings.ReplaceAll(line, `\|`, "\x00"), "|")
		if len(cells) != 5 || !strings.Contains(cells[2], "{{") {
			continue
		}
		clean := func(cell string) string {
			m := code.FindStringSubmatch(cell)
			if m == nil {
				return ""
			}
			return strings.NewReplacer("\x00", "|", "⏎", "\n").Replace(m[1])
		}
		o := templates.OptionsOfExamples()
		o.Name, o.Text = "MOVING.md", clean(cells[2])
		got, err := render(templates.SecretsOfExamples(), o)
		if want := clean(cells[3]); err != nil || got != want {
			t.Errorf("%s\n gives %q, %v\n want  %q", o.Text, got, err, want)
		}
		examples++
	}
	if examples < 20 {
		t.Errorf("only %d examples were found", examples)
	}
	_, without, _ := strings.Cut(string(page), "## What has no counterpart")
	without, _, _ = strings.Cut(without, "## Configuration")
	for line := range strings.SplitSeq(without, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || strings.Contains(cells[1], "functions") {
			continue
		}
		for _, m := range code.FindAllStringSubmatch(cells[1], -1) {
			_, err := templates.Parse(templates.Options{Text: "{{ " + m[1] + " }}"})
			if err == nil || !strings.Contains(hintOf(err), m[1]+" is left out: ") {
				t.Errorf("%s is not explained: %v, %s", m[1], err, hintOf(err))
			}
		}
	}
}

// consulFunctions are the functions of consul-template 0.41.1, without sprig's.
const consulFunctions = `datacenters exportedServices importedServices file key keyExists keyOrDefault ls safeLs node nodes partitions peerings secret secrets
	service connect services tree safeTree caRoots caLeaf pkiCert nomadServices nomadService nomadVarList nomadVarListSafe nomadVar nomadVarExists scratch
	base64Decode base64Encode base64URLDecode base64URLEncode byKey byPort byTag contains containsAll containsAny containsNone containsNotAll env mustEnv
	envOrDefault executeTemplate explode explodeMap mergeMap mergeMapWithOverride in indent loop join trim trimPrefix trimSuffix trimSpace parseBool parseFloat
	parseInt parseJSON parseUint parseYAML plugin regexReplaceAll regexMatch replaceAll sha256Hex md5sum hmacSHA256Hex timestamp toLower toJSON toJSONPretty
	toUnescapedJSON toUnescapedJSONPretty toTitle toTOML toUpper toYAML split splitToMap byMeta sockaddr writeToFile add subtract multiply divide modulo
	minimum maximum spew_dump spew_printf spew_sdump spew_sprintf`

func TestEveryFunctionOfConsulTemplateIsThereOrExplained(t *testing.T) {
	page, err := os.ReadFile("MOVING.md")
	if err != nil {
		t.Fatal(err)
	}
	known := templates.Names()
	for _, name := range strings.Fields(consulFunctions) {
		if slices.Contains(known, name) {
			continue
		}
		if _, err := templates.Parse(templates.Options{Text: "{{ " + name + " }}"}); err == nil || !strings.Contains(hintOf(err), name+" is left out: ") {
			t.Errorf("%s: %v, hint %q", name, err, hintOf(err))
		}
		if !strings.Contains(string(page), "`"+name+"`") && !strings.HasPrefix(name, "spew_") {
			t.Errorf("MOVING.md does not say what becomes of %s", name)
		}
	}
	for _, name := range known {
		if slices.Contains(templates.Refused(), name) {
			t.Errorf("%s is there and refused", name)
		}
	}
}
