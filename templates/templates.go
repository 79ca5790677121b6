// Package templates turns secrets into the bytes of configuration files.
//
// The language is that of text/template, and its package parse does the
// parsing; the execution is this package's own. There are three reasons. The
// standard library's execution quotes values in its errors ("range can't
// iterate over …"), which a program handling secrets may not do. It cannot be
// stopped: two nested loops without output run for hours. And a JSON secret
// has to be two things at once, the text that is printed byte for byte and the
// object whose keys are reached, with the digits of its numbers kept. What the
// two have in common is held together by a test that runs the same templates
// through both.
//
// A template is parsed once. It is then rendered any number of times, each
// time in a [Pass] over one snapshot of secrets, and says which names it
// really looked up, so that only the templates concerned by a changed secret
// are rendered again. The same template over the same versions gives the same
// bytes: no function reaches the network, the environment, files, the time or
// a random source.
package templates

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
	"text/template/parse"
)

// The limits of one template. Passing one is an error of that template alone.
const (
	// maxSource is the most bytes a template's own text may have. It also
	// bounds the parser's recursion.
	maxSource = 1 << 20
	// maxOutput is the most bytes a template may render to.
	maxOutput = 8 << 20
	// maxText is the most bytes one value may have while the template works on
	// it; a secret has at most 64 KiB (Secrets Manager quotas).
	maxText = 1 << 20
	// maxList is the most elements a list may have.
	maxList = 100_000
	// maxCalls is how deep templates may call one another.
	maxCalls = 100
	// maxErrors is how many errors of one template are reported at once.
	maxErrors = 20
	// maxBlocks is how deep blocks and parentheses may be nested.
	maxBlocks = 250
)

// maxWork bounds a rendering's steps: about half a second. It counts steps and
// bytes and not time, so that the same inputs end the same way everywhere. It
// is a variable for the fuzz test, whose inputs have to be quick.
var maxWork = 5_000_000

// Options say what to parse and how. Only Text is needed.
type Options struct {
	// Name is what errors call the template: the path of the file it was read
	// from, be it a template file or the configuration with the template inside.
	// Empty means "template".
	Name string
	// Line is the 1-based line of the file Name on which Text begins, for
	// contents inside a YAML file. 0 and 1 mean that Text is the whole file; only
	// then do errors name columns.
	Line int
	// Text is the template's source, at most 1 MiB.
	Text string
	// Delims are the delimiters of actions. An empty one means "{{" or "}}".
	Delims [2]string
	// MissingKey says what a key means that a JSON secret does not have: "error",
	// the default, fails the rendering; "zero" and "default" print nothing, are
	// false in if and with, and give way to the function default.
	MissingKey string
}

// SecretUse is one place where a template names a secret.
type SecretUse struct {
	// Name is the secret's name as the template writes it.
	Name string
	// File and Line are the place in the words of errors.
	File string
	Line int
}

// Template is a parsed template. It is immutable, and any number of goroutines
// may render it at the same time.
type Template struct {
	name      string
	firstLine int
	text      string
	main      *parse.Tree
	defined   map[string]*parse.Tree // nil if the text defines none
	secrets   []SecretUse
	dynamic   bool
	missing   bool // an absent key is not an error
}

// Parse parses a template and checks all that can be known before any secret
// is: syntax, functions and how many arguments they take, names of templates
// called. All of it is reported at once, joined by errors.Join, each an
// [*Error].
func Parse(o Options) (*Template, error) {
	if o.Name == "" {
		o.Name = "template"
	}
	t := &Template{name: o.Name, firstLine: max(o.Line, 1), text: o.Text}
	switch o.MissingKey {
	case "", "error":
	case "zero", "default":
		t.missing = true
	default:
		return nil, &Error{Name: o.Name, Line: o.Line, Msg: "unknown value " + strconv.Quote(o.MissingKey) + " of missing_key", hint: `it is one of "error", "zero" and "default"`}
	}
	if len(o.Text) > maxSource {
		return nil, &Error{Name: o.Name, Line: o.Line, Msg: "the template is larger than 1 MiB"}
	}
	trees := make(map[string]*parse.Tree)
	main := parse.New("")
	main.Mode = parse.SkipFuncCheck // check says where, and why a function is not there
	if _, err := main.Parse(o.Text, o.Delims[0], o.Delims[1], trees); err != nil {
		return nil, t.parseError(err, o.Delims)
	}
	t.main = main
	if delete(trees, ""); len(trees) > 0 {
		t.defined = trees
	}
	c := checker{t: t}
	c.template()
	if len(c.errs) > maxErrors {
		c.errs = append(c.errs[:maxErrors], &Error{Name: o.Name, Msg: "there are more errors"})
	}
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	slices.SortFunc(t.secrets, func(a, b SecretUse) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Line, b.Line))
	})
	t.secrets = slices.Clip(t.secrets)
	return t, nil
}

// Name returns Options.Name.
func (t *Template) Name() string { return t.name }

// Secrets returns every place where the template names a secret with a literal
// string, in the bodies of define, if and with too, whether or not a rendering
// gets there: sorted by name, then line. The caller owns the slice.
func (t *Template) Secrets() []SecretUse { return slices.Clone(t.secrets) }

// Dynamic reports whether the name of some secret is computed when the
// template is rendered, so that Secrets does not name it.
func (t *Template) Dynamic() bool { return t.dynamic }

// place returns the line and column of a byte of the template's text. The
// column is 0 if the text stands inside another file.
func (t *Template) place(pos parse.Pos) (line, col int) {
	before := t.text[:min(max(int(pos), 0), len(t.text))]
	line = t.firstLine + strings.Count(before, "\n")
	if t.firstLine == 1 {
		col = len(before) - strings.LastIndexByte(before, '\n')
	}
	return line, col
}

// errorAt returns err as an Error at a node.
func (t *Template) errorAt(n parse.Node, f *failure) *Error {
	line, col := t.place(n.Position())
	return &Error{Name: t.name, Line: line, Col: col, Secret: f.secret, Msg: f.msg, Err: f.err, hint: f.hint}
}

// literal reports whether s stands as a string constant in the template. Text
// that does was written by the template's author and may be shown.
func (t *Template) literal(s string) bool {
	found := false
	look := func(n parse.Node) {
		if n, ok := n.(*parse.StringNode); ok && n.Text == s {
			found = true
		}
	}
	walk(t.main.Root, look)
	for _, tree := range t.defined {
		walk(tree.Root, look)
	}
	return found
}
