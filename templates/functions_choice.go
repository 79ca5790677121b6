package templates

import (
	"math/big"
	"strings"
)

func choiceRows() []row {
	return []row{
		{names: "default", args: "FALLBACK VALUE", doc: "VALUE, or FALLBACK if it is empty: zero, false, null, or without text, keys or elements.", example: `{{ (secret "db").note | default "none" }}`, result: "none",
			fn: func(fallback any, v ...any) any {
				if len(v) == 0 || !truth(v[0]) {
					return fallback
				}
				return v[0]
			}},
		{names: "coalesce", args: "VALUE...", doc: "The first value that is not empty.", example: `{{ coalesce "" (secret "db").note "c" }}`, result: "c",
			fn: func(v ...any) any {
				for _, v := range v {
					if truth(v) {
						return v
					}
				}
				return nil
			}},
		{names: "ternary", args: "YES NO CONDITION", doc: "YES if CONDITION is true, else NO.", example: `{{ hasKey (secret "db") "tls" | ternary "verify" "disable" }}`, result: "verify",
			fn: func(yes, no any, cond bool) any {
				if cond {
					return yes
				}
				return no
			}},
		{names: "empty", args: "VALUE", doc: "Whether VALUE is empty.", example: `{{ empty "" }}`, result: "true", fn: func(v any) bool { return !truth(v) }},
		{names: "not", args: "VALUE", doc: "Whether VALUE is false or empty.", example: `{{ not true }}`, result: "false", fn: func(v any) bool { return !truth(v) }},
		{names: "and", args: "VALUE...", doc: "The first empty value, or the last; later ones are not evaluated.", example: `{{ and true "b" }}`, result: "b", fn: neverCalled, min: 1},
		{names: "or", args: "VALUE...", doc: "The first value that is not empty, or the last; later ones are not evaluated.", example: `{{ or "" "b" }}`, result: "b", fn: neverCalled, min: 1},
		{names: "all", args: "VALUE...", doc: "Whether no value is empty.", example: `{{ all 1 "" }}`, result: "false",
			fn: func(v ...any) bool {
				for _, v := range v {
					if !truth(v) {
						return false
					}
				}
				return true
			}},
		{names: "any", args: "VALUE...", doc: "Whether some value is not empty.", example: `{{ any 1 "" }}`, result: "true",
			fn: func(v ...any) bool {
				for _, v := range v {
					if truth(v) {
						return true
					}
				}
				return false
			}},
		{names: "eq", args: "A B...", doc: "Whether A equals one of the others. Numbers compare by value; a JSON object equals its text.", example: `{{ eq (secret "pin") "0042" }}, {{ eq (secret "db").port 5432 }}`, result: "true, true",
			fn: func(a any, b any, more ...any) (bool, error) {
				for _, b := range append([]any{b}, more...) {
					if same, err := equal(a, b); same || err != nil {
						return same, err
					}
				}
				return false, nil
			}},
		{names: "ne", args: "A B", doc: "Whether A and B differ.", example: `{{ ne "a" "b" }}`, result: "true",
			fn: func(a, b any) (bool, error) { same, err := equal(a, b); return !same, err }},
		{names: "lt", args: "A B", doc: "Whether A is less than B; texts or numbers.", example: `{{ lt (secret "db").port 6000 }}`, result: "true",
			fn: func(a, b any) (bool, error) { n, err := compare(a, b); return n < 0, err }},
		{names: "le", args: "A B", doc: "Whether A is at most B.", example: `{{ le 1 1.0 }}`, result: "true",
			fn: func(a, b any) (bool, error) { n, err := compare(a, b); return n <= 0, err }},
		{names: "gt", args: "A B", doc: "Whether A is more than B.", example: `{{ gt "b" "a" }}`, result: "true",
			fn: func(a, b any) (bool, error) { n, err := compare(a, b); return n > 0, err }},
		{names: "ge", args: "A B", doc: "Whether A is at least B.", example: `{{ ge 1 2 }}`, result: "false",
			fn: func(a, b any) (bool, error) { n, err := compare(a, b); return n >= 0, err }},
		{names: "deepEqual", args: "A B", doc: "Whether A and B hold the same, whatever the order of keys.", example: `{{ deepEqual (list 1) (list 1) }}`, result: "true", fn: deepEqual},
		{names: "semverCompare", args: "CONSTRAINT VERSION", doc: "Whether a version meets a constraint.", example: `{{ semverCompare "^1.2.0" "1.3.0" }}`, result: "true"},
		{names: "kindOf", args: "VALUE", doc: "string, int, int64, float64, bool, map, slice or invalid; a number from JSON is a float64.", example: `{{ kindOf (secret "db") }} {{ kindOf (secret "pin") }}`, result: "map string", fn: kindOf},
		{names: "kindIs", args: "KIND VALUE", doc: "Whether kindOf gives KIND.", example: `{{ kindIs "map" (secret "db") }}`, result: "true",
			fn: func(k string, v any) bool { return kindOf(v) == k }},
		{names: "fail", args: "MESSAGE", doc: "Ends with an error. MESSAGE is shown if it is made of nothing but literals, variables and version ids, for it could hold a value else.", example: `{{ if not (secret "pin") }}{{ fail "no pin" }}{{ end }}`, result: "", fn: failWith, min: 1, max: 1},
	}
}

// neverCalled stands for and, or, include and executeTemplate, which are the
// evaluator's own.
func neverCalled(*call) (any, error) { return nil, errLibrary }

// failWith shows a message only where the checker has seen that it is made of
// the template's text: that it equals such a text would still tell a value.
func failWith(c *call) (any, error) {
	f := &failure{msg: "the template says so, with a computed message that is not shown because it may hold a value", refused: true}
	if c.r.t.shown[c.node] {
		msg, err := asText(c.args[0])
		if err != nil {
			return nil, err
		}
		f.msg = cutTo(strings.Join(strings.Fields(msg), " "), 500)
	}
	return nil, f
}

func kindOf(v any) string {
	switch v := v.(type) {
	case int:
		return "int"
	case int64:
		return "int64"
	case bool:
		return "bool"
	default:
		return map[string]string{"nil": "invalid", "null": "invalid", "text": "string", "bytes": "string", "number": "float64", "object": "map", "list": "slice"}[kind(v)]
	}
}

// equal is what eq, in and without mean by it.
func equal(a, b any) (bool, error) {
	ka, kb := comparedKind(a), comparedKind(b)
	switch {
	case ka == "null" || kb == "null":
		return ka == kb, nil
	case (ka == "object" || ka == "list") && kb == ka:
		return deepEqual(a, b)
	case ka == "object" && kb == "text" || ka == "text" && kb == "object":
		s, err := asText(a)
		if err != nil {
			return false, err
		}
		t, err := asText(b)
		return s == t, err
	}
	if ka == "bool" && kb == "bool" {
		return a == b, nil
	}
	n, err := compare(a, b)
	return n == 0, err
}

// contained is equality with one of a list, where values of different kinds
// differ.
func contained(l []any, v any) (bool, error) {
	for _, e := range l {
		if comparedKind(e) != comparedKind(v) {
			continue
		}
		if same, err := equal(e, v); same || err != nil {
			return same, err
		}
	}
	return false, nil
}

// comparedKind is kind with what is alike in comparisons made one.
func comparedKind(v any) string {
	switch k := kind(v); k {
	case "nil":
		return "null"
	case "bytes":
		return "text"
	default:
		return k
	}
}

// compare returns -1, 0 or 1.
func compare(a, b any) (int, error) {
	ka, kb := comparedKind(a), comparedKind(b)
	if ka != kb {
		return 0, fail("a " + ka + " and a " + kb + " cannot be compared")
	}
	switch ka {
	case "text":
		s, _ := asText(a)
		t, _ := asText(b)
		return strings.Compare(s, t), nil
	case "number":
		return compareNumbers(a, b)
	default:
		return 0, fail("a " + ka + " is neither less nor more than another")
	}
}

// compareNumbers compares whole numbers exactly, however long, and all others
// as float64.
func compareNumbers(a, b any) (int, error) {
	x, xok := whole(a)
	y, yok := whole(b)
	if xok && yok {
		return x.Cmp(y), nil
	}
	f, err := asFloat(a)
	if err != nil {
		return 0, err
	}
	g, err := asFloat(b)
	if err != nil {
		return 0, err
	}
	switch {
	case f < g:
		return -1, nil
	case f > g:
		return 1, nil
	default:
		return 0, nil
	}
}

func whole(v any) (*big.Int, bool) {
	s, ok := digitsOf(v)
	if !ok || strings.ContainsAny(s, ".eE") {
		return nil, false
	}
	return new(big.Int).SetString(s, 10)
}

func deepEqual(a, b any) (bool, error) {
	s, err := encodeJSON(a, "")
	if err != nil {
		return false, err
	}
	t, err := encodeJSON(b, "")
	return s == t, err
}
