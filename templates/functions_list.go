package templates

import (
	"slices"
	"strconv"
	"strings"
)

func listRows() []row {
	return []row{
		{names: "list tuple", args: "VALUE...", doc: "A list.", example: `{{ list 1 "a" | json }}`, result: `[1,"a"]`, fn: func(v ...any) []any { return slices.Clone(v) }},
		{names: "len", args: "VALUE", doc: "How many keys, elements or bytes VALUE has.", example: `{{ len (secret "db").hosts }}`, result: "2", fn: length},
		{names: "index", args: "VALUE KEY...", doc: "The element or field at KEY, and in that at the next KEY.",
			example: `{{ index (secret "db") "api-key" }} {{ index (secret "db").hosts 1 }}`, result: "k1 b", fn: index, min: 1},
		{names: "slice mustSlice", args: "VALUE START END", doc: "The elements, or bytes of a text, from START up to END.",
			example: `{{ slice (list 1 2 3) 1 3 | json }} {{ slice "abc" 1 }}`, result: "[2,3] bc", fn: slice},
		{names: "first mustFirst", args: "LIST", doc: "The first element.", example: `{{ first (secret "db").hosts }}`, result: "a", fn: func(l []any) any { return at(l, 0) }},
		{names: "last mustLast", args: "LIST", doc: "The last element.", example: `{{ last (secret "db").hosts }}`, result: "b", fn: func(l []any) any { return at(l, len(l)-1) }},
		{names: "rest mustRest", args: "LIST", doc: "All but the first element.", example: `{{ rest (list 1 2 3) | json }}`, result: "[2,3]", fn: func(l []any) []any { return l[min(1, len(l)):] }},
		{names: "initial mustInitial", args: "LIST", doc: "All but the last element.", example: `{{ initial (list 1 2 3) | json }}`, result: "[1,2]", fn: func(l []any) []any { return l[:max(len(l)-1, 0)] }},
		{names: "append push mustAppend mustPush", args: "LIST VALUE", doc: "A new list with VALUE at its end.", example: `{{ append (list 1) 2 | json }}`, result: "[1,2]", fn: func(l []any, v any) []any { return append(l, v) }},
		{names: "prepend mustPrepend", args: "LIST VALUE", doc: "A new list with VALUE at its front.", example: `{{ prepend (list 1) 2 | json }}`, result: "[2,1]", fn: func(l []any, v any) []any { return slices.Insert(l, 0, v) }},
		{names: "concat", args: "LIST...", doc: "One list of all.", example: `{{ concat (list 1) (list 2) | json }}`, result: "[1,2]", fn: func(l ...[]any) []any { return slices.Concat(l...) }},
		{names: "reverse mustReverse", args: "LIST", doc: "The list from its end.", example: `{{ reverse (list 1 2) | json }}`, result: "[2,1]", fn: func(l []any) []any { slices.Reverse(l); return l }},
		{names: "uniq mustUniq", args: "LIST", doc: "The list without what it had before.", example: `{{ uniq (list 1 2 1) | json }}`, result: "[1,2]", fn: func(c *call, l []any) ([]any, error) { return c.without(l, nil, true) }},
		{names: "without mustWithout", args: "LIST VALUE...", doc: "The list without these values.", example: `{{ without (list 1 2 3) 2 | json }}`, result: "[1,3]",
			fn: func(c *call, l []any, v ...any) ([]any, error) { return c.without(l, v, false) }},
		{names: "in", args: "WHOLE VALUE", doc: "Whether the list, or a text, holds VALUE.", example: `{{ in (secret "db").hosts "a" }} {{ in "abc" "x" }}`, result: "true false", fn: in},
		{names: "compact mustCompact", args: "LIST", doc: "The list without what is empty.", example: `{{ compact (list "a" "" 0) | json }}`, result: `["a"]`,
			fn: func(l []any) []any { return slices.DeleteFunc(l, func(v any) bool { return !truth(v) }) }},
		{names: "chunk mustChunk", args: "SIZE LIST", doc: "A list of lists of SIZE elements.", example: `{{ chunk 2 (list 1 2 3) | json }}`, result: "[[1,2],[3]]", fn: chunk},
		{names: "join", args: "SEPARATOR LIST", doc: "The elements with SEPARATOR between.", example: `{{ join "," (secret "db").hosts }}`, result: "a,b", fn: join},
		{names: "sortAlpha", args: "LIST", doc: "The elements as text, sorted.", example: `{{ sortAlpha (list "b" "a") | json }}`, result: `["a","b"]`, fn: func(l []string) []string { slices.Sort(l); return l }},
		{names: "toStrings", args: "LIST", doc: "The elements as text.", example: `{{ toStrings (list 1 true) | json }}`, result: `["1","true"]`, fn: func(l []string) []string { return l }},
		{names: "splitList", args: "SEPARATOR TEXT", doc: "The parts of TEXT.", example: `{{ splitList "," "a,b" | json }}`, result: `["a","b"]`, fn: func(sep, s string) ([]string, error) { return split(sep, -1, s) }},
		{names: "split", args: "SEPARATOR TEXT", doc: "The parts of TEXT, without white space at its ends; none if nothing is left. They are reached as ._0, ._1 too.", example: `{{ (split "," "a,b")._1 }}{{ range split "," "a,b" }};{{ . }}{{ end }}`, result: `b;a;b`, fn: splitTrimmed},
		{names: "sprig_split", args: "SEPARATOR TEXT", doc: "The parts of TEXT as it is, reached as ._0, ._1 too.", example: `{{ (sprig_split "," " a,b")._0 }}`, result: ` a`, fn: func(sep, s string) ([]string, error) { return split(sep, -1, s) }},
		{names: "splitn", args: "SEPARATOR N TEXT", doc: "At most N parts of TEXT, reached as ._0, ._1 too.", example: `{{ (splitn ":" 2 "a:b:c")._1 }}`, result: `b:c`, fn: func(sep string, n int, s string) ([]string, error) { return split(sep, n, s) }},
		{names: "until", args: "N", doc: "The whole numbers from 0 below N.", example: `{{ until 3 | json }}`, result: "[0,1,2]",
			fn: func(n int) ([]int, error) { return untilStep(0, n, sign(n)) }},
		{names: "untilStep", args: "START END STEP", doc: "The whole numbers from START up to END.", example: `{{ untilStep 1 6 2 | json }}`, result: "[1,3,5]", fn: untilStep},
		{names: "seq", args: "[START [STEP]] END", doc: "The whole numbers from START, or 1, to END, as text with spaces between.", example: `{{ seq 3 }} {{ seq 0 2 4 }}`, result: "1 2 3 0 2 4", fn: seq, min: 1, max: 3},
	}
}

func length(v any) (int, error) {
	switch v := v.(type) {
	case []byte:
		return len(v), nil
	case string, text:
		s, err := asText(v)
		return len(s), err
	}
	if m, ok := asMap(v); ok {
		return len(m), nil
	}
	if l, ok := asList(v); ok {
		return len(l), nil
	}
	return 0, fail("a " + kind(v) + " has no length")
}

func index(c *call) (any, error) {
	v := c.args[0]
	for i, key := range c.args[1:] {
		var err error
		if v, err = element(v, key, c.literal(i+1), c.r.t.missing); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func element(v, key any, shown, missing bool) (any, error) {
	l, isList := asList(v)
	s, isText := v.(string)
	if !isList && !isText {
		k, err := asText(key)
		if err != nil {
			return nil, err
		}
		return field(v, k, shown, missing)
	}
	i, err := asInt(key)
	if err != nil {
		return nil, err
	}
	if i < 0 || i >= max(len(l), len(s)) {
		return nil, fail("an index is out of range")
	}
	if isList {
		return l[i], nil
	}
	return int(s[i]), nil
}

// slice is the builtin for text, and sprig's function for lists.
func slice(v any, bounds ...int) (any, error) {
	n, err := length(v)
	if err != nil {
		return nil, err
	}
	if len(bounds) > 2 {
		return nil, fail("it takes a START and an END")
	}
	from, to := 0, n
	if len(bounds) > 0 {
		from = bounds[0]
	}
	if len(bounds) > 1 {
		to = bounds[1]
	}
	if from < 0 || to < from || to > n {
		return nil, fail("an index is out of range")
	}
	if l, ok := asList(v); ok {
		return slices.Clone(l[from:to]), nil
	}
	if k := kind(v); k != "text" && k != "bytes" {
		return nil, fail("an object has no order")
	}
	s, err := asText(v)
	if err != nil {
		return nil, err
	}
	return s[from:to], nil
}

func at(l []any, i int) any {
	if i < 0 || i >= len(l) {
		return nil
	}
	return l[i]
}

// without returns the elements that are not among others, nor, with once, among
// those before them.
func (c *call) without(l, others []any, once bool) ([]any, error) {
	out := make([]any, 0, len(l))
	for _, v := range l {
		if err := c.r.spend(c.node, len(others)); err != nil {
			return nil, err
		}
		found, err := contained(others, v)
		if err != nil {
			return nil, err
		}
		if found {
			continue
		}
		if out = append(out, v); once {
			others = out
		}
	}
	return out, nil
}

func chunk(n int, l []any) ([]any, error) {
	if n < 1 {
		return nil, fail("the size is less than 1")
	}
	out := []any{}
	for part := range slices.Chunk(l, n) {
		out = append(out, slices.Clip(part))
	}
	return out, nil
}

func join(sep string, l []string) (string, error) {
	total := 0
	for _, s := range l {
		total += len(s)
	}
	if err := within(total, len(l), len(sep)); err != nil {
		return "", err
	}
	return strings.Join(l, sep), nil
}

func splitTrimmed(sep, s string) ([]string, error) {
	if s = strings.TrimSpace(s); s == "" {
		return []string{}, nil
	}
	return split(sep, -1, s)
}

func split(sep string, n int, s string) ([]string, error) {
	if n < 0 || n > maxList {
		n = maxList + 1
	}
	if parts := strings.SplitN(s, sep, n); len(parts) <= maxList {
		return parts, nil
	}
	return nil, errTooBig
}

func sign(n int) int {
	if n < 0 {
		return -1
	}
	return 1
}

func untilStep(from, to, step int) ([]int, error) {
	out := []int{}
	for i := from; step > 0 && i < to || step < 0 && i > to; i += step {
		if len(out) == maxList || i > maxCount || i < -maxCount || step > maxCount || step < -maxCount {
			return nil, errTooBig
		}
		out = append(out, i)
	}
	return out, nil
}

// maxCount keeps counting far from where an int overflows.
const maxCount = 1 << 52

func seq(p ...int) (string, error) {
	from, step, to := 1, 0, p[len(p)-1]
	if len(p) > 1 {
		from = p[0]
	}
	if max(from, to) > maxCount || min(from, to) < -maxCount {
		return "", errTooBig
	}
	if step = sign(to - from); len(p) == 3 {
		step = p[1]
	}
	numbers, err := untilStep(from, to+sign(step), step)
	if err != nil {
		return "", err
	}
	out := make([]string, len(numbers))
	for i, n := range numbers {
		out[i] = strconv.Itoa(n)
	}
	return strings.Join(out, " "), nil
}
