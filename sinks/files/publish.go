package files

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Change says how a file differed from what it should be, and so what Publish
// did about it.
type Change int

// The kinds of change, in rising order.
const (
	// None: content, mode and owner were right, and the file was not touched.
	None Change = iota
	// Attributes: the content was right, but mode, owner or group was not, or
	// the file had a second name (a hard link) or an access control list.
	Attributes
	// Content: the file was missing, had other content, or could not be read to
	// find out.
	Content
)

// String returns "none", "attributes" or "content".
func (c Change) String() string {
	switch c {
	case None:
		return "none"
	case Attributes:
		return "attributes"
	default:
		return "content"
	}
}

// Publish makes the file hold content, with the mode and owner of its [Spec],
// and returns what had to change. A file that is right already is not touched:
// its inode and times stay. Everything else, wrong attributes included, is
// mended by a new file renamed over the old one: setting mode and owner on the
// file itself would show readers the steps between, and would leave content
// reachable through whatever hard links were made while the mode was wrong.
//
// On an error the old file is whole and where it was, no temporary file is
// left, and the returned Change is None. Of all this [Spec].InPlace holds less.
// Publish blocks for the file system only; content is neither changed nor kept.
func (f *File) Publish(content []byte) (Change, error) {
	change := None
	err := f.in(create, func(dir int, h *handle) error {
		found, err := f.compare(dir, content)
		if err != nil || found == None {
			return err
		}
		if f.spec.InPlace {
			err = f.writeInPlace(dir, content)
		} else {
			err = f.write(dir, content, found == Content, f.spec.AllowDisk && !h.fs.memory)
		}
		if err == nil {
			change = found
		}
		return err
	})
	return change, f.wrap("publish", err)
}

// Inspect returns what Publish would do with content now, and the error it
// would meet before writing. It changes nothing; a missing directory that
// Publish would make counts as [Content].
func (f *File) Inspect(content []byte) (Change, error) {
	change := None
	err := f.in(look, func(dir int, _ *handle) (err error) {
		if dir < 0 {
			change = Content
			return nil
		}
		change, err = f.compare(dir, content)
		return err
	})
	return change, f.wrap("inspect", err)
}

func (f *File) wrap(verb string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", verb, f.spec.Path, err)
}

// replaceable returns an error for everything but a regular file.
func replaceable(path string, st info) error {
	if st.regular() {
		return nil
	}
	hint := "remove it, or choose another path"
	switch st.kind() {
	case unix.S_IFDIR:
		hint = "the path of a file is needed: add a file name"
	case unix.S_IFLNK:
		hint = "a rename would replace the link, not the file it points to: name that file in the path, or remove the link"
	}
	return refused("replace", path, "it is a "+st.kindName()+", not a regular file", hint)
}

// errGone marks a temporary file or directory that went away during a write.
var errGone = fmt.Errorf("it was removed meanwhile: %w", fs.ErrNotExist)

// write puts content into a new file and renames it over the destination. With
// fresh the content there is another one, which is kept if the spec says so.
func (f *File) write(dir int, content []byte, fresh, sync bool) error {
	name := tempName(f.key)
	fd, err := openAt(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if errors.Is(err, fs.ErrNotExist) {
		return refusedBy("create temporary file in", f.parent.path, errGone)
	}
	if err != nil {
		return failed("create temporary file in", f.parent.path, err)
	}
	tmp := os.NewFile(uintptr(fd), name)
	defer func() { _ = tmp.Close() }()
	if err = f.fill(tmp, fd, content, sync); err == nil {
		err = f.putInPlace(dir, name, content, fresh)
	}
	if err != nil {
		return errors.Join(err, f.discard(dir, tmp))
	}
	if st, err := statFD(fd); err == nil {
		f.left.Store(&trace{at: st, digest: sha256.Sum256(content)})
	}
	if sync {
		syncDir(dir)
	}
	return nil
}

func (f *File) fill(tmp *os.File, fd int, content []byte, sync bool) error {
	if err := f.attributes().apply(fd, f.spec.Path); err != nil {
		return err
	}
	if _, err := tmp.Write(content); err != nil {
		return failed("write temporary file in", f.parent.path, plain(err))
	}
	if !sync {
		return nil
	}
	if err := tmp.Sync(); err != nil {
		return failed("sync temporary file in", f.parent.path, plain(err))
	}
	return nil
}

func (f *File) rename(dir int, name string) error {
	err := renameOver(dir, name, f.base)
	if err == nil {
		return nil
	}
	return f.notReplaced(err)
}

// notReplaced explains what kept the new file from the destination.
func (f *File) notReplaced(err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return mountPoint(f.spec.Path, err)
	case errors.Is(err, fs.ErrNotExist):
		return refusedBy("rename temporary file in", f.parent.path, errGone)
	case errors.Is(err, unix.EPERM):
		return failedWith("replace", f.spec.Path, err, unix.EPERM,
			"in a sticky directory only a file's owner or CAP_FOWNER may replace it, and nobody an immutable one: give the file a directory of its own")
	default:
		return failed("replace", f.spec.Path, err)
	}
}

// discard removes the temporary file. Where it cannot (a sticky directory, and
// the file already given to its owner) it takes at least the content away.
func (f *File) discard(dir int, tmp *os.File) error {
	err := unlink(dir, tmp.Name())
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if st, statErr := lstatAt(dir, tmp.Name()); statErr == nil {
		if at, statErr := statFD(int(tmp.Fd())); statErr == nil && at.sameAs(st) {
			_ = tmp.Truncate(0)
		}
	}
	return failed("remove temporary file from", f.parent.path, err)
}

func unlink(dir int, name string) error {
	return retry(func() error { return unix.Unlinkat(dir, name, 0) })
}

// syncDir makes the rename last on a disk. Its failure is no failure to
// publish: all readers see the new file, and after a power cut there is one of
// the two whole files, which the next start compares again.
func syncDir(dir int) {
	if d, err := readDir(dir); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
}

// plain takes the operation and temporary name of package os off an error.
func plain(err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
