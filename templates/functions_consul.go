package templates

import (
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // what reads the result asks for it; nothing here relies on it
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"strings"
	"unicode"
	"unicode/utf8"
)

// consulRows are functions that come from consul-template alone.
func consulRows() []row {
	return []row{
		{names: "containsAll", args: "LIST WHOLE", doc: "Whether WHOLE, a list or a text, holds all of LIST.",
			example: `{{ containsAll (list "a" "b") (secret "db").hosts }}`, result: "true", fn: containsSome(true, true)},
		{names: "containsAny", args: "LIST WHOLE", doc: "Whether WHOLE holds one of LIST.",
			example: `{{ containsAny (list "x" "b") (secret "db").hosts }}`, result: "true", fn: containsSome(false, false)},
		{names: "containsNone", args: "LIST WHOLE", doc: "Whether WHOLE holds none of LIST.",
			example: `{{ containsNone (list "x" "b") (secret "db").hosts }}`, result: "false", fn: containsSome(true, false)},
		{names: "containsNotAll", args: "LIST WHOLE", doc: "Whether WHOLE lacks one of LIST.",
			example: `{{ containsNotAll (list "x" "b") (secret "db").hosts }}`, result: "true", fn: containsSome(false, true)},
		{names: "splitToMap", args: "SEPARATOR BETWEEN TEXT", doc: "An object of the parts of TEXT that have a key and a value with BETWEEN between them. White space at the ends of TEXT is dropped.",
			example: `{{ (splitToMap "," "=" "a=1,b=2").b }}`, result: "2", fn: splitToMap},
		{names: "loop", args: "[START] END", doc: "The whole numbers from START, or 0, up to END.",
			example: `{{ range loop 5 8 }}{{ . }}{{ end }}`, result: "567", fn: loop, min: 1, max: 2},
		{names: "explodeMap", args: "OBJECT", doc: "OBJECT with keys such as a/b made objects in objects.",
			example: `{{ explodeMap (dict "a/b" 1 "a/c" 2) | json }}`, result: `{"a":{"b":1,"c":2}}`, fn: explodeMap},
		{names: "mergeMap", args: "OBJECT OTHER", doc: "The same as merge.",
			example: `{{ mergeMap (dict "a" 1) (dict "a" 2 "b" 3) | json }}`, result: `{"a":1,"b":3}`,
			fn: func(m, o map[string]any) (map[string]any, error) { return mergeAll(m, []map[string]any{o}, false) }},
		{names: "mergeMapWithOverride", args: "OBJECT OTHER", doc: "The same as mergeOverwrite.",
			example: `{{ mergeMapWithOverride (dict "a" 1) (dict "a" 2 "b" 3) | json }}`, result: `{"a":2,"b":3}`,
			fn: func(m, o map[string]any) (map[string]any, error) { return mergeAll(m, []map[string]any{o}, true) }},
		{names: "md5sum", args: "TEXT", doc: "MD5 in hexadecimal.",
			example: `{{ md5sum "a" }}`, result: "0cc175b9c0f1b6a831c399e269772661",
			fn: func(s string) string {
				sum := md5.Sum([]byte(s)) //nolint:gosec // as above
				return hex.EncodeToString(sum[:])
			}},
		{names: "hmacSHA256Hex", args: "TEXT KEY", doc: "HMAC-SHA-256 of TEXT in hexadecimal.",
			example: `{{ hmacSHA256Hex "a" "key" | trunc 16 }}`, result: "780c3db4ce3de5b9",
			fn: func(s, key string) string {
				h := hmac.New(sha256.New, []byte(key))
				h.Write([]byte(s))
				return hex.EncodeToString(h.Sum(nil))
			}},
	}
}

// in reports whether a list holds a value, or a text a part.
func in(whole, v any) (bool, error) {
	if l, ok := asList(whole); ok {
		return contained(l, v)
	}
	if comparedKind(whole) != "text" || comparedKind(v) != "text" {
		return false, nil
	}
	w, _ := asText(whole)
	part, _ := asText(v)
	return strings.Contains(w, part), nil
}

// containsSome returns one of four functions: the first value that is in the
// whole, or with all is not, decides, and else it is otherwise.
func containsSome(otherwise, all bool) func(c *call, l []any, whole any) (bool, error) {
	return func(c *call, l []any, whole any) (bool, error) {
		n, _ := size(whole)
		for _, v := range l {
			if err := c.r.spend(c.node, n); err != nil {
				return false, err
			}
			found, err := in(whole, v)
			if err != nil {
				return false, err
			}
			if found != all {
				return !otherwise, nil
			}
		}
		return otherwise, nil
	}
}

func splitToMap(sep, between, s string) (map[string]any, error) {
	m := make(map[string]any)
	if s = strings.TrimSpace(s); s == "" {
		return m, nil
	}
	parts, err := split(sep, -1, s)
	if err != nil {
		return nil, err
	}
	for _, part := range parts {
		if k, v, ok := strings.Cut(part, between); ok {
			m[k] = v
		}
	}
	return m, nil
}

func loop(bounds ...int) ([]int, error) {
	if len(bounds) == 1 {
		return untilStep(0, bounds[0], 1)
	}
	return untilStep(bounds[0], bounds[1], 1)
}

func explodeMap(m map[string]any) (map[string]any, error) {
	out := make(map[string]any, len(m))
	for _, key := range sortedKeys(m) {
		into, rest := out, key
		for depth := 0; ; depth++ {
			top, below, deeper := strings.Cut(rest, "/")
			if !deeper {
				break
			}
			if depth > maxNesting {
				return nil, errTooDeep
			}
			if into[top] == nil {
				into[top] = make(map[string]any)
			}
			next, ok := asMap(into[top])
			if !ok {
				return nil, fail("one key is a value and an object at once")
			}
			if _, json := into[top].(*object); json {
				next = maps.Clone(next)
				into[top] = next
			}
			into, rest = next, below
		}
		if rest != "" {
			into[rest] = m[key]
		}
	}
	return out, nil
}

// titleWords finds the words that consul-template makes of a text: an
// apostrophe, a point or a colon inside does not end one (after Unicode Standard
// Annex 29, rules WB6 and WB7).
var titleWords = pattern(`[\pL\pN\pM_]+(?:['’.:·][\pL\pN][\pL\pN\pM_]*)*`)

func toTitle(c *call, s string) (string, error) {
	if err := c.r.spend(c.node, len(s)/4); err != nil {
		return "", err
	}
	return titleWords().ReplaceAllStringFunc(s, func(word string) string {
		for i, r := range word {
			if unicode.IsLetter(r) {
				return word[:i] + string(unicode.ToTitle(r)) + word[i+utf8.RuneLen(r):]
			}
		}
		return word
	}), nil
}
