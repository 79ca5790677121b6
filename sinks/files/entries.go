package files

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Entry is one file of a [Bundle].
type Entry struct {
	// Path is where the file goes, below the bundle's directory and with "/"
	// between the elements. See [CheckEntries].
	Path string
	// Content is what the file holds. It is neither changed nor kept.
	Content []byte
	// Mode holds permission bits only.
	Mode fs.FileMode
	// UID and GID are numbers. -1 means those of the bundle.
	UID, GID int
}

// CheckEntries returns all that is wrong with the entries as a whole, joined. A
// path is relative and clean, has no element that begins with "..", that is
// longer than 255 bytes, or that has control characters or bytes that are not
// UTF-8, which a key of a JSON secret may have and a script does not expect. No
// two paths are the same, differ in case alone, or are such that one would be
// the directory of the other. How long a path may be as a whole depends on the
// bundle's directory and is for Inspect and Publish to say.
func CheckEntries(entries []Entry) error {
	var failures []error
	taken := make(map[string]claim, len(entries))
	for i := range entries {
		e := &entries[i]
		if err := e.check(); err != nil {
			failures = append(failures, err)
			continue
		}
		failures = append(failures, collide(taken, e.Path))
	}
	return errors.Join(failures...)
}

// claim is what a path is taken by.
type claim struct {
	spelled string // with its case
	dir     bool
	by      string // the entry's path
}

// collide enters a path and its directories among those taken, by their names
// without case, and says with which entry it collides.
func collide(taken map[string]claim, given string) error {
	for at, dir := given, false; at != "."; at, dir = path.Dir(at), true {
		folded := fold(at)
		other, is := taken[folded]
		if is && (!dir || !other.dir || other.spelled != at) {
			return refused("use path", strconv.Quote(given), fmt.Sprintf("it collides with %q", other.by),
				"paths must differ in more than case, and none may be the directory of another")
		}
		if is {
			return nil // and so are the directories above
		}
		taken[folded] = claim{spelled: at, dir: dir, by: given}
	}
	return nil
}

// fold returns the same for paths that differ in case alone. ToUpper first, for
// letters of which two are one in upper case only.
func fold(s string) string { return strings.ToLower(strings.ToUpper(s)) }

func (e *Entry) check() error {
	quoted := strconv.Quote(e.Path)
	switch {
	case e.Path == "":
		return refused("use path", quoted, "it names no file", "")
	case path.IsAbs(e.Path):
		return refused("use path", quoted, "it is absolute", "write it from the bundle's directory on")
	case path.Clean(e.Path) != e.Path || e.Path == ".":
		return refused("use path", quoted, "it is not in its shortest form", "write it as "+strconv.Quote(path.Clean(e.Path)))
	case !utf8.ValidString(e.Path) || strings.ContainsFunc(e.Path, unicode.IsControl):
		return refused("use path", quoted, "it has control characters or is not UTF-8", "choose another name")
	}
	for element := range strings.SplitSeq(e.Path, "/") {
		if strings.HasPrefix(element, "..") {
			return refused("use path", quoted, `names that begin with ".." are kept for generations and temporary files`, "choose another name")
		}
		if len(element) > maxName {
			return failed("use path", quoted, unix.ENAMETOOLONG)
		}
	}
	return validAttributes(quoted, e.Mode, e.UID, e.GID)
}

// node is a directory of a generation as it should be.
type node struct {
	name, path string // path is below the bundle's directory
	files      []leaf // in the order of their names, as are nodes
	nodes      []*node
}

// leaf is a file of a generation as it should be.
type leaf struct {
	name, path string
	attributes
	content []byte
}

// layout makes a tree of the entries, once they are checked.
func (b *Bundle) layout(entries []Entry) (*node, error) {
	failures := []error{CheckEntries(entries)}
	for i := range entries {
		if p := b.below(entries[i].Path); len(p) >= unix.PathMax {
			failures = append(failures, failed("use path", strconv.Quote(p), unix.ENAMETOOLONG))
		}
	}
	if err := errors.Join(failures...); err != nil {
		return nil, err
	}
	sorted := slices.Clone(entries)
	slices.SortFunc(sorted, func(x, y Entry) int { return strings.Compare(x.Path, y.Path) })
	root := &node{}
	for i := range sorted {
		e := &sorted[i]
		dir, name := path.Split(e.Path)
		l := leaf{name: name, path: e.Path, content: e.Content,
			attributes: attributes{mode: uint32(e.Mode.Perm()), uid: e.UID, gid: e.GID}}
		if l.uid < 0 {
			l.uid = b.spec.UID
		}
		if l.gid < 0 {
			l.gid = b.spec.GID
		}
		n := root.find(strings.TrimSuffix(dir, "/"))
		n.files = append(n.files, l)
	}
	return root, nil
}

// find returns the directory at dir below n, and makes it if it is new.
func (n *node) find(dir string) *node {
	if dir == "" {
		return n
	}
	name, rest, _ := strings.Cut(dir, "/")
	last := len(n.nodes) - 1 // in sorted paths a directory's files follow one another
	if last < 0 || n.nodes[last].name != name {
		n.nodes = append(n.nodes, &node{name: name, path: path.Join(n.path, name)})
		last++
	}
	return n.nodes[last].find(rest)
}

// names returns the names in the directory.
func (n *node) names() []string {
	all := make([]string, 0, len(n.files)+len(n.nodes))
	for i := range n.files {
		all = append(all, n.files[i].name)
	}
	for _, child := range n.nodes {
		all = append(all, child.name)
	}
	return all
}

// each calls visit with every file below n until it says no, and reports whether
// it never did.
func (n *node) each(visit func(*leaf) bool) bool {
	for i := range n.files {
		if !visit(&n.files[i]) {
			return false
		}
	}
	for _, child := range n.nodes {
		if !child.each(visit) {
			return false
		}
	}
	return true
}
