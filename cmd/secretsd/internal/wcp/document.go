package wcp

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"secretsd/agent/config"
)

// document is a TOML file with the line of every key in it, and the faults
// found so far.
type document struct {
	name string
	// lines are by the path of keys, as paths are written in faults.
	lines  map[string]int
	faults []placed
}

type placed struct {
	line int
	err  *config.Error
}

// parse reads TOML. The lines come from the library's parser, whose interface
// it calls unstable, because nothing stable tells them; the values do not.
func (d *document) parse(data []byte) map[string]any {
	// AWS's agent ignores a byte order mark, which TOML leaves open.
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var root map[string]any
	if err := toml.Unmarshal(data, &root); err != nil {
		line := 0
		var decode *toml.DecodeError
		if errors.As(err, &decode) {
			line, _ = decode.Position()
		}
		d.fault(line, "", "read TOML: %s", strings.TrimPrefix(err.Error(), "toml: "))
		return nil
	}
	f := lineFinder{lines: map[string]int{}, elements: map[string]int{}}
	f.parser.Reset(data)
	f.read()
	d.lines = f.lines
	return root
}

// fault notes what is wrong on a line; 0 is the whole file.
func (d *document) fault(line int, hint, format string, args ...any) {
	place := d.name
	if line > 0 {
		place = fmt.Sprintf("%s:%d", d.name, line)
	}
	d.faults = append(d.faults, placed{line, config.NewError(place, hint, format, args...)})
}

// faultAt notes what is wrong with the value at path, which the message begins
// with.
func (d *document) faultAt(path, hint, format string, args ...any) {
	d.fault(d.line(path), hint, "%s: %s", path, fmt.Sprintf(format, args...))
}

// line returns the line of path, or of what contains it.
func (d *document) line(path string) int {
	for path != "" {
		if line, ok := d.lines[path]; ok {
			return line
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 0
}

// err returns the faults in the order of their lines, joined, or nil.
func (d *document) err() error {
	slices.SortStableFunc(d.faults, func(a, b placed) int { return cmp.Compare(a.line, b.line) })
	errs := make([]error, len(d.faults))
	for i, f := range d.faults {
		errs[i] = f.err
	}
	return errors.Join(errs...)
}

// longPath is a length that no path of a known key comes near. Beyond it nothing
// is added, or nesting would cost its square.
const longPath = 500

// keyPath returns the path of a key in the table at path.
func keyPath(path, key string) string {
	if len(path) > longPath {
		return path
	}
	if strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" || key == "" {
		key = strconv.QuoteToASCII(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// elementPath returns the path of an element of the list at path.
func elementPath(path string, i int) string {
	if len(path) > longPath {
		return path
	}
	return fmt.Sprintf("%s[%d]", path, i)
}

// lineFinder fills in the lines of a document that is known to be valid.
type lineFinder struct {
	parser unstable.Parser
	lines  map[string]int
	// elements are how many tables each array of tables has so far.
	elements map[string]int
	// offset and current are how far lines have been counted.
	offset  uint32
	current int
}

func (f *lineFinder) read() {
	table := ""
	for f.parser.NextExpression() {
		e := f.parser.Expression()
		switch e.Kind {
		case unstable.Table:
			table = f.keys("", e.Key())
		case unstable.ArrayTable:
			path := f.keys("", e.Key())
			// What is above an element of the array has one itself.
			table = elementPath(path, f.elements[path])
			f.lines[table] = f.current + 1
			f.elements[path]++
		case unstable.KeyValue:
			f.keyValue(table, e)
		default: // comments, which the parser leaves out
		}
	}
}

// keys notes the lines of a dotted key below the table at path and returns its
// path. An array of tables on the way means its last table.
func (f *lineFinder) keys(path string, key unstable.Iterator) string {
	for key.Next() {
		if n := f.elements[path]; n > 0 {
			path = elementPath(path, n-1)
		}
		n := key.Node()
		path = keyPath(path, string(n.Data))
		f.note(path, n)
	}
	return path
}

func (f *lineFinder) keyValue(table string, n *unstable.Node) {
	f.value(f.keys(table, n.Key()), n.Value())
}

// value notes the lines of what is in an array or inline table.
func (f *lineFinder) value(path string, n *unstable.Node) {
	children := n.Children()
	for i := 0; children.Next(); i++ {
		if n.Kind == unstable.InlineTable {
			f.keyValue(path, children.Node())
			continue
		}
		child, element := children.Node(), elementPath(path, i)
		f.note(element, child)
		f.value(element, child)
	}
}

// note notes the line of n, which does not come before those noted already.
// Arrays and inline tables have no place of their own, but their contents do.
func (f *lineFinder) note(path string, n *unstable.Node) {
	for n.Raw.Length == 0 {
		if n = n.Child(); n == nil {
			return
		}
	}
	if n.Raw.Offset > f.offset {
		f.current += bytes.Count(f.parser.Data()[f.offset:n.Raw.Offset], []byte("\n"))
		f.offset = n.Raw.Offset
	}
	if _, known := f.lines[path]; !known {
		f.lines[path] = f.current + 1
	}
}
