package config

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// mark is where the node of a string stands in the file, as yaml.v3 says it, and
// how it is written there. The column counts characters.
type mark struct {
	column int
	style  yaml.Style
}

// Text is a string of the configuration that has places of its own, such as a
// template, and knows where its bytes stand in the file.
type Text struct {
	value string
	// line is the line on which the value begins.
	line int
	// block is the first line of a literal block, all of whose lines are indented by
	// indent bytes, and 0 for every other value.
	block, indent int
	// raw is what follows the beginning of any other value on its line, past the
	// quote, and column the column of its first byte.
	raw    string
	column int
	quote  byte
}

// Text returns the text of field, a pointer to a string of c.
func (c *Config) Text(field *string) Text {
	t := Text{value: *field, line: c.lines[field]}
	m, ok := c.marks[field]
	if !ok || t.line > len(c.source) {
		return t
	}
	rest, column, ok := begin(c.source[t.line-1], m.column)
	if !ok {
		return t
	}
	t.column = column
	switch {
	case m.style&yaml.LiteralStyle != 0:
		t.block = t.line + 1
		if t.indent, ok = indentation(t.value, c.source[t.line:]); !ok || rest[0] != '|' {
			t.block = 0
		}
	case m.style&yaml.FoldedStyle != 0:
	case m.style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		t.quote, t.raw = rest[0], rest[1:]
		t.column++
	default:
		t.raw = rest
	}
	return t
}

// Place returns the line of the file on which the byte of the text at offset
// stands, and its column in bytes, both 1-based. Where the two do not follow from
// how the value is written, as in a folded block and behind an escape, the column
// is 0 and the line that on which the value begins.
func (t Text) Place(offset int) (line, column int) {
	offset = min(max(offset, 0), len(t.value))
	if t.block == 0 {
		return t.line, t.onLine(offset)
	}
	// The line behind the last line break belongs to what comes next in the file.
	before := t.value[:min(offset, len(strings.TrimRight(t.value, "\n")))]
	return t.block + strings.Count(before, "\n"), t.indent + len(before) - strings.LastIndexByte(before, '\n')
}

// onLine returns the column of the byte at offset, or 0.
func (t Text) onLine(offset int) int {
	at := 0
	for i := range offset {
		width := t.width(i, at)
		if width == 0 {
			return 0
		}
		at += width
	}
	if offset < len(t.value) && t.width(offset, at) == 0 || t.column == 0 {
		return 0
	}
	return t.column + at
}

// width returns how many bytes stand at raw[at] for the byte i of the value, or 0
// where that is not certain.
func (t Text) width(i, at int) int {
	raw := t.raw[min(at, len(t.raw)):]
	switch {
	case raw == "":
		return 0
	case t.quote == '\'' && raw[0] == '\'', t.quote == '"' && raw[0] == '\\':
		// Two characters stand for the second of them.
		if len(raw) > 1 && raw[1] == t.value[i] && strings.IndexByte(`'"\`, raw[1]) >= 0 {
			return 2
		}
		return 0
	case raw[0] != t.value[i] || raw[0] == t.quote:
		return 0
	default:
		return 1
	}
}

// begin returns the rest of a line from where the value of a node begins that
// stands in the given column, and the column in bytes. A node begins with its
// anchor and tag; if the value is not on their line, begin reports false.
func begin(line string, character int) (rest string, column int, ok bool) {
	for rest = line; character > 1; character-- {
		_, size := utf8.DecodeRuneInString(rest)
		rest = rest[size:]
	}
	for rest != "" && (rest[0] == '&' || rest[0] == '!') {
		property := strings.IndexAny(rest, " \t")
		if property < 0 {
			return "", 0, false
		}
		rest = strings.TrimLeft(rest[property:], " \t")
	}
	return rest, len(line) - len(rest) + 1, rest != ""
}

// indentation returns by how many spaces the lines of a literal block are
// indented. It reports false unless the lines are those of the value.
func indentation(value string, lines []string) (indent int, ok bool) {
	want := strings.Split(strings.TrimRight(value, "\n"), "\n")
	if len(want) > len(lines) {
		return 0, false
	}
	for i, text := range want {
		have, found := strings.CutSuffix(lines[i], text)
		if !found || strings.Trim(have, " ") != "" {
			return 0, false
		}
		if text == "" { // such a line need not be indented
			continue
		}
		if ok && len(have) != indent {
			return 0, false
		}
		indent, ok = len(have), true
	}
	return indent, ok
}

// sourceLines returns the lines of a file, or nil if it has line breaks that only
// YAML takes for such: its lines are not those that an editor counts.
func sourceLines(data []byte) []string {
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	if bytes.ContainsAny(data, "\r\u0085\u2028\u2029") {
		return nil
	}
	return strings.Split(string(data), "\n")
}
