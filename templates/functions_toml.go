package templates

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
)

func tomlRows() []row {
	return []row{
		{names: "toTOML toToml", args: "OBJECT", doc: "OBJECT as TOML: sorted keys, no newline at the end. TOML has no null and no numbers beyond 64 bits: those are errors.",
			example: `{{ pick (secret "db") "user" "port" "tls" | toTOML }}`, result: "port = 5432\nuser = 'app'\n\n[tls]\nca = 'CA'", fn: toTOML},
		{names: "tomlQuote", args: "TEXT", doc: "TEXT as one TOML string in double quotes.",
			example: `password = {{ tomlQuote (secret "db").password }}`, result: `password = "it's \"9\" & <more>"`, fn: tomlQuote},
	}
}

func toTOML(c *call, v any) (string, error) {
	v, err := plain(v)
	if err != nil {
		return "", err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return "", fail("TOML is a table: a " + kind(v) + " has no form in it")
	}
	if v, err = tomlValue(m); err != nil {
		return "", err
	}
	b, err := toml.Marshal(v)
	if err != nil {
		return "", fail("the value has no form in TOML")
	}
	return strings.TrimSuffix(string(b), "\n"), c.r.spend(c.node, len(b))
}

// tomlValue makes Go's numbers of JSON's.
func tomlValue(v any) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, &failure{msg: "TOML has no null", hint: "leave the key out with omit, or give it a value with set"}
	case number:
		if !strings.ContainsAny(v.digits, ".eE") {
			i, err := strconv.ParseInt(v.digits, 10, 64)
			if err != nil {
				return nil, fail("a number is too large for TOML")
			}
			return i, nil
		}
		return asFloat(v)
	case map[string]any:
		for _, k := range sortedKeys(v) {
			e, err := tomlValue(v[k])
			if err != nil {
				return nil, err
			}
			v[k] = e
		}
	case []any:
		for i, e := range v {
			e, err := tomlValue(e)
			if err != nil {
				return nil, err
			}
			v[i] = e
		}
	}
	return v, nil
}

// tomlQuote writes a basic string: quotes, backslashes and control characters
// are escaped (TOML 1.0.0, section String).
func tomlQuote(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", notUTF8("TOML")
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			b.WriteString(`\u00` + hexDigits(byte(r)))
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String(), nil
}

// hexDigits returns the two hexadecimal digits of a byte.
func hexDigits(b byte) string {
	const digits = "0123456789ABCDEF"
	return string([]byte{digits[b>>4], digits[b&15]})
}
