package templates

import (
	"cmp"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"text/template/parse"
	"unicode/utf8"
)

// maxPlaced is the most bytes of a text in which the column of a parser's error is
// looked for: that takes some twenty parses.
const maxPlaced = 128 << 10

// maxProbes is how many uses of a variable are tried, and maxChances how many errors
// that are the same by chance are passed over.
const (
	maxProbes  = 50
	maxChances = 5
)

// parseText returns the parser's error of a text, or "".
func parseText(text string, delims [2]string) string {
	t := parse.New("")
	t.Mode = parse.SkipFuncCheck
	if _, err := t.Parse(text, delims[0], delims[1], make(map[string]*parse.Tree)); err != nil {
		return err.Error()
	}
	return ""
}

// offset finds the byte that an error of the parser, which knows lines alone, is
// about. It reports false where that cannot be told for certain.
func (s *source) offset(err, msg string, delims [2]string) (int, bool) {
	if len(s.text) > maxPlaced {
		return 0, false
	}
	if strings.HasPrefix(msg, "unexpected EOF") || strings.HasPrefix(msg, "unclosed action") {
		return len(s.text), true
	}
	if name, found := strings.CutPrefix(msg, "undefined variable "); found {
		name, _ = strconv.Unquote(name)
		return s.undefined(name, delims)
	}
	read, found := s.read(err, delims)
	if !found {
		return 0, false
	}
	return lastToken(s.text[:read], msg, cmp.Or(delims[1], "}}"))
}

// read returns how much of the text the parser had read when it gave an error. It
// reads from left to right, so that this is the shortest beginning of the text that
// gives the same one.
func (s *source) read(err string, delims [2]string) (int, bool) {
	fails := func(n int) bool { return parseText(s.text[:n], delims) == err }
	from := 0
search:
	for range maxChances {
		read := from + sort.Search(len(s.text)-from, func(n int) bool { return fails(from + n) })
		// Where a token, a trim marker or a delimiter is cut in two, the first half may
		// give the same error by chance.
		for more := range len(" -") + len(cmp.Or(delims[1], "}}")) {
			if longer := read + 1 + more; longer < len(s.text) && !fails(longer) {
				from = longer
				continue search
			}
		}
		return read, true
	}
	return 0, false
}

// undefined finds the use of a variable that is not declared. A use that the parser
// gets to is the one where it complains of another name that is put there. It is
// the last of those: the parser goes no further.
func (s *source) undefined(name string, delims [2]string) (int, bool) {
	if len(name) < 2 {
		return 0, false
	}
	other := name + "_"
	for strings.Contains(s.text, other) {
		other += "_"
	}
	want := "undefined variable " + strconv.Quote(other)
	at := len(s.text)
	for range maxProbes {
		if at = strings.LastIndex(s.text[:at], name); at < 0 {
			break
		}
		if strings.HasSuffix(parseText(s.text[:at]+other+s.text[at+len(name):], delims), ": "+want) {
			return at, true
		}
	}
	return 0, false
}

var (
	// The errors that show what they are about, and those found at a right delimiter.
	badCharacter    = pattern(`^(?:bad character|unrecognized character in action:) U\+([0-9A-F]+)`)
	rightParen      = pattern(`^unexpected right paren`)
	unexpectedToken = pattern(`^(?:unexpected|bad number syntax:) ("(?:[^"\\]|\\.)*")(\.\.\.)?(?: in |$)`)
	unexpectedWord  = pattern(`^unexpected <(.*)> in `)
	unexpectedBlock = pattern(`^(?:unexpected |expected end; found )?\{\{(end|else|break|continue)\}\}`)
	atDelimiter     = pattern(`^(?:missing value for |unclosed left paren)`)
)

// lastToken returns where the token begins with which the text that was read ends. It
// reports false if that is not what msg is about.
func lastToken(read, msg, right string) (int, bool) {
	last := func(token string) (int, bool) {
		return len(read) - len(token), token != "" && strings.HasSuffix(read, token)
	}
	if m := badCharacter().FindStringSubmatch(msg); m != nil {
		char, _ := strconv.ParseInt(m[1], 16, 32)
		return last(string(rune(char)))
	}
	if m := unexpectedToken().FindStringSubmatch(msg); m != nil {
		token, _ := strconv.Unquote(m[1])
		if m[2] != "" { // cut behind ten characters: the first that is not shown has been read
			_, size := utf8.DecodeLastRuneInString(read)
			return lastToken(read[:len(read)-size], strings.Replace(msg, "...", "", 1), right)
		}
		return last(token)
	}
	if m := unexpectedWord().FindStringSubmatch(msg); m != nil {
		return last(m[1])
	}
	if m := unexpectedBlock().FindStringSubmatch(msg); m != nil {
		if at := regexp.MustCompile(m[1] + `\s*(?:\s-)?` + regexp.QuoteMeta(right) + `$`).FindStringIndex(read); at != nil {
			return at[0], true
		}
		return 0, false
	}
	switch {
	case atDelimiter().MatchString(msg):
		return last(right)
	case rightParen().MatchString(msg):
		return last(")")
	}
	return 0, false
}
