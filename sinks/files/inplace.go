package files

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// notInPlace is the answer to a file that should be written in place and is not
// there.
func (f *File) notInPlace(err error) error {
	return &Error{Op: "open", Path: f.spec.Path, Err: err,
		hint: "method: inplace writes into a file that is there, as one that is mounted: create it, empty, or use method: rename"}
}

// verifyInPlace checks what can be known of the file without opening it for
// writing, which those who watch it would hear of (inotify(7), IN_CLOSE_WRITE).
func (f *File) verifyInPlace(dir int) error {
	return f.intoPlace(dir, f.openToVerify, func(*os.File) error { return nil })
}

// intoPlace runs work with the file as open opened it, after a look at what it is
// and where it lies.
func (f *File) intoPlace(dir int, open func(dir int, st info) (int, error), work func(*os.File) error) error {
	st, err := lstatAt(dir, f.base)
	if errors.Is(err, fs.ErrNotExist) {
		return f.notInPlace(err)
	}
	if err != nil {
		return failed("look at", f.spec.Path, err)
	}
	if err := replaceable(f.spec.Path, st); err != nil {
		return err
	}
	fd, err := open(dir, st)
	if err != nil {
		return failedWith("open", f.spec.Path, err, unix.EACCES, "the agent's user has to own the file, or to have write permission on it")
	}
	file := os.NewFile(uintptr(fd), f.base)
	defer func() { _ = file.Close() }()
	if now, err := statFD(fd); err != nil || !now.regular() || !now.sameAs(st) {
		return refused("open", f.spec.Path, "somebody exchanged it meanwhile", "")
	}
	system, err := fileSystem(fd)
	if err != nil {
		return failed("find the file system of", f.spec.Path, err)
	}
	if err := system.admits(&wants{anywhere: f.spec.AllowDisk}, f.spec.Path); err != nil {
		return err
	}
	return work(file)
}

func (f *File) openToVerify(dir int, st info) (int, error) {
	err := mayAccess(dir, f.base, unix.W_OK)
	if err != nil && (!errors.Is(err, unix.EACCES) || st.uid != uint32(os.Geteuid())) {
		return -1, err
	}
	fd, err := openAt(dir, f.base, toRead)
	if errors.Is(err, fs.ErrPermission) {
		return openAt(dir, f.base, toWrite)
	}
	return fd, err
}

// openToWrite opens the file for writing. One of the agent's own that is not even
// writable for its owner, as 0400 says, is made so for the moment that takes.
func (f *File) openToWrite(dir int, st info) (int, error) {
	fd, err := openAt(dir, f.base, toWrite)
	if !errors.Is(err, fs.ErrPermission) || st.uid != uint32(os.Geteuid()) {
		return fd, err
	}
	reader, err := openAt(dir, f.base, toRead)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(reader) }()
	if now, err := statFD(reader); err != nil || !now.sameAs(st) {
		return -1, errors.Join(err, unix.EAGAIN)
	}
	if err := fchmod(reader, st.mode&0o7777|0o200); err != nil {
		return -1, err
	}
	writer, err := openAt(dir, f.base, toWrite)
	if undo := fchmod(reader, st.mode&0o7777); undo != nil && err == nil {
		_ = unix.Close(writer)
		return -1, undo
	}
	return writer, err
}

// writeInPlace gives the file its mode and owner and then its content.
func (f *File) writeInPlace(dir int, content []byte) error {
	return f.intoPlace(dir, f.openToWrite, func(file *os.File) error {
		fd := int(file.Fd())
		st, err := statFD(fd)
		if err != nil {
			return failed("look at", f.spec.Path, err)
		}
		if err := f.dressInPlace(fd, st); err != nil {
			return err
		}
		if err := f.overwrite(file, st.size, content); err != nil {
			return err
		}
		if system, err := fileSystem(fd); err == nil && !system.memory {
			if err := file.Sync(); err != nil {
				return failed("sync", f.spec.Path, plain(err))
			}
		}
		if st, err := statFD(fd); err == nil {
			f.left.Store(&trace{at: st, digest: sha256.Sum256(content)})
		}
		return nil
	})
}

// dressInPlace sets mode, group and owner of a file that others may be reading.
// First it takes away what the new mode does not give, or the new group would
// have for a moment what only the old one should, and the other way round.
func (f *File) dressInPlace(fd int, st info) error {
	want := f.attributes()
	if narrow := st.mode & want.mode & 0o7777; !want.owns(st) && narrow != st.mode&0o7777 {
		if err := fchmod(fd, narrow); err != nil {
			return failed("set mode of", f.spec.Path, err)
		}
	}
	if want.match(st) && !hasACL(fd) {
		return nil
	}
	return want.apply(fd, f.spec.Path)
}

// overwrite writes content over size bytes of another. It makes sure that there
// is room before it touches what is there; where the file system cannot promise
// that, it writes what goes beyond the end first, which can be taken back.
func (f *File) overwrite(file *os.File, size int64, content []byte) error {
	length := int64(len(content))
	err := reserve(int(file.Fd()), length)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		err = nil
		if length > size {
			if _, err = file.WriteAt(content[size:], size); err != nil {
				_ = file.Truncate(size)
			}
		}
	}
	if err != nil {
		return failed("make room in", f.spec.Path, plain(err))
	}
	if _, err := file.WriteAt(content, 0); err != nil {
		return f.torn(err)
	}
	if length < size {
		if err := file.Truncate(length); err != nil {
			return f.torn(err)
		}
	}
	return nil
}

func (f *File) torn(err error) error {
	return &Error{Op: "write", Path: f.spec.Path, Err: plain(err),
		hint: "the file now has parts of the old content and of the new, and is written again at the next try"}
}
