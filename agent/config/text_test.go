package config_test

import (
	"strconv"
	"strings"
	"testing"
)

// TestPlaceInTheFileIsRightOrNotGiven has an X in each value. Where it stands in
// the file is to be found, unless unknown says that the value is written in a way
// that does not tell; no other byte of the value may be placed at another one.
func TestPlaceInTheFileIsRightOrNotGiven(t *testing.T) {
	for name, row := range map[string]struct {
		yaml    string
		unknown bool
	}{
		"literal":                    {yaml: "contents: |\n      one\n\n      two X\n"},
		"literal, stripped":          {yaml: "contents: |-\n      one\n      X"},
		"literal, kept":              {yaml: "contents: |+ # why\n      one\n        X\n\n\n"},
		"literal, given indentation": {yaml: "contents: |2\n       one\n      X\n"},
		"literal, empty lines first": {yaml: "contents: |\n\n  \n      one\n      X\n"},
		"literal, blanks at the end": {yaml: "contents: |\n      one  \n         \n      \tX \n"},
		"literal, tagged":            {yaml: "contents: !!str |\n      X\n"},
		"literal, anchored":          {yaml: "contents: &a |\n      X\n    owner: *a"},
		"literal, CRLF":              {yaml: "contents: |\r\n      one\r\n      X\r\n"},
		"literal, anchor above":      {yaml: "contents: &a\n      |\n      X\n", unknown: true},
		"folded":                     {yaml: "contents: >-\n      one\n      two\n      X\n", unknown: true},
		"folded, one line":           {yaml: "contents: >\n      X\n", unknown: true},
		"plain":                      {yaml: "contents: one X # two"},
		"plain, over two lines":      {yaml: "contents: one\n      X", unknown: true},
		"plain, before the break":    {yaml: "contents: one X  \n      two"},
		"plain, below its key":       {yaml: "contents:\n      one X"},
		"plain, letters":             {yaml: "contents: äöü X"},
		"single":                     {yaml: "contents: 'one ''two'' ä X'"},
		"single, over two lines":     {yaml: "contents: 'one\n\n      X'", unknown: true},
		"double":                     {yaml: `contents: "one 'two' X\n"`},
		"double, quotes":             {yaml: `contents: "one \"two\" \\ X\n"`},
		"double, tagged":             {yaml: `contents: !!str "one X"`},
		"double, line breaks":        {yaml: `contents: "one\ntwo\nX"`, unknown: true},
		"double, a tab":              {yaml: `contents: "\tX"`, unknown: true},
		"double, a letter":           {yaml: `contents: "\x58"`, unknown: true},
		"double, escaped line break": {yaml: "contents: \"one\\\n      X\"", unknown: true},
	} {
		t.Run(name, func(t *testing.T) {
			file := "secrets: [{id: a}]\nfiles:\n  - path: /ä\n    " + row.yaml + "\n  - {path: /next, contents: X}\n"
			holds(t, file, row.unknown)
		})
	}
	t.Run("a line break of YAML alone", func(t *testing.T) { // an editor counts other lines
		c := parse(t, "secrets: [{id: a}] # \u2028\nfiles: [{path: /a, contents: one X}]\n")
		if line, column := c.Text(&c.Files[0].Contents).Place(4); column != 0 {
			t.Errorf("X is placed at %d:%d", line, column)
		}
	})
	t.Run("JSON", func(t *testing.T) {
		holds(t, `{"secrets": [{"id": "a"}], "files": [{"path": "/ä", "contents": "{{ \"X\" }}"}]}`, false)
		holds(t, `{"secrets": [{"id": "a"}], "files": [{"path": "/ä", "contents": "a\nb\n{{ \"X\" }}"}]}`, true)
	})
}

func holds(t *testing.T, file string, unknown bool) {
	t.Helper()
	c := parse(t, file)
	field := &c.Files[0].Contents
	value, text, lines := *field, c.Text(field), strings.Split(file, "\n")
	for offset := range len(value) + 1 {
		line, column := text.Place(offset)
		if column == 0 {
			if at := c.Path() + ":" + strconv.Itoa(line); at != c.Place(field) {
				t.Errorf("byte %d is placed on %s, and the value begins on %s", offset, at, c.Place(field))
			}
		}
		if strings.Contains(lines[line-1], "/next") {
			t.Errorf("byte %d is placed in the next entry", offset)
		}
		if offset == len(value) || value[offset] == '\n' {
			continue
		}
		if value[offset] == 'X' && unknown != (column == 0) {
			t.Errorf("X in %q is placed at %d:%d", value, line, column)
		}
		if column == 0 {
			continue
		}
		// A quote may stand there twice, and others behind a backslash.
		if at := lines[line-1][column-1:]; at[0] != value[offset] && (at[0] != '\\' || at[1] != value[offset]) {
			t.Errorf("byte %d, %q, is placed at %d:%d, where %q is", offset, value[offset], line, column, at)
		}
	}
}
