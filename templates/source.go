package templates

import (
	"errors"
	"path"
	"path/filepath"
	"strconv"
	"sync"
	"text/template/parse"
)

// source is one parsed text: the template itself, or a file that it includes.
// It is immutable once it is loaded.
type source struct {
	name string // what errors call it
	text string
	// locate and key are Place and Key of [Options].
	locate  func(offset int) (line, col int)
	key     string
	main    *parse.Tree
	defined map[string]*parse.Tree // nil if the text defines none
}

// parseSource parses the text of s. Its functions are not looked at.
func parseSource(s *source, delims [2]string) (*source, error) {
	if len(s.text) > maxSource {
		return nil, &Error{Place: s.whole(), Msg: "the template is larger than 1 MiB"}
	}
	trees := make(map[string]*parse.Tree)
	main := parse.New("")
	main.Mode = parse.SkipFuncCheck // check says where, and why a function is not there
	if _, err := main.Parse(s.text, delims[0], delims[1], trees); err != nil {
		return nil, s.parseError(err, delims)
	}
	s.main = main
	if delete(trees, ""); len(trees) > 0 {
		s.defined = trees
	}
	return s, nil
}

// errorAt returns f as an Error at a node.
func (s *source) errorAt(n parse.Node, f *failure) *Error {
	return &Error{Place: s.place(int(n.Position())), Secret: f.secret, Msg: f.msg, Err: f.err, Refused: f.refused, hint: f.hint}
}

// walk calls visit for every node of the text.
func (s *source) walk(visit func(parse.Node)) {
	walk(s.main.Root, visit)
	for _, tree := range s.defined {
		walk(tree.Root, visit)
	}
}

// body is one template that can be called, and the text that it stands in.
type body struct {
	root *parse.ListNode
	from *source
}

// Library holds the files that templates include, each read and parsed once,
// however many templates include it. It never reads a file again: who wants to
// see a changed file makes a new Library. It is safe for concurrent use.
type Library struct {
	dir  string
	read func(name string) ([]byte, error)

	mu    sync.Mutex
	files map[libraryKey]*libraryFile
}

// libraryKey holds all that parsing depends on.
type libraryKey struct {
	name   string
	delims [2]string
}

type libraryFile struct {
	once   sync.Once
	source *source
	err    error
}

// NewLibrary returns a Library of the files in a directory. Errors put dir
// before a file's name. Read returns the content of the file that a template
// names, a clean path below dir with slashes; it holds the rules for where
// files may lie and who may have written them, and its errors become part of
// the template's, without a value in them. Several goroutines may call it at
// once. It sees every name that is asked for, that of a file which turns out to
// be missing or broken too: who watches files learns there what to watch.
func NewLibrary(dir string, read func(name string) ([]byte, error)) *Library {
	return &Library{dir: dir, read: read, files: make(map[libraryKey]*libraryFile)}
}

// get returns a file, read and parsed on the first call for it. The error is a
// failure if the file cannot be read, and an [Error] in the file if it cannot
// be parsed.
func (l *Library) get(name string, delims [2]string) (*source, error) {
	key := libraryKey{name, delims}
	l.mu.Lock()
	f := l.files[key]
	if f == nil {
		f = new(libraryFile)
		l.files[key] = f
	}
	l.mu.Unlock()
	f.once.Do(func() { f.source, f.err = l.load(name, delims) })
	return f.source, f.err
}

func (l *Library) load(name string, delims [2]string) (*source, error) {
	text, err := l.read(name)
	if err != nil {
		f := &failure{msg: "include " + strconv.Quote(name) + ": " + err.Error(), err: err}
		var h interface{ Hint() string }
		if errors.As(err, &h) {
			f.hint = h.Hint()
		}
		return nil, f
	}
	return parseSource(&source{name: filepath.Join(l.dir, filepath.FromSlash(name)), text: string(text)}, delims)
}

// fileName returns the one name of the file that a template calls name.
func fileName(name string) (string, error) {
	clean := path.Clean(name)
	if name == "" || clean == "." || !filepath.IsLocal(filepath.FromSlash(clean)) {
		return "", &failure{
			msg:  "include " + strconv.Quote(name) + " does not name a file in the template directory",
			hint: "files are named relative to template_dir, and lie in it",
		}
	}
	return clean, nil
}
