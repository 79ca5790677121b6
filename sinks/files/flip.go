package files

import (
	"errors"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Publish makes the bundle hold the entries and nothing else, with mode and owner
// of its [BundleSpec] and theirs, and returns what had to change: [Attributes] if
// only a mode, owner or group was wrong, a file had a second name (a hard link)
// or an access control list, [Content] for all else, a link that was missing or
// led elsewhere included. What is right already is not touched. Everything else
// is mended by another generation, or another link if it was a link. Names that
// go are removed after the new ones are there. now is the time on any clock that
// does not jump, the same one for every call; [Bundle.Collect] goes by it.
//
// What is wrong with the entries, and names in the directory that belong to
// somebody else, are errors, all at once; nothing of theirs is replaced. On an
// error readers see the generation that they saw before, whole, nothing is left
// of the new one, and the returned Change is None. The one exception: a new
// generation is there, but a link to a new name in it could not be put in place
// because somebody took the name meanwhile; the next Publish takes that up as
// Content. Publish blocks for the file system only.
func (b *Bundle) Publish(entries []Entry, now time.Duration) (Change, error) {
	change := None
	n, err := b.layout(entries)
	if err == nil {
		err = b.in(create, func(dir int, h *handle) error {
			if err := b.hold(dir, h); err != nil {
				return err
			}
			f, err := b.compare(dir, n)
			if err != nil || f.change == None {
				return err
			}
			if err := b.replace(dir, n, f, now, b.spec.AllowDisk && !h.fs.memory); err != nil {
				return err
			}
			change = f.change
			return nil
		})
	}
	return change, b.wrap("publish", err)
}

// Inspect returns what Publish would do with the entries now, and the error it
// would meet before writing, but for the lock, which it does not ask for. It
// changes nothing; a missing directory that Publish would make counts as
// [Content].
func (b *Bundle) Inspect(entries []Entry) (Change, error) {
	change := None
	n, err := b.layout(entries)
	if err == nil {
		err = b.in(look, func(dir int, _ *handle) error {
			if dir < 0 {
				change = Content
				return nil
			}
			f, err := b.compare(dir, n)
			if err == nil {
				change = f.change
			}
			return err
		})
	}
	return change, b.wrap("inspect", err)
}

// replace mends what f found. All that can fail for want of room is made before
// the flip; after it names are only renamed and removed.
func (b *Bundle) replace(dir int, n *node, f *finding, now time.Duration, sync bool) error {
	var next *generation
	keep := false
	if f.wrong {
		var err error
		if keep, err = b.keeps(dir, n, f); err != nil {
			return err
		}
		if next, err = b.build(dir, n, sync); err != nil {
			return err
		}
	}
	l := &links{bundle: b, dir: dir}
	outdated, err := b.prepare(l, f, next, keep)
	if err == nil && next != nil {
		err = l.place(dataLink)
	}
	if err != nil {
		err = errors.Join(err, l.discard())
		if next != nil {
			err = errors.Join(err, b.removeTree(dir, next.name))
		}
		return err
	}
	if next != nil {
		b.left = next
		b.retire(outdated, now)
	}
	err = l.placeRest()
	b.stale = slices.DeleteFunc(append(b.stale, f.gone...), func(name string) bool { return slices.Contains(n.names(), name) })
	_ = b.tidy(dir) // what it cannot remove, Collect tries again and reports
	if sync {
		syncDir(dir)
	}
	return err
}

// prepare makes the links, under temporary names, and returns the name of the
// generation that retires when they are in place.
func (b *Bundle) prepare(l *links, f *finding, next *generation, keep bool) (outdated string, err error) {
	if next != nil {
		if err := l.make(dataLink, next.name, f.current == ""); err != nil {
			return "", err
		}
		outdated = f.current
		if keep {
			if outdated, err = b.target(l.dir, backupLink); err == nil {
				err = l.make(backupLink, f.current, outdated == "")
			}
			if err != nil {
				return "", err
			}
		}
	}
	for _, name := range f.missing {
		if err := l.make(name, throughData+name, true); err != nil {
			return "", err
		}
	}
	for _, name := range f.altered {
		if err := l.make(name, throughData+name, false); err != nil {
			return "", err
		}
	}
	return outdated, nil
}

// keeps reports whether the current generation becomes the backup. See
// [File.worthKeeping].
func (b *Bundle) keeps(dir int, n *node, f *finding) (bool, error) {
	if !b.spec.Backup || f.current == "" || f.change != Content || f.drifted {
		return false, nil
	}
	st, err := lstatAt(dir, f.current)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, failed("look at", b.below(f.current), err)
	case b.left == nil:
		return st.kind() == unix.S_IFDIR, nil
	case b.left.same(n):
		return false, nil
	default:
		return b.untouched(dir, st, f.current)
	}
}

// links are symlinks made under temporary names, so that they appear where they
// belong in one step and never lead nowhere.
type links struct {
	bundle *Bundle
	dir    int
	made   []madeLink
}

type madeLink struct {
	temp, name string
	fresh      bool // there was nothing of the name
}

func (l *links) make(name, target string, fresh bool) error {
	temp := tempName(linkKey)
	err := retry(func() error { return unix.Symlinkat(target, l.dir, temp) })
	if errors.Is(err, fs.ErrNotExist) {
		return refusedBy("create link in", l.bundle.spec.Dir, errGone)
	}
	if err != nil {
		return failed("create link in", l.bundle.spec.Dir, err)
	}
	l.made = append(l.made, madeLink{temp, name, fresh})
	return nil
}

// place renames the link for name into place.
func (l *links) place(name string) error {
	i := slices.IndexFunc(l.made, func(m madeLink) bool { return m.name == name })
	m := l.made[i]
	path := l.bundle.below(name)
	rename := renameOver
	if m.fresh {
		rename = renameNew
	}
	err := rename(l.dir, m.temp, name)
	if errors.Is(err, fs.ErrExist) { // somebody took the name meanwhile
		return l.bundle.notALink(l.dir, name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return refusedBy("put link in place at", path, errGone)
	}
	if err != nil {
		return failedWith("put link in place at", path, err, unix.EPERM, stickyHint)
	}
	l.made = slices.Delete(l.made, i, i+1)
	return nil
}

// placeRest puts all other links in place.
func (l *links) placeRest() error {
	var failures []error
	for _, m := range slices.Clone(l.made) {
		failures = append(failures, l.place(m.name))
	}
	return errors.Join(append(failures, l.discard())...)
}

// discard removes the links that were not put in place.
func (l *links) discard() error {
	var failures []error
	for _, m := range l.made {
		if err := unlink(l.dir, m.temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failures = append(failures, failed("remove temporary link from", l.bundle.spec.Dir, err))
		}
	}
	l.made = nil
	return errors.Join(failures...)
}

// tidy removes links of names that are not published any more.
func (b *Bundle) tidy(dir int) error {
	var failures []error
	b.stale = slices.DeleteFunc(b.stale, func(name string) bool {
		_, err := b.unlinkOurs(dir, name, throughData+name)
		failures = append(failures, err)
		return err == nil
	})
	return errors.Join(failures...)
}

// unlinkOurs removes the symlink at name if it still leads to target, and reports
// whether it did.
func (b *Bundle) unlinkOurs(dir int, name, target string) (bool, error) {
	got, err := readlinkAt(dir, name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) || err == nil && got != target {
		return false, nil
	}
	if err == nil {
		err = unlink(dir, name)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err == nil, nil
	}
	return false, failedWith("remove link", b.below(name), err, unix.EPERM, stickyHint)
}
