package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strconv"
)

// forms streams the secrets, in every form they may be printed in, over the
// index of an output. Its buffers are reused from one to the next.
type forms struct {
	index           *index
	cleaned, folded []byte
	encoded         []byte
}

// shortest is the length from which a secret is looked for in encodings too. An
// encoding of a shorter one is so short that it would be found everywhere.
const shortest = 3

// part looks for one secret in all its forms.
func (f *forms) part(secret []byte) {
	if len(secret) == 0 {
		return
	}
	f.text(secret)
	f.words()
	if len(secret) < shortest {
		return
	}
	f.escapes(secret)
	f.base64(secret)
	f.hex(secret)
	f.decimal(secret, ' ')
	f.decimal(secret, ',')
}

// text looks for form as an output would show it.
func (f *forms) text(form []byte) {
	f.cleaned = clean(f.cleaned[:0], form)
	f.folded = collapse(f.folded[:0], f.cleaned)
	f.index.match(f.folded)
	// Shorter ones are not looked for across words: "top" is in "to prove".
	f.encoded = squeeze(f.encoded[:0], f.cleaned)
	if len(f.encoded) >= gram && len(f.encoded) < len(f.folded) {
		f.index.match(f.encoded)
	}
}

// words looks for the short words of the text looked for last: the longer ones
// have been found with it.
func (f *forms) words() {
	for rest, word := f.folded, []byte(nil); len(rest) > 0; {
		word, rest, _ = bytes.Cut(rest, []byte(" "))
		if len(word) >= shortest && len(word) < gram {
			f.index.match(word)
		}
	}
}

// escapes looks for secret as it stands in JSON and in a URL. The view of the
// output in which escapes are undone has it too, but a piece of an escaped text
// may be too short for it: six bytes are two characters of a URL.
func (f *forms) escapes(secret []byte) {
	plain := true
	for _, c := range secret {
		plain = plain && (isWord(c) || c == '_' || c == '-' || c == '.' || c == '~') && c < 0x80
	}
	if plain {
		return
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	for _, html := range []bool{true, false} {
		if html && !bytes.ContainsAny(secret, "<>&") {
			continue
		}
		b.Reset()
		encoder.SetEscapeHTML(html)
		if err := encoder.Encode(string(secret)); err == nil {
			f.text(b.Bytes()[len(`"`) : b.Len()-len("\"\n")])
		}
	}
	f.index.match([]byte(url.QueryEscape(string(secret))))
	f.index.match([]byte(url.PathEscape(string(secret))))
}

// base64 looks for secret in the base64 of anything that it is a part of. The
// characters that it shares with what is before or after it are left out.
func (f *forms) base64(secret []byte) {
	f.encoded = base64.StdEncoding.AppendEncode(f.encoded[:0], secret)
	f.alphabets(f.encoded)
	var before [2]byte
	for offset := range 3 {
		if offset == 0 && len(f.encoded) > gram+2 {
			// It has been found in the whole.
			continue
		}
		f.cleaned = append(append(f.cleaned[:0], before[:offset]...), secret...)
		f.encoded = base64.RawStdEncoding.AppendEncode(f.encoded[:0], f.cleaned)
		// Six bits a character: those that begin within the secret and end in it.
		f.alphabets(f.encoded[(8*offset+5)/6 : 8*len(f.cleaned)/6])
	}
}

// alphabets looks for encoded in both alphabets of base64 (RFC 4648). It writes
// to encoded.
func (f *forms) alphabets(encoded []byte) {
	f.index.match(encoded)
	differs := false
	for i, c := range encoded {
		switch c {
		case '+':
			encoded[i], differs = '-', true
		case '/':
			encoded[i], differs = '_', true
		}
	}
	if differs {
		f.index.match(encoded)
	}
}

// hex looks for secret in hexadecimal: in one piece, with colons (openssl), and
// as the 16-bit words of a little-endian machine (hexdump and od -x), in which
// the two bytes of each pair have changed places.
func (f *forms) hex(secret []byte) {
	f.encoded = hex.AppendEncode(f.encoded[:0], secret)
	f.index.match(f.encoded)
	f.cleaned = append(f.cleaned[:0], f.encoded[:2]...)
	for i := 2; i < len(f.encoded); i += 2 {
		f.cleaned = append(f.cleaned, ':', f.encoded[i], f.encoded[i+1])
	}
	f.index.match(f.cleaned)
	if len(f.encoded) <= gram {
		return
	}
	for first := range 2 {
		f.cleaned = f.cleaned[:0]
		for i := first; i+1 < len(secret); i += 2 {
			f.cleaned = append(f.cleaned, secret[i+1], secret[i])
		}
		f.encoded = hex.AppendEncode(f.encoded[:0], f.cleaned)
		f.index.match(f.encoded)
	}
}

// decimal looks for secret as a list of numbers, as Go, Java, JavaScript and
// Python print bytes.
func (f *forms) decimal(secret []byte, separator byte) {
	f.encoded = f.encoded[:0]
	for i, c := range secret {
		if i > 0 {
			f.encoded = append(f.encoded, separator)
		}
		f.encoded = append(f.encoded, decimals[c]...)
	}
	f.index.match(f.encoded)
}

// decimals holds every byte as a decimal number.
var decimals = func() (table [256]string) {
	for c := range table {
		table[c] = strconv.Itoa(c)
	}
	return table
}()
