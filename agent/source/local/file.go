package local

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// FileError is one fault of a secrets file. It never holds what the file says
// in the place of a value.
type FileError struct {
	// Place is "file:line", or the file alone.
	Place string
	// Err says what is wrong.
	Err  error
	hint string
}

// Error returns "PLACE: what is wrong".
func (e *FileError) Error() string { return e.Place + ": " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *FileError) Unwrap() error { return e.Err }

// Hint says how to mend it, or "".
func (e *FileError) Hint() string { return e.hint }

// fileEntry is what the file says of one secret.
type fileEntry struct {
	name        string
	value       value
	description string
	tags        []tag
}

// parser reads a secrets file and gathers its faults.
type parser struct {
	path string
	errs []error
}

// parseFile returns the entries in the order of the file, or all its faults.
func parseFile(path string, data []byte) ([]fileEntry, error) {
	p := &parser{path: path}
	root := p.document(data)
	var entries []fileEntry
	if root != nil {
		entries = p.root(root)
	}
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	return entries, nil
}

func (p *parser) errorf(n *yaml.Node, hint, format string, a ...any) {
	place := p.path
	if n != nil && n.Line > 0 {
		place += ":" + strconv.Itoa(n.Line)
	}
	p.errs = append(p.errs, &FileError{Place: place, Err: fmt.Errorf(format, a...), hint: hint})
}

const exampleHint = "a file looks like this: secrets: [{name: prod/db, string: 'text'}]"

// document returns the root of the file's only document, or nil.
func (p *parser) document(data []byte) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		p.errorf(nil, exampleHint, "the file is empty")
		return nil
	}
	if err == nil {
		if err = dec.Decode(&next); errors.Is(err, io.EOF) {
			return doc.Content[0]
		}
	}
	if err == nil {
		p.errorf(&next, "", "the file holds more than one YAML document")
	} else {
		p.syntax(err)
	}
	return nil
}

var (
	yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)
	// yamlQuotes matches the messages in which the YAML library repeats the
	// file: an unquoted value that begins with * is an alias by that name.
	yamlQuotes = regexp.MustCompile("unknown anchor|unknown tag|`")
)

// syntax reports what the YAML library says, with its line where the others
// have it, and without words of the file.
func (p *parser) syntax(err error) {
	msg := err.Error()
	n := &yaml.Node{}
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		n.Line, _ = strconv.Atoi(m[1])
		msg = msg[len(m[0]):]
	}
	msg = strings.TrimPrefix(msg, "yaml: ")
	if yamlQuotes.MatchString(msg) {
		p.errorf(n, "put values that begin with * or & or ! in quotes", "read YAML: an alias, anchor or tag that does not exist")
		return
	}
	p.errorf(n, "", "read YAML: %s", msg)
}

func (p *parser) root(n *yaml.Node) []fileEntry {
	var entries []fileEntry
	list := p.mapping(n, "the file", "secrets")["secrets"]
	if list == nil {
		if n.Kind == yaml.MappingNode {
			p.errorf(n, exampleHint, "secrets is missing")
		}
		return nil
	}
	list = target(list)
	if list.Kind != yaml.SequenceNode {
		p.errorf(list, exampleHint, "secrets must be a list")
		return nil
	}
	lines := map[string]int{}
	for _, item := range list.Content {
		e, ok := p.entry(target(item))
		if !ok {
			continue
		}
		if first := lines[e.name]; first != 0 {
			p.errorf(item, "", "secret %s stands on line %d already", e.name, first)
		}
		lines[e.name] = item.Line
		entries = append(entries, e)
	}
	return entries
}

// entry reads one secret. It is not ok without a usable name; other faults are
// reported on the way.
func (p *parser) entry(n *yaml.Node) (fileEntry, bool) {
	var e fileEntry
	if n.Kind != yaml.MappingNode {
		p.errorf(n, exampleHint, "a secret must be a mapping with a name and a value")
		return e, false
	}
	fields := p.mapping(n, "a secret", "name", "string", "json", "binary", "description", "tags")
	e.name = p.name(n, fields["name"])
	e.value = p.value(n, fields)
	if d := fields["description"]; d != nil {
		e.description, _ = p.scalar(d, "description")
		p.constraint(d, func(v *violations) { v.text("description", &e.description, 0, 2048) })
	}
	if t := fields["tags"]; t != nil {
		e.tags = p.tags(target(t))
	}
	return e, e.name != ""
}

func (p *parser) name(entry, n *yaml.Node) string {
	if n == nil {
		p.errorf(entry, "", "a secret needs a name")
		return ""
	}
	name, ok := p.scalar(n, "name")
	if !ok {
		return ""
	}
	if err := checkName(name); err != nil || name == "" || len(name) > 512 {
		p.errorf(n, "letters, digits and /_+=.@-! are allowed, 512 of them at most", "the name is not valid")
		return ""
	}
	return name
}

// value reads the one member that holds the secret.
func (p *parser) value(entry *yaml.Node, fields map[string]*yaml.Node) value {
	var kinds []string
	for _, kind := range []string{"string", "json", "binary"} {
		if fields[kind] != nil {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) != 1 {
		p.errorf(entry, "", "a secret needs exactly one of string, json and binary, and this one has %d", len(kinds))
		return value{}
	}
	n := fields[kinds[0]]
	switch kinds[0] {
	case "string":
		s, ok := p.scalar(n, "string")
		return p.sized(n, ok, len(s), textValue(s))
	case "json":
		s, ok := p.json(target(n))
		return p.sized(n, ok, len(s), textValue(s))
	default:
		b, ok := p.binary(n)
		return p.sized(n, ok, len(b), binaryValue(b))
	}
}

// sized returns v if it is a value of a permitted size.
func (p *parser) sized(n *yaml.Node, ok bool, size int, v value) value {
	switch {
	case !ok:
		return value{}
	case size == 0:
		p.errorf(n, "", "a secret's value must not be empty")
	case size > maxValueBytes:
		p.errorf(n, "", "a secret's value has at most %d bytes", maxValueBytes)
	}
	return v
}

func (p *parser) binary(n *yaml.Node) ([]byte, bool) {
	n = target(n)
	text := ""
	switch {
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!binary":
		text = n.Value
	default:
		var ok bool
		if text, ok = p.scalar(n, "binary"); !ok {
			return nil, false
		}
	}
	b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		p.errorf(n, "base64 FILE makes it", "binary is not base64")
		return nil, false
	}
	return b, true
}

func (p *parser) tags(n *yaml.Node) []tag {
	if n.Kind != yaml.MappingNode {
		p.errorf(n, "for example tags: {app: shop}", "tags must be a mapping")
		return nil
	}
	var tags []tag
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, ok := p.scalar(n.Content[i], "a tag's key")
		val, okToo := p.scalar(n.Content[i+1], "a tag's value")
		if !ok || !okToo {
			continue
		}
		if seen[key] {
			p.errorf(n.Content[i], "", "a tag's key stands here twice")
		}
		seen[key] = true
		tags = append(tags, tag{&key, &val})
	}
	p.constraint(n, func(v *violations) { v.tags(tags) })
	if _, err := mergeTags(nil, tags); err != nil {
		p.errorf(n, "", "%s", err.message)
	}
	return tags
}

// constraint reports what the API model forbids, in the service's words.
func (p *parser) constraint(n *yaml.Node, check func(*violations)) {
	var v violations
	check(&v)
	if err := v.err(); err != nil {
		p.errorf(n, "", "%s", err.message)
	}
}

// mapping returns a mapping's values by key, and reports keys that are not
// known or stand twice.
func (p *parser) mapping(n *yaml.Node, what string, known ...string) map[string]*yaml.Node {
	fields := map[string]*yaml.Node{}
	if n = target(n); n.Kind != yaml.MappingNode {
		p.errorf(n, exampleHint, "%s must be a mapping", what)
		return fields
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case !slices.Contains(known, key.Value):
			p.errorf(key, didYouMean(key.Value, known), "unknown key%s", showKey(key.Value))
		case fields[key.Value] != nil:
			p.errorf(key, "", "key %s stands here twice", key.Value)
		default:
			fields[key.Value] = n.Content[i+1]
		}
	}
	return fields
}

// scalar returns a plain value as it is written: "string: 007" is the text 007.
func (p *parser) scalar(n *yaml.Node, what string) (string, bool) {
	n = target(n)
	switch {
	case n.Kind != yaml.ScalarNode:
		p.errorf(n, "", "%s must be a single value", what)
	case n.ShortTag() == "!!null":
		p.errorf(n, "an empty text is written ''", "%s has no value", what)
	case !slices.Contains([]string{"!!str", "!!int", "!!float", "!!bool", "!!timestamp", "!!merge"}, n.ShortTag()):
		p.errorf(n, "put values that begin with ! in quotes", "%s has a YAML tag that means nothing here", what)
	case !utf8.ValidString(n.Value):
		p.errorf(n, "use binary for bytes", "%s is not UTF-8", what)
	default:
		return n.Value, true
	}
	return "", false
}

// target returns the node that an alias stands for.
func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// keyShown matches keys that may be repeated in a message. What does not look
// like a key may be a value in a wrong place.
var keyShown = regexp.MustCompile(`^[a-z_-]{1,20}$`)

func showKey(key string) string {
	if !keyShown.MatchString(key) {
		return ""
	}
	return " " + key
}

// didYouMean names the known key with which the unknown one shares its first
// letters or its letters, or all of them.
func didYouMean(key string, known []string) string {
	for _, k := range known {
		if len(key) > 2 && (strings.HasPrefix(k, key[:3]) || strings.HasPrefix(key, k) || strings.EqualFold(k, key)) {
			return "did you mean " + k + "?"
		}
	}
	return "known keys here: " + strings.Join(known, ", ")
}
