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
// bytes: no function reaches the network, the time or a random source, and none
// but include and env reaches files or the environment, both when the template
// is parsed and only where [Options] allow it.
package templates

import (
	"cmp"
	"crypto/sha256"
	"maps"
	"os"
	"slices"
	"strconv"
	"text/template/parse"
)

// The limits of one template. Passing one is an error of that template alone.
const (
	// maxSource is the most bytes a template's own text may have. It also
	// bounds the parser's recursion.
	maxSource = 1 << 20
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
	// maxFiles is how many files a template may include, those that its files
	// include among them.
	maxFiles = 100
)

// The limits of one rendering where [Options] give none.
const (
	// DefaultMaxOutput is the most bytes a template renders to: 8 MiB.
	DefaultMaxOutput = 8 << 20
	// DefaultMaxSteps is the most steps a rendering takes: about half a second's
	// work.
	DefaultMaxSteps = 5_000_000
)

// Options say what to parse and how. Only Text is needed.
type Options struct {
	// Name is what errors call the template: the path of the file it was read
	// from, be it a template file or the configuration with the template inside.
	// Empty means "template".
	Name string
	// Place returns the 1-based line and column, in bytes, of the file Name at
	// which the byte of Text at an offset stands, for contents inside a YAML file.
	// Where that is not known the column is 0, and the line that on which the
	// contents begin. nil means that Text is the whole file.
	Place func(offset int) (line, col int)
	// Key is what errors call Text where Place does not know, such as "contents".
	Key string
	// Text is the template's source, at most 1 MiB.
	Text string
	// Delims are the delimiters of actions. An empty one means "{{" or "}}".
	Delims [2]string
	// MissingKey says what a key means that a JSON secret does not have: "error",
	// the default, fails the rendering; "zero" and "default" print nothing, are
	// false in if and with, and give way to the function default.
	MissingKey string
	// Library holds the files that the function include may name. nil means that
	// there are none.
	Library *Library
	// Vars are what the function var gives, by name. They are no secrets: errors
	// and digests may hold them. Nobody may change the map afterwards.
	Vars map[string]string
	// AllowEnv names the environment variables that the functions env, mustEnv
	// and envOrDefault may read. They are read once, by Parse.
	AllowEnv []string
	// LookupEnv reads an environment variable. nil means [os.LookupEnv].
	LookupEnv func(name string) (value string, found bool)
	// MaxOutput is the most bytes a rendering may have. 0 means
	// [DefaultMaxOutput].
	MaxOutput int
	// MaxSteps bounds the time of a rendering. It counts steps and bytes, and
	// not the clock, so that the same inputs end the same way everywhere; a step
	// takes some 100 ns. 0 means [DefaultMaxSteps].
	MaxSteps int
}

// SecretUse is one place where a template names a secret.
type SecretUse struct {
	// Name is the secret's name as the template writes it.
	Name string
	Place
	// Test says that the place only asks, by the function has, whether there is
	// such a secret. A template with such a place is made for the secret's
	// absence.
	Test bool
	// Decides says that the place decides, otherwise than by has, about a block of
	// if, with or range. A template with such a place is made for the empty value of
	// AWSPREVIOUS where there is no such version.
	Decides bool
}

// Template is a parsed template. It is immutable, and any number of goroutines
// may render it at the same time.
type Template struct {
	main    *source
	files   map[string]*source // what it includes, by name; nil if it includes none
	defined map[string]body    // what template and executeTemplate call; nil if there is none
	secrets []SecretUse
	dynamic bool
	missing bool // an absent key is not an error
	vars    map[string]string
	env     map[string]envVar
	// shown are the calls of fail whose message holds no value.
	shown     map[*parse.IdentifierNode]bool
	maxOutput int
	maxSteps  int
	digest    [sha256.Size]byte
}

// envVar is an environment variable that the template may read.
type envVar struct {
	value string
	found bool
}

// Parse parses a template and the files it includes, and checks all that can
// be known before any secret is: syntax, functions and how many arguments they
// take, names of templates, files, variables and environment variables. All of
// it is reported at once, joined by errors.Join, each an [*Error].
func Parse(o Options) (*Template, error) {
	o.Name = cmp.Or(o.Name, "template")
	t := &Template{vars: o.Vars, maxOutput: cmp.Or(o.MaxOutput, DefaultMaxOutput), maxSteps: cmp.Or(o.MaxSteps, DefaultMaxSteps)}
	switch o.MissingKey {
	case "", "error":
	case "zero", "default":
		t.missing = true
	default:
		return nil, &Error{Place: o.whole(), Msg: "unknown value " + strconv.Quote(o.MissingKey) + " of missing_key", hint: `it is one of "error", "zero" and "default"`}
	}
	t.readEnv(o)
	main, err := parseSource(&source{name: o.Name, text: o.Text, locate: o.Place, key: o.Key}, o.Delims)
	if err != nil {
		return nil, err
	}
	t.main = main
	c := checker{t: t, library: o.Library, delims: o.Delims}
	c.check()
	if len(c.errs) > 0 {
		return nil, c.joined()
	}
	slices.SortStableFunc(t.secrets, func(a, b SecretUse) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	t.secrets = slices.Clip(t.secrets)
	t.digest = c.digest(o)
	return t, nil
}

func (t *Template) readEnv(o Options) {
	if len(o.AllowEnv) == 0 {
		return
	}
	lookup := o.LookupEnv
	if lookup == nil {
		lookup = os.LookupEnv
	}
	t.env = make(map[string]envVar, len(o.AllowEnv))
	for _, name := range o.AllowEnv {
		value, found := lookup(name)
		t.env[name] = envVar{value, found}
	}
}

// Name returns Options.Name.
func (t *Template) Name() string { return t.main.name }

// Secrets returns every place where the template, or a file it includes, names
// a secret with a literal string, in the bodies of define, if and with too,
// whether or not a rendering gets there: sorted by name, then place. The caller
// owns the slice.
func (t *Template) Secrets() []SecretUse { return slices.Clone(t.secrets) }

// Dynamic reports whether the name of some secret is computed when the
// template is rendered, so that Secrets does not name it.
func (t *Template) Dynamic() bool { return t.dynamic }

// Files returns the files that the template includes, and those they include,
// by their names in the [Library], sorted. The caller owns the slice.
func (t *Template) Files() []string { return slices.Sorted(maps.Keys(t.files)) }

// Digest returns a digest of everything but secrets that a rendering depends
// on: the template's text and that of the files it includes, the options, and
// the variables and environment variables that it names. Two templates with
// one digest render the same versions to the same bytes.
func (t *Template) Digest() [sha256.Size]byte { return t.digest }

// literal reports whether s stands as a string constant in the template. Text
// that does was written by the template's author and may be shown.
func (t *Template) literal(s string) bool {
	found := false
	look := func(n parse.Node) {
		if n, ok := n.(*parse.StringNode); ok && n.Text == s {
			found = true
		}
	}
	t.main.walk(look)
	for _, file := range t.files {
		file.walk(look)
	}
	return found
}
