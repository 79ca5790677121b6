package files

import (
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// retired is a generation that another took the place of.
type retired struct {
	name string
	due  time.Duration // when it is to be removed
}

// collectAgain is how long Collect puts off what it could not remove.
const collectAgain = 10 * time.Second

func (b *Bundle) retire(name string, now time.Duration) {
	if name != "" {
		b.retired = append(b.retired, retired{name: name, due: now + b.spec.Grace})
	}
}

// Collect removes the generations whose grace has ended, and links of names that
// are gone and that Publish could not remove. It is to be called after each
// Publish and Sweep, and again at next if more is true; it costs nothing when
// nothing is due. What cannot be removed is reported, all of it joined, and tried
// again ten seconds later. now is the time on the clock of [Bundle.Publish].
func (b *Bundle) Collect(now time.Duration) (next time.Duration, more bool, err error) {
	if next, more = b.next(now); !more || next > now {
		return next, more, nil
	}
	there := false
	err = b.inExisting(func(dir int, h *handle) error {
		there = true
		if err := b.hold(dir, h); err != nil {
			return err
		}
		return errors.Join(b.removeRetired(dir, now), b.tidy(dir))
	})
	if err == nil && !there {
		b.retired, b.stale = nil, nil
	}
	if err != nil {
		for i := range b.retired {
			b.retired[i].due = max(b.retired[i].due, now+collectAgain)
		}
	}
	next, more = b.next(now + collectAgain)
	return next, more, b.wrap("collect", err)
}

// next returns when something is due first, links that are stale at stale.
func (b *Bundle) next(stale time.Duration) (next time.Duration, more bool) {
	if len(b.stale) > 0 {
		next, more = stale, true
	}
	for _, r := range b.retired {
		if !more || r.due < next {
			next, more = r.due, true
		}
	}
	return next, more
}

// removeRetired removes the retired generations that are due, but for one that
// somebody has pointed a link to again by hand.
func (b *Bundle) removeRetired(dir int, now time.Duration) error {
	used, err := b.used(dir)
	if err != nil {
		return err
	}
	var failures []error
	var rest []retired
	for _, r := range b.retired {
		if used[r.name] {
			continue
		}
		if r.due <= now {
			err := b.removeTree(dir, r.name)
			if err == nil {
				continue
			}
			failures = append(failures, err)
		}
		rest = append(rest, r)
	}
	b.retired = rest
	return errors.Join(failures...)
}

// used returns the generations that a link of ours points to.
func (b *Bundle) used(dir int) (map[string]bool, error) {
	current, err := b.target(dir, dataLink)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{current: true}
	if b.spec.Backup {
		backup, err := b.target(dir, backupLink)
		if err != nil {
			return nil, err
		}
		used[backup] = true
	}
	return used, nil
}

// Sweep removes what a killed agent left: generations that were being written,
// those that are not published, temporary links, links to names that are not
// published, and the backup if the spec wants none. It returns how many of these
// there were. A generation whose grace may not have ended, because it was
// published until shortly before the agent was killed, is left to Collect. Sweep
// is for the start, before the first Publish, and takes the lock.
func (b *Bundle) Sweep(now time.Duration) (int, error) {
	n := 0
	err := b.inExisting(func(dir int, h *handle) error {
		if err := b.hold(dir, h); err != nil {
			return err
		}
		s := sweep{Bundle: b, dir: dir}
		err := s.run(now)
		n = s.removed
		return err
	})
	return n, b.wrap("sweep", err)
}

// sweep is one Sweep of a directory.
type sweep struct {
	*Bundle
	dir     int
	used    map[string]bool // generations that stay
	top     map[string]bool // names that have links, or nil if they cannot be known
	now     time.Duration
	grace   time.Duration // for how much longer others stay, if they are complete
	removed int
}

func (s *sweep) run(now time.Duration) error {
	var err error
	if s.used, err = s.Bundle.used(s.dir); err != nil {
		return err
	}
	for _, r := range s.retired {
		s.used[r.name] = true
	}
	names, err := list(int(s.lock.file.Fd()))
	if err != nil {
		return failed("list", s.spec.Dir, err)
	}
	if s.top, err = s.published(); err != nil {
		return err
	}
	s.now, s.grace = now, s.graceLeft()
	var failures []error
	for _, name := range names {
		removed, err := s.clear(name)
		if removed {
			s.removed++
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// published returns the names in the current generation, or nil if the agent may
// not list it.
func (s *sweep) published() (map[string]bool, error) {
	current, err := s.target(s.dir, dataLink)
	if err != nil || current == "" {
		return map[string]bool{}, err
	}
	fd, err := openAt(s.dir, current, unix.O_RDONLY|unix.O_DIRECTORY)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, nil
	case isMissing(err):
		return map[string]bool{}, nil
	case err != nil:
		return nil, failed("open", s.below(current), err)
	}
	defer func() { _ = unix.Close(fd) }()
	names, err := list(fd)
	if err != nil {
		return nil, failed("list", s.below(current), err)
	}
	top := make(map[string]bool, len(names))
	for _, name := range names {
		top[name] = true
	}
	return top, nil
}

// graceLeft returns how long a generation may still be read that retired with the
// last flip. That was when the link changed last, by the rename: another process
// kept the caller's clock until now. A link of the future tells of a clock that
// was set back and nothing else.
func (s *sweep) graceLeft() time.Duration {
	st, err := lstatAt(s.dir, dataLink)
	if err != nil {
		return 0
	}
	age := time.Since(time.Unix(0, st.ctime))
	if age < 0 {
		return 0
	}
	return s.spec.Grace - age
}

// clear removes name if it is a leftover, and reports whether it did.
func (s *sweep) clear(name string) (bool, error) {
	switch {
	case isTemp(name, generationKey) && !s.used[name], isTemp(name, unfinishedKey):
		return s.clearTree(name)
	case isTemp(name, linkKey):
		return s.clearLink(name)
	case name == backupLink && !s.spec.Backup:
		target, err := readlinkAt(s.dir, name)
		if err != nil || !isTemp(target, generationKey) {
			return false, nil
		}
		return s.unlinkOurs(s.dir, name, target)
	case s.top != nil && !s.top[name]:
		return s.unlinkOurs(s.dir, name, throughData+name)
	default:
		return false, nil
	}
}

func (s *sweep) clearTree(name string) (bool, error) {
	st, err := lstatAt(s.dir, name)
	if err != nil || st.kind() != unix.S_IFDIR {
		return false, nil
	}
	if trusted(st.uid) && st.mode&0o022 != 0 {
		return false, refused("remove generation", s.below(name), "others can write in it, so that it may be none that the agent made", byHand)
	}
	if isTemp(name, unfinishedKey) && stagedInUse(s.dir, name) {
		return false, nil
	}
	if s.grace > 0 && isTemp(name, generationKey) {
		s.retired = append(s.retired, retired{name: name, due: s.now + s.grace})
		return false, nil
	}
	if err := s.removeTree(s.dir, name); err != nil {
		return false, err
	}
	return true, nil
}

func (s *sweep) clearLink(name string) (bool, error) {
	target, err := readlinkAt(s.dir, name)
	if err != nil {
		return false, nil // no symlink, and so none of ours
	}
	return s.unlinkOurs(s.dir, name, target)
}
