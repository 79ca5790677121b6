package redact

import (
	"bytes"
	"iter"

	"secretsd/agent/secret"
)

// TailSize is how much of an output a [Tail] keeps, in bytes.
const TailSize = 4 << 10

// Tail is an [io.Writer] that keeps the last [TailSize] bytes of what is written
// to it and never holds more than twice that. The zero Tail is ready to use. It
// is not safe for concurrent use; as both Stdout and Stderr of an exec.Cmd it
// is written by one goroutine, which has ended when Wait returns.
type Tail struct {
	kept    []byte
	dropped bool
}

// Write keeps the end of p and never fails.
func (t *Tail) Write(p []byte) (int, error) {
	written := len(p)
	if len(p) > TailSize {
		t.kept, t.dropped = t.kept[:0], true
		p = p[len(p)-TailSize:]
	}
	if len(t.kept)+len(p) > 2*TailSize {
		t.dropped = true
		t.kept = t.kept[:copy(t.kept, t.kept[len(t.kept)-(TailSize-len(p)):])]
	}
	t.kept = append(t.room(len(p)), p...)
	return written, nil
}

// room returns what is kept with capacity for n bytes more: append alone might
// take more than was promised.
func (t *Tail) room(n int) []byte {
	if cap(t.kept) >= len(t.kept)+n {
		return t.kept
	}
	size := TailSize / 8
	for size < len(t.kept)+n {
		size *= 2
	}
	return append(make([]byte, 0, size), t.kept...)
}

// Dropped reports whether something was written before what is kept.
func (t *Tail) Dropped() bool { return t.dropped || len(t.kept) > TailSize }

// Text returns what is kept as [Text] does. If something was dropped before it,
// the line that was cut goes too, because the end of a secret in it may be too
// short to be recognised; if nothing but that line is there, only its first
// word goes.
func (t *Tail) Text(values iter.Seq[secret.Value]) string {
	kept := t.kept[max(0, len(t.kept)-TailSize):]
	if t.Dropped() {
		kept = afterCut(kept)
	}
	return Text(kept, values)
}

// afterCut returns output, whose head was cut off somewhere, from its first
// whole line, or else from its first whole word.
func afterCut(output []byte) []byte {
	for _, ends := range []string{"\n", " \t\n\v\f\r"} {
		end := bytes.IndexAny(output, ends)
		if end >= 0 && len(bytes.TrimSpace(output[end:])) > 0 {
			return output[end+1:]
		}
	}
	return nil
}
