package files

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// generation is a published generation as it was left.
type generation struct {
	name  string
	dirs  map[string]info  // by their paths, its own being ""
	files map[string]trace // by theirs
}

func newGeneration(name string) generation {
	return generation{name: name, dirs: map[string]info{}, files: map[string]trace{}}
}

// same reports whether n holds what was left in g, byte for byte.
func (g *generation) same(n *node) bool {
	count := 0
	return n.each(func(l *leaf) bool {
		count++
		t, ok := g.files[l.path]
		return ok && t.digest == sha256.Sum256(l.content)
	}) && count == len(g.files)
}

// top returns the names that the generation has links for; nil has none.
func (g *generation) top() map[string]bool {
	names := map[string]bool{}
	if g == nil {
		return names
	}
	for path := range g.files {
		name, _, _ := strings.Cut(path, "/")
		names[name] = true
	}
	return names
}

// finding says how a bundle differs from what it should be.
type finding struct {
	change  Change
	current string // the generation that is published, or ""
	wrong   bool   // another one is needed
	drifted bool   // the mode or owner of something in it was not right
	// missing and altered are names whose links are not there or lead elsewhere,
	// and gone are names of the current generation that have no place in the next.
	missing, altered, gone []string
}

func (f *finding) found(c Change) {
	f.change = max(f.change, c)
	f.drifted = f.drifted || c == Attributes
}

// compare tells how the directory differs from one that holds n.
func (b *Bundle) compare(dir int, n *node) (*finding, error) {
	f := &finding{}
	var err error
	if f.current, err = b.target(dir, dataLink); err != nil {
		return nil, err
	}
	top := b.left.top()
	if f.current == "" {
		f.found(Content)
	} else if top, err = b.compareGeneration(dir, n, f); err != nil {
		return nil, err
	}
	f.wrong = f.change != None
	if err := b.compareLinks(dir, n, top, f); err != nil {
		return nil, err
	}
	return f, nil
}

// compareGeneration compares the current generation with n, and returns the names
// in it.
func (b *Bundle) compareGeneration(dir int, n *node, f *finding) (top map[string]bool, err error) {
	fd, err := openAt(dir, f.current, unix.O_RDONLY|unix.O_DIRECTORY)
	switch {
	case errors.Is(err, fs.ErrPermission):
		f.found(b.recall(dir, n, f.current))
		return b.left.top(), nil
	case isMissing(err):
		f.found(Content)
		return b.left.top(), nil
	case err != nil:
		return nil, failed("open", b.below(f.current), err)
	}
	defer func() { _ = unix.Close(fd) }()
	seen := newGeneration(f.current)
	names, err := b.compareNode(fd, n, f, &seen)
	if err == nil && f.change == None {
		b.left = &seen
	}
	top = make(map[string]bool, len(names))
	for _, name := range names {
		top[name] = true
	}
	return top, err
}

// isMissing reports whether a directory that was to be opened is not there, or is
// something else.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// compareNode compares the open directory with n, enters what is in it into seen,
// and returns the names found.
func (b *Bundle) compareNode(fd int, n *node, f *finding, seen *generation) ([]string, error) {
	st, err := statFD(fd)
	if err != nil {
		return nil, failed("look at", b.below(n.path), err)
	}
	names, err := list(fd)
	if err != nil {
		return nil, failed("list", b.below(n.path), err)
	}
	seen.dirs[n.path] = st
	if len(names) != len(n.files)+len(n.nodes) {
		f.found(Content) // each that should be there is looked for: these are too many or too few
	}
	if !b.attributes().match(st) || hasACL(fd) {
		f.found(Attributes)
	}
	for i := range n.files {
		if err := b.compareLeaf(fd, &n.files[i], f, seen); err != nil {
			return nil, err
		}
	}
	for _, child := range n.nodes {
		if err := b.compareChild(fd, child, f, seen); err != nil {
			return nil, err
		}
	}
	return names, nil
}

func (b *Bundle) compareLeaf(fd int, l *leaf, f *finding, seen *generation) error {
	path := b.below(l.path)
	st, err := lstatAt(fd, l.name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !st.regular() {
		f.found(Content)
		return nil
	}
	if err != nil {
		return failed("look at", path, err)
	}
	w := wanted{name: l.name, path: path, attributes: l.attributes, content: l.content}
	left, known := trace{}, false
	if b.left != nil && b.left.name == f.current {
		if left, known = b.left.files[l.path]; known {
			w.left = &left
		}
	}
	change, err := w.compare(fd, st)
	f.found(change)
	if change == None {
		if !known || left.at != st {
			left = trace{at: st, digest: sha256.Sum256(l.content)}
		}
		seen.files[l.path] = left
	}
	return err
}

func (b *Bundle) compareChild(fd int, child *node, f *finding, seen *generation) error {
	path := b.below(child.path)
	sub, err := openAt(fd, child.name, unix.O_RDONLY|unix.O_DIRECTORY)
	if isMissing(err) || errors.Is(err, fs.ErrPermission) {
		f.found(Content)
		return nil
	}
	if err != nil {
		return failed("open", path, err)
	}
	defer func() { _ = unix.Close(sub) }()
	_, err = b.compareNode(sub, child, f, seen)
	return err
}

// recall compares a generation that the agent may not list, as one given to
// another user without CAP_DAC_READ_SEARCH, with how it was left. Names that came
// or went show in the directory's change time; what its owner writes into a file
// does not. After a restart nothing is remembered and the answer is [Content].
func (b *Bundle) recall(dir int, n *node, name string) Change {
	st, err := lstatAt(dir, name)
	if err != nil || b.left == nil || b.left.name != name || b.left.dirs[""] != st || !b.left.same(n) {
		return Content
	}
	dressed := n.each(func(l *leaf) bool { return l.match(b.left.files[l.path].at) })
	if !dressed || !b.attributes().match(st) {
		return Attributes
	}
	return None
}

// compareLinks looks for the links of the names in n. top are the names that the
// current generation has, so that a link that leads elsewhere is one of ours that
// somebody changed; otherwise it is somebody else's, as is all that is no link.
func (b *Bundle) compareLinks(dir int, n *node, top map[string]bool, f *finding) error {
	var failures []error
	for _, name := range n.names() {
		target, err := readlinkAt(dir, name)
		switch {
		case err == nil && target == throughData+name:
		case errors.Is(err, fs.ErrNotExist):
			f.change = Content
			f.missing = append(f.missing, name)
		case err == nil && top[name]:
			f.change = Content
			f.altered = append(f.altered, name)
		case err == nil:
			failures = append(failures, refused("replace", b.below(name), "it is somebody else's symlink, to "+target, theirsHint))
		case errors.Is(err, unix.EINVAL):
			failures = append(failures, b.notALink(dir, name))
		default:
			failures = append(failures, failed("read symlink", b.below(name), err))
		}
		delete(top, name)
	}
	for name := range top {
		f.gone = append(f.gone, name)
	}
	return errors.Join(failures...)
}

const theirsHint = "it is not removed: move it away, or choose another name or directory"

func (b *Bundle) notALink(dir int, name string) error {
	kind := "file"
	if st, err := lstatAt(dir, name); err == nil {
		kind = st.kindName()
	}
	return refused("replace", b.below(name), "it is somebody else's "+kind+", not a link of ours", theirsHint)
}
