package files

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Mark tells a published file or bundle again after a restart. It is text
// without line breaks that may be written down: it names inodes and times of
// change and comes from no content. The zero Mark fits nothing.
type Mark string

func (i info) mark() Mark { return i.writtenMark() + Mark(fmt.Sprintf(".%x", i.ctime)) }

// writtenMark is the part of the mark that changes only where somebody writes to the
// file, and not where its mode or owner changes.
func (i info) writtenMark() Mark {
	return Mark(fmt.Sprintf("%x.%x.%x.%x", i.dev, i.ino, i.mtime, i.size))
}

// Mark returns the mark of the file as it was left when this File last published
// it or found it right, or "" if it never did.
func (f *File) Mark() Mark {
	if left := f.left.Load(); left != nil {
		return left.at.mark()
	}
	return ""
}

// Remove removes the file, whatever its content, and its backup if the spec has
// one; a caller that minds uses [File.RemoveOurs]. That the file or its
// directory is missing is no error. What is not a regular file is left alone and
// is an error. A file that is written in place is emptied: it was there before.
func (f *File) Remove() error {
	_, err := f.remove(func(int, info) (bool, error) { return true, nil })
	return f.wrap("remove", err)
}

// RemoveOurs does what [File.Remove] does if the file is still ours: it has the
// content that this File last published or found right, or it is the very file,
// untouched since, that the mark was taken of, which an earlier process may have
// written down. Otherwise everything stays and kept is true. A caller that knows
// what the content should be, but has no mark, calls Inspect first: whatever is
// not [Content] is found right by it.
func (f *File) RemoveOurs(m Mark) (kept bool, err error) {
	kept, err = f.remove(func(dir int, st info) (bool, error) { return f.isOurs(dir, st, m) })
	return kept, f.wrap("remove", err)
}

func (f *File) remove(ours func(dir int, st info) (bool, error)) (kept bool, err error) {
	err = f.inExisting(func(dir int, _ *handle) error {
		st, err := lstatAt(dir, f.base)
		if errors.Is(err, fs.ErrNotExist) {
			return f.removeRest(dir)
		}
		if err != nil {
			return failed("look at", f.spec.Path, err)
		}
		if err := replaceable(f.spec.Path, st); err != nil {
			return err
		}
		yes, err := ours(dir, st)
		if kept = !yes; err != nil || kept {
			return err
		}
		if f.spec.InPlace {
			return f.empty(dir)
		}
		return errors.Join(f.unlink(dir, f.base, f.spec.Path), f.removeRest(dir))
	})
	return kept && err == nil, err
}

// removeRest removes what belongs to the file beside it.
func (f *File) removeRest(dir int) error {
	if !f.spec.Backup {
		return nil
	}
	return f.unlink(dir, BackupName(f.base), BackupName(f.spec.Path))
}

func (f *File) unlink(dir int, name, path string) error {
	st, err := lstatAt(dir, name)
	if err == nil {
		if err := replaceable(path, st); err != nil {
			return err
		}
		err = unlink(dir, name)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return failedWith("remove", path, err, unix.EBUSY, "it is a mount point: unmount it first")
}

func (f *File) isOurs(dir int, st info, m Mark) (bool, error) {
	if m != "" && st.mark() == m {
		return true, nil
	}
	return f.left.Load().matches(dir, f.base, f.spec.Path, st)
}

// matches reports whether the regular file that st was found of has the content
// that was left. A nil trace matches nothing.
func (t *trace) matches(dir int, name, path string, st info) (bool, error) {
	if t == nil || st.size != t.at.size {
		return false, nil
	}
	if st == t.at {
		return true, nil
	}
	fd, err := openAt(dir, name, toRead)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) {
		return false, nil // nobody can say that it is ours
	}
	if err != nil {
		return false, failed("open", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	sum, err := digestOf(fd)
	if err != nil {
		return false, failed("read", path, err)
	}
	return sum == t.digest, nil
}

func digestOf(fd int) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	var buf [8 << 10]byte
	for {
		n := 0
		if err := retry(func() error { n, err = unix.Read(fd, buf[:]); return err }); err != nil {
			return sum, err
		}
		if n == 0 {
			return [sha256.Size]byte(h.Sum(sum[:0])), nil
		}
		_, _ = h.Write(buf[:n])
	}
}

// empty takes the content out of a file that is written in place.
func (f *File) empty(dir int) error {
	return f.intoPlace(dir, f.openToWrite, func(file *os.File) error {
		if err := file.Truncate(0); err != nil {
			return failed("empty", f.spec.Path, plain(err))
		}
		return nil
	})
}
