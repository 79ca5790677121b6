package files

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// A generation is known by its name and by being a directory. In a directory
// that strangers can write to anybody may choose the name, so that what is
// removed must not be what they could not remove themselves: of the agent's own
// directories one that others can write to is never a generation, though they may
// have moved it there; in another's nothing is gone into that belongs to a third;
// and nothing is gone into that is mounted. What stays open to one who may rename
// in the bundle's directory is to give the name to another directory of the
// agent's in it.

const (
	byHand     = "remove it by hand"
	stickyHint = "in a sticky directory only a file's owner or CAP_FOWNER may replace or remove it, and nobody an immutable one: give the bundle a directory of its own"
)

// tree is a generation being removed.
type tree struct {
	owner uint32 // as it was found
}

// removeTree removes the generation name with all that is in it. That there is
// none is no error.
func (b *Bundle) removeTree(dir int, name string) error {
	path := b.below(name)
	st, err := lstatAt(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return failed("look at", path, err)
	}
	if st.kind() != unix.S_IFDIR {
		return refused("remove generation", path, "somebody put a "+st.kindName()+" in its place", byHand)
	}
	t := &tree{owner: st.uid}
	return t.removeDir(dir, name, path, st, false)
}

// removeDir removes the directory name, which st is of, with all that is in it.
// With inside dir belongs to the tree too.
func (t *tree) removeDir(dir int, name, path string, st info, inside bool) error {
	if mountRoot(dir, name) {
		return refused("remove directory", path, "something is mounted there", "unmount it")
	}
	fd, err := t.open(dir, name, st)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return failed("open", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if now, err := statFD(fd); err != nil || !now.sameAs(st) {
		return refused("remove directory", path, "somebody exchanged it meanwhile", "")
	}
	if err := t.empty(fd, path); err != nil {
		return err
	}
	rmdir := func() error {
		return retry(func() error { return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) })
	}
	err = rmdir()
	if errors.Is(err, fs.ErrPermission) && t.own(fd) == nil && (!inside || t.own(dir) == nil) {
		err = rmdir()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failedWith("remove directory", path, err, unix.EPERM, stickyHint)
	}
	return nil
}

// open opens a directory of the tree. One that was given to another user and is
// closed to the agent becomes the agent's own again, which takes CAP_CHOWN as the
// giving did.
func (t *tree) open(dir int, name string, st info) (int, error) {
	fd, err := openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if !errors.Is(err, fs.ErrPermission) || st.uid == uint32(os.Geteuid()) {
		return fd, err
	}
	if retry(func() error { return unix.Fchownat(dir, name, os.Geteuid(), -1, unix.AT_SYMLINK_NOFOLLOW) }) != nil {
		return fd, err
	}
	return openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
}

// own makes an open directory of the tree the agent's, with the permission to
// remove what is in it.
func (t *tree) own(fd int) error {
	st, err := statFD(fd)
	if err == nil && st.uid != uint32(os.Geteuid()) {
		err = chown(fd, os.Geteuid(), -1)
	}
	if err != nil {
		return err
	}
	return fchmod(fd, 0o700)
}

// empty removes all that is in an open directory of the tree.
func (t *tree) empty(fd int, path string) error {
	for n := 1; ; n++ {
		names, err := list(fd)
		if err != nil {
			return failed("list", path, err)
		}
		if len(names) == 0 {
			return nil
		}
		if n > tries { // somebody goes on putting things in
			return failed("remove", path, unix.ENOTEMPTY)
		}
		for _, name := range names {
			if err := t.remove(fd, name, path+"/"+name); err != nil {
				return err
			}
		}
	}
}

func (t *tree) remove(dir int, name, path string) error {
	st, err := lstatAt(dir, name)
	if errors.Is(err, fs.ErrPermission) && t.own(dir) == nil {
		st, err = lstatAt(dir, name)
	}
	if err == nil && st.kind() == unix.S_IFDIR {
		if st.uid != t.owner && !trusted(t.owner) {
			return refused("remove directory", path, "it does not belong to the generation's owner", byHand)
		}
		return t.removeDir(dir, name, path, st, true)
	}
	if err == nil {
		err = unlink(dir, name)
	}
	if errors.Is(err, fs.ErrPermission) && t.own(dir) == nil {
		err = unlink(dir, name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("remove", path, err)
	}
	return nil
}
