package templates

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
)

// parserMessage is the form of the parser's errors. The trees are parsed under
// the empty name, so that the prefix cannot be mistaken.
var parserMessage = pattern(`(?s)^template: :(\d+): (.*)$`)

// startedAt is where an unfinished action began, as the parser says it.
var startedAt = pattern(` (in action )?started at :(\d+)$`)

// parseError turns an error of the parser, which has seen the template's
// source and nothing else, into one with the file's name and line, and the column
// if that can be told.
func (s *source) parseError(err error, delims [2]string) error {
	m := parserMessage().FindStringSubmatch(err.Error())
	if m == nil {
		return &Error{Place: s.whole(), Msg: "the template cannot be parsed"}
	}
	line, _ := strconv.Atoi(m[1])
	msg := strings.TrimPrefix(m[2], "template: ")
	e := &Error{Place: s.line(line)}
	offset, found := s.offset(err.Error(), msg, delims)
	if found {
		e.Place = s.place(offset)
	}
	if at := startedAt().FindStringSubmatchIndex(msg); at != nil {
		start, _ := strconv.Atoi(msg[at[4]:at[5]])
		msg = msg[:at[0]] + " started on line " + s.shownLine(start, e.Within != "")
	}
	e.Msg = msg
	switch {
	case strings.HasPrefix(msg, "bad character U+002D"):
		src := strings.Split(s.text, "\n")[line-1]
		at := -1
		if found {
			at = offset - strings.LastIndexByte(s.text[:offset], '\n') - 1
		}
		e.Msg, e.hint = dash(src, at, delims)
	case strings.HasPrefix(msg, "unexpected EOF"):
		e.hint = "an if, with, range, define or block has no end"
	case strings.HasPrefix(msg, "undefined variable"):
		e.hint = "a variable is set before it is used, in the same block or outside it: $x := …"
	}
	return e
}

var (
	// dashedField finds a field with a dash, and before it what it is a field of,
	// as far as that stands without parentheses inside.
	dashedField = pattern(`((?:\([^()]*\)|\$[\pL_]?[\pL\d_]*)?(?:\.[\pL_][\pL\d_]*)*)\.([\pL_][\pL\d_]*(?:-[\pL\d_]+)+)`)
	dashedName  = pattern(`[\pL_][\pL\d_]*(?:-[\pL\d_]+)+`)
)

// dash explains a dash in a name on a line of the source, at a byte of it or -1: the
// way it is written there, and how a key with a dash is reached.
func dash(src string, at int, delims [2]string) (msg, hint string) {
	if m := inAction(dashedField(), src, at, delims); m != nil {
		key := strconv.Quote(m[2])
		hint = "write: field " + key + " " + m[1]
		if m[1] == "" {
			hint = "write: field " + key + ` ., or: field ` + key + ` (secret "NAME")`
		}
		return "a dash cannot stand in ." + m[2], hint
	}
	hint = `a key with a dash is reached by: field "KEY" (secret "NAME")`
	if m := inAction(dashedName(), src, at, delims); m != nil {
		return "a dash cannot stand in the name " + m[0], hint
	}
	return "a dash cannot stand in a name", hint
}

// inAction returns the first match that stands in an action and not in the text
// around it: that of the byte there, if it is not -1.
func inAction(re *regexp.Regexp, src string, there int, delims [2]string) []string {
	left, right := cmp.Or(delims[0], "{{"), cmp.Or(delims[1], "}}")
	for _, at := range re.FindAllStringSubmatchIndex(src, -1) {
		before := src[:at[0]]
		if strings.Contains(src, left) && strings.LastIndex(before, left) <= strings.LastIndex(before, right) {
			continue
		}
		if there >= 0 && (there < at[0] || there >= at[1]) {
			continue
		}
		m := make([]string, len(at)/2)
		for i := range m {
			m[i] = src[at[2*i]:at[2*i+1]]
		}
		return m
	}
	return nil
}
