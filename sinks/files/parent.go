package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// errLetGo is the answer of a directory that was exchanged for a newer one
// while it was about to be used.
var errLetGo = errors.New("the directory was replaced meanwhile")

// parent is a path of a directory that files lie in, and the directory it was
// found to lead to.
type parent struct {
	path string
	// shares are those that are open, each with its file; that of a bundle has
	// none. [Dirs].mu guards them.
	shares map[*share]*File
	// bundle says that one of them is a bundle. [Dirs].mu guards it too.
	bundle bool
	// held is nil as long as the directory does not exist.
	held atomic.Pointer[handle]
}

// handle is a directory held open.
type handle struct {
	file *os.File
	at   info
	fs   fsys
}

// use runs work with the descriptor, which stays open meanwhile even if the
// handle is closed.
func (h *handle) use(work func(dir int) error) error {
	conn, err := h.file.SyscallConn()
	if err != nil {
		return errLetGo
	}
	var failure error
	if err := conn.Control(func(fd uintptr) { failure = work(int(fd)) }); err != nil {
		return errLetGo
	}
	return failure
}

// admits says whether what wants it may lie on the file system.
func (s fsys) admits(w *wants, path string) error {
	if s.memory || !s.known || w.anywhere {
		return nil
	}
	return onDisk(path, s.name)
}

// access is what a caller wants of a directory that is not the one held.
type access int

const (
	look   access = iota // change nothing
	adopt                // also take one that strangers could have put there: the path is named anew
	create               // also make what is missing
)

// at returns the directory that the path leads to now. Mostly that is the one
// held, and telling so costs one stat. It returns nil and no error if the
// directory is missing, it may be created, and how does not say create.
func (p *parent) at(want *wants, how access) (*handle, error) {
	held := p.held.Load()
	if held != nil && p.leadsTo(held) {
		return held, held.fs.admits(want, p.path)
	}
	w, err := walkTo(p.path)
	if err != nil {
		return nil, err
	}
	defer w.close()
	if held != nil && how != adopt && w.exposed != "" {
		return nil, refused("use directory", p.path, "it is not the one found at start, and others than root and the agent can write in "+w.exposed,
			"reload the agent if the new directory is meant")
	}
	if len(w.rest) > 0 && !want.create {
		return nil, failed("open", filepath.Join(w.path, w.rest[0]), unix.ENOENT)
	}
	if err := w.admits(want); err != nil {
		return nil, err
	}
	if len(w.rest) > 0 {
		if how != create {
			return nil, writable(w.fd, w.path)
		}
		if err := w.create(want); err != nil {
			return nil, err
		}
	}
	return p.hold(held, w)
}

// leadsTo reports whether the path still names the directory held. The inode
// number of a directory that is held open is not given to another, so equal
// numbers mean the same directory. An answer that says neither, such as a
// missing permission on a directory above, keeps the one held.
func (p *parent) leadsTo(h *handle) bool {
	st, err := statPath(p.path)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP)
	}
	return st.sameAs(h.at)
}

// hold puts the directory reached by w in the place of old, which is closed.
func (p *parent) hold(old *handle, w *walk) (*handle, error) {
	system, err := fileSystem(w.fd)
	if err != nil {
		return nil, failed("find the file system of", w.path, err)
	}
	fresh := &handle{at: w.at, fs: system, file: w.take()}
	if !p.held.CompareAndSwap(old, fresh) {
		_ = fresh.file.Close()
		return nil, errLetGo
	}
	if old != nil {
		_ = old.file.Close()
	}
	return fresh, nil
}

func (p *parent) close() error {
	if h := p.held.Swap(nil); h != nil {
		return h.file.Close()
	}
	return nil
}

// admits judges the file system of the directory reached, on which missing
// directories would be made, before any is.
func (w *walk) admits(want *wants) error {
	system, err := fileSystem(w.fd)
	if err != nil {
		return failed("find the file system of", w.path, err)
	}
	return system.admits(want, w.path)
}
