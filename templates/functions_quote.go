package templates

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

func quoteRows() []row {
	return []row{
		{names: "xmlText", args: "TEXT", doc: "TEXT between the tags of an XML element.",
			example: `<p>{{ xmlText (secret "db").password }}</p>`, result: `<p>it's "9" &amp; &lt;more&gt;</p>`, fn: func(s string) (string, error) { return xmlEscape(s, xmlInText) }},
		{names: "xmlAttr", args: "TEXT", doc: "TEXT in the quotes of an XML attribute, single or double.",
			example: `<p a="{{ xmlAttr (secret "db").password }}"/>`, result: `<p a="it&#39;s &#34;9&#34; &amp; &lt;more&gt;"/>`, fn: func(s string) (string, error) { return xmlEscape(s, xmlInAttr) }},
		{names: "nginxQuote", args: "TEXT", doc: "TEXT as one parameter of an nginx directive. There is no way to write a $ in a directive that takes variables: it is an error, as is more than nginx reads.",
			example: `set $p {{ nginxQuote (secret "db").password }};`, result: `set $p "it's \"9\" & <more>";`, fn: nginxQuote},
		{names: "iniValue", args: "TEXT", doc: "TEXT as it is, if all readers of INI files agree on it; quotes, escapes, comments and interpolation differ between them and are errors.",
			example: `user = {{ iniValue (secret "db").user }}`, result: `user = app`, fn: iniValue},
		{names: "iniPython", args: "TEXT", doc: "TEXT as a value for Python's configparser, whose interpolation wants % doubled.",
			example: `password = {{ iniPython "50% #; \"x\"" }}`, result: `password = 50%% #; "x"`, fn: iniPython},
		{names: "myCnfQuote", args: "TEXT", doc: "TEXT as a value of an option file of MySQL or MariaDB, such as my.cnf.",
			example: `password={{ myCnfQuote (secret "db").password }}`, result: `password="it's \"9\" & <more>"`, fn: myCnfQuote},
		{names: "propertiesKey", args: "TEXT", doc: "TEXT as a key of a Java properties file, in ASCII.",
			example: `{{ propertiesKey "a key" }}=1`, result: `a\ key=1`, fn: func(s string) (string, error) { return propertiesEscape(s, " =:#!") }},
		{names: "propertiesValue", args: "TEXT", doc: "TEXT as a value of a Java properties file, in ASCII.",
			example: `p={{ propertiesValue " é\\" }}`, result: `p=\ \u00E9\\`, fn: func(s string) (string, error) { return propertiesEscape(s, "") }},
		{names: "toProperties", args: "OBJECT", doc: "OBJECT as a Java properties file: a line for each key, sorted. Its values are texts, numbers, true or false.",
			example: `{{ pick (secret "db") "user" "port" | toProperties }}`, result: "port=5432\nuser=app\n", fn: toProperties},
	}
}

// forbidden are characters that a format cannot hold, and what they are called.
type forbidden struct{ chars, name string }

var (
	noNUL    = forbidden{"\x00", "a NUL byte"}
	noBreaks = forbidden{"\n\r", "a line break"}
)

// without returns an error if s holds what a format cannot.
func without(s, format string, what ...forbidden) error {
	for _, f := range what {
		if strings.ContainsAny(s, f.chars) {
			return fail(f.name + " cannot stand in " + format)
		}
	}
	return nil
}

// trimmed returns an error if a reader that cuts off white space would change
// s. What white space is differs; here it is all that some reader holds for it.
func trimmed(s, format string) error {
	blank := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '\ufeff' }
	if s != "" && strings.TrimFunc(s, blank) != s {
		return fail("white space at the ends cannot stand in " + format)
	}
	return nil
}

var (
	xmlInText = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#xD;")
	xmlInAttr = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;", "\t", "&#x9;", "\n", "&#xA;", "\r", "&#xD;")
)

// xmlEscape escapes what a parser would take for markup or normalise. XML has
// no form at all for most control characters (XML 1.0, production 2).
func xmlEscape(s string, with *strings.Replacer) (string, error) {
	if !utf8.ValidString(s) {
		return "", notUTF8("XML")
	}
	if strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF
	}) {
		return "", &failure{msg: "a control character cannot stand in XML", hint: "encode it with base64Encode"}
	}
	return with.Replace(s), nil
}

// nginxQuote uses double quotes, in which nginx takes a backslash before one of
// a few characters as an escape. A parameter has to fit into its buffer of 4096
// bytes (ngx_conf_file.c).
func nginxQuote(s string) (string, error) {
	if err := without(s, "an nginx configuration", noNUL); err != nil {
		return "", err
	}
	if strings.Contains(s, "$") {
		return "", &failure{msg: "a $ begins a variable of nginx and cannot be escaped", hint: `rotate to a password without one, or define: geo $dollar { default "$"; } and replace it by ${dollar}`}
	}
	s = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
	if len(s) > 4000 {
		return "", fail("the text is longer than a parameter of nginx may be")
	}
	return s, nil
}

func iniValue(s string) (string, error) {
	const format = "an INI file that every reader takes alike"
	if !utf8.ValidString(s) {
		return "", notUTF8("an INI file")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", fail("a line break or control character cannot stand in " + format)
	}
	err := without(s, format, forbidden{"#;", "a # or ;"}, forbidden{"%$", "a % or $"}, forbidden{"\\`", "a backslash or backquote"}, forbidden{`"'`, "a quote"})
	if f, ok := err.(*failure); ok { //nolint:errorlint // without returns nothing else
		f.hint = "use what the reader knows: iniPython, myCnfQuote, or quotes of your own"
		return "", f
	}
	return s, trimmed(s, "an INI file")
}

// iniPython serves configparser as it is by default: no inline comments, values
// stripped, BasicInterpolation.
func iniPython(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", notUTF8("an INI file")
	}
	if err := without(s, "an INI file", noNUL, noBreaks); err != nil {
		return "", err
	}
	return strings.ReplaceAll(s, "%", "%%"), trimmed(s, "an INI file")
}

// myCnfQuote uses double quotes and the escapes of option files
// (https://dev.mysql.com/doc/refman/8.4/en/option-files.html). A line is read
// into a buffer of 4096 bytes, and what is longer becomes another line.
func myCnfQuote(s string) (string, error) {
	if err := without(s, "an option file", noNUL); err != nil {
		return "", err
	}
	s = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\b", `\b`).Replace(s) + `"`
	if len(s) > 4000 {
		return "", fail("the text is longer than a line of an option file may be")
	}
	return s, nil
}

// propertiesEscape writes ASCII, which is read alike as ISO 8859-1, the default
// until Java 9, and as UTF-8 (java.util.Properties, method load).
func propertiesEscape(s, more string) (string, error) {
	if !utf8.ValidString(s) {
		return "", notUTF8("a properties file")
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == '\\' || strings.ContainsRune(more, r) || i == 0 && r == ' ':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r >= ' ' && r < 0x7f:
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04X\u%04X`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04X`, r)
		}
	}
	return b.String(), nil
}

func toProperties(m any) (string, error) {
	return eachLine(m, func(key, value string) (string, error) {
		k, err := propertiesEscape(key, " =:#!")
		if err != nil {
			return "", err
		}
		v, err := propertiesEscape(value, "")
		return k + "=" + v, err
	})
}

// eachLine makes one line of every key of an object, whose values have to be
// single ones.
func eachLine(v any, line func(key, value string) (string, error)) (string, error) {
	m, ok := asMap(v)
	if !ok {
		return "", fail("a " + kind(v) + " is given where an object is needed")
	}
	var b strings.Builder
	for _, key := range sortedKeys(m) {
		if k := kind(m[key]); k == "object" || k == "list" || k == "nil" {
			return "", about(v, key, "is a "+k+", not a text or number", "leave it out with omit, or make text of it with json")
		}
		value, err := asText(m[key])
		if err != nil {
			return "", err
		}
		l, err := line(key, value)
		if f, ok := err.(*failure); ok { //nolint:errorlint // a function's own
			return "", about(v, key, "has no form here: "+f.msg, f.hint)
		}
		if err != nil {
			return "", err
		}
		b.WriteString(l + "\n")
	}
	return b.String(), nil
}

// about says something of a key. It is named if it comes from a secret: the keys
// of an object that the template made may hold values.
func about(v any, key, msg, hint string) *failure {
	f := &failure{msg: "a key " + msg, hint: hint}
	if o, ok := v.(*object); ok && o.from.secret != "" {
		f.msg = o.from.child(key).String() + " " + msg
		f.secret = o.from.secret
	}
	return f
}

var variableName = pattern(`^[A-Za-z_][A-Za-z0-9_]*$`)
