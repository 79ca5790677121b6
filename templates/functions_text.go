package templates

import "strings"

func textRows() []row {
	return []row{
		{names: "upper toUpper", args: "TEXT", doc: "TEXT in upper case.", example: `{{ upper "ab" }}`, result: "AB", fn: strings.ToUpper},
		{names: "lower toLower", args: "TEXT", doc: "TEXT in lower case.", example: `{{ lower "AB" }}`, result: "ab", fn: strings.ToLower},
		{names: "toTitle", args: "TEXT", doc: "TEXT with the first letter of each word in upper case; an apostrophe ends no word.", example: `{{ toTitle "it's db" }}`, result: "It's Db", fn: toTitle},
		{names: "title", args: "TEXT", doc: "TEXT with the first letter of each word in upper case; all but letters and digits ends a word.", example: `{{ title "ab-cd" }}`, result: "Ab-Cd"},
		{names: "untitle", args: "TEXT", doc: "TEXT with the first letter of each word in lower case.", example: `{{ untitle "Ab Cd" }}`, result: "ab cd"},
		{names: "trim", args: "[CHARACTERS] TEXT", doc: "TEXT without any of CHARACTERS, or white space, at its ends.", example: `{{ trim " a\n" }}{{ trim "/" "/a/" }}`, result: "aa", fn: trim, min: 1, max: 2},
		{names: "trimSpace", args: "TEXT", doc: "TEXT without white space at its ends.", example: `{{ trimSpace " a\n" }}`, result: "a", fn: strings.TrimSpace},
		{names: "trimAll trimall", args: "CHARACTERS TEXT", doc: "TEXT without any of CHARACTERS at its ends.", example: `{{ trimAll "/" "/a/" }}`, result: "a"},
		{names: "trimPrefix", args: "PREFIX TEXT", doc: "TEXT without PREFIX.", example: `{{ trimPrefix "a-" "a-b" }}`, result: "b"},
		{names: "trimSuffix", args: "SUFFIX TEXT", doc: "TEXT without SUFFIX.", example: `{{ trimSuffix "-b" "a-b" }}`, result: "a"},
		{names: "hasPrefix", args: "PREFIX TEXT", doc: "Whether TEXT begins with PREFIX.", example: `{{ hasPrefix "a" "ab" }}`, result: "true"},
		{names: "hasSuffix", args: "SUFFIX TEXT", doc: "Whether TEXT ends with SUFFIX.", example: `{{ hasSuffix "a" "ab" }}`, result: "false"},
		{names: "contains", args: "PART TEXT", doc: "Whether TEXT holds PART, or a list the element PART.",
			example: `{{ contains "b" "abc" }}, {{ contains "b" (secret "db").hosts }}`, result: "true, true", fn: contains},
		{names: "replace replaceAll", args: "OLD NEW TEXT", doc: "TEXT with every OLD made NEW.", example: `{{ replace "a" "b" "aha" }}`, result: "bhb", fn: replace},
		{names: "substr", args: "START END TEXT", doc: "The bytes of TEXT from START up to END.", example: `{{ substr 1 3 "abcd" }}`, result: "bc"},
		{names: "trunc", args: "N TEXT", doc: "The first N bytes of TEXT, or the last of a negative N.", example: `{{ trunc 2 "abc" }} {{ trunc -2 "abc" }}`, result: "ab bc"},
		{names: "abbrev", args: "WIDTH TEXT", doc: "TEXT cut to WIDTH with an ellipsis.", example: `{{ abbrev 5 "abcdefgh" }}`, result: "ab..."},
		{names: "abbrevboth", args: "LEFT WIDTH TEXT", doc: "TEXT cut on both sides.", example: `{{ abbrevboth 5 10 "1234 5678 9123" }}`, result: "...5678..."},
		{names: "nospace", args: "TEXT", doc: "TEXT without white space.", example: `{{ nospace "a b" }}`, result: "ab"},
		{names: "initials", args: "TEXT", doc: "The first letter of each word.", example: `{{ initials "ab cd" }}`, result: "ac"},
		{names: "swapcase", args: "TEXT", doc: "TEXT with upper and lower case exchanged.", example: `{{ swapcase "aB" }}`, result: "Ab"},
		{names: "snakecase", args: "TEXT", doc: "TEXT in snake case.", example: `{{ snakecase "DbUser" }}`, result: "db_user"},
		{names: "kebabcase", args: "TEXT", doc: "TEXT in kebab case.", example: `{{ kebabcase "DbUser" }}`, result: "db-user"},
		{names: "camelcase", args: "TEXT", doc: "TEXT in camel case with a capital first.", example: `{{ camelcase "db_user" }}`, result: "DbUser"},
		{names: "plural", args: "ONE MANY COUNT", doc: "ONE if COUNT is 1, else MANY.", example: `{{ plural "host" "hosts" 2 }}`, result: "hosts"},
		{names: "repeat", args: "COUNT TEXT", doc: "TEXT COUNT times.", example: `{{ repeat 3 "ab" }}`, result: "ababab", fn: repeat},
		{names: "indent", args: "SPACES TEXT", doc: "TEXT with every line indented that is not empty.", example: `{{ secret "lines" | indent 2 }}`, result: "  one\n  two", fn: indentLines},
		{names: "sprig_indent", args: "SPACES TEXT", doc: "TEXT with every line indented, empty ones too.", example: `{{ sprig_indent 2 "a\n" }}`, result: "  a\n  ", fn: indent},
		{names: "nindent", args: "SPACES TEXT", doc: "A newline, then what sprig_indent gives.", example: `key:{{ secret "lines" | nindent 2 }}`, result: "key:\n  one\n  two",
			fn: func(n int, s string) (string, error) {
				s, err := indent(n, s)
				return "\n" + s, err
			}},
		{names: "wrap", args: "WIDTH TEXT", doc: "TEXT broken into lines at spaces.", example: `{{ wrap 3 "ab cd" }}`, result: "ab\ncd"},
		{names: "wrapWith", args: "WIDTH BREAK TEXT", doc: "TEXT broken with BREAK, long words too.", example: `{{ wrapWith 2 "|" "abcd" }}`, result: "ab|cd", fn: wrapWith},
		{names: "cat", args: "VALUE...", doc: "The values with a space between.", example: `{{ cat "a" 1 }}`, result: "a 1",
			fn: func(s ...string) string { return strings.Join(s, " ") }},
		{names: "print", args: "VALUE...", doc: "The values together; a space stands between two that are both no text.", example: `{{ print "a" 1 2 }}`, result: "a1 2", fn: func(v ...any) (string, error) { return sprint(v) }},
		{names: "println", args: "VALUE...", doc: "The values with a space between and a newline at the end.", example: `{{ println "a" 1 }}`, result: "a 1\n",
			fn: func(s ...string) string { return strings.Join(s, " ") + "\n" }},
		{names: "printf", args: "FORMAT VALUE...", doc: "The values in Go's format; a value that does not fit its verb is an error.",
			example: `{{ printf "%s:%05d" (secret "db").user (secret "db").port }}`, result: "app:05432", fn: sprintf},
		{names: "toString", args: "VALUE", doc: "VALUE as the text that is printed.", example: `{{ toString 1.50 }}`, result: "1.5", fn: func(s string) string { return s }},
		{names: "base", args: "PATH", doc: "The last element of a slash-separated path.", example: `{{ base "/a/b.c" }}`, result: "b.c"},
		{names: "dir", args: "PATH", doc: "The path without its last element.", example: `{{ dir "/a/b.c" }}`, result: "/a"},
		{names: "ext", args: "PATH", doc: "The extension with its dot.", example: `{{ ext "/a/b.c" }}`, result: ".c"},
		{names: "clean", args: "PATH", doc: "The shortest equal path.", example: `{{ clean "/a/../b/" }}`, result: "/b"},
		{names: "isAbs", args: "PATH", doc: "Whether the path begins at the root.", example: `{{ isAbs "/a" }}`, result: "true"},
	}
}

func contains(part, whole any) (bool, error) {
	if l, ok := asList(whole); ok {
		return contained(l, part)
	}
	p, err := asText(part)
	if err != nil {
		return false, err
	}
	w, err := asText(whole)
	return strings.Contains(w, p), err
}

func replace(from, to, s string) (string, error) {
	if err := within(len(s), strings.Count(s, from), len(to)); err != nil {
		return "", err
	}
	return strings.ReplaceAll(s, from, to), nil
}

func repeat(n int, s string) (string, error) {
	if n < 0 {
		return "", fail("the count is negative")
	}
	if err := within(0, n, len(s)); err != nil {
		return "", err
	}
	if s == "" {
		return "", nil
	}
	return strings.Repeat(s, n), nil
}

func trim(args ...string) string {
	if len(args) == 1 {
		return strings.TrimSpace(args[0])
	}
	return strings.Trim(args[1], args[0])
}

// indentLines leaves empty lines as they are, the one after a last newline
// among them.
func indentLines(n int, s string) (string, error) {
	if n < 0 {
		return "", errNegativeIndent
	}
	if err := within(len(s), strings.Count(s, "\n")+1, n); err != nil {
		return "", err
	}
	lines := strings.SplitAfter(s, "\n")
	for i, line := range lines {
		if line != "" && line != "\n" {
			lines[i] = strings.Repeat(" ", n) + line
		}
	}
	return strings.Join(lines, ""), nil
}

var errNegativeIndent = fail("the number of spaces is negative")

func indent(n int, s string) (string, error) {
	if n < 0 {
		return "", errNegativeIndent
	}
	if err := within(len(s), strings.Count(s, "\n")+1, n); err != nil {
		return "", err
	}
	pad := strings.Repeat(" ", n)
	return pad + strings.ReplaceAll(s, "\n", "\n"+pad), nil
}

func wrapWith(width int, with, s string) (string, error) {
	if err := within(len(s), len(s)/max(width, 1)+1, len(with)); err != nil {
		return "", err
	}
	if fn, ok := library()["wrapWith"].(func(int, string, string) string); ok {
		return fn(width, with, s), nil
	}
	return "", errLibrary
}

// sprint is fmt.Sprint for the values of templates: a space stands between two
// operands that are both no text.
func sprint(args []any) (string, error) {
	var b strings.Builder
	before := true
	for i, a := range args {
		s, err := asText(a)
		if err != nil {
			return "", err
		}
		k := kind(a)
		isText := k != "number" && k != "bool"
		if i > 0 && !isText && !before {
			b.WriteByte(' ')
		}
		before = isText
		if b.WriteString(s); b.Len() > maxText {
			return "", errTooBig
		}
	}
	return b.String(), nil
}
