package files

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// wanted is one regular file as it should be.
type wanted struct {
	name, path string // in its directory, and for errors
	attributes
	content []byte
	left    *trace // as it was left when it was last what it should be, or nil
	linked  bool   // further names do not matter
}

// trace is a file as it was left: what it was, and what was in it.
type trace struct {
	at     info
	digest [sha256.Size]byte
}

func (f *File) attributes() attributes {
	return attributes{mode: uint32(f.spec.Mode.Perm()), uid: f.spec.UID, gid: f.spec.GID}
}

// compare tells how the file differs from what it should be, and remembers one
// that does not.
func (f *File) compare(dir int, content []byte) (Change, error) {
	st, err := lstatAt(dir, f.base)
	if errors.Is(err, fs.ErrNotExist) {
		if f.spec.InPlace {
			return None, f.notInPlace(err)
		}
		return Content, nil
	}
	if err != nil {
		return None, failed("look at", f.spec.Path, err)
	}
	if err := replaceable(f.spec.Path, st); err != nil {
		return None, err
	}
	left := f.left.Load()
	w := wanted{name: f.base, path: f.spec.Path, attributes: f.attributes(), content: content, left: left, linked: f.spec.InPlace}
	change, err := w.compare(dir, st)
	if err == nil && change == None && (left == nil || left.at != st) {
		f.left.Store(&trace{at: st, digest: sha256.Sum256(content)})
	}
	return change, err
}

// compare tells how the regular file that st was found of differs. It was looked
// at before it is opened, so that a named pipe or a device never is, and is
// looked at again then.
func (w *wanted) compare(dir int, st info) (Change, error) {
	if st.size != int64(len(w.content)) {
		return Content, nil
	}
	fd, err := openAt(dir, w.name, toRead)
	if errors.Is(err, fs.ErrPermission) {
		return w.recall(st), nil
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EAGAIN) {
		// Exchanged since, or somebody holds a lease on it (fcntl(2), F_SETLEASE);
		// renaming over it is right for all that is no directory.
		return Content, nil
	}
	if err != nil {
		return None, failed("open", w.path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	return w.compareOpen(fd, st)
}

func (w *wanted) compareOpen(fd int, st info) (Change, error) {
	if now, err := statFD(fd); err != nil || now != st {
		return Content, nil // exchanged or written to since, by somebody else
	}
	same, err := sameContent(fd, w.content)
	switch {
	case err != nil:
		return None, failed("read", w.path, err)
	case !same:
		return Content, nil
	case !w.match(st), st.links != 1 && !w.linked, hasACL(fd):
		return Attributes, nil
	default:
		return None, nil
	}
}

// sameContent compares in pieces: the memory it takes does not grow with what
// somebody put in the place of the file.
func sameContent(fd int, content []byte) (bool, error) {
	var buf [8 << 10]byte
	for {
		n, err := 0, error(nil)
		err = retry(func() error { n, err = unix.Read(fd, buf[:]); return err })
		if err != nil {
			return false, err
		}
		if n == 0 {
			return len(content) == 0, nil
		}
		if n > len(content) || !bytes.Equal(buf[:n], content[:n]) {
			return false, nil
		}
		content = content[n:]
	}
}

// recall compares a file that the agent may not read, as one given to another
// user without CAP_DAC_READ_SEARCH, with how it was left. The change time, which
// nobody can set, tells whether anything was done to it since. After a restart
// nothing is remembered and the answer is [Content].
func (w *wanted) recall(st info) Change {
	if w.left == nil || w.left.at != st || w.left.digest != sha256.Sum256(w.content) {
		return Content
	}
	return None
}
