package files

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Mark returns the mark of the current generation as it was left when this Bundle
// last published it or found it right, or "" if it never did.
func (b *Bundle) Mark() Mark { return b.left.mark() }

// mark has the directory first, for who can see no more of it.
func (g *generation) mark() Mark {
	if g == nil {
		return ""
	}
	return g.dirs[""].mark() + "." + g.digest(info.mark) + "." + g.writtenMark()
}

// writtenMark is the part of the mark that changes only where somebody writes to files,
// makes or removes them. It is the mark's last element.
func (g *generation) writtenMark() Mark { return g.digest(info.writtenMark) }

func (g *generation) digest(of func(info) Mark) Mark {
	h := sha256.New()
	for _, path := range slices.Sorted(maps.Keys(g.dirs)) {
		_, _ = fmt.Fprintf(h, "%q %s\n", path, of(g.dirs[path]))
	}
	for _, path := range slices.Sorted(maps.Keys(g.files)) {
		_, _ = fmt.Fprintf(h, "%q %s\n", path, of(g.files[path].at))
	}
	return Mark(fmt.Sprintf("%x", h.Sum(nil)))
}

// Remove removes all that is the bundle's from the directory, whatever became of
// it: the links, the generations, without grace, and the backup. What belongs to
// somebody else stays, and so does the directory. A caller that minds uses
// [Bundle.RemoveOurs].
func (b *Bundle) Remove() error {
	_, err := b.remove(func(int, string) (bool, error) { return true, nil })
	return b.wrap("remove", err)
}

// RemoveOurs does what [Bundle.Remove] does if the current generation is still
// ours: it has the files and the content that this Bundle last published or found
// right, and no others, or it is the very generation, untouched since, that the
// mark was taken of, which an earlier process may have written down. Otherwise
// everything stays and kept is true.
func (b *Bundle) RemoveOurs(m Mark) (kept bool, err error) {
	kept, err = b.remove(func(dir int, current string) (bool, error) { return b.isOurs(dir, current, m) })
	return kept, b.wrap("remove", err)
}

func (b *Bundle) remove(ours func(dir int, current string) (bool, error)) (kept bool, err error) {
	err = b.inExisting(func(dir int, h *handle) error {
		if err := b.hold(dir, h); err != nil {
			return err
		}
		current, err := b.target(dir, dataLink)
		if err != nil {
			return err
		}
		if current != "" {
			yes, err := ours(dir, current)
			if kept = !yes; err != nil || kept {
				return err
			}
		}
		return b.removeAll(dir)
	})
	return kept && err == nil, err
}

// removeAll removes first the links to names, so that none leads nowhere.
func (b *Bundle) removeAll(dir int) error {
	names, err := list(int(b.lock.file.Fd()))
	if err != nil {
		return failed("list", b.spec.Dir, err)
	}
	var failures []error
	for _, name := range names {
		_, err := b.unlinkOurs(dir, name, throughData+name)
		failures = append(failures, err)
	}
	for _, link := range []string{dataLink, backupLink} {
		target, err := readlinkAt(dir, link)
		if err == nil && isTemp(target, generationKey) {
			_, err := b.unlinkOurs(dir, link, target)
			failures = append(failures, err)
		}
	}
	s := sweep{Bundle: b, dir: dir}
	for _, name := range names {
		_, err := s.clear(name)
		failures = append(failures, err)
	}
	b.left, b.retired, b.stale = nil, nil, nil
	return errors.Join(failures...)
}

// isOurs reports whether the generation name has the content that was left, or is
// as the mark says.
func (b *Bundle) isOurs(dir int, name string, m Mark) (bool, error) {
	st, err := lstatAt(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // there is nothing that could be anybody else's
	}
	if err != nil {
		return false, failed("look at", b.below(name), err)
	}
	s, err := b.survey(dir, name, b.left)
	switch {
	case errors.Is(err, fs.ErrPermission): // given to another user: see [Bundle.recall]
		return b.left != nil && b.left.dirs[""] == st || strings.HasPrefix(string(m), string(st.mark())+"."), nil
	case err != nil || s == nil:
		return false, err
	case m != "" && s.seen.mark() == m:
		return true, nil
	default:
		return s.same && len(s.seen.files) == len(b.left.files), nil
	}
}

// untouched reports whether nothing was done to the generation name, which st is
// of, since it was left.
func (b *Bundle) untouched(dir int, st info, name string) (bool, error) {
	s, err := b.survey(dir, name, nil)
	if errors.Is(err, fs.ErrPermission) {
		return b.left.dirs[""] == st, nil
	}
	return s != nil && s.seen.mark() == b.left.mark(), err
}

// survey is a look at all that is in a generation.
type survey struct {
	bundle *Bundle
	seen   generation
	left   *generation // to compare with, or nil
	same   bool        // all files seen have the content that was left
}

// errForeign stops a survey at something that is neither file nor directory.
var errForeign = errors.New("it is none of ours")

// survey returns nil if the generation has something in it that no generation has,
// or is none.
func (b *Bundle) survey(dir int, name string, left *generation) (*survey, error) {
	s := &survey{bundle: b, seen: newGeneration(name), left: left, same: left != nil}
	err := s.lookInto(dir, name, "")
	if isMissing(err) || errors.Is(err, errForeign) {
		return nil, nil
	}
	return s, err
}

// lookInto looks at the directory name in dir, which is at path in the generation.
func (s *survey) lookInto(dir int, name, path string) error {
	fd, err := openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return failed("open", s.bundle.below(path), err)
	}
	defer func() { _ = unix.Close(fd) }()
	if s.seen.dirs[path], err = statFD(fd); err != nil {
		return failed("look at", s.bundle.below(path), err)
	}
	names, err := list(fd)
	if err != nil {
		return failed("list", s.bundle.below(path), err)
	}
	for _, name := range names {
		below := name
		if path != "" {
			below = path + "/" + name
		}
		if err := s.lookAt(fd, name, below); err != nil {
			return err
		}
	}
	return nil
}

func (s *survey) lookAt(dir int, name, path string) error {
	st, err := lstatAt(dir, name)
	if err != nil {
		return failed("look at", s.bundle.below(path), err)
	}
	switch st.kind() {
	case unix.S_IFDIR:
		return s.lookInto(dir, name, path)
	case unix.S_IFREG:
		s.seen.files[path] = trace{at: st}
		if !s.same {
			return nil
		}
		left, known := s.left.files[path]
		if s.same = known; !known {
			return nil
		}
		s.same, err = left.matches(dir, name, s.bundle.below(path), st)
		return err
	default:
		return errForeign
	}
}
