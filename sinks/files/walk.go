package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is as many symlinks as the kernel follows in one path
// (path_resolution(7)).
const maxLinks = 40

// walk is the way from the root to a directory, taken one name at a time, so
// that every directory and symlink on it is judged by the descriptor it is
// then used through.
type walk struct {
	fd   int  // the last directory reached
	at   info // what fd is
	path string
	rest []string // names not walked yet; after the end, those that are missing
	// exposed names the first directory on the way in which somebody else could
	// have exchanged the next one, or is empty.
	exposed string
	links   int
}

// walkTo goes as far along path, which is absolute and clean, as directories
// exist. The caller closes the walk.
func walkTo(path string) (*walk, error) {
	w := &walk{fd: -1, rest: names(path)}
	if err := w.root(); err != nil {
		return nil, err
	}
	for len(w.rest) > 0 {
		missing, err := w.step()
		if err != nil {
			w.close()
			return nil, err
		}
		if missing {
			break
		}
	}
	return w, nil
}

func names(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == filepath.Separator })
}

func (w *walk) close() {
	if w.fd >= 0 {
		_ = unix.Close(w.fd)
		w.fd = -1
	}
}

// take hands the directory reached to the caller.
func (w *walk) take() *os.File {
	f := os.NewFile(uintptr(w.fd), w.path)
	w.fd = -1
	return f
}

func (w *walk) root() error {
	fd, err := openAt(unix.AT_FDCWD, "/", holdDir)
	if err != nil {
		return failed("open", "/", err)
	}
	return w.enter(fd, "/")
}

// enter makes fd the directory reached.
func (w *walk) enter(fd int, path string) error {
	st, err := statFD(fd)
	if err != nil {
		_ = unix.Close(fd)
		return failed("look at", path, err)
	}
	w.close()
	w.fd, w.at, w.path = fd, st, path
	return nil
}

// step walks one name and reports whether it is missing.
func (w *walk) step() (missing bool, err error) {
	name := w.rest[0]
	path := filepath.Join(w.path, name)
	fd, err := openAt(w.fd, name, holdDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return false, w.follow(name, path)
	case err != nil:
		return false, failed("open", path, err)
	}
	above, abovePath := w.at, w.path
	if err := w.enter(fd, path); err != nil {
		return false, err
	}
	if w.exposed == "" && !guards(above, w.at) {
		w.exposed = abovePath
	}
	w.rest = w.rest[1:]
	return false, nil
}

// follow puts the target of the symlink at name before the names still to walk.
// Nobody but root can change a link that is followed, nor exchange it between
// the look at it and the reading of it.
func (w *walk) follow(name, path string) error {
	st, err := lstatAt(w.fd, name)
	if err != nil {
		return failed("look at", path, err)
	}
	if st.kind() != unix.S_IFLNK {
		return failed("open", path, unix.ENOTDIR)
	}
	target, err := readlinkAt(w.fd, name)
	if err != nil {
		return failed("read symlink", path, err)
	}
	if reason := w.distrust(st); reason != "" {
		return refused("follow symlink", path, reason, fmt.Sprintf(
			"name the directory it points to (%s) in the path, or have the link and its directory owned by root and writable by root alone", target))
	}
	if w.links++; w.links > maxLinks {
		return failed("follow symlink", path, unix.ELOOP)
	}
	w.rest = append(names(target), w.rest[1:]...)
	if filepath.IsAbs(target) {
		return w.root()
	}
	return nil
}

// distrust says why a symlink in the directory reached is not followed, or
// returns "". Access control lists need no look: whom they let write shows in
// the group's bits (acl(5)).
func (w *walk) distrust(link info) string {
	switch {
	case link.uid != 0:
		return fmt.Sprintf("it belongs to user %d, not to root", link.uid)
	case w.at.uid != 0:
		return fmt.Sprintf("its directory belongs to user %d, not to root", w.at.uid)
	case w.at.mode&0o022 != 0:
		return "others than root can write in its directory"
	default:
		return ""
	}
}

// guards reports whether nobody but root and the agent can exchange child, a
// directory in dir: dir is theirs and not writable by others, or sticky, which
// keeps others from renaming what is not their own.
func guards(dir, child info) bool {
	if !trusted(dir.uid) {
		return false
	}
	return dir.mode&0o022 == 0 || dir.mode&unix.S_ISVTX != 0 && trusted(child.uid)
}

func trusted(uid uint32) bool { return uid == 0 || uid == uint32(os.Geteuid()) }

// create makes the missing directories. Each is opened without following and
// must be the agent's own, so that one exchanged right after it was made is
// noticed.
func (w *walk) create(want *wants) error {
	for len(w.rest) > 0 {
		name := w.rest[0]
		path := filepath.Join(w.path, name)
		if name == ".." {
			return failed("open", path, unix.ENOENT)
		}
		made := true
		err := retry(func() error { return unix.Mkdirat(w.fd, name, 0o700) })
		if errors.Is(err, fs.ErrExist) {
			made, err = false, nil
		}
		if err != nil {
			return failed("create directory", path, err)
		}
		fd, err := openAt(w.fd, name, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return failed("open", path, err)
		}
		if made {
			if err := w.dress(fd, name, path, want.made); err != nil {
				_ = unix.Close(fd)
				return err
			}
		}
		if err := w.enter(fd, path); err != nil {
			return err
		}
		w.rest = w.rest[1:]
	}
	return nil
}

// dress gives a directory just made its mode and owner, and removes it again if
// that fails: found next time, it would pass for one that somebody wanted so.
func (w *walk) dress(fd int, name, path string, made attributes) error {
	st, err := justMade(fd, path)
	if err != nil {
		return err
	}
	// The set-group-ID bit that a new directory inherits stays: a pod's fsGroup
	// reaches files below by it.
	made.mode |= st.mode & unix.S_ISGID
	if err := made.apply(fd, path); err != nil {
		_ = unix.Unlinkat(w.fd, name, unix.AT_REMOVEDIR)
		return err
	}
	return nil
}

// justMade confirms that fd is the directory that the agent has just made. In
// a directory that others can write, one of root's could have been moved here in
// its place: what was just made is empty, and what is empty holds nothing that
// could be given away with it.
func justMade(fd int, path string) (info, error) {
	st, err := statFD(fd)
	if err != nil {
		return st, failed("look at", path, err)
	}
	names, err := list(fd)
	if err != nil {
		return st, failed("list", path, err)
	}
	if st.uid != uint32(os.Geteuid()) || len(names) > 0 {
		return st, refused("create directory", path, "somebody else put another one there", "")
	}
	return st, nil
}

// dirMode lets those search and list a directory made for a file who may read
// the file.
func dirMode(file fs.FileMode) uint32 {
	mode := uint32(0o700)
	if file&0o040 != 0 {
		mode |= 0o050
	}
	if file&0o004 != 0 {
		mode |= 0o005
	}
	return mode
}
