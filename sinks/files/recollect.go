package files

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
)

// Recollect finds out whether the file is the very one that the mark was taken of, by
// an earlier process, and nobody has written to it since, whatever became of its mode
// and owner. Then there is true, and content what it holds, which a Publish takes to put
// these right. It is nil where the agent may not read it.
func (f *File) Recollect(m Mark) (content []byte, there bool, err error) {
	err = f.inExisting(func(dir int, _ *handle) error {
		st, err := lstatAt(dir, f.base)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return failed("look at", f.spec.Path, err)
		}
		if !st.regular() || !strings.HasPrefix(string(m), string(st.writtenMark())+".") {
			return nil
		}
		content, there, err = readAs(dir, f.base, f.spec.Path, st)
		return err
	})
	return content, there, f.wrap("recollect", err)
}

// Recollect does the same for the current generation: no file in it was written to, made
// or removed since, and all of them are found by their names. The entries have no more than paths and content; there are none
// where the agent may not read one of them, and one whose directory it may not even read
// is only there while nothing at all was done to that.
func (b *Bundle) Recollect(m Mark) (entries []Entry, there bool, err error) {
	err = b.inExisting(func(dir int, _ *handle) error {
		current, err := b.target(dir, dataLink)
		if err != nil || current == "" {
			return err
		}
		entries, there, err = b.recollect(dir, current, m)
		return err
	})
	return entries, there, b.wrap("recollect", err)
}

func (b *Bundle) recollect(dir int, current string, m Mark) (entries []Entry, there bool, err error) {
	s, err := b.survey(dir, current, nil)
	switch {
	case errors.Is(err, fs.ErrPermission):
		st, err := lstatAt(dir, current)
		return nil, err == nil && strings.HasPrefix(string(m), string(st.mark())+"."), nil
	case err != nil || s == nil:
		return nil, false, err
	}
	if !strings.HasSuffix(string(m), "."+string(s.seen.writtenMark())) {
		return nil, false, nil
	}
	for name := range s.seen.top() {
		if to, err := readlinkAt(dir, name); err != nil || to != throughData+name {
			return nil, false, nil // nobody finds it under its name
		}
	}
	for _, path := range slices.Sorted(maps.Keys(s.seen.files)) {
		content, same, err := readAs(dir, current+"/"+path, b.below(path), s.seen.files[path].at)
		if err != nil || !same {
			return nil, false, err
		}
		if content == nil {
			return nil, true, nil
		}
		entries = append(entries, Entry{Path: path, Content: content})
	}
	return entries, true, nil
}

// readAs reads the file name in dir if it is the one that st was found of, and nobody
// writes to it meanwhile. Content is nil if it may not be read.
func readAs(dir int, name, path string, st info) (content []byte, same bool, err error) {
	fd, err := openAt(dir, name, toRead)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, true, nil
	case err != nil:
		return nil, false, failed("open", path, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { _ = f.Close() }()
	content = make([]byte, st.size)
	if _, err := io.ReadFull(f, content); err != nil {
		return nil, false, failed("read", path, plain(err))
	}
	now, err := statFD(fd)
	if err != nil || now != st {
		return nil, false, nil // exchanged or written to since, by somebody else
	}
	return content, true, nil
}
