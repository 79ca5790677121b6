// Package redact takes secrets out of what a command has printed, before any
// of it is logged: a hook that runs under `set -x`, a client that puts a whole
// URL into its error, a script that dumps its environment.
//
// It errs on the side of taking out too much. Six consecutive bytes of a
// secret are enough, and the whole word around them goes, so that half a
// secret, and one with rubbish around it, do not stay either. Found are the
// secret as it is, in another case, broken over lines or by colours; quoted by
// a shell, JSON, Python, Go, C, a URL or XML; in base64 at any offset of what
// was encoded (the Basic authorization of HTTP, a whole Kubernetes manifest),
// in hexadecimal and in lists of decimal bytes, and dumped by od, xxd or
// hexdump.
//
// What it cannot do: recognise a secret that was transformed in a way not named
// here, such as hashed, encrypted, compressed, reversed, spelled in base32 or
// printed as the 16-bit octal words of od without options; know a password
// that the agent does not hold; or know that fewer than six bytes left of a
// longer secret were part of one. A number that a program tells about a secret
// (its size in a listing) stays. It guards against mistakes, not against a
// command that wants to tell a secret: nothing that prints could.
package redact

import (
	"bytes"
	"iter"
	"slices"
	"strings"

	"secretsd/agent/secret"
)

// Text returns output as valid UTF-8 without terminal escapes and without
// control characters other than newline and tab, in which every word (what
// stands between white space) that holds a part of one of values is replaced by
// [secret.Redacted]. Neighbouring replaced words become one, whatever stood
// between them, so that the result does not tell how long a secret is.
//
// A value that is a JSON object or array stands for the strings and numbers in
// it, not for its keys. Parts of three to five bytes are found where they are a
// whole value or a whole word of one, and those of one or two bytes only where
// no letter or digit is beside them.
//
// The memory needed grows with output and with the longest of values, not with
// their number; the time grows with the size of all of them.
func Text(output []byte, values iter.Seq[secret.Value]) string {
	text := clean(nil, output)
	if len(text) == 0 {
		return ""
	}
	matches := newIndex(text)
	forms := &forms{index: matches}
	for value := range values {
		forms.value(value.Reveal())
	}
	return mask(text, matches.marked)
}

// span is a part of a text: from the byte at from to before the one at to.
type span struct{ from, to int }

// mask replaces every word of text that has a marked byte.
func mask(text []byte, marked []bool) string {
	words := wordsOf(text)
	secrets := make([]bool, len(words))
	for i, word := range words {
		for at := word.from; at < word.to && !secrets[i]; at++ {
			secrets[i] = marked[at]
		}
	}
	maskDumps(text, words, secrets)
	var b strings.Builder
	kept, masked := 0, false
	for i, word := range words {
		if !secrets[i] {
			b.Write(text[kept:word.to])
		} else if !masked {
			b.Write(text[kept:word.from])
			b.WriteString(secret.Redacted)
		}
		kept, masked = word.to, secrets[i]
	}
	b.Write(text[kept:])
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// maskDumps masks the whole of a dump (od, xxd, hexdump) that shows a part of a
// secret: at the ends of its lines are too few bytes to be recognised, and its
// offsets count them.
func maskDumps(text []byte, words []span, secrets []bool) {
	// The dump that the lines before belong to: its first word, and whether it
	// shows a secret.
	first, shows := 0, false
	for from, to := 0, 0; from < len(words); from = to {
		to = from + 1
		for to < len(words) && bytes.IndexByte(text[words[to-1].to:words[to].from], '\n') < 0 {
			to++
		}
		if !isOffset(text[words[from].from:words[from].to], to-from == 1) {
			first, shows = to, false
			continue
		}
		shows = shows || slices.Contains(secrets[from:to], true)
		for i := first; shows && i < to; i++ {
			secrets[i] = true
		}
		if shows {
			first = to
		}
	}
}

// isOffset reports whether word can stand before a line of a dump. od writes 6
// or 7 digits, hexdump 7 or 8, xxd 8 and a colon; as long as dumps are small
// enough to be read, the first is a zero. A star alone on a line stands for
// repeated ones.
func isOffset(word []byte, alone bool) bool {
	digits := strings.TrimSuffix(string(word), ":")
	if len(digits) < 6 || len(digits) > 8 || digits[0] != '0' {
		return alone && digits == "*"
	}
	return strings.Trim(digits, "0123456789abcdefABCDEF") == ""
}

// wordsOf returns where the words of a cleaned text are.
func wordsOf(text []byte) []span {
	var words []span
	for at := 0; at < len(text); at++ {
		if isSpace(text[at]) {
			continue
		}
		word := span{from: at}
		for at < len(text) && !isSpace(text[at]) {
			at++
		}
		word.to = at
		words = append(words, word)
	}
	return words
}

// isSpace reports whether c is one of the kinds of white space that clean
// leaves.
func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' }
