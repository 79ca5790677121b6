package local

import (
	"encoding/json"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxJSONDepth bounds the nesting of a json value, which also ends an alias
// that contains itself.
const maxJSONDepth = 64

// jsonNumber is the grammar of a number in RFC 8259, section 6. A YAML number
// written like that keeps its digits; 0x1F, 1_000 and .inf have no JSON form.
var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// jsonWriter turns a YAML node into compact JSON, keys in the order of the file.
type jsonWriter struct {
	*parser
	out  strings.Builder
	deep bool // told already: aliases could say it thousands of times
}

// json returns the JSON text of a mapping. It is not ok after a fault.
func (p *parser) json(n *yaml.Node) (string, bool) {
	if n.Kind != yaml.MappingNode {
		p.errorf(n, "for any other text use string", "json must be a mapping")
		return "", false
	}
	before := len(p.errs)
	w := &jsonWriter{parser: p}
	w.node(n, 0)
	return w.out.String(), len(p.errs) == before
}

func (w *jsonWriter) node(n *yaml.Node, depth int) {
	n = target(n)
	switch {
	case w.out.Len() > maxValueBytes || w.deep:
		// Aliases can make a small file mean a huge value: what is written is
		// too large already, and the caller says so.
	case depth > maxJSONDepth:
		w.deep = true
		w.errorf(n, "", "json is nested more than %d levels deep", maxJSONDepth)
	case n.Kind == yaml.MappingNode:
		w.mapping(n, depth)
	case n.Kind == yaml.SequenceNode:
		w.out.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				w.out.WriteByte(',')
			}
			w.node(item, depth+1)
		}
		w.out.WriteByte(']')
	default:
		w.scalarNode(n)
	}
}

func (w *jsonWriter) mapping(n *yaml.Node, depth int) {
	seen := map[string]bool{}
	w.out.WriteByte('{')
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := target(n.Content[i]); key.ShortTag() == "!!merge" {
			w.errorf(key, "write the keys out", "json does not know YAML's merge key <<")
			continue
		}
		key, ok := w.scalar(n.Content[i], "a key in json")
		if !ok {
			continue
		}
		if seen[key] {
			w.errorf(n.Content[i], "", "a key stands here twice")
		}
		seen[key] = true
		if i > 0 {
			w.out.WriteByte(',')
		}
		w.text(key)
		w.out.WriteByte(':')
		w.node(n.Content[i+1], depth+1)
	}
	w.out.WriteByte('}')
}

func (w *jsonWriter) scalarNode(n *yaml.Node) {
	kind := n.ShortTag()
	if kind == "!!str" && n.Style == 0 && jsonNumber.MatchString(n.Value) {
		kind = "!!float" // too large for a float64, which makes it a text to the library
	}
	switch kind {
	case "!!null":
		w.out.WriteString("null")
	case "!!bool":
		w.out.WriteString(strings.ToLower(n.Value))
	case "!!int", "!!float":
		if !jsonNumber.MatchString(n.Value) {
			w.errorf(n, "write it in decimal, or in quotes", "a number that JSON cannot hold")
			return
		}
		w.out.WriteString(n.Value)
	default:
		if s, ok := w.scalar(n, "a value in json"); ok {
			w.text(s)
		}
	}
}

// text writes a JSON string, without the escapes that encoding/json adds for
// HTML: a value that somebody prints whole should read as in the file.
func (w *jsonWriter) text(s string) {
	enc := json.NewEncoder(&trimmed{&w.out})
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always encodes
}

// trimmed drops the newline that json.Encoder ends each value with.
type trimmed struct{ out *strings.Builder }

func (t *trimmed) Write(b []byte) (int, error) {
	t.out.WriteString(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}
