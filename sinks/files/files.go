// Package files publishes rendered values as files: whole or not at all, in
// memory, with mode and owner set before the first byte of content. A [File] is
// one file; a [Bundle] is files that change together.
//
// A reader of a published path sees the old file or the new one and nothing
// between them: content goes to a temporary file in the same directory, which
// is renamed over the old one when it is complete. Temporary names begin with
// ".." because programs that read a whole directory as data (Spring's
// configtree, Kubernetes volume readers) skip those.
//
// # Whom the package trusts
//
// The configuration names a path; strangers must not be able to make that path
// mean something else.
//
//   - A symlink among the parents is followed only if it and its directory
//     belong to root and nobody else can write there, as with /var/run.
//   - The parent directory is held open, and files are made, compared, renamed
//     and removed relative to it. If the path leads to another directory later
//     (the application's RuntimeDirectory= was made anew, a tmpfs was mounted
//     again), the new one is taken only if no stranger could have put it there;
//     otherwise the call fails and nothing is written to either.
//   - What is found at the destination is never followed, and only a regular
//     file is ever replaced. Path: /dev/null in a configuration that root runs
//     would otherwise cost the machine its /dev/null.
//
// The parent directory itself may be writable by others, sticky or not. A pod's
// emptyDir is root's with mode 0777 while the agent is some other user, and an
// application often owns the directory its secrets lie in. Who may write there
// may replace or remove the published file, which is the operator's choice and
// cannot be prevented from here; they gain no reading, because content is
// written to a file they can neither open nor have prepared (O_EXCL, mode 0000,
// access control lists inherited from the directory taken off).
//
// Nothing here logs, counts, or puts a value, its length or its hash into an
// error.
package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Spec says where one file goes and what it looks like. The zero value of UID
// and GID is root: a caller that has nothing to say about them sets -1.
type Spec struct {
	// Path is the destination: absolute, clean, and with a last element that
	// does not begin with "..".
	Path string
	// Mode holds permission bits only, and is what the file has whatever the
	// umask.
	Mode fs.FileMode
	// UID is the owner's number. -1 means the agent's own effective user.
	UID int
	// GID is the group's number. -1 leaves the group as the system chose it:
	// the agent's own, or the directory's if that has its set-group-ID bit.
	GID int
	// CreateDirs lets Publish make missing parents. They get the file's owner
	// and group and mode 0700, with read and search for group or others only if
	// Mode lets these read the file. An agent that is not root needs
	// CAP_DAC_OVERRIDE to work in directories that it gave away like this.
	CreateDirs bool
	// AllowDisk lets the file lie on something other than tmpfs or ramfs.
	// Content is then synced to the disk before it is renamed.
	AllowDisk bool
	// InPlace writes into the file that is there instead of renaming a new one
	// over it, for a single file mounted into a container, where rename(2)
	// answers EBUSY. It gives up what the rename holds: a reader can see a part
	// of the new content with a part of the old, an agent that is killed or a
	// disk that breaks meanwhile leaves the file like that until the next
	// Publish, and who has opened it keeps reading what is written later. That
	// there is room is made sure of before the first byte is written.
	//
	// The file has to exist and is never made; UID -1 leaves the owner as it
	// is; further names (hard links) do not matter; its own file system is the
	// one that has to be in memory. CreateDirs and Backup do not go with it.
	InPlace bool
	// Backup keeps the content before the last beside the file, under its name
	// with ".bak" added (see [BackupName]): the old file itself, with its mode
	// and owner. What somebody else has changed is not kept, as far as this
	// process can know, nor is a repair a reason to. An agent that is killed in
	// the middle may leave the backup before.
	Backup bool
}

// Dirs holds the directories of all open files, each once however many files
// lie in it, so that descriptors grow with directories and not with files. It
// is safe for concurrent use.
type Dirs struct {
	mu   sync.Mutex
	held map[string]*parent
}

// New returns a Dirs that holds nothing yet. It needs no closing of its own: a
// directory is let go with the last [File] in it.
func New() *Dirs { return &Dirs{held: make(map[string]*parent)} }

// File is one destination. Different Files may be used at the same time; the
// methods of one File are meant for one goroutine at a time.
type File struct {
	share
	spec Spec
	base string
	key  string
	// left is the file as it was left when it was last what it should be, or
	// nil. See [wanted.recall].
	left atomic.Pointer[trace]
}

// Open resolves and checks everything about s that can be known without
// writing, holds the parent directory, and returns the File, which the caller
// closes. It writes nothing and makes no directory. With CreateDirs the
// parents may be missing: then the nearest one that exists is checked.
func (d *Dirs) Open(s Spec) (*File, error) {
	f, err := d.open(s)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", s.Path, err)
	}
	return f, nil
}

// Check returns what [Dirs.Open] would object to, for checking a configuration.
// It writes nothing and holds nothing afterwards. Permissions are judged for
// the user it runs as.
func Check(s Spec) error {
	f, err := New().open(s)
	if err != nil {
		return fmt.Errorf("check %s: %w", s.Path, err)
	}
	return f.Close()
}

func (d *Dirs) open(s Spec) (*File, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	if s.UID == -1 && !s.InPlace {
		s.UID = os.Geteuid()
	}
	dir, base := filepath.Split(s.Path)
	f := &File{spec: s, base: base, key: tempKey(base)}
	f.wants = wants{create: s.CreateDirs, anywhere: s.AllowDisk || s.InPlace,
		made: attributes{mode: dirMode(s.Mode), uid: s.UID, gid: s.GID}}
	if err := d.acquire(&f.share, filepath.Clean(dir), f); err != nil {
		return nil, err
	}
	if err := f.verify(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// verify checks the directory and what is at the destination now.
func (f *File) verify() error {
	return f.in(adopt, func(dir int, _ *handle) error {
		if dir < 0 {
			return nil
		}
		if f.spec.InPlace {
			return f.verifyInPlace(dir)
		}
		if err := writable(dir, f.parent.path); err != nil {
			return err
		}
		if err := f.verifyBackup(dir); err != nil {
			return err
		}
		st, err := lstatAt(dir, f.base)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return failed("look at", f.spec.Path, err)
		}
		if st.kind() == unix.S_IFLNK && isBundleLink(dir, f.base) {
			return nil // a reload may be about to remove the bundle; Inspect objects if it is still there
		}
		if err := replaceable(f.spec.Path, st); err != nil {
			return err
		}
		if mountRoot(dir, f.base) {
			return mountPoint(f.spec.Path, nil)
		}
		return nil
	})
}

// Close lets the directory go; the published file stays. A second Close does
// nothing.
func (f *File) Close() error { return f.close() }

// Path returns the destination, as it was given.
func (f *File) Path() string { return f.spec.Path }

func (s *Spec) validate() error {
	if !filepath.IsAbs(s.Path) {
		return refused("use path", s.Path, "it is not absolute", "write the path from / on")
	}
	if clean := filepath.Clean(s.Path); clean != s.Path {
		return refused("use path", s.Path, "it is not in its shortest form", "write it as "+clean)
	}
	base := filepath.Base(s.Path)
	if base == string(filepath.Separator) || strings.ContainsRune(s.Path, 0) {
		return refused("use path", s.Path, "it names no file", "")
	}
	if s.InPlace && s.Backup {
		return refused("back up", s.Path, "a file that is written in place leaves nothing to keep", "leave out backup or method: inplace")
	}
	if s.InPlace && s.CreateDirs {
		return refused("create directories for", s.Path, "a file that is written in place is there already", "leave out create_dirs or method: inplace")
	}
	if err := fitNames(s.Path); err != nil {
		return err
	}
	if s.Backup && len(BackupName(base)) > maxName {
		return failed("use path", BackupName(s.Path), unix.ENAMETOOLONG)
	}
	if strings.HasPrefix(base, "..") {
		return refused("use path", s.Path, `names that begin with ".." are kept for temporary files`, "choose another file name")
	}
	return validAttributes(s.Path, s.Mode, s.UID, s.GID)
}

// fitNames refuses a path with a name in it that no file can have. With CreateDirs
// nothing else would before the first Publish.
func fitNames(path string) error {
	for name := range strings.SplitSeq(path, string(filepath.Separator)) {
		if len(name) > maxName {
			return failed("use path", path, unix.ENAMETOOLONG)
		}
	}
	return nil
}

func validAttributes(path string, mode fs.FileMode, uid, gid int) error {
	if mode&^fs.ModePerm != 0 {
		return refused("set mode of", path, "it has more than permission bits", `write it as in "0400"`)
	}
	if uid < -1 || gid < -1 || int64(uid) >= maxID || int64(gid) >= maxID {
		return refused("set owner of", path, "there is no such user or group number", "")
	}
	return nil
}
