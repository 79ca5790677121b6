package redact_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"iter"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"secretsd/agent/redact"
	"secretsd/agent/secret"
)

func values(texts ...string) iter.Seq[secret.Value] {
	return func(yield func(secret.Value) bool) {
		for _, text := range texts {
			if !yield(secret.NewValue(text)) {
				return
			}
		}
	}
}

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const password = `s3cr#t/Pa"ss\wörd+<&>`

const privateKey = `-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
`

// TestForms: want is the whole of what is left.
func TestForms(t *testing.T) {
	userPassword := jsonOf(t, map[string]any{"user": "application", "password": password, "port": 65432, "ok": true})
	for _, row := range []struct{ name, value, output, want string }{
		{"itself", password, "password " + password + " is wrong\n", "password [redacted] is wrong\n"},
		{"twice", "hunter2", "a hunter2 b hunter2 hunter2\tc", "a [redacted] b [redacted]\tc"},
		{"in a word", "hunter2", "x PASSWORD='hunter2', y", "x [redacted] y"},
		{"another case", "hunter2", "x HUNTER2 y", "x [redacted] y"},
		{"its beginning", "correcthorsebattery", "x correcth y", "x [redacted] y"},
		{"its end", "correcthorsebattery", "x attery y", "x [redacted] y"},
		{"its middle", "correcthorsebattery", "x 00orseba00 y", "x [redacted] y"},
		{"too little of it", "correcthorsebattery", "x horse y", "x horse y"},
		{"a colour in it", "hunter2", "x hun\x1b[1;31mter2\x1b[0m y", "x [redacted] y"},
		{"another colour in it", "hunter2", "x hun\u009b31mter2 y", "x [redacted] y"},
		{"a title in it", "hunter2", "x hun\x1b]0;title\x07te\x1b]0;title\x1b\\r\x1b(B2 y", "x [redacted] y"},
		{"control characters in it", "hunter2", "x h\x00u\x01n\x7ft\u0085e\u200br\x0e2 y", "x [redacted] y"},
		{"a control character in a short one", "hunt", "x hu\u0085nt y", "x [redacted] y"},
		{"a title without an end", "hunter2", "x \x1b]0;hunter2\ny", "x [redacted]\ny"},
		{"overstruck", "hunter2", "x h\bhu\bun\bnt\bte\ber\br2\b2 y", "x [redacted] y"},
		{"broken over lines", "correcthorsebattery", "x correc\nthorse\r\n  battery y", "x [redacted] y"},
		{"a carriage return in it", "correcthorsebattery", "x cor\rrect\rhorse y", "x [redacted] y"},
		{"three bytes", "abc", "x abc xabcx ab y", "x [redacted] ab y"},
		{"two bytes alone", "ab", "x ab, cab ab=1 y", "x [redacted] cab [redacted] y"},
		{"one byte alone", "7", "x 7 17 y", "x [redacted] 17 y"},
		{"two bytes beside a letter", "ab", "x éab abé ab, y", "x éab abé [redacted] y"},
		{"nothing", "", "x y", "x y"},
		{"white space", " \n", "x y", "x y"},
		{"white space around it", "\n hunter2\n", "x hunter2 y", "x [redacted] y"},
		{"one of its short words", "my cat sat there", "x cat pit y", "x [redacted] pit y"},
		{"words wrapped", "a b c d e f", "x a b\n\tc d y", "x [redacted] y"},
		{"what looks escaped, wrapped", "a%41b%42c%43", "x a%41\nb%42\nc%43 y", "x [redacted] y"},
		{"set -x", `it's a $ecret`, `+ psql 'it'\''s a $ecret' x`, "+ psql [redacted] x"},
		{"printf %q", `p$s wo(r)d;x`, `x p\$s\ wo\(r\)d\;x y`, "x [redacted] y"},
		{"SQL quoting", `o'h'u'n't'e'r`, `x 'o''h''u''n''t''e''r' y`, "x [redacted] y"},
		{"printenv of JSON", userPassword, "DB=" + userPassword + "\nHOME=/root", "[redacted]\nHOME=/root"},
		{"a leaf of JSON", userPassword, "x " + password + " y", "x [redacted] y"},
		{"a number of JSON", userPassword, "port 65432: refused", "port [redacted] refused"},
		{"no key of JSON", userPassword, "password true", "password true"},
		{"the first of equal keys", `{"a": "hunter2", "a": "hunter3"}`, "x hunter2 y", "x [redacted] y"},
		{"a password that names an engine", `{"engine": "postgres", "password": "postgres"}`, "x postgres y", "x [redacted] y"},
		{"an engine that is none", `{"engine": "hunter2"}`, "x hunter2 y", "x [redacted] y"},
		{"JSON in an array", `["x", {"a": [["hunter2"]]}]`, "hunter2", "[redacted]"},
		{"JSON in JSON", jsonOf(t, map[string]string{"a": userPassword}), "x " + password + " y", "x [redacted] y"},
		{"JSON in JSON as text", jsonOf(t, map[string]string{"a": userPassword}), "x " + userPassword + " y", "x [redacted] y"},
		{"a leaf of JSON in JSON", `{"a": "{\"b\": [\"hunt\", 47]}"}`, "x hunt 47 y", "x [redacted] y"},
		{"a JSON string", `"hunt"`, "x hunt y", "x [redacted] y"},
		{"as JSON", password, `{"a": ` + jsonOf(t, password) + `}`, `{"a": [redacted]`},
		{"as JSON of ASCII", "pässwörd", `x "p\u00e4ssw\u00f6rd" y`, `x [redacted] y`},
		{"as JSON with surrogates", "a😀b😀c", `x "a\ud83d\ude00b\ud83d\ude00c" y`, `x [redacted] y`},
		{"in a query", password, "GET /?p=" + url.QueryEscape(password) + " 200", "GET [redacted] 200"},
		{"in a path", password, "GET /" + url.PathEscape(password) + " 200", "GET [redacted] 200"},
		{"all in per cent", "hunter2", "x %68%75%6E%74%65%72%32 y", "x [redacted] y"},
		{"as encodeURIComponent", "a!b(c)d'e*f g", "GET /?p=a!b(c)d'e*f%20g 200", "GET [redacted] 200"},
		{"in a URL", "hunter2", "connect postgres://app:hunter2@db/x: refused", "connect [redacted] refused"},
		{"of a URL", "postgres://app:p%40ss@db/x", "x p@ss y", "x [redacted] y"},
		{"base64", password, "x " + base64Of(password) + " y", "x [redacted] y"},
		{"Basic authorization", "hunter2", "> Authorization: Basic " + base64Of("user:hunter2"), "> Authorization: Basic [redacted]"},
		{"Basic authorization, shifted", "hunter2", "Basic " + base64Of("users:hunter2"), "Basic [redacted]"},
		{"Basic authorization, shifted again", "hunter2", "Basic " + base64Of("userss:hunter2"), "Basic [redacted]"},
		{"short Basic authorization", "pwd", "Basic " + base64Of("us:pwd!"), "Basic [redacted]"},
		{"base64 of URLs", "\xfb\xff\xfe?>?>?>~~~", "x " + base64.RawURLEncoding.EncodeToString([]byte("\xfb\xff\xfe?>?>?>~~~")) + " y", "x [redacted] y"},
		{"of base64", base64Of("hunter2 and more"), "x hunter2 y", "x [redacted] y"},
		{"what only looks like base64", "ACIAAAAA", "x \" y", "x \" y"},
		{"hex of base64", base64Of("\xff\x00\xfe\x01\xfd\x02\xfc\xfb\xfa"), "x ff00fe01fd02fcfbfa y", "x [redacted] y"},
		{"hex", password, "x " + hex.EncodeToString([]byte(password)) + " y", "x [redacted] y"},
		{"capital hex", password, fmt.Sprintf("x %X y", password), "x [redacted] y"},
		{"hex with spaces", password, fmt.Sprintf("x % x y", password), "x [redacted] y"},
		{"hex with colons", "hunter2", "x 68:75:6e:74:65:72:32 y", "x [redacted] y"},
		{"hexdump", "hunter2", "0000000 6e75 6574 3272\n0000006\nx", "[redacted]\nx"},
		{"hexdump of zeros", "hunter2", "0000000 6e75 6574 3272\n*\n0000040\nx", "[redacted]\nx"},
		{"a list is no dump", "hunter2", "* hunter2\n* 0123456", "* [redacted]\n* 0123456"},
		{"another dump", "hunter2", "0000000 6e75 6574 3272\nx\n0000000 1234\n0000002\n", "[redacted]\nx\n0000000 1234\n0000002\n"},
		{"decimal", "hunter2", fmt.Sprint("x ", []byte("hunter2"), " y"), "x [redacted] y"},
		{"decimal with commas", "hunter2", "x [104, 117, 110, 116] [104,117,110] y", "x [redacted] y"},
		{"Go %q", "h\x01\"ü\n\\nter2", fmt.Sprintf("x %q y", "h\x01\"ü\n\\nter2"), "x [redacted] y"},
		{"C escapes", "h\au\an\at\ae\ar\a2", `x "h\au\an\at\ae\ar\a2" y`, "x [redacted] y"},
		{"NUL escapes", "h\x00u\x00n\x00t\x00e\x00r\x002", `x "h\0u\0n\0t\0e\0r\0002" y`, "x [redacted] y"},
		{"Python ascii", "😀a😀b😀", `x '\U0001f600a\U0001f600b\U0001f600' y`, "x [redacted] y"},
		{"Go %+q", "häußer2", fmt.Sprintf("x %+q y", "häußer2"), "x [redacted] y"},
		{"Python repr of bytes", "h\xff\xfeter\xfd2", `x b'h\xff\xfeter\xfd2' y`, "x [redacted] y"},
		{"octal escapes", "häußer2", `x $'h\303\244u\303\237er2' y`, "x [redacted] y"},
		{"bytes", "\xff\xfe\xfd\xfc\xfb\xfa\x00\xf9", "x \xff\xfe\xfd\xfc\xfb\xfa\x00\xf9 \xff y", "x [redacted] \uFFFD y"},
		{"XML", `a<b>c&d"e'f`, "x " + html.EscapeString(`a<b>c&d"e'f`) + " y", "x [redacted] y"},
		{"XML by numbers", "hunter2", "x &#104;&#x75;nter2 y", "x [redacted] y"},
		{"a PEM", privateKey, privateKey, "-----BEGIN PRIVATE KEY-----\n[redacted]\n-----END PRIVATE KEY-----\n"},
		{"a line of a PEM", privateKey, "x\n> MC4CAQAwBQYD\ny", "x\n> [redacted]\ny"},
		{"a PEM in JSON", jsonOf(t, map[string]string{"key": privateKey}), privateKey, "-----BEGIN PRIVATE KEY-----\n[redacted]\n-----END PRIVATE KEY-----\n"},
		{"base64 in lines", privateKey, wrap(base64Of(privateKey), 76), "[redacted]"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := redact.Text([]byte(row.output), values("an ordinary-one", row.value))
			if strings.HasPrefix(row.name, "base64 in lines") {
				// What encodes only the PEM's own first line is no secret.
				got = got[strings.Index(got, secret.Redacted):]
				got, _, _ = strings.Cut(got, "\n")
			}
			if got != row.want {
				t.Errorf("%q of %q\n got %q\nwant %q", row.output, row.value, got, row.want)
			}
		})
	}
}

func wrap(s string, width int) string {
	var lines []string
	for line := range slices.Chunk([]byte(s), width) {
		lines = append(lines, string(line))
	}
	return strings.Join(lines, "\n")
}

// need skips the test where tool is missing; CI has to have it.
func need(t *testing.T, tool string) {
	t.Helper()
	_, err := exec.LookPath(tool)
	if err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing; .ci/run has to install it", tool)
	}
	t.Skipf("%s is missing", tool)
}

// TestRealDumps runs the programs whose output would be guessed otherwise.
func TestRealDumps(t *testing.T) {
	const hunted = `correct'Horse$battery staple "quoted"`
	for _, row := range []struct{ tool, script string }{
		{"bash", `set -x; : "$S"`},
		{"bash", `set -x; : "x=$S"`},
		{"bash", `printf '%q' "$S"`},
		{"bash", `declare -p S`},
		{"sh", `set -x; : "$S"`},
		{"env", `env`},
		{"od", `printf %s "$S" | od -c`},
		{"od", `printf %s "$S" | od -x`},
		{"od", `printf %s "$S" | od -An -tx1`},
		{"od", `printf %s "$S" | od -t d1`},
		{"xxd", `printf %s "$S" | xxd`},
		{"xxd", `printf %s "$S" | xxd -p`},
		{"hexdump", `printf %s "$S" | hexdump`},
		{"hexdump", `printf %s "$S" | hexdump -C`},
		{"base64", `printf 'user:%s' "$S" | base64 -w 20`},
		{"python3", `python3 -c 'import os; print(repr(os.environ["S"]), ascii(os.environb[b"S"]), list(os.environb[b"S"]))'`},
		{"python3", `python3 -c 'import os, json; print(json.dumps({"a": json.dumps(os.environ["S"])}))'`},
		{"python3", `python3 -c 'import os, sys; sys.exit(os.environ["S"])'`},
	} {
		t.Run(row.script, func(t *testing.T) {
			need(t, row.tool)
			shell := "sh"
			if row.tool == "bash" {
				shell = "bash"
			}
			for pad := range 8 {
				cmd := exec.CommandContext(t.Context(), shell, "-c", row.script)
				cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "S=" + strings.Repeat("z", pad) + hunted}
				output, err := cmd.CombinedOutput()
				if len(output) == 0 {
					t.Fatalf("printed nothing: %v", err)
				}
				got := redact.Text(output, values(hunted))
				if !strings.Contains(got, secret.Redacted) {
					t.Fatalf("nothing was found in\n%s", output)
				}
				for _, part := range []string{"correct", "horse", "batt", "stap", "quot", "6261", "6162", "ttery", "c t", "7474"} {
					if strings.Contains(strings.ToLower(got), part) {
						t.Errorf("%q is left in\n%s\nof\n%s", part, got, output)
					}
				}
			}
		})
	}
}

// TestMessagesStayReadable: what ordinary tools say, while the agent holds
// ordinary secrets, is logged as it was said.
func TestMessagesStayReadable(t *testing.T) {
	held := []string{
		`{"engine":"postgres","host":"db-7.cluster-x1.eu-central-1.rds.amazonaws.com","username":"orders_rw","password":"vK3$x!9qLm)2Zt","port":5432}`,
		privateKey,
		"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
		"hunter2",
		"\x00\x9f\x12\x44\xfe\x10\x99\x80\x7f\x01\x02\x03",
		`["sk_live_4eC39HqLyjWDarjtT1zdp7dc", true, null, 17]`,
		"postgres://orders_rw:vK3$x!9qLm)2Zt@10.20.30.40/orders",
	}
	for _, message := range []string{
		`nginx: [emerg] unexpected "}" in /etc/nginx/conf.d/app.conf:12` + "\n",
		"nginx: configuration file /etc/nginx/nginx.conf test failed\n",
		`nginx: [emerg] cannot load certificate key "/run/tls/tls.key": PEM_read_bio_PrivateKey() failed (SSL: error:0909006C:PEM routines:get_name:no start line)`,
		"Job for app.service failed because the control process exited with error code.\nSee \"systemctl status app.service\" for details.\n",
		"curl: (7) Failed to connect to localhost port 8443 after 0 ms: Couldn't connect to server",
		"/usr/local/bin/reload.sh: line 12: haproxyctl: command not found",
		"Traceback (most recent call last):\n  File \"/opt/hook.py\", line 3, in <module>\n    import requests\nModuleNotFoundError: No module named 'requests'",
		"2026/11/25 09:04:53 reload of 12 workers done in 431ms, commit be9bc0c7d43aee5994d88",
		"pg_ctl: PID file \"/var/lib/postgresql/15/main/postmaster.pid\" does not exist",
		"Ünïcödé: файл не найден, 見つかりません\n\n\tindented\n",
	} {
		if got := redact.Text([]byte(message), values(held...)); got != message {
			t.Errorf("got  %q\nwant %q", got, message)
		}
	}
}

// TestTerminalCodesGo: what is left is text, whatever was printed.
func TestTerminalCodesGo(t *testing.T) {
	const output = "a\n\bb\b\x1b[1;31mfailed\x1b[0m:\x07 50%\r100%\r\n\ttab \x1b]0;no end\x1b"
	if got, want := redact.Text([]byte(output), values("hunter2")), "a\nfailed: 50%\n100%\n\ttab 0;no end"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLengthDoesNotShow: the result is the same for secrets of all lengths.
func TestLengthDoesNotShow(t *testing.T) {
	const alphabet = "kQ7vXz2LpR9wMtY4cHs8JfN3bDg6"
	for name, show := range map[string]func(s string) string{
		"itself":  func(s string) string { return s },
		"words":   func(s string) string { return wrap(s, 7) },
		"base64":  func(s string) string { return wrap(base64Of(s), 76) },
		"hex":     func(s string) string { return fmt.Sprintf("% x", s) },
		"xxd":     func(s string) string { return dump(s, "%08x: % -40x  %s\n", 0) },
		"hexdump": func(s string) string { return dump(s, "%08x  % -48x |%s|\n", 8) },
	} {
		t.Run(name, func(t *testing.T) {
			results := map[string]int{}
			for length := 8; length < 200; length++ {
				s := strings.Repeat(alphabet, 8)[:length]
				results[redact.Text([]byte("before "+show(s)+" #after"), values(s))]++
				results[redact.Text([]byte("before\n"+show(s)+"\n#after"), values(s))]++
			}
			if len(results) != 2 {
				t.Errorf("%d results: %v", len(results), results)
			}
		})
	}
}

// dump prints lines of 16 bytes with format, and the length after them in as
// many digits as asked for.
func dump(s, format string, digits int) string {
	var b strings.Builder
	b.WriteString("\n")
	for at := 0; at < len(s); at += 16 {
		line := s[at:min(at+16, len(s))]
		fmt.Fprintf(&b, format, at, line, line)
	}
	if digits > 0 {
		fmt.Fprintf(&b, "%0*x\n", digits, len(s))
	}
	return b.String()
}
