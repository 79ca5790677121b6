package wcp

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// page is YAML text that is being written.
type page struct {
	text strings.Builder
}

const (
	indent = 2
	width  = 80
)

// key writes a line at a depth.
func (p *page) key(depth int, format string, args ...any) {
	p.text.WriteString(strings.Repeat(" ", depth*indent))
	fmt.Fprintf(&p.text, format, args...)
	p.text.WriteByte('\n')
}

// blank writes an empty line.
func (p *page) blank() { p.text.WriteByte('\n') }

// comment writes text as a comment, wrapped.
func (p *page) comment(depth int, format string, args ...any) {
	start := strings.Repeat(" ", depth*indent) + "#"
	line := start
	for word := range strings.FieldsSeq(fmt.Sprintf(format, args...)) {
		if len(line)+1+len(word) > width && line != start {
			p.text.WriteString(line + "\n")
			line = start
		}
		line += " " + word
	}
	p.text.WriteString(line + "\n")
}

// example writes text as a comment of one line, however long: it may be copied.
func (p *page) example(text string) { p.key(0, "#   %s", text) }

// plain is text that YAML takes for a string without quotes, wherever it stands.
var plain = lazy(`^[A-Za-z/][A-Za-z0-9_./-]*$`)

// scalar returns s as a YAML string. In quotes it is made of ASCII: the escapes
// of Go are among those of YAML (1.2.2, section 5.7) for all that is UTF-8.
func scalar(s string) string {
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		return strconv.Quote(s)
	}
	if plain().MatchString(s) {
		return s
	}
	return strconv.QuoteToASCII(s)
}

// list returns a YAML list in one line.
func list(items []string) string {
	quoted := make([]string, len(items))
	for i, s := range items {
		quoted[i] = scalar(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// inComment returns s as it can stand in a comment: in quotes where it has
// anything but letters, digits and punctuation.
func inComment(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsGraphic(r) || r == ' ' }) {
		return s
	}
	return strconv.QuoteToASCII(s)
}
