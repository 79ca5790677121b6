package wcp

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"secretsd/agent/config"
)

// table is one table of the file, of whose keys some are known. Reading a key
// notes a fault where its value is not what AWS's agent accepts, and gives the
// zero value then.
type table struct {
	doc   *document
	path  string
	known []string
	keys  map[string]any
}

// table returns the table at path, whose only keys may be known. AWS's agent
// takes a list for a table, too, with a value for each key in their order, of
// which those of lists of tables may be left out at the end. What is more than
// that it ignores.
func (d *document) table(path string, v any, known ...string) *table {
	t := &table{doc: d, path: path, known: known, keys: map[string]any{}}
	switch v := v.(type) {
	case map[string]any:
		t.keys = v
	case []any:
		for i, key := range known {
			switch {
			case i < len(v):
				t.keys[key] = v[i]
			case key != "filter_tags" && key != "secrets":
				d.faultAt(path, "", "want a table of keys, not a list")
				return t
			}
		}
	default:
		d.faultAt(path, "", "want a table of keys, not %s", kindOf(v))
	}
	for _, key := range slices.Sorted(maps.Keys(t.keys)) {
		if !slices.Contains(known, key) {
			path := keyPath(t.path, key)
			d.fault(d.line(path), t.hint(key), "unknown key %s", path)
		}
	}
	return t
}

func (t *table) hint(key string) string {
	hint := config.DidYouMean(key, t.known)
	if place := nestedKeys()[key]; place != "" && !strings.HasPrefix(hint, "did you") {
		return "its place is " + place
	}
	return hint
}

func (t *table) has(key string) bool {
	_, ok := t.keys[key]
	return ok
}

func (t *table) at(key string) string { return keyPath(t.path, key) }

// sub returns a table within t, or an empty one where it is absent.
func (t *table) sub(key string, known ...string) *table {
	v, ok := t.keys[key]
	if !ok {
		return &table{doc: t.doc, path: t.at(key), known: known}
	}
	return t.doc.table(t.at(key), v, known...)
}

// subs returns the tables of a list.
func (t *table) subs(key string, known ...string) []*table {
	var list []*table
	for i, v := range t.list(key) {
		list = append(list, t.doc.table(elementPath(t.at(key), i), v, known...))
	}
	return list
}

func (t *table) list(key string) []any {
	switch v := t.keys[key].(type) {
	case nil:
		return nil
	case []any:
		return v
	default:
		t.doc.faultAt(t.at(key), "", "want a list, not %s", kindOf(v))
		return nil
	}
}

func (t *table) text(key, def string) string {
	if !t.has(key) {
		return def
	}
	return t.doc.text(t.at(key), t.keys[key])
}

func (d *document) text(path string, v any) string {
	s, ok := v.(string)
	if !ok {
		d.faultAt(path, "", "want text in quotes, not %s", kindOf(v))
	}
	return s
}

// required is text that has to be there.
func (t *table) required(key string) string {
	if !t.has(key) {
		t.doc.fault(t.doc.line(t.path), "", "%s: missing", t.at(key))
	}
	return t.text(key, "")
}

// texts is a list of text; an empty one is a fault.
func (t *table) texts(key string, def []string) []string {
	if !t.has(key) {
		return def
	}
	list := t.list(key)
	if v, ok := t.keys[key].([]any); ok && len(v) == 0 {
		t.doc.faultAt(t.at(key), "leave it out for the default, "+strings.Join(def, ", "), "the list is empty")
	}
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = t.doc.text(elementPath(t.at(key), i), v)
	}
	return texts
}

func (t *table) boolean(key string, def bool) bool {
	if !t.has(key) {
		return def
	}
	b, ok := t.keys[key].(bool)
	if !ok {
		t.doc.faultAt(t.at(key), "", "want true or false, not %s", kindOf(t.keys[key]))
	}
	return b
}

// span is the whole numbers that a key may have.
type span struct {
	least, most int64
	// zero permits 0 beside them.
	zero bool
}

func (s span) has(n int64) bool { return n >= s.least && n <= s.most || s.zero && n == 0 }

func (s span) String() string {
	text := strconv.FormatInt(s.least, 10) + " to " + strconv.FormatInt(s.most, 10)
	if s.zero {
		text = "0 or " + text
	}
	return text
}

func (t *table) number(key string, want span, def int) int {
	if !t.has(key) {
		return def
	}
	n, ok := t.keys[key].(int64)
	if !ok {
		t.doc.faultAt(t.at(key), "", "want a whole number, not %s", kindOf(t.keys[key]))
		return def
	}
	return t.within(key, n, want, def)
}

// flatNumber is a number of the flat layout, which may be text as well.
func (t *table) flatNumber(key string, want span, def int) int {
	s, isText := t.keys[key].(string)
	if !isText {
		return t.number(key, want, def)
	}
	// As Rust's parse for usize: digits, and a + before them if it must be. That
	// 0 means a free port only these very bytes tell.
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "+"), 10, 63)
	if err != nil || n == 0 && want.zero && s != "0" {
		t.doc.faultAt(t.at(key), "", "want %s, not %q", want, s)
		return def
	}
	return t.within(key, int64(n), want, def)
}

func (t *table) within(key string, n int64, want span, def int) int {
	if !want.has(n) {
		t.doc.faultAt(t.at(key), "", "want %s, not %d", want, n)
		return def
	}
	return int(n)
}

// ratio is a number, from 0.1 to 1 where it is bounded, with the precision of 32
// bits as in AWS's agent.
func (t *table) ratio(key string, def float32, bounded bool) float32 {
	var f float64
	switch v := t.keys[key].(type) {
	case nil:
		return def
	case int64:
		f = float64(v)
	case float64:
		f = v
	default:
		t.doc.faultAt(t.at(key), "", "want a number, not %s", kindOf(v))
		return def
	}
	if r := float32(f); !bounded || r >= 0.1 && r <= 1 {
		return r
	}
	t.doc.faultAt(t.at(key), "", "want 0.1 to 1, not %v", f)
	return def
}

func kindOf(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.QuoteToASCII(v)
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case map[string]any:
		return "a table"
	case []any:
		return "a list"
	default:
		return "a date or time"
	}
}
