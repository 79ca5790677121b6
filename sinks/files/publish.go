package files

import (
	"bytes"
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
// left, and the returned Change is None. Publish blocks for the file system
// only; content is neither changed nor kept.
func (f *File) Publish(content []byte) (Change, error) {
	change := None
	err := f.in(create, func(dir int, h *handle) error {
		found, err := f.compare(dir, content)
		if err != nil || found == None {
			return err
		}
		if err := f.write(dir, content, f.spec.AllowDisk && !h.fs.memory); err != nil {
			return err
		}
		change = found
		return nil
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

// Remove removes the file, whatever its content; a caller that minds asks
// Inspect first. That the file or its directory is missing is no error. What is
// not a regular file is left alone and is an error.
func (f *File) Remove() error {
	err := f.in(look, func(dir int, _ *handle) error {
		if dir < 0 {
			return nil
		}
		st, err := lstatAt(dir, f.base)
		if err == nil {
			if err := replaceable(f.spec.Path, st); err != nil {
				return err
			}
			err = unlink(dir, f.base)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return failedWith("remove", f.spec.Path, err, unix.EBUSY, "it is a mount point: unmount it first")
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return f.wrap("remove", err)
}

// tries bounds how often work begins again when others take the directory or the
// temporary file away under it; more than once is bad luck already.
const tries = 3

// in runs work with the file's directory, or with dir -1 and no handle if the
// directory is missing and would be created by [create]. It runs it again if
// the directory or the temporary file went away under it: the directory was
// removed and made anew, or another agent's Sweep took our temporary file for a
// leftover.
func (f *File) in(how access, work func(dir int, h *handle) error) error {
	for n := 1; ; n++ {
		err := f.inOnce(how, work)
		if n == tries || !errors.Is(err, errLetGo) && !errors.Is(err, errGone) {
			return err
		}
	}
}

func (f *File) inOnce(how access, work func(dir int, h *handle) error) error {
	if f.closed.Load() {
		return fs.ErrClosed
	}
	h, err := f.parent.at(&f.spec, how)
	if err != nil {
		return err
	}
	if h == nil {
		return work(-1, nil)
	}
	return h.use(func(dir int) error { return work(dir, h) })
}

func (f *File) wrap(verb string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", verb, f.spec.Path, err)
}

func (f *File) want() attributes {
	return attributes{mode: uint32(f.spec.Mode.Perm()), uid: f.spec.UID, gid: f.spec.GID}
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

// compare tells how the file differs from what it should be. It looks before
// it opens, so that a named pipe or a device is never opened, and looks again at
// what it opened.
func (f *File) compare(dir int, content []byte) (Change, error) {
	st, err := lstatAt(dir, f.base)
	if errors.Is(err, fs.ErrNotExist) {
		return Content, nil
	}
	if err != nil {
		return None, failed("look at", f.spec.Path, err)
	}
	if err := replaceable(f.spec.Path, st); err != nil {
		return None, err
	}
	if st.size != int64(len(content)) {
		return Content, nil
	}
	fd, err := openAt(dir, f.base, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if errors.Is(err, fs.ErrPermission) {
		return f.recall(st, content), nil
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EAGAIN) {
		// Exchanged since, or somebody holds a lease on it (fcntl(2), F_SETLEASE);
		// renaming over it is right for all that is no directory.
		return Content, nil
	}
	if err != nil {
		return None, failed("open", f.spec.Path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	return f.compareOpen(fd, st, content)
}

func (f *File) compareOpen(fd int, st info, content []byte) (Change, error) {
	if now, err := statFD(fd); err != nil || now != st {
		return Content, nil // exchanged or written to since, by somebody else
	}
	same, err := sameContent(fd, content)
	switch {
	case err != nil:
		return None, failed("read", f.spec.Path, err)
	case !same:
		return Content, nil
	case !f.want().match(st), st.links != 1, hasACL(fd):
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

// trace is a published file as it was left: what it was, and what was in it.
type trace struct {
	at     info
	digest [sha256.Size]byte
}

// recall compares a file that the agent may not read, as one given to another
// user without CAP_DAC_READ_SEARCH, with what Publish remembers of it. The
// change time, which nobody can set, tells whether anything was done to it
// since. After a restart nothing is remembered and the answer is [Content].
func (f *File) recall(st info, content []byte) Change {
	left := f.left.Load()
	if left == nil || left.at != st || left.digest != sha256.Sum256(content) {
		return Content
	}
	return None
}

// errGone marks a temporary file or directory that went away during a write.
var errGone = fmt.Errorf("it was removed meanwhile: %w", fs.ErrNotExist)

// write puts content into a new file and renames it over the destination.
func (f *File) write(dir int, content []byte, sync bool) error {
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
		err = f.rename(dir, name)
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
	if err := f.want().apply(fd, f.spec.Path); err != nil {
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
	err := retry(func() error { return unix.Renameat(dir, name, dir, f.base) })
	switch {
	case err == nil:
		return nil
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
	_ = tmp.Truncate(0)
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
