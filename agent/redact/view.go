package redact

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// view is a text made of another one: spans says, for each of its bytes, which
// part of the other it came from.
type view struct {
	text  []byte
	spans []span
	// derived says that whatever came from as many bytes is unchanged.
	derived bool
}

func (v *view) add(c byte, from, to int) {
	v.text = append(v.text, c)
	v.spans = append(v.spans, span{from, to})
}

// collapse appends text to into with one space for each run of white space, and
// none at its ends.
func collapse(into, text []byte) []byte {
	start, space := len(into), false
	for _, c := range text {
		if isSpace(c) {
			space = true
			continue
		}
		if space && len(into) > start {
			into = append(into, ' ')
		}
		into, space = append(into, c), false
	}
	return into
}

func collapsedView(text []byte) view {
	var v view
	for at, c := range text {
		switch {
		case !isSpace(c):
			v.add(c, at, at+1)
		case at > 0 && isSpace(text[at-1]):
			v.spans[len(v.spans)-1].to = at + 1
		default:
			v.add(' ', at, at+1)
		}
	}
	return v
}

// isSqueezed reports whether c goes where white space and quoting are removed:
// quotes and backslashes are put before, after and between the characters of a
// secret by shells, JSON, SQL and every language.
func isSqueezed(c byte) bool {
	return c <= ' ' || c == '\\' || c == '"' || c == '\'' || c == '`' || c == 0x7f
}

// squeeze appends to into what isSqueezed leaves of text.
func squeeze(into, text []byte) []byte {
	for _, c := range text {
		if !isSqueezed(c) {
			into = append(into, c)
		}
	}
	return into
}

func squeezedView(text []byte) view {
	v := view{derived: true}
	for at, c := range text {
		if !isSqueezed(c) {
			v.add(c, at, at+1)
		}
	}
	return v
}

// decodedView is the squeezed view of text with the escapes in it undone,
// whichever characters a program has found worth escaping.
func decodedView(text []byte) view {
	v := view{derived: true}
	for at := 0; at < len(text); {
		char, size := decode(text[at:])
		for i := range len(char) {
			if !isSqueezed(char[i]) {
				v.add(char[i], at, at+size)
			}
		}
		at += size
	}
	return v
}

// decode returns the character at the beginning of text and how many bytes it
// takes there.
func decode(text []byte) (char string, size int) {
	switch text[0] {
	case '%':
		if b, ok := number(text, 1, 2, 16); ok {
			return string([]byte{byte(b)}), 3
		}
	case '&':
		return decodeEntity(text)
	case '\\':
		if len(text) > 1 {
			return decodeBackslash(text)
		}
	}
	return string(text[:1]), 1
}

// decodeBackslash undoes the escapes of JSON, C, Go, Python and the shell's
// $'...'. A backslash that escapes nothing it knows is removed by itself.
func decodeBackslash(text []byte) (char string, size int) {
	switch c := text[1]; c {
	case 'a', 'b', 'e', 'f', 'n', 'r', 't', 'v':
		return "", 2
	case 'x':
		if b, ok := number(text, 2, 2, 16); ok {
			return string([]byte{byte(b)}), 4
		}
	case 'u':
		if r, ok := number(text, 2, 4, 16); ok {
			if low, ok := number(text, 8, 4, 16); ok && text[6] == '\\' && text[7] == 'u' {
				if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
					return string(pair), 12
				}
			}
			return string(r), 6
		}
	case 'U':
		if r, ok := number(text, 2, 8, 16); ok {
			return string(r), 10
		}
	default:
		if b, ok := number(text, 1, 3, 8); ok {
			return string([]byte{byte(b)}), 4
		}
		if c == '0' {
			return "", 2
		}
	}
	return "", 1
}

// number reads a number in base from text[at:], as many digits of it as are said.
func number(text []byte, at, digits, base int) (rune, bool) {
	if at+digits > len(text) || text[at] == '+' || text[at] == '-' {
		return 0, false
	}
	n, err := strconv.ParseInt(string(text[at:at+digits]), base, 32)
	return rune(n), err == nil
}

// entities are those of XML; HTML's others stand for letters that nobody
// escapes any more.
var entities = map[string]string{"amp": "&", "lt": "<", "gt": ">", "quot": "", "apos": ""}

func decodeEntity(text []byte) (char string, size int) {
	const longest = 10
	end := bytes.IndexByte(text[:min(len(text), longest)], ';')
	if end < 0 {
		return "&", 1
	}
	name := string(text[1:end])
	if char, known := entities[name]; known {
		return char, end + 1
	}
	digits, numeric := strings.CutPrefix(name, "#")
	base := 10
	if hex := strings.TrimLeft(digits, "xX"); hex != digits {
		digits, base = hex, 16
	}
	r, err := strconv.ParseUint(digits, base, 21)
	if !numeric || err != nil {
		return "&", 1
	}
	return string(rune(r)), end + 1
}
