package templates

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// The values a template works on are string, []byte, bool, int, int64,
// float64, nil, []any, []string, []int, map[string]any, and the types below, which keep what Go's own values would not: where a value came from, the text
// of a JSON object and the digits of a number.

// origin says where a JSON value came from, for messages. Its zero value is
// JSON that the template made itself, whose keys may hold values and are never
// shown.
type origin struct {
	secret string
	path   string // keys and indexes below the secret, joined by dots
}

func (o origin) child(key string) origin {
	if o.secret == "" {
		return o
	}
	if o.path != "" {
		return origin{o.secret, o.path + "." + showKey(key)}
	}
	return origin{o.secret, showKey(key)}
}

// String returns words such as `secret "db"` or `key tls.cert of secret "db"`.
func (o origin) String() string {
	switch {
	case o.secret == "":
		return "the object"
	case o.path == "":
		return "secret " + quoteKey(o.secret)
	default:
		return "key " + o.path + " of secret " + quoteKey(o.secret)
	}
}

// object is a JSON object. Printed whole it is its own text, byte for byte.
type object struct {
	raw  string
	from origin
	once sync.Once
	m    map[string]any // read-only once set; see members
}

// array is a JSON array inside a JSON object, or one that fromJson read.
type array struct {
	raw  string
	from origin
	once sync.Once
	e    []any // read-only once set; see elems
}

// text is the whole text of a secret that is not a JSON object. It knows its
// secret, for messages.
type text struct {
	s      string
	secret string
	// unlabelled says that there is no such version; the text is empty then.
	unlabelled bool
}

// number is a JSON number with the digits it was written with.
type number struct{ digits string }

// MarshalJSON implements [json.Marshaler].
func (n number) MarshalJSON() ([]byte, error) { return []byte(n.digits), nil }

// none is a JSON null, or a key that is absent where missing_key allows that.
type none struct {
	from   origin
	absent bool
}

// jsonSpace is what may stand around a JSON value (RFC 8259, section 2).
const jsonSpace = " \t\r\n"

// parseSecret returns the value of a secret's text: an object if the text is
// one JSON object, else the text. Text that is not UTF-8 is not JSON (RFC 8259,
// section 8.1), and decoding it would alter it.
func parseSecret(name, s string) any {
	if !strings.HasPrefix(strings.TrimLeft(s, jsonSpace), "{") || !utf8.ValidString(s) {
		return text{s: s, secret: name}
	}
	o := &object{raw: s, from: origin{secret: name}}
	var raw map[string]json.RawMessage
	if json.Unmarshal([]byte(s), &raw) != nil {
		return text{s: s, secret: name}
	}
	o.once.Do(func() { o.m = decodeMembers(o.from, raw) })
	return o
}

// decodeJSON returns the value of one JSON text that is known to be valid.
func decodeJSON(raw string, from origin) any {
	raw = strings.Trim(raw, jsonSpace)
	switch raw[0] {
	case '{':
		return &object{raw: raw, from: from}
	case '[':
		return &array{raw: raw, from: from}
	case '"':
		var s string
		_ = json.Unmarshal([]byte(raw), &s)
		return s
	case 't', 'f':
		return raw == "true"
	case 'n':
		return none{from: from}
	default:
		return number{raw}
	}
}

func decodeMembers(from origin, raw map[string]json.RawMessage) map[string]any {
	m := make(map[string]any, len(raw))
	for k, v := range raw {
		m[k] = decodeJSON(string(v), from.child(k))
	}
	return m
}

// members returns the object's values, decoded at most once. The caller must
// not change the map: other templates of the pass read it too.
func (o *object) members() map[string]any {
	o.once.Do(func() {
		var raw map[string]json.RawMessage
		_ = json.Unmarshal([]byte(o.raw), &raw)
		o.m = decodeMembers(o.from, raw)
	})
	return o.m
}

// elems returns the array's values, decoded at most once. The caller must not
// change the slice.
func (a *array) elems() []any {
	a.once.Do(func() {
		var raw []json.RawMessage
		_ = json.Unmarshal([]byte(a.raw), &raw)
		a.e = make([]any, len(raw))
		for i, v := range raw {
			a.e[i] = decodeJSON(string(v), a.from.child(strconv.Itoa(i)))
		}
	})
	return a.e
}

// truth is text/template's idea of truth: false for false, zero, nil and
// everything that is empty.
func truth(v any) bool {
	switch v := v.(type) {
	case nil, none:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case text:
		return v.s != ""
	case []byte:
		return len(v) > 0
	case int:
		return v != 0
	case int64:
		return v != 0
	case float64:
		return v != 0
	case number:
		mantissa, _, _ := strings.Cut(strings.ToLower(v.digits), "e")
		return strings.Trim(mantissa, "-.0") != ""
	case *object:
		return len(v.members()) > 0
	case *array:
		return len(v.elems()) > 0
	case []any:
		return len(v) > 0
	case []string:
		return len(v) > 0
	case []int:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	default:
		return true
	}
}

// kind names what v is in the words of messages and of kindOf.
func kind(v any) string {
	switch v.(type) {
	case nil:
		return "nil"
	case none:
		return "null"
	case bool:
		return "bool"
	case string, text:
		return "text"
	case []byte:
		return "bytes"
	case int, int64, float64, number:
		return "number"
	case *object, map[string]any:
		return "object"
	default:
		return "list"
	}
}

// asText returns v as it is printed: text and bytes as they are, JSON as its
// own text, and lists and objects the template built as JSON with sorted keys.
func asText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case text:
		return v.s, nil
	case *object:
		return v.raw, nil
	case *array:
		return v.raw, nil
	case number:
		return v.digits, nil
	case []byte:
		return string(v), nil
	case none:
		if v.absent {
			return "", nil
		}
		return "", nullFailure(v)
	case nil:
		return "", &failure{msg: "the value is nil", hint: "test it with if, or give it a default"}
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return "", fail("a number is too large")
		}
		return scalarText(v), nil
	case bool, int, int64:
		return scalarText(v), nil
	default:
		return encodeJSON(v, "")
	}
}

func nullFailure(v none) *failure {
	f := &failure{msg: "the value is JSON null", secret: v.from.secret, hint: "test it with if, or give it a default: … | default \"x\""}
	if v.from.secret != "" {
		f.msg = v.from.String() + " is JSON null"
	}
	return f
}

func scalarText(v any) string {
	switch v := v.(type) {
	case int:
		return strconv.Itoa(v)
	case int64:
		return strconv.FormatInt(v, 10)
	default:
		return fmt.Sprint(v)
	}
}

// asList returns the elements of a list. The slice may be shared: the caller
// copies before it changes anything.
func asList(v any) ([]any, bool) {
	switch v := v.(type) {
	case *array:
		return v.elems(), true
	case []any:
		return v, true
	case []string:
		return anys(v), true
	case []int:
		return anys(v), true
	}
	return nil, false
}

func anys[T any](s []T) []any {
	out := make([]any, len(s))
	for i, v := range s {
		out[i] = v
	}
	return out
}

// asMap returns the members of an object. The map of a JSON object is shared:
// the caller copies before it changes anything.
func asMap(v any) (map[string]any, bool) {
	switch v := v.(type) {
	case *object:
		return v.members(), true
	case map[string]any:
		return v, true
	}
	return nil, false
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// field returns the member key of v. Shown says that the key stands literally
// in the template, so that a message may repeat it.
func field(v any, key string, shown bool, missing bool) (any, error) {
	if n, ok := v.(none); ok && n.absent {
		return n, nil
	}
	if l, ok := v.([]string); ok {
		if i, ok := splitIndex(key); ok && i < len(l) {
			return l[i], nil
		}
	}
	m, ok := asMap(v)
	if !ok {
		return nil, notObject(v, key, shown)
	}
	if got, ok := m[key]; ok {
		return got, nil
	}
	var from origin
	if o, ok := v.(*object); ok {
		from = o.from
	}
	if missing {
		return none{from: from, absent: true}, nil
	}
	f := &failure{msg: from.String() + " has no such key", secret: from.secret}
	if shown {
		f.msg = from.String() + " has no key " + quoteKey(key)
	}
	if from.secret != "" {
		f.msg += "; " + showKeys(sortedKeys(m))
	}
	if shown && from.path == "" && key == "Data" {
		f.hint = `write .key where a Vault template has .Data.key or .Data.data.key`
	}
	return nil, f
}

// splitIndex reads the key _N by which sprig's split is indexed.
func splitIndex(key string) (int, bool) {
	digits, ok := strings.CutPrefix(key, "_")
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil && n >= 0
}

func notObject(v any, key string, shown bool) *failure {
	what := "this key"
	if shown {
		what = "." + key
	}
	switch v := v.(type) {
	case nil:
		return &failure{msg: what + " is asked of nothing: . holds no value here", hint: `a secret's key is (secret "NAME").key`}
	case none:
		f := nullFailure(v)
		f.hint = "test it with if or with before asking for " + what
		return f
	case text:
		if v.unlabelled {
			return unlabelledFailure(v.secret, what)
		}
		f := fail("secret " + quoteKey(v.secret) + " is not a JSON object, so it has no " + what)
		f.secret = v.secret
		if what == "this key" {
			f.msg = "secret " + quoteKey(v.secret) + " is not a JSON object, so it has no keys"
		}
		return f
	default:
		return fail(what + " is asked of a " + kind(v) + "; only an object has keys")
	}
}

// unlabelledFailure is that of a key asked of a secret that was never rotated.
func unlabelledFailure(name, what string) *failure {
	return &failure{
		msg:    "no version of secret " + quoteKey(name) + " carries AWSPREVIOUS yet, so it has no " + what,
		hint:   "ask first whether there is one: if has " + quoteKey(name),
		secret: name,
	}
}
