package files

import (
	"errors"
	"io/fs"
	"path/filepath"
	"sync/atomic"
)

// wants is what a file or a bundle asks of its directory.
type wants struct {
	create   bool       // missing directories are made
	anywhere bool       // not only in memory
	made     attributes // what directories that are made get
}

// share is what one [File] or [Bundle] has of a directory that it may have
// together with others.
type share struct {
	dirs   *Dirs
	parent *parent
	wants  wants
	closed atomic.Bool
}

// acquire enters s among those that use the directory at path; f is its file,
// or nil for a bundle, of which a directory takes one.
func (d *Dirs) acquire(s *share, path string, f *File) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.held[path]
	if p == nil {
		p = &parent{path: path, shares: make(map[*share]*File)}
		d.held[path] = p
	}
	if f == nil && p.bundle {
		return refused("use directory", path, "another bundle is published there", "give each bundle a directory of its own")
	}
	p.bundle = p.bundle || f == nil
	p.shares[s] = f
	s.dirs, s.parent = d, p
	return nil
}

// close takes s out again, and closes its directory if it was the last. A second
// close does nothing.
func (s *share) close() error {
	if s.closed.Swap(true) {
		return nil
	}
	d := s.dirs
	d.mu.Lock()
	if f, open := s.parent.shares[s]; open && f == nil {
		s.parent.bundle = false
	}
	delete(s.parent.shares, s)
	last := len(s.parent.shares) == 0
	if last {
		delete(d.held, s.parent.path)
	}
	d.mu.Unlock()
	if !last {
		return nil
	}
	return s.parent.close()
}

// tries bounds how often work begins again when others take the directory or the
// temporary file away under it; more than once is bad luck already.
const tries = 3

// in runs work with the directory, or with dir -1 and no handle if the directory
// is missing and would be created by [create]. It runs it again if the directory
// or the temporary file went away under it: the directory was removed and made
// anew, or another agent's Sweep took our temporary file for a leftover.
func (s *share) in(how access, work func(dir int, h *handle) error) error {
	for n := 1; ; n++ {
		err := s.inOnce(how, work)
		if n == tries || !errors.Is(err, errLetGo) && !errors.Is(err, errGone) {
			return err
		}
	}
}

func (s *share) inOnce(how access, work func(dir int, h *handle) error) error {
	if s.closed.Load() {
		return fs.ErrClosed
	}
	h, err := s.parent.at(&s.wants, how)
	if err != nil {
		return err
	}
	if h == nil {
		return work(-1, nil)
	}
	return h.use(func(dir int) error { return work(dir, h) })
}

// inExisting is in for work that has nothing to do where there is no directory.
func (s *share) inExisting(work func(dir int, h *handle) error) error {
	reached := false
	err := s.in(look, func(dir int, h *handle) error {
		reached = dir >= 0
		if !reached {
			return nil
		}
		return work(dir, h)
	})
	if !reached && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// below returns the path of name in the directory, for errors.
func (s *share) below(name string) string { return filepath.Join(s.parent.path, name) }
