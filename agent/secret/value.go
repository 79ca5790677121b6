// Package secret holds the words every other package speaks: a secret value
// that does not print itself, the reference it is read by, the version it came
// in, and the kinds of error a read can end in. It imports nothing but the
// standard library, so that every package may import it.
package secret

import (
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what a Value prints as, whatever verb or encoder is used.
const Redacted = "[redacted]"

// Value is a secret's text or bytes. It prints as [Redacted] under every fmt
// verb, in slog, in JSON and in text encodings; only [Value.Reveal] and
// [Value.Bytes] give what it holds. The zero Value holds nothing.
//
// It holds a pointer and not the string itself: fmt and slog reach string and
// []byte fields through an outer struct's unexported field without asking the
// field's methods, and then a pointer is all they can show.
type Value struct{ s *string }

// NewValue returns a Value holding s.
func NewValue(s string) Value { return Value{s: &s} }

// Reveal returns the value itself, or "" for the zero Value. The caller hands
// it to a sink and to nothing that prints.
func (v Value) Reveal() string {
	if v.s == nil {
		return ""
	}
	return *v.s
}

// Bytes returns a copy of the value that the caller owns.
func (v Value) Bytes() []byte { return []byte(v.Reveal()) }

// IsZero reports whether v holds no value at all, which is not the same as an
// empty one.
func (v Value) IsZero() bool { return v.s == nil }

// Equal reports whether both hold the same bytes; two zero Values are equal,
// and a zero Value equals no other.
func (v Value) Equal(w Value) bool {
	if v.s == nil || w.s == nil {
		return v.s == w.s
	}
	return *v.s == *w.s
}

// String implements [fmt.Stringer] and returns [Redacted].
func (v Value) String() string { return Redacted }

// GoString implements [fmt.GoStringer] and returns [Redacted].
func (v Value) GoString() string { return Redacted }

// Format implements [fmt.Formatter] and writes [Redacted] for every verb.
func (v Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// LogValue implements [slog.LogValuer] and returns [Redacted].
func (v Value) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText implements [encoding.TextMarshaler] and returns [Redacted].
func (v Value) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
