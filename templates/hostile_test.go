package templates_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"secretsd/templates"
)

// tool returns the path of a program. Without it the test is skipped, or fails
// in CI, which installs it.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		for _, dir := range []string{"/usr/sbin/", "/usr/local/sbin/", "/sbin/"} {
			if path, err = exec.LookPath(dir + name); err == nil {
				break
			}
		}
	}
	if err != nil {
		lacks(t, name)
	}
	return path
}

func lacks(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing, and CI has it installed", what)
	}
	t.Skipf("%s is missing", what)
}

// hostile returns values that formats stumble over, among them random ones.
func hostile() []string {
	values := []string{
		"", "a", "app-1.2_3", "it's", `say "hi"`, `back\slash`, `\`, `\\`, `end\`, `\n`, `\'`, `\"`, "new\nline", "\n", "end\n", "\r\n", "c\rr", "\r", "tab\tx", "\t", "nul\x00x",
		"$HOME", "${HOME}", "$(id)", "`id`", "$", "$$", "a$", "!x", "!!", "100%", "%s", "%(x)s", "%%", "#c", " #c", "a #c", "a;b", "; c", "a:b", "a=b", "=", "a@b/c?d&e+f%20", " lead", "trail ", "  ", " ",
		"é", "☃", "😀", "a\u2028b", "\u00a0x", "x\u00a0", "\ufeffx", "\u0085", "\x7f", "\x01", "\x1f", "\x1b[0m", "\xff", "\xc3\x28", "'", `"`, `'"`, `'"\`, `'"\$`, `"'`, "''", `""`, "'a'", `"a"`, "`a`",
		"true", "True", "no", "NO", "on", "y", "null", "~", "1", "1.5", ".5", "0x1f", "010", "0o7", "0b1", "1e3", "1_000", "12:30", "190:20:30", "2026-01-01", "+1", "-1", ".inf", ".nan", "-", "--", "---", "...", "- a", "a: b", "a:", ": a", "a # b",
		"&a", "*a", "!!str", "|", ">", "<<", "]]>", "<!--", "<![CDATA[", "&amp;", "&#0;", "<a>", "[x]", "{x}", "{", "}", "[", ",", "@", "?", "? a", "%TAG",
		"md5abcdef", "SCRAM-SHA-256$4096:x", "*", "a\\:b", "\nlead", " a\n b", "a\n\n\nb", "a \nb", "a\n ", "-----BEGIN X-----\nAAAA\n-----END X-----\n", "{\"a\":1}", "secret()", "@file", "export A=1", "A=1\nB=2",
		strings.Repeat("x", 64<<10), strings.Repeat(`"`, 700), strings.Repeat("é☃", 300),
	}
	random := rand.New(rand.NewPCG(5, 7)) // the same each time
	for _, alphabet := range []string{`!"#$%&'()*+,-./:;<=>?@[\]^_{|}~` + "`abcXYZ019", `'"\$ a`, "'\"\\$`\n\r\t #;%:a", "aé☃😀 \u00a0\u2028\n", " \n-:#a", "abcdefghij", `\"n`} {
		letters := []rune(alphabet)
		for range 60 {
			var b strings.Builder
			for range 1 + random.IntN(12) {
				b.WriteRune(letters[random.IntN(len(letters))])
			}
			values = append(values, b.String())
		}
	}
	big := make([]byte, 64<<10)
	for i := range big {
		big[i] = byte(' ' + random.IntN(95))
	}
	return append(values, string(big))
}

// rendered renders a template over each value of the secret s, and returns
// those that the format can hold with what they became. What it cannot hold has
// to be an error of the function, without the value.
func rendered(t *testing.T, function, text string, values []string) (held, docs []string) {
	t.Helper()
	tmpl, err := templates.Parse(templates.Options{Name: "a.tmpl", Text: text})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		s := secrets{"s": v}
		res, err := templates.NewPass(s.lookup).Render(tmpl)
		if err == nil {
			held, docs = append(held, v), append(docs, string(res.Content))
			continue
		}
		var e *templates.Error
		if !errors.As(err, &e) || !strings.HasPrefix(e.Msg, function+": ") || strings.Contains(e.Msg, "cannot be done with these arguments") {
			t.Errorf("%q: the error does not say what the format lacks: %v", v, err)
		}
		if len(v) > 3 && strings.Contains(err.Error()+hintOf(err), v) {
			t.Errorf("the error shows the value: %v", err)
		}
	}
	return held, docs
}

// holds checks that a parser reads back each value that the format holds, and
// that it holds each printable character of ASCII but those of refused, between
// letters.
func holds(t *testing.T, function, text, refused string, parse func(t *testing.T, docs []string) []string) {
	t.Helper()
	for c := '!'; c <= '~'; c++ {
		_, err := render(secrets{"s": "a" + string(c) + "b"}, templates.Options{Text: text})
		if (err != nil) != strings.ContainsRune(refused, c) {
			t.Errorf("%s with %c: %v", function, c, err)
		}
	}
	held, docs := rendered(t, function, text, hostile())
	got := parse(t, docs)
	if len(got) != len(held) {
		t.Fatalf("%d of %d documents were read", len(got), len(held))
	}
	wrong := 0
	for i, want := range held {
		if got[i] != want {
			if wrong++; wrong < 20 {
				t.Errorf("%s writes %.200q as %.200q, which is read as %.200q", function, want, docs[i], got[i])
			}
		}
	}
	t.Logf("%d values, %d of them held", len(hostile()), len(held))
}

// run runs a program over standard input.
func run(t *testing.T, stdin string, argv ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", argv[0], err, errs.String())
	}
	return string(out)
}

// python returns a parser that is a Python function read(doc).
func python(t *testing.T, module, source string) func(*testing.T, []string) []string {
	t.Helper()
	python := tool(t, "python3")
	if exec.CommandContext(t.Context(), python, "-c", "import "+module).Run() != nil {
		lacks(t, "Python's module "+module)
	}
	source = "import json, sys, " + module + "\n" + source + "\nprint(json.dumps([read(doc) for doc in json.load(sys.stdin)]))\n"
	return func(t *testing.T, docs []string) []string {
		t.Helper()
		in, err := json.Marshal(docs)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		if err := json.Unmarshal([]byte(run(t, string(in), python, "-X", "utf8", "-c", source)), &got); err != nil {
			t.Fatal(err)
		}
		return got
	}
}
