package templates

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// maxNesting and maxText bound walks over lists and objects that a template
// built: set makes cycles, and shared parts that unfold without end.
const maxNesting = 100

var errTooDeep = fail("the value is nested too deeply or refers to itself")

// plain copies v into Go's own maps and slices, whose scalars are what the JSON
// encoder takes.
func plain(v any) (any, error) {
	p := planer{left: maxText}
	return p.plain(v, 0)
}

// planer counts the bytes that plain copies.
type planer struct{ left int }

func (p *planer) spend(n int) error {
	const node = 8
	if p.left -= n + node; p.left < 0 {
		return errTooBig
	}
	return nil
}

func (p *planer) plain(v any, depth int) (any, error) {
	if depth > maxNesting {
		return nil, errTooDeep
	}
	if m, ok := asMap(v); ok {
		out := make(map[string]any, min(len(m), 64))
		for _, k := range sortedKeys(m) { // so that the same error comes first
			e, err := p.plain(m[k], depth+1)
			if err == nil {
				err = p.key(k)
			}
			if err != nil {
				return nil, err
			}
			out[k] = e
		}
		return out, nil
	}
	if l, ok := asList(v); ok {
		out := make([]any, 0, min(len(l), 64))
		for _, e := range l {
			e, err := p.plain(e, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, e)
		}
		return out, p.spend(0)
	}
	return p.scalar(v)
}

func (p *planer) key(k string) error {
	if !utf8.ValidString(k) {
		return errNotUTF8
	}
	return p.spend(len(k))
}

var errNotUTF8 = &failure{msg: "the text is not valid UTF-8, which JSON cannot hold", hint: "encode it with base64Encode"}

func (p *planer) scalar(v any) (any, error) {
	switch v := v.(type) {
	case none:
		return nil, p.spend(0)
	case number:
		return v, p.spend(len(v.digits))
	case []byte, text, string:
		s, _ := asText(v)
		if !utf8.ValidString(s) {
			return nil, errNotUTF8
		}
		return s, p.spend(len(s))
	default:
		return v, p.spend(0)
	}
}

// encodeJSON returns v as JSON: sorted keys, no HTML escapes, numbers with
// their own digits, no newline at the end.
func encodeJSON(v any, indent string) (string, error) {
	p, err := plain(v)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(p); err != nil {
		return "", fail("the value has no form in JSON")
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}
