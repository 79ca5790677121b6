package files

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Staged is content that was put beside its destination to be looked at before
// it is published: complete, and under its final name, in a directory that only
// the agent and one other user may enter.
type Staged struct {
	// Path is that of the file, or of the directory that stands for a bundle's.
	Path string
	// dir is the directory that the staged one, which is called name, lies in. Errors
	// name dir: a name that is another each time would make each a new one.
	dir  *os.File
	name string
	// own is the directory itself. It is locked (flock(2)) as long as it is in
	// use, which Sweep, of this agent or another, leaves it alone for.
	own int
	// made are the paths in the directory, those of directories before what is in
	// them.
	made []string
}

// stagedFile is what a staged file may be at most: read by its owner.
const stagedFile = 0o400

// A staged file lies in a directory whose name has the key's digest in the place
// of the key, so that there is room for its own ending, by which it cannot be taken
// for a temporary file or for a generation of a bundle in the same directory.
const stageSuffix = ".check" + tempSuffix

func stageName(key string) string {
	name := tempName(stageKey(key))
	return strings.TrimSuffix(name, tempSuffix) + stageSuffix
}

func stageKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16])
}

// staged returns the key whose file was staged in a directory of that name.
func (l leftovers) staged(name string) (key string, ok bool) {
	rest, ok := strings.CutSuffix(name, stageSuffix)
	if !ok {
		return "", false
	}
	digest, ok := parseTemp(rest + tempSuffix)
	if !ok {
		return "", false
	}
	for key := range l {
		if stageKey(key) == digest {
			return key, true
		}
	}
	return "", false
}

// removeStaged removes a directory that [File.Stage] made, with what is in it. It
// may belong to the check's user, whom only root gives things to.
func removeStaged(dir int, name string, _ uint32) (bool, error) {
	st, err := lstatAt(dir, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case st.kind() != unix.S_IFDIR || !trusted(st.uid) && os.Geteuid() != 0 || stagedInUse(dir, name):
		return false, nil
	}
	return true, (&tree{owner: st.uid}).removeDir(dir, name, name, st, false)
}

// Stage puts content where a check that runs as user uid and group gid can read
// it, -1 being the agent's own. The caller calls [Staged.Remove]; what a crash
// leaves is cleared by Sweep. A missing directory is made as Publish makes it.
func (f *File) Stage(content []byte, uid, gid int) (*Staged, error) {
	var s *Staged
	err := f.in(create, func(dir int, _ *handle) (err error) {
		s, err = stage(dir, f.parent.path, stageName(f.key), []Entry{{Path: f.base, Content: content}}, uid, gid)
		if err == nil {
			s.Path = filepath.Join(s.Path, f.base)
		}
		return err
	})
	return s, f.wrap("stage", err)
}

// Stage is [File.Stage] for a bundle: the files are as they would be, with the
// check's user as their owner.
func (b *Bundle) Stage(entries []Entry, uid, gid int) (*Staged, error) {
	if err := CheckEntries(entries); err != nil {
		return nil, b.wrap("stage", err)
	}
	var s *Staged
	err := b.in(create, func(dir int, _ *handle) (err error) {
		s, err = stage(dir, b.spec.Dir, tempName(unfinishedKey), entries, uid, gid)
		return err
	})
	return s, b.wrap("stage", err)
}

// stage makes the directory name in dir, which path leads to, with the entries in
// it. After an error nothing is left.
func stage(dir int, path, name string, entries []Entry, uid, gid int) (*Staged, error) {
	if err := retry(func() error { return unix.Mkdirat(dir, name, 0o700) }); err != nil {
		return nil, failed("create directory in", path, err)
	}
	fd, err := openAt(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		_ = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
		return nil, failed("open", path, err)
	}
	s := &Staged{Path: filepath.Join(path, name), dir: os.NewFile(uintptr(fd), path), name: name, own: -1}
	if err := s.fill(dir, entries, uid, gid); err != nil {
		return nil, errors.Join(err, s.Remove())
	}
	return s, nil
}

// fill writes the entries into the directory, which only the agent can enter so
// far, and then gives all of it to the other user, from the inside out.
func (s *Staged) fill(dir int, entries []Entry, uid, gid int) error {
	fd, err := openAt(dir, s.name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return failed("open what was staged in", s.dir.Name(), err)
	}
	s.own = fd
	_ = lockStaged(fd) // a file system without locks is used without
	for i := range entries {
		if err := s.write(fd, &entries[i]); err != nil {
			return err
		}
	}
	if uid < 0 && gid < 0 {
		return nil
	}
	for i := len(s.made) - 1; i >= 0; i-- {
		if err := retry(func() error { return unix.Fchownat(fd, s.made[i], uid, gid, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
			return s.notGiven(err)
		}
	}
	if err := chown(fd, uid, gid); err != nil {
		return s.notGiven(err)
	}
	return nil
}

func (s *Staged) notGiven(err error) error {
	return failedWith("give to the check's user what was staged in", s.dir.Name(), err, unix.EPERM, "the agent needs CAP_CHOWN for a check that runs as another user")
}

func (s *Staged) write(fd int, e *Entry) error {
	for i, c := range e.Path {
		if c != '/' {
			continue
		}
		err := retry(func() error { return unix.Mkdirat(fd, e.Path[:i], 0o700) })
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return failed("stage a directory in", s.dir.Name(), err)
		}
		s.made = append(s.made, e.Path[:i])
	}
	out, err := openAt(fd, e.Path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return failed("stage a file in", s.dir.Name(), err)
	}
	file := os.NewFile(uintptr(out), e.Path)
	s.made = append(s.made, e.Path)
	_, err = file.Write(e.Content)
	if err == nil {
		err = fchmod(out, stagedFile)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return failed("write a staged file in", s.dir.Name(), plain(err))
	}
	return nil
}

// Remove removes what was staged, with all that a check has put beside it. It may
// be called by any goroutine, once.
func (s *Staged) Remove() error {
	defer s.letGo()
	conn, err := s.dir.SyscallConn()
	if err != nil {
		return fmt.Errorf("remove what was staged in %s: %w", s.dir.Name(), err)
	}
	var failure error
	err = conn.Control(func(fd uintptr) { failure = s.remove(int(fd)) })
	return errors.Join(failure, err)
}

// remove removes the directory if it is still the one that was made.
func (s *Staged) remove(dir int) error {
	path := filepath.Join(s.dir.Name(), s.name)
	st, err := lstatAt(dir, s.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return failed("look at", path, err)
	case s.own < 0: // nothing was put into it yet
		return retry(func() error { return unix.Unlinkat(dir, s.name, unix.AT_REMOVEDIR) })
	}
	if made, err := statFD(s.own); err != nil || !made.sameAs(st) {
		return refused("remove directory", path, "somebody exchanged it meanwhile", byHand)
	}
	return (&tree{owner: st.uid}).removeDir(dir, s.name, path, st, false)
}
