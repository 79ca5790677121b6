package redact_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"secretsd/agent/redact"
	"secretsd/agent/secret"
)

// encodings are what a program may make of a secret before it prints it.
var encodings = map[string]func(s string) string{
	"plain":       func(s string) string { return s },
	"upper":       asciiUpper,
	"query":       url.QueryEscape,
	"path":        url.PathEscape,
	"base64":      base64Of,
	"base64 URL":  func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) },
	"hex":         func(s string) string { return hex.EncodeToString([]byte(s)) },
	"upper hex":   func(s string) string { return fmt.Sprintf("%X", s) },
	"Go list":     func(s string) string { return fmt.Sprint([]byte(s)) },
	"JSON":        func(s string) string { return strings.Trim(mustJSON(s), `"`) },
	"XML":         html.EscapeString,
	"%q":          func(s string) string { return fmt.Sprintf("%q", s) },
	"%+q":         func(s string) string { return fmt.Sprintf("%+q", s) },
	"basic auth":  func(s string) string { return base64Of("user:" + s) },
	"in a word":   func(s string) string { return "zz=" + s + ";zz" },
	"76 columns":  func(s string) string { return wrap(base64Of("z"+s), 76) },
	"colons":      func(s string) string { return strings.ReplaceAll(fmt.Sprintf("% x", s), " ", ":") },
	"coloured":    func(s string) string { return between(s, "\x1b[1;31m") },
	"shell":       func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" },
	"shell %q":    func(s string) string { return between(s, `\`) },
	"broken":      func(s string) string { return between(s, "\n  ") },
	"JSON twice":  func(s string) string { return mustJSON(mustJSON(s)) },
	"overprinted": func(s string) string { return between(s, "_\b") },
}

func asciiUpper(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, s)
}

func mustJSON(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case r < ' ' || r >= 0x7f && r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String() + `"`
}

// between puts what into s, between all of its characters.
func between(s, what string) string {
	return strings.Join(strings.Split(s, ""), what)
}

// secrets are passwords, phrases, numbers, binary keys and what else.
var secrets = rapid.OneOf(
	rapid.StringMatching(`[a-zA-Z0-9]{8,40}`),
	rapid.StringMatching(`[!-~]{8,40}`),
	rapid.StringMatching(`[a-z]{2,9}( [a-z]{2,9}){2,6}`),
	rapid.StringMatching(`[0-9]{8,20}`),
	rapid.StringMatching(`[a-zäöüß€😀"'\\%&<]{8,20}`),
	rapid.Map(rapid.SliceOfN(rapid.Byte(), 8, 64), func(b []byte) string { return string(b) }),
)

// texts are what stands around a secret.
var texts = rapid.OneOf(
	rapid.StringMatching(`([a-z]{1,12}[ \n:=,]){0,12}`),
	rapid.StringMatching(`[ -~\n\t]{0,60}`),
	rapid.Just(""),
)

// grams returns the printable parts of s that six consecutive bytes make, as
// they may not remain. What is not printed as it is cannot remain.
func grams(s string) []string {
	var all []string
	for i := 0; i+6 <= len(s); i++ {
		part := s[i : i+6]
		if strings.IndexFunc(part, func(r rune) bool { return r <= ' ' || r == utf8.RuneError || r == 0x7f }) < 0 {
			all = append(all, asciiUpper(part))
		}
	}
	return all
}

// lost reports the first of parts that is left in result.
func lost(result string, parts []string) (string, bool) {
	rest := asciiUpper(strings.ReplaceAll(result, secret.Redacted, "\x00"))
	for _, part := range parts {
		if strings.Contains(rest, part) {
			return part, true
		}
	}
	return "", false
}

// TestNothingRemains: whatever is printed of a secret, in whatever form, no six
// consecutive bytes of the secret or of that form remain.
func TestNothingRemains(t *testing.T) {
	for name, encode := range encodings {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				held := rapid.SliceOfN(secrets, 1, 4).Draw(t, "held")
				s := rapid.SampledFrom(held).Draw(t, "printed")
				from := rapid.IntRange(0, len(s)-8).Draw(t, "from")
				to := rapid.IntRange(from+8, len(s)).Draw(t, "to")
				part := s[from:to]
				before, after := texts.Draw(t, "before"), texts.Draw(t, "after")
				result := redact.Text([]byte(before+encode(part)+after), values(held...))
				if !utf8.ValidString(result) {
					t.Fatalf("no UTF-8: %q", result)
				}
				parts := grams(part)
				if left, found := lost(result, parts); found {
					t.Fatalf("%q of %q is left in %q", left, part, result)
				}
				again := redact.Text([]byte(result), values(held...))
				if left, found := lost(again, parts); found {
					t.Fatalf("%q is back in %q", left, again)
				}
			})
		})
	}
}

// TestNoPieceOfAnEncodingRemains cuts the encoding and not the secret.
func TestNoPieceOfAnEncodingRemains(t *testing.T) {
	for _, name := range []string{"plain", "upper", "query", "path", "base64", "base64 URL", "hex", "upper hex", "colons", "Go list"} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				s := secrets.Draw(t, "secret")
				encoded := encodings[name](s)
				from := rapid.IntRange(0, len(encoded)-8).Draw(t, "from")
				to := rapid.IntRange(from+8, len(encoded)).Draw(t, "to")
				printed := texts.Draw(t, "before") + encoded[from:to] + texts.Draw(t, "after")
				result := redact.Text([]byte(printed), values(s))
				if left, found := lost(result, grams(encoded[from:to])); found {
					t.Fatalf("%q is left in %q of %q", left, result, printed)
				}
			})
		})
	}
}

// TestOtherWordsStay: what is far from secrets and shares nothing with them is left
// as it is, and in its place.
func TestOtherWordsStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		held := rapid.SliceOfN(rapid.StringMatching(`[A-Z]{8,40}`), 1, 4).Draw(t, "held")
		words := rapid.SliceOfN(rapid.StringMatching(`[é.:"'-]{1,9}`), 1, 20).Draw(t, "words")
		at := rapid.IntRange(0, len(words)-1).Draw(t, "at")
		want := append([]string(nil), words...)
		words[at] += rapid.SampledFrom(held).Draw(t, "printed")
		want[at] = secret.Redacted
		result := redact.Text([]byte(strings.Join(words, " ")), values(held...))
		if result != strings.Join(want, " ") {
			t.Fatalf("got  %q\nwant %q", result, strings.Join(want, " "))
		}
	})
}

// FuzzText: no output and no secret breaks it, its result is UTF-8 without
// control characters, and no six consecutive bytes of the secret remain.
func FuzzText(f *testing.F) {
	f.Add("x hunter2 y", "hunter2", "", 0)
	f.Add("\x1b[31m\x9b\xc2\x9b1m\b\b\r", "\x1b]0;\x07secret", "plain", 3)
	f.Add(`a\u00e4\ud83d\ude00\x4\777&#x1F600;&#;&amp%4`, `{"a": ["b", {"c": "{\"d\": 1}"}]}`, "JSON", 1)
	f.Add("00000000: 6875\n*\n00000010", "https://a:b%40c@d/", "hex", 2)
	f.Fuzz(func(t *testing.T, output, held, encoding string, at int) {
		encode, known := encodings[encoding]
		if !known {
			encode = encodings["plain"]
		}
		at = max(0, min(at, len(output)))
		result := redact.Text([]byte(output[:at]+encode(held)+output[at:]), values(held))
		if result != strings.ToValidUTF8(result, "") {
			t.Fatalf("no UTF-8: %q", result)
		}
		if bad := strings.IndexFunc(result, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 }); bad >= 0 {
			t.Fatalf("a control character in %q", result)
		}
		// Of these a part is no secret.
		if json.Valid([]byte(held)) || strings.Contains(held, "-----") || strings.Contains(held, "://") {
			return
		}
		if left, found := lost(result, grams(held)); found {
			t.Fatalf("%q of %q is left in %q", left, held, result)
		}
	})
}

// BenchmarkText: a thousand secrets of 500 bytes and an output of 4 KiB, which
// has none of them.
func BenchmarkText(b *testing.B) {
	output := []byte(strings.Repeat("nginx: [emerg] unexpected \"}\" in /etc/nginx/conf.d/app.conf:12\n", 64))
	for name, kind := range map[string]string{"letters": `[a-z]{499}`, "printable": `[!-~]{500}`, "base64": `[a-zA-Z0-9]{500}`} {
		held := rapid.SliceOfN(rapid.StringMatching(kind), 1000, 1000).Example(1)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				redact.Text(output, values(held...))
			}
		})
	}
}
