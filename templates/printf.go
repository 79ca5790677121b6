package templates

import (
	"fmt"
	"strconv"
	"strings"
)

// sprintf is fmt.Sprintf for the values of templates. What fmt would write into
// the output as %!d(…) or %!v(MISSING) is an error here: the output is a
// configuration file.
func sprintf(format string, args ...any) (string, error) {
	var b strings.Builder
	used := 0
	for format != "" {
		i := strings.IndexByte(format, '%')
		if i < 0 {
			i = len(format)
		}
		b.WriteString(format[:i])
		if format = format[i:]; format == "" {
			break
		}
		v, rest, err := parseVerb(format, args[used:])
		if err != nil {
			return "", err
		}
		format = rest
		if v.char == '%' {
			b.WriteByte('%')
			continue
		}
		used += v.stars + 1
		arg, err := v.argument(args[used-1])
		if err != nil {
			return "", err
		}
		if fmt.Fprintf(&b, v.spec, arg); b.Len() > maxText {
			return "", errTooBig
		}
	}
	if used < len(args) {
		return "", fail("there are more values than verbs in the format")
	}
	return b.String(), nil
}

// verb is one verb of a format.
type verb struct {
	spec  string // with flags, width and precision, the stars filled in
	char  byte
	stars int
}

var errFormat = &failure{msg: "the format is not valid", hint: "verbs are %s %q %v %x %X %d %b %o %c %U %e %f %g %t and %%"}

// parseVerb reads the verb that format begins with, and returns what follows.
func parseVerb(format string, args []any) (v verb, rest string, err error) {
	const widest = 10_000
	spec := strings.Builder{}
	spec.WriteByte('%')
	i := 1
	for i < len(format) && strings.IndexByte("+-# 0123456789.*", format[i]) >= 0 {
		if format[i] != '*' {
			spec.WriteByte(format[i])
			i++
			continue
		}
		if v.stars >= len(args) {
			return v, "", errMissingValue
		}
		n, err := asInt(args[v.stars])
		if err != nil {
			return v, "", err
		}
		if n < -widest || n > widest {
			return v, "", errTooBig
		}
		spec.WriteString(strconv.Itoa(n))
		v.stars++
		i++
	}
	for _, digits := range strings.FieldsFunc(spec.String(), func(r rune) bool { return r < '0' || r > '9' }) {
		if n, err := strconv.Atoi(digits); err != nil || n > widest {
			return v, "", errTooBig
		}
	}
	if i == len(format) || strings.IndexByte("%sqvxXdbocUeEfFgGt", format[i]) < 0 {
		return v, "", errFormat
	}
	v.char = format[i]
	spec.WriteByte(v.char)
	v.spec = spec.String()
	if v.char != '%' && v.stars >= len(args) {
		return v, "", errMissingValue
	}
	return v, format[i+1:], nil
}

var errMissingValue = fail("there are fewer values than verbs in the format")

// argument returns arg as the verb wants it.
func (v verb) argument(arg any) (any, error) {
	switch v.char {
	case 'd', 'b', 'o', 'c', 'U':
		if i, ok := whole(arg); ok && v.char == 'd' {
			return i, nil // more digits than an int has
		}
		return asInt(arg)
	case 'e', 'E', 'f', 'F', 'g', 'G':
		return asFloat(arg)
	case 't':
		return asBool(arg)
	case 'x', 'X':
		if kind(arg) == "number" {
			return asInt(arg)
		}
	}
	return asText(arg)
}
