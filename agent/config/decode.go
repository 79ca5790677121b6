package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// decoder fills the structs from a YAML tree. It exists beside yaml.v3's own
// decoding because that forgets the line of every field, and the checks that
// follow need them for their errors.
type decoder struct {
	path  string
	lines map[any]int
	// marks are where strings stand.
	marks map[any]mark
	errs  []error
}

func (d *decoder) errorf(n *yaml.Node, hint, format string, args ...any) {
	d.errs = append(d.errs, &Error{
		Place: fmt.Sprintf("%s:%d", d.path, n.Line), Err: fmt.Errorf(format, args...), hint: hint,
	})
}

var (
	durationType  = reflect.TypeFor[Duration]()
	modeType      = reflect.TypeFor[Mode]()
	tokenFileType = reflect.TypeFor[TokenFile]()
	pemPairType   = reflect.TypeFor[PEMPair]()
	explodeType   = reflect.TypeFor[Explode]()
	varType       = reflect.TypeFor[Var]()
	httpType      = reflect.TypeFor[HTTP]()
	unitType      = reflect.TypeFor[Unit]()
)

// shortForm is the field that a scalar in the place of a mapping means.
var shortForm = map[reflect.Type]string{tokenFileType: "Path", pemPairType: "Whole", explodeType: "Secret", varType: "Text", httpType: "URL", unitType: "Name"}

// value decodes n into v, which is addressable. key is the path of keys that
// led here, for errors.
func (d *decoder) value(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	d.lines[v.Addr().Interface()] = n.Line
	if n.Tag == "!!null" {
		return // "key:" with nothing behind it is the same as no key
	}
	switch v.Type() {
	case durationType:
		d.duration(n, v, key)
		return
	case modeType:
		d.mode(n, v, key)
		return
	}
	if field, ok := shortForm[v.Type()]; ok && n.Kind == yaml.ScalarNode {
		d.value(n, v.FieldByName(field), key)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), key)
	case reflect.Struct:
		d.mapping(n, v, key)
	case reflect.Slice:
		d.sequence(n, v, key)
	case reflect.Map:
		d.named(n, v, key)
	default:
		d.scalar(n, v, key)
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.MappingNode {
		d.errorf(n, "", "%s: want a mapping of keys, not %s", key, kindName(n))
		return
	}
	seen := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		name, val := n.Content[i], n.Content[i+1]
		field, ok := fieldByKey(v, name.Value)
		switch {
		case !ok:
			d.errorf(name, DidYouMean(name.Value, keysOf(v.Type())), "unknown key %s", join(key, name.Value))
		case seen[name.Value]:
			d.errorf(name, "", "key %s is given twice", join(key, name.Value))
		default:
			seen[name.Value] = true
			d.value(val, field, join(key, name.Value))
		}
	}
}

// named decodes a mapping whose keys are names of the user's own. What a map
// holds has no address, so that the line of each is kept by its name.
func (d *decoder) named(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.MappingNode {
		d.errorf(n, "", "%s: want a mapping of names, not %s", key, kindName(n))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i < len(n.Content); i += 2 {
		name, val := n.Content[i], reflect.New(v.Type().Elem()).Elem()
		if v.MapIndex(reflect.ValueOf(name.Value)).IsValid() {
			d.errorf(name, "", "key %s is given twice", join(key, name.Value))
			continue
		}
		d.value(n.Content[i+1], val, join(key, name.Value))
		d.lines[join(key, name.Value)] = name.Line
		v.SetMapIndex(reflect.ValueOf(name.Value), val)
	}
}

func (d *decoder) sequence(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.SequenceNode {
		d.errorf(n, "", "%s: want a list, not %s", key, kindName(n))
		return
	}
	// Made at full length first: the lines are kept by the elements' addresses.
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.value(item, v.Index(i), fmt.Sprintf("%s[%d]", key, i))
	}
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.ScalarNode {
		d.errorf(n, "", "%s: want %s, not %s", key, typeName(v.Type()), kindName(n))
		return
	}
	switch v.Kind() {
	case reflect.String:
		// A number or a true is text here: names like 12345 need no quotes.
		v.SetString(n.Value)
		d.marks[v.Addr().Interface()] = mark{n.Column, n.Style}
	case reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		if n.Tag != "!!bool" || err != nil {
			d.errorf(n, "", "%s: want true or false, not %q", key, n.Value)
			return
		}
		v.SetBool(b)
	case reflect.Int:
		i, err := strconv.Atoi(n.Value)
		if err != nil {
			d.errorf(n, "", "%s: want a whole number, not %q", key, n.Value)
			return
		}
		v.SetInt(int64(i))
	default:
		panic("config: no decoding for " + v.Type().String())
	}
}

func (d *decoder) duration(n *yaml.Node, v reflect.Value, key string) {
	parsed, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || parsed < 0 {
		d.errorf(n, "write a number with its unit, such as 100ms, 30s, 5m or 24h", "%s: want a duration, not %q", key, n.Value)
		return
	}
	v.SetInt(int64(parsed))
}

func (d *decoder) mode(n *yaml.Node, v reflect.Value, key string) {
	bits, err := strconv.ParseUint(n.Value, 8, 32)
	// YAML 1.1 reads an unquoted 0400 as 256 and YAML 1.2 as 400; only quotes
	// mean the same to every reader of the file.
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" || err != nil {
		d.errorf(n, `write it in quotes, such as "0400"`, "%s: want a mode in quoted octal, not %s", key, n.Value)
		return
	}
	if fs.FileMode(bits)&^fs.ModePerm != 0 || bits == 0 {
		d.errorf(n, "", "%s: mode %q is outside 0001 to 0777", key, n.Value)
		return
	}
	v.SetUint(bits)
}

// parse reads one YAML document into root. It returns false if there is none
// that could be read, so that nothing more can be said of it.
func (d *decoder) parse(data []byte, root reflect.Value) bool {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		d.errs = append(d.errs, &Error{Place: d.path, Err: errors.New("the file is empty"),
			hint: "agent.yaml.example shows every key"})
		return false
	} else if err != nil {
		d.syntax(err)
		return false
	}
	d.mapping(doc.Content[0], root, "")
	if err := dec.Decode(&second); err == nil {
		d.errorf(&second, "", "the file holds more than one YAML document")
	} else if !errors.Is(err, io.EOF) {
		d.syntax(err)
	}
	return true
}

// syntax turns yaml's "yaml: line N: what" into an error at its place.
func (d *decoder) syntax(err error) {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	place := d.path
	if rest, ok := strings.CutPrefix(msg, "line "); ok {
		if line, what, ok := strings.Cut(rest, ": "); ok {
			place, msg = place+":"+line, what
		}
	}
	d.errs = append(d.errs, &Error{Place: place, Err: fmt.Errorf("read YAML: %s", msg)})
}

func fieldByKey(v reflect.Value, key string) (reflect.Value, bool) {
	for _, f := range reflect.VisibleFields(v.Type()) {
		if tag := f.Tag.Get("yaml"); tag != "" && tag != "-" && tag == key {
			return v.FieldByIndex(f.Index), true
		}
	}
	return reflect.Value{}, false
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for _, f := range reflect.VisibleFields(t) {
		if tag := f.Tag.Get("yaml"); tag != "" && tag != "-" {
			keys = append(keys, tag)
		}
	}
	slices.Sort(keys)
	return keys
}

// Keys returns every key a configuration may have, as paths of keys joined by
// dots, sorted. Lists add nothing to a path.
func Keys() []string {
	var keys []string
	var walk func(t reflect.Type, path string)
	walk = func(t reflect.Type, path string) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return
		}
		for _, f := range reflect.VisibleFields(t) {
			if tag := f.Tag.Get("yaml"); tag != "" && tag != "-" {
				keys = append(keys, join(path, tag))
				walk(f.Type, join(path, tag))
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
	slices.Sort(keys)
	return keys
}

// DidYouMean returns a hint for an unknown key: the first of known that is at
// most two letters away, or else all of them.
func DidYouMean(key string, known []string) string {
	for _, k := range known {
		if max(len(key), len(k)) <= min(len(key), len(k))+2 && distance(key, k) <= 2 {
			return "did you mean " + k + "?"
		}
	}
	return "known keys here: " + strings.Join(known, ", ")
}

// distance is the Levenshtein distance of a and b in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	default:
		return "text"
	}
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return strconv.Quote(n.Value)
	}
}
