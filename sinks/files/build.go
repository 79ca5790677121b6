package files

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// publication is a generation being written.
type publication struct {
	*Bundle
	generation
	sync bool
}

// build writes the generation of n and returns it, complete and with its final
// name, but not yet published. Until it is complete nobody else can search it.
// After an error nothing is left of it.
func (b *Bundle) build(dir int, n *node, sync bool) (*generation, error) {
	p := &publication{Bundle: b, generation: newGeneration(tempName(unfinishedKey)), sync: sync}
	err := retry(func() error { return unix.Mkdirat(dir, p.name, 0o700) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refusedBy("create generation in", b.spec.Dir, errGone)
	}
	if err != nil {
		return nil, failed("create generation in", b.spec.Dir, err)
	}
	if err := p.write(dir, n); err != nil {
		if unix.Unlinkat(dir, p.name, unix.AT_REMOVEDIR) == nil {
			return nil, err
		}
		return nil, errors.Join(err, b.removeTree(dir, p.name))
	}
	return &p.generation, nil
}

// undo removes what was written into the directory, by paths relative to it, which
// nobody else can get at yet. It takes no descriptor: a want of these may be why.
// What it cannot remove is left to [Bundle.removeTree].
func (p *publication) undo(fd int, n *node) {
	for i := range n.files {
		_ = unlink(fd, n.files[i].path)
	}
	for _, child := range n.nodes {
		p.undo(fd, child)
		_ = unix.Unlinkat(fd, child.path, unix.AT_REMOVEDIR)
	}
}

// write fills the directory just made, gives it its final name and then its mode
// and owner.
func (p *publication) write(dir int, n *node) error {
	fd, err := p.enter(dir, p.name, p.spec.Dir)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := p.fill(fd, n); err != nil {
		p.undo(fd, n)
		return err
	}
	final := tempName(generationKey)
	err = renameOver(dir, p.name, final)
	if errors.Is(err, fs.ErrNotExist) {
		return refusedBy("rename generation in", p.spec.Dir, errGone)
	}
	if err != nil {
		return failed("rename generation in", p.spec.Dir, err)
	}
	p.name = final
	return p.dress(fd, n)
}

// enter opens a directory that was just made.
func (p *publication) enter(dir int, name, path string) (int, error) {
	fd, err := openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return -1, failed("open generation in", path, err)
	}
	if _, err := justMade(fd, path); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// dress gives an open directory that is complete its mode and owner.
func (p *publication) dress(fd int, n *node) error {
	path := p.below(n.path)
	if err := p.attributes().apply(fd, path); err != nil {
		return err
	}
	if p.sync {
		if err := retry(func() error { return unix.Fsync(fd) }); err != nil {
			return failed("sync generation in", path, err)
		}
	}
	st, err := statFD(fd)
	if err != nil {
		return failed("look at generation in", path, err)
	}
	p.dirs[n.path] = st
	return nil
}

func (p *publication) fill(fd int, n *node) error {
	for i := range n.files {
		if err := p.writeLeaf(fd, &n.files[i]); err != nil {
			return err
		}
	}
	for _, child := range n.nodes {
		if err := p.writeChild(fd, child); err != nil {
			return err
		}
	}
	return nil
}

func (p *publication) writeChild(fd int, child *node) error {
	path := p.below(child.path)
	if err := retry(func() error { return unix.Mkdirat(fd, child.name, 0o700) }); err != nil {
		return failed("create directory for", path, err)
	}
	sub, err := p.enter(fd, child.name, path)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(sub) }()
	if err := p.fill(sub, child); err != nil {
		return err
	}
	return p.dress(sub, child)
}

func (p *publication) writeLeaf(dir int, l *leaf) error {
	path := p.below(l.path)
	fd, err := openAt(dir, l.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return failed("create file for", path, err)
	}
	file := os.NewFile(uintptr(fd), l.name)
	defer func() { _ = file.Close() }()
	if err := l.apply(fd, path); err != nil {
		return err
	}
	if _, err := file.Write(l.content); err != nil {
		return failed("write file for", path, plain(err))
	}
	if p.sync {
		if err := file.Sync(); err != nil {
			return failed("sync file for", path, plain(err))
		}
	}
	st, err := statFD(fd)
	if err != nil {
		return failed("look at file for", path, err)
	}
	p.files[l.path] = trace{at: st, digest: sha256.Sum256(l.content)}
	return nil
}
