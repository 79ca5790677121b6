package endpoint

import (
	"encoding/base64"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"secretsd/agent/secret"
)

// encodeVersion returns the body of a successful answer: the peer's
// GetSecretValue object, compact and in its field order. ARN, Name, VersionId
// and CreatedDate are always there, null where the service left them out; the
// others are left out when there are none.
func encodeVersion(v *secret.Version) []byte {
	b := appendVersion(nil, v)
	b = appendDate(append(b, `,"CreatedDate":`...), v.Created)
	return append(b, '}')
}

// appendVersion appends the object as far as its date, which clients of the peer
// and SDKs do not have alike.
func appendVersion(b []byte, v *secret.Version) []byte {
	text, binary := v.Text.Reveal(), v.Binary.Reveal()
	b = slices.Grow(b, 256+len(text)+len(text)/8+base64.StdEncoding.EncodedLen(len(binary)))
	b = appendNullable(append(b, `{"ARN":`...), v.ARN)
	b = appendNullable(append(b, `,"Name":`...), v.Name)
	b = appendNullable(append(b, `,"VersionId":`...), v.VersionID)
	b = appendValue(b, v)
	if len(v.Stages) > 0 {
		b = appendStrings(append(b, `,"VersionStages":`...), v.Stages)
	}
	return b
}

// appendValue appends the value's members, after others.
func appendValue(b []byte, v *secret.Version) []byte {
	if !v.Text.IsZero() {
		b = appendString(append(b, `,"SecretString":`...), v.Text.Reveal())
	}
	if !v.Binary.IsZero() {
		b = append(b, `,"SecretBinary":"`...)
		b = base64.StdEncoding.AppendEncode(b, []byte(v.Binary.Reveal()))
		b = append(b, '"')
	}
	return b
}

// appendStrings appends a list that is not empty.
func appendStrings(b []byte, list []string) []byte {
	sep := byte('[')
	for _, s := range list {
		b = appendString(append(b, sep), s)
		sep = ','
	}
	return append(b, ']')
}

// encodeError returns the body of an error answer, with the message left out
// if it is empty.
func encodeError(code, message string) []byte {
	b := appendString([]byte(`{"__type":`), code)
	if message != "" {
		b = appendString(append(b, `,"message":`...), message)
	}
	return append(b, '}')
}

// appendDate appends t as a string of epoch seconds with a fraction where
// there is one. The service itself sends a number; the peer's clients were
// written for a string.
func appendDate(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, "null"...)
	}
	return append(appendSeconds(append(b, '"'), t), '"')
}

func appendSeconds(b []byte, t time.Time) []byte {
	seconds := float64(t.Unix()) + float64(t.Nanosecond())/1e9
	return strconv.AppendFloat(b, seconds, 'f', -1, 64)
}

func appendNullable(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return appendString(b, s)
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string escaped as serde_json does it: the
// quote, the backslash and controls only, in the short form where JSON has
// one. encoding/json would also escape <, >, &, U+2028 and U+2029. A byte that
// is not UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, s[start:i]...), "\uFFFD"...)
				start = i + 1
			}
			i += size
			continue
		}
		if c < ' ' || c == '"' || c == '\\' {
			b = appendEscape(append(b, s[start:i]...), c)
			start = i + 1
		}
		i++
	}
	return append(append(b, s[start:]...), '"')
}

func appendEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\b':
		return append(b, `\b`...)
	case '\f':
		return append(b, `\f`...)
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	default:
		return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
	}
}
