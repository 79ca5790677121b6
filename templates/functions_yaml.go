package templates

import (
	"bytes"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

func yamlRows() []row {
	return []row{
		{names: "toYAML toYaml mustToYaml", args: "VALUE", doc: "VALUE as YAML: sorted keys, no newline at the end. Texts that YAML 1.1 or 1.2 could take for something else are quoted.",
			example: `{{ pick (secret "db") "user" "port" "hosts" | toYAML }}`, result: "hosts:\n  - a\n  - b\nport: 5432\nuser: app", fn: toYAML},
		{names: "parseYAML fromYaml mustFromYaml", args: "TEXT", doc: "The value that a YAML document holds; an empty text is an empty object.",
			example: `{{ (parseYAML "a: {b: [1, 2]}").a.b | join "," }}`, result: "1,2", fn: fromYAML},
		{names: "yamlQuote", args: "TEXT", doc: "TEXT as one YAML string in double quotes.",
			example: `password: {{ yamlQuote (secret "db").password }}`, result: `password: "it's \"9\" & <more>"`,
			fn: func(s string) (string, error) {
				if !utf8.ValidString(s) {
					return "", notUTF8("YAML")
				}
				return encodeYAML(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: s})
			}},
	}
}

// notUTF8 says why a format of text cannot hold a text.
func notUTF8(format string) *failure {
	return &failure{msg: "the text is not valid UTF-8, which " + format + " cannot hold", hint: "encode it with base64Encode"}
}

func toYAML(c *call, v any) (string, error) {
	v, err := plain(v)
	if err != nil {
		return "", err
	}
	s, err := encodeYAML(yamlNode(v))
	if err != nil {
		return "", err
	}
	return s, c.r.spend(c.node, 2*len(s)) // short values take some 2 µs each
}

func encodeYAML(n *yaml.Node) (string, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if enc.Encode(n) != nil || enc.Close() != nil {
		return "", fail("the value has no form in YAML")
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// yamlNode returns what plain returns as a tree for the encoder, which decides
// less about quoting for a tree than is done here.
func yamlNode(v any) *yaml.Node {
	scalar := func(tag, s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: s} }
	switch v := v.(type) {
	case nil:
		return scalar("!!null", "null")
	case string:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yamlStyle(v), Value: v}
	case number:
		if strings.ContainsAny(v.digits, ".eE") {
			return scalar("!!float", yamlFloat(v.digits))
		}
		return scalar("!!int", v.digits)
	case float64:
		s := scalarText(v)
		if !strings.ContainsAny(s, ".e") {
			return scalar("!!int", s)
		}
		return scalar("!!float", yamlFloat(s))
	case bool:
		return scalar("!!bool", scalarText(v))
	case map[string]any:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, k := range sortedKeys(v) {
			n.Content = append(n.Content, yamlNode(k), yamlNode(v[k]))
		}
		return n
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, e := range v {
			n.Content = append(n.Content, yamlNode(e))
		}
		return n
	default:
		return scalar("!!int", scalarText(v))
	}
}

// yamlFloat writes a number so that YAML 1.1 takes it for one too: with a point,
// and a sign in the exponent (https://yaml.org/type/float.html).
func yamlFloat(digits string) string {
	mantissa, exponent, hasExponent := strings.Cut(strings.ToLower(digits), "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	if !hasExponent {
		return mantissa
	}
	if exponent[0] != '-' && exponent[0] != '+' {
		exponent = "+" + exponent
	}
	return mantissa + "e" + exponent
}

var (
	// plainYAML is text that no YAML parser takes for anything but itself.
	plainYAML = pattern(`^[A-Za-z/][A-Za-z0-9_./@+-]*( [A-Za-z0-9_./@+-]+)*$`)
	// wordsYAML are those with another meaning, in YAML 1.1 at least
	// (https://yaml.org/type/bool.html, /null.html).
	wordsYAML = []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
	// linesYAML are several lines that stand in a block as they are: none begins
	// or ends with a blank. With a newline at the end it would matter what follows
	// the block in the file, so that is quoted.
	linesYAML = pattern(`^[!-~]([ -~]*[!-~])?(\n[!-~]([ -~]*[!-~])?)+$`)
)

func yamlStyle(s string) yaml.Style {
	switch {
	case plainYAML().MatchString(s) && !slices.Contains(wordsYAML, strings.ToLower(s)):
		return 0
	case linesYAML().MatchString(s):
		return yaml.LiteralStyle
	default:
		return yaml.DoubleQuotedStyle
	}
}

func fromYAML(c *call, s string) (any, error) {
	if s == "" {
		return map[string]any{}, nil
	}
	if err := c.r.spend(c.node, 2*len(s)); err != nil {
		return nil, err
	}
	var n yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(s))
	if !utf8.ValidString(s) || dec.Decode(&n) != nil {
		return nil, fail("the text is not valid YAML")
	}
	if dec.Decode(new(yaml.Node)) == nil {
		return nil, fail("the text holds more than one YAML document")
	}
	if _, err := yamlSize(&n, map[*yaml.Node]int{}, 0); err != nil {
		return nil, err
	}
	var v any
	if n.Decode(&v) != nil {
		return nil, fail("the text is not valid YAML")
	}
	return yamlValue(v)
}

// yamlSize counts the nodes of a tree with its aliases unfolded, and bounds
// them: a few lines of aliases make billions.
func yamlSize(n *yaml.Node, known map[*yaml.Node]int, depth int) (int, error) {
	if depth > maxNesting {
		return 0, errTooDeep
	}
	if size, ok := known[n]; ok {
		return size, nil
	}
	size := 1
	children := n.Content
	if n.Kind == yaml.AliasNode {
		children = []*yaml.Node{n.Alias}
	}
	if n.Kind == yaml.ScalarNode {
		yaml11(n)
	}
	for _, child := range children {
		s, err := yamlSize(child, known, depth+1)
		if err != nil {
			return 0, err
		}
		if size += s; size > maxList {
			return 0, errTooBig
		}
	}
	known[n] = size
	return size, nil
}

// yaml11 gives plain words the meaning that consul-template and Helm, which read
// YAML 1.1, give them, but for dates, which stay text.
func yaml11(n *yaml.Node) {
	plain := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0
	switch word := strings.ToLower(n.Value); {
	case n.ShortTag() == "!!timestamp":
		n.Tag = "!!str"
	case plain && slices.Contains([]string{"y", "yes", "on"}, word):
		n.Tag, n.Value = "!!bool", "true"
	case plain && slices.Contains([]string{"n", "no", "off"}, word):
		n.Tag, n.Value = "!!bool", "false"
	}
}

// yamlValue turns what the decoder makes into this package's values.
func yamlValue(v any) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			e, err := yamlValue(e)
			if err != nil {
				return nil, err
			}
			v[k] = e
		}
		return v, nil
	case map[any]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			key, err := yamlValue(k)
			if err != nil {
				return nil, err
			}
			name, err := asText(key)
			if err != nil {
				return nil, fail("a key in the YAML is null")
			}
			if m[name], err = yamlValue(e); err != nil {
				return nil, err
			}
		}
		if len(m) < len(v) {
			return nil, fail("two keys in the YAML read the same")
		}
		return m, nil
	case []any:
		for i, e := range v {
			e, err := yamlValue(e)
			if err != nil {
				return nil, err
			}
			v[i] = e
		}
		return v, nil
	case uint64:
		return number{scalarText(v)}, nil
	case time.Time:
		return nil, fail("a date in the YAML is not text")
	case nil:
		return none{}, nil
	default:
		return v, nil
	}
}
