// Package files publishes rendered values as single files: whole or not at
// all, in memory, with mode and owner set before the first byte of content.
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
	dirs   *Dirs
	parent *parent
	spec   Spec
	base   string
	key    string
	closed atomic.Bool
	// left is the published file as Publish left it, or nil. See [File.recall].
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
	if s.UID == -1 {
		s.UID = os.Geteuid()
	}
	dir, base := filepath.Split(s.Path)
	f := &File{dirs: d, spec: s, base: base, key: tempKey(base)}
	d.acquire(f, filepath.Clean(dir))
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
		if err := writable(dir, f.parent.path); err != nil {
			return err
		}
		st, err := lstatAt(dir, f.base)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return failed("look at", f.spec.Path, err)
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
func (f *File) Close() error {
	if f.closed.Swap(true) {
		return nil
	}
	return f.dirs.release(f)
}

// Path returns the destination, as it was given.
func (f *File) Path() string { return f.spec.Path }

// acquire enters f among the files of its directory.
func (d *Dirs) acquire(f *File, path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.held[path]
	if p == nil {
		p = &parent{path: path, files: make(map[*File]bool)}
		d.held[path] = p
	}
	p.files[f] = true
	f.parent = p
}

// release takes f out again, and closes its directory if it was the last.
func (d *Dirs) release(f *File) error {
	d.mu.Lock()
	delete(f.parent.files, f)
	last := len(f.parent.files) == 0
	if last {
		delete(d.held, f.parent.path)
	}
	d.mu.Unlock()
	if !last {
		return nil
	}
	return f.parent.close()
}

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
	if strings.HasPrefix(base, "..") {
		return refused("use path", s.Path, `names that begin with ".." are kept for temporary files`, "choose another file name")
	}
	if s.Mode&^fs.ModePerm != 0 {
		return refused("set mode of", s.Path, "it has more than permission bits", `write it as in "0400"`)
	}
	if s.UID < -1 || s.GID < -1 || int64(s.UID) >= maxID || int64(s.GID) >= maxID {
		return refused("set owner of", s.Path, "there is no such user or group number", "")
	}
	return nil
}
