package templates

import (
	"cmp"
	"strconv"
	"strings"
)

// Place is where in a file something of a template stands.
type Place struct {
	// File is [Options].Name, or the path of an included file.
	File string
	// Line is the 1-based line in the file, or 0 if there is none to name.
	Line int
	// Col is the 1-based column in bytes, or 0 where it is not known.
	Col int
	// Within is the place in the template's own text, such as "contents, line 3,
	// column 5", where how that text is written in the file does not tell the place
	// there: Line is then the line on which the text begins. It is empty otherwise.
	Within string
}

// String returns "file:line:col", as far as it is known, and behind it Within.
func (p Place) String() string {
	s := p.File
	if p.Line > 0 {
		s += ":" + strconv.Itoa(p.Line)
		if p.Col > 0 {
			s += ":" + strconv.Itoa(p.Col)
		}
	}
	if p.Within != "" {
		s += ": " + p.Within
	}
	return s
}

// whole is the place of the text as a whole.
func (o *Options) whole() Place {
	if o.Place == nil {
		return Place{File: o.Name}
	}
	line, _ := o.Place(0)
	return Place{File: o.Name, Line: line}
}

func (s *source) whole() Place {
	return (&Options{Name: s.name, Place: s.locate}).whole()
}

// place returns the place of a byte of the text.
func (s *source) place(offset int) Place {
	before := s.text[:min(max(offset, 0), len(s.text))]
	p := Place{File: s.name, Line: 1 + strings.Count(before, "\n"), Col: len(before) - strings.LastIndexByte(before, '\n')}
	if s.locate == nil {
		return p
	}
	if line, col := s.locate(len(before)); col > 0 {
		return Place{File: s.name, Line: line, Col: col}
	}
	return s.within(p.Line, ", column "+strconv.Itoa(p.Col))
}

// line returns the place of a line of the text, of which no column is known.
func (s *source) line(n int) Place {
	if s.locate == nil {
		return Place{File: s.name, Line: n}
	}
	start := 0
	for range n - 1 {
		start += strings.IndexByte(s.text[start:], '\n') + 1
	}
	text, _, _ := strings.Cut(s.text[start:], "\n")
	// One line of the text may be folded from several of the file.
	line, col := s.locate(start)
	last, lastCol := s.locate(start + len(text))
	if col > 0 && lastCol > 0 && line == last {
		return Place{File: s.name, Line: line}
	}
	return s.within(n, "")
}

func (s *source) within(line int, col string) Place {
	p := s.whole()
	p.Within = cmp.Or(s.key, "template") + ", line " + strconv.Itoa(line) + col
	return p
}

// shownLine names a line of the text beside the place of an error, which says
// whether it is counted within the text.
func (s *source) shownLine(n int, within bool) string {
	if p := s.line(n); !within && p.Within == "" {
		return strconv.Itoa(p.Line)
	}
	return strconv.Itoa(n) + " of " + cmp.Or(s.key, "the template")
}
