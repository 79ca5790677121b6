package redact

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

const (
	escape = 0x1b
	bell   = 0x07
	// csi is the one character that means ESC [ (ECMA-48, 8.3.16).
	csi = 0x9b
)

// clean appends text to into without what can stand unseen in the middle of a
// secret: terminal escapes, control and format characters, and what a backspace
// takes back. Of white space only newline, tab and space are left. Bytes that
// are no UTF-8 stay, because a binary secret is made of them. Outputs and
// secrets both go through it, so that a secret with such characters in it is
// still found.
func clean(into, text []byte) []byte {
	start := len(into)
	for at := 0; at < len(text); {
		c := text[at]
		if c >= ' ' && c < 0x7f || c == '\n' || c == '\t' {
			into = append(into, c)
			at++
			continue
		}
		r, size := utf8.DecodeRune(text[at:])
		next := at + size
		switch {
		case r == utf8.RuneError && size == 1:
			into = append(into, c)
		case r == escape:
			next = afterEscape(text, next)
		case r == csi:
			next = afterSequence(text, next)
		case r == '\b':
			into = into[:start+eraseOne(into[start:])]
		case r == '\r':
			if next == len(text) || text[next] != '\n' {
				into = append(into, '\n')
			}
		case unicode.IsSpace(r) && r != 0x85:
			into = append(into, ' ')
		case !unicode.Is(unicode.C, r):
			into = append(into, text[at:next]...)
		}
		at = next
	}
	return into
}

// eraseOne returns the length of text without its last character; a newline
// cannot be taken back.
func eraseOne(text []byte) int {
	if len(text) == 0 || text[len(text)-1] == '\n' {
		return len(text)
	}
	_, size := utf8.DecodeLastRune(text)
	return len(text) - size
}

// afterEscape returns where the escape sequence ends whose ESC stands just
// before at (ECMA-48, 5.3 to 5.6).
func afterEscape(text []byte, at int) int {
	if at == len(text) {
		return at
	}
	switch text[at] {
	case '[':
		return afterSequence(text, at+1)
	case ']', 'P', 'X', '^', '_':
		// A title or another string. One without an end is taken for none:
		// it would take the rest of the output with it.
		rest := text[at+1:]
		if end := bytes.IndexAny(rest, "\x07\x1b\n"); end >= 0 && rest[end] != '\n' {
			if rest[end] == bell {
				return at + 1 + end + 1
			}
			if end+1 < len(rest) && rest[end+1] == '\\' {
				return at + 1 + end + 2
			}
		}
		return at + 1
	}
	for at < len(text) && text[at] >= 0x20 && text[at] <= 0x2f {
		at++
	}
	if at < len(text) && text[at] >= 0x30 && text[at] < 0x7f {
		at++
	}
	return at
}

// afterSequence returns where the parameters and the final byte of a control
// sequence end.
func afterSequence(text []byte, at int) int {
	for at < len(text) && text[at] >= 0x20 && text[at] <= 0x3f {
		at++
	}
	if at < len(text) && text[at] >= 0x40 && text[at] < 0x7f {
		at++
	}
	return at
}
