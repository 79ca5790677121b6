package redact

import "math/bits"

const (
	// gram is how many consecutive bytes of a form are taken for a part of it.
	gram     = 6
	gramMask = 1<<(8*gram) - 1
)

// index finds the parts of an output that a form of a secret has too. It knows
// the output and not the secrets, which are streamed over it: so its size is
// that of the output, whatever is held.
type index struct {
	marked []bool
	// first holds, for a key, one past the newest of places with it; before
	// leads from there to the older ones.
	first  map[uint64]int32
	places []place
	// filter says of most keys that they are not in first, in one read of
	// memory near by: nearly all the time goes there.
	filter []uint64
	shift  int
}

type place struct {
	span
	before int32
}

// key returns the key of the n bytes in b, of which there are 1 to 6 (gram).
func key(n int, b uint64) uint64 { return uint64(n)<<56 | b }

// newIndex indexes a cleaned output as it is, but for the length of its white
// space; without white space and quoting; and with escapes undone.
func newIndex(text []byte) *index {
	x := &index{marked: make([]bool, len(text)), first: make(map[uint64]int32, 2*len(text))}
	// About 16 bits for each gram, so that few keys pass by chance.
	width := max(10, bits.Len(uint(len(text)))+6)
	x.filter, x.shift = make([]uint64, 1<<(width-6)), 64-width
	collapsed := collapsedView(text)
	x.addGrams(collapsed)
	x.addShort(collapsed)
	x.addGrams(squeezedView(text))
	x.addGrams(decodedView(text))
	return x
}

func (x *index) slot(key uint64) (word int, bit uint64) {
	hash := (key * 0x9e3779b97f4a7c15) >> (x.shift & 63)
	return int(hash >> 6), 1 << (hash & 63)
}

func (x *index) add(key uint64, where span) {
	word, bit := x.slot(key)
	x.filter[word] |= bit
	x.places = append(x.places, place{span: where, before: x.first[key]})
	x.first[key] = int32(len(x.places))
}

func (x *index) addGrams(v view) {
	var b uint64
	for at, c := range v.text {
		b = (b<<8 | uint64(fold[c])) & gramMask
		if at+1 < gram {
			continue
		}
		where := span{v.spans[at+1-gram].from, v.spans[at].to}
		// What was not changed by a view has been indexed already.
		if v.derived && where.to-where.from == gram {
			continue
		}
		x.add(key(gram, b), where)
	}
}

// addShort adds what a form shorter than a gram can match: three to five bytes
// anywhere, one or two where they stand alone.
func (x *index) addShort(v view) {
	for at := range v.text {
		var b uint64
		for n := 1; n < gram && at+n <= len(v.text); n++ {
			b = b<<8 | uint64(fold[v.text[at+n-1]])
			alone := (at == 0 || !isWord(v.text[at-1])) && (at+n == len(v.text) || !isWord(v.text[at+n]))
			if n >= 3 || alone {
				x.add(key(n, b), span{v.spans[at].from, v.spans[at+n-1].to})
			}
		}
	}
}

// isWord reports whether c is, or is a part of, a letter or digit; bytes of
// other characters than ASCII count as such.
func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// match marks every part of the output that form has too: its grams, or the
// whole of it if it is shorter than one.
func (x *index) match(form []byte) {
	var b uint64
	first := form[:min(gram-1, len(form))]
	for _, c := range first {
		b = b<<8 | uint64(fold[c])
	}
	for _, c := range form[len(first):] {
		b = (b<<8 | uint64(fold[c])) & gramMask
		k := key(gram, b)
		if word, bit := x.slot(k); x.filter[word]&bit != 0 {
			x.mark(k)
		}
	}
	if n := len(form); n > 0 && n < gram {
		x.mark(key(n, b))
	}
}

// mark marks the places with key, and forgets them: once is enough.
func (x *index) mark(key uint64) {
	next, found := x.first[key]
	if !found {
		return
	}
	delete(x.first, key)
	for next > 0 {
		where := x.places[next-1]
		for at := where.from; at < where.to; at++ {
			x.marked[at] = true
		}
		next = where.before
	}
}

// fold maps capital letters of ASCII to small ones.
var fold = func() (table [256]byte) {
	for c := range table {
		table[c] = byte(c)
		if c >= 'A' && c <= 'Z' {
			table[c] = byte(c) + 'a' - 'A'
		}
	}
	return table
}()
