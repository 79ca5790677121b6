package templates

import (
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/template/parse"
)

// The types a function's parameters may have, and how an argument is converted
// to them.
var converters = map[reflect.Type]func(any) (any, error){
	reflect.TypeFor[string]():         func(v any) (any, error) { return asText(v) },
	reflect.TypeFor[int]():            func(v any) (any, error) { return asInt(v) },
	reflect.TypeFor[float64]():        func(v any) (any, error) { return asFloat(v) },
	reflect.TypeFor[bool]():           asBool,
	reflect.TypeFor[[]any]():          needList,
	reflect.TypeFor[[]string]():       asTexts,
	reflect.TypeFor[map[string]any](): needMap,
}

// wrap makes a template function of a Go function. Its parameters are strings,
// numbers, lists and maps, to which arguments are converted, or any, which
// takes them as they are; a first parameter *call gives it the call itself.
// It returns a value, or a value and an error.
func wrap(fn any) (run func(*call) (any, error), minArgs, maxArgs int) {
	switch fn := fn.(type) {
	case func(*call) (any, error):
		return fn, 0, -1
	case func(string) string: // the most frequent, without reflection
		return func(c *call) (any, error) {
			s, err := asText(c.args[0])
			if err != nil {
				return nil, err
			}
			return fn(s), nil
		}, 1, 1
	}
	f := reflect.ValueOf(fn)
	t := f.Type()
	skip := 0
	if t.NumIn() > 0 && t.In(0) == reflect.TypeFor[*call]() {
		skip = 1
	}
	minArgs, maxArgs = t.NumIn()-skip, t.NumIn()-skip
	if t.IsVariadic() {
		minArgs, maxArgs = minArgs-1, -1
	}
	return func(c *call) (any, error) {
		in := make([]reflect.Value, 0, len(c.args)+skip)
		if skip == 1 {
			in = append(in, reflect.ValueOf(c))
		}
		for i, a := range c.args {
			v, err := convert(a, paramType(t, i+skip))
			if err != nil {
				c.bad = i + 1
				return nil, err
			}
			in = append(in, v)
		}
		out := f.Call(in)
		if len(out) == 2 {
			if err, failed := out[1].Interface().(error); failed {
				return nil, err
			}
		}
		return out[0].Interface(), nil
	}, minArgs, maxArgs
}

// paramType returns the type of parameter i.
func paramType(t reflect.Type, i int) reflect.Type {
	if t.IsVariadic() && i >= t.NumIn()-1 {
		return t.In(t.NumIn() - 1).Elem()
	}
	return t.In(i)
}

func convert(v any, t reflect.Type) (reflect.Value, error) {
	to := converters[t]
	if to == nil { // any
		if v == nil {
			return reflect.Zero(t), nil
		}
		return reflect.ValueOf(v), nil
	}
	v, err := to(v)
	return reflect.ValueOf(v), err
}

// asInt returns a whole number, cutting off a fraction as sprig's int does. It
// never makes a 0 of what is no number.
func asInt(v any) (int, error) {
	if s, ok := digitsOf(v); ok {
		if i, err := strconv.ParseInt(s, 10, 0); err == nil {
			return int(i), nil
		}
		if !strings.ContainsAny(s, ".eE") {
			return 0, notNumber(v)
		}
	}
	f, err := asFloat(v)
	if err != nil {
		return 0, err
	}
	if math.Abs(f) >= 1<<53 { // beyond it a float64 no longer holds every whole number
		return 0, fail("a number is too large")
	}
	return int(f), nil
}

// asFloat returns a number as a float64.
func asFloat(v any) (float64, error) {
	switch v := v.(type) {
	case int:
		return float64(v), nil
	case int64:
		return float64(v), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return 0, fail("a number is too large")
		}
		return v, nil
	}
	s, ok := digitsOf(v)
	if !ok {
		return 0, notNumber(v)
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, notNumber(v)
	}
	return f, nil
}

// digitsOf returns the text of a number that has one.
func digitsOf(v any) (string, bool) {
	switch v := v.(type) {
	case number:
		return v.digits, true
	case string:
		return strings.TrimSpace(v), true
	case text:
		return strings.TrimSpace(v.s), true
	case int:
		return strconv.Itoa(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	}
	return "", false
}

func notNumber(v any) *failure {
	switch kind(v) {
	case "number":
		return fail("a number is too large")
	case "text":
		return fail("a text is not a number")
	default:
		return fail("a " + kind(v) + " is given where a number is needed")
	}
}

func asBool(v any) (any, error) {
	if b, ok := v.(bool); ok {
		return b, nil
	}
	return nil, fail("a " + kind(v) + " is given where true or false is needed")
}

// needList returns a copy, which the function may keep and change.
func needList(v any) (any, error) {
	if n, ok := v.(none); v == nil || ok && n.absent {
		return []any{}, nil
	}
	l, ok := asList(v)
	if !ok {
		f := fail("a " + kind(v) + " is given where a list is needed")
		if _, ok := v.(text); ok {
			f.hint = `a JSON array alone is text; its elements are those of: fromJson (secret "NAME")`
		}
		return nil, f
	}
	return slices.Clone(l), nil
}

// needMap returns the template's own map as it is, so that set changes it, and
// a copy of a JSON object's members.
func needMap(v any) (any, error) {
	if o, ok := v.(*object); ok {
		m := make(map[string]any, len(o.members()))
		for k, e := range o.members() {
			m[k] = e
		}
		return m, nil
	}
	m, ok := asMap(v)
	if !ok {
		return nil, fail("a " + kind(v) + " is given where an object is needed")
	}
	return m, nil
}

// asTexts returns a list's elements as text; what is no list is a list of one,
// as in sprig.
func asTexts(v any) (any, error) {
	l, ok := asList(v)
	if !ok {
		l = []any{v}
	}
	out := make([]string, 0, len(l))
	total := 0
	for _, e := range l {
		s, err := asText(e)
		if err != nil {
			return nil, err
		}
		if total += len(s); total > maxText {
			return nil, errTooBig
		}
		out = append(out, s)
	}
	return out, nil
}

// constant returns the value of a number in the template: a float64 if it is
// written as one, else an int, as text/template has it. It reports false for
// complex numbers and for what no int holds.
func constant(n *parse.NumberNode) (any, bool) {
	hex := len(n.Text) > 2 && n.Text[0] == '0' && (n.Text[1] == 'x' || n.Text[1] == 'X') && !strings.ContainsAny(n.Text, "pP")
	char := n.Text[0] == '\''
	switch {
	case n.IsComplex:
		return nil, false
	case n.IsFloat && !hex && !char && strings.ContainsAny(n.Text, ".eEpP"):
		return n.Float64, true
	case n.IsInt:
		i := int(n.Int64)
		return i, int64(i) == n.Int64
	default:
		return nil, false
	}
}
