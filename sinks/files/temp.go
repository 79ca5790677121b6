package files

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// A temporary name is tempPrefix, the key, ".", 16 hexadecimal digits and
// tempSuffix. The key is the destination's base name or, where that leaves no
// room within the 255 bytes of a file name, its beginning, its SHA-256 and
// longMark, which no 16 hexadecimal digits can be taken for.
const (
	tempPrefix = ".."
	tempSuffix = ".secretsd"
	tempRandom = 8 // bytes
	longMark   = ".long"
	maxName    = 255
	maxBase    = maxName - len(tempPrefix) - 1 - 2*tempRandom - len(tempSuffix)
)

// tempKey returns what temporary names for base have in common and those for
// other names have not.
func tempKey(base string) string {
	if len(base) <= maxBase && !strings.HasSuffix(base, longMark) {
		return base
	}
	sum := sha256.Sum256([]byte(base))
	digest := "." + hex.EncodeToString(sum[:]) + longMark
	beginning := base[:min(len(base), maxBase-len(digest))]
	return strings.ToValidUTF8(beginning, "") + digest
}

func tempName(key string) string {
	var random [tempRandom]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand
	return tempPrefix + key + "." + hex.EncodeToString(random[:]) + tempSuffix
}

// parseTemp returns the key of a name that tempName made.
func parseTemp(name string) (key string, ok bool) {
	rest, ok := strings.CutPrefix(name, tempPrefix)
	if !ok {
		return "", false
	}
	if rest, ok = strings.CutSuffix(rest, tempSuffix); !ok {
		return "", false
	}
	dot := len(rest) - 2*tempRandom - 1
	if dot < 1 || rest[dot] != '.' || strings.Trim(rest[dot+1:], "0123456789abcdef") != "" {
		return "", false
	}
	return rest[:dot], true
}

// isTemp reports whether name is a temporary name with the key.
func isTemp(name, key string) bool {
	got, ok := parseTemp(name)
	return ok && got == key
}

// leftovers says what to sweep: the keys, each with its file's owner.
type leftovers map[string]uint32

func (l leftovers) add(f *File) { l[f.key] = uint32(f.spec.UID) }

// Sweep removes the temporary files that a killed agent left for this file and
// returns how many there were. It is for the start, before the first Publish:
// a Publish of the same path in another process loses its temporary file to it
// and has to begin again, which it does by itself twice.
func (f *File) Sweep() (int, error) {
	n, ours := 0, leftovers{}
	ours.add(f)
	err := f.in(look, func(dir int, _ *handle) (err error) {
		if dir >= 0 {
			n, err = ours.sweep(dir, f.parent.path)
		}
		return err
	})
	return n, f.wrap("sweep", err)
}

// Sweep does what [File.Sweep] does for all open files, and reads each
// directory once however many files lie in it. One directory that cannot be
// swept does not keep the others from it; all errors are joined.
func (d *Dirs) Sweep() (int, error) {
	total, failures := 0, []error(nil)
	for p, ours := range d.leftovers() {
		h := p.held.Load()
		if h == nil {
			continue
		}
		err := h.use(func(dir int) error {
			n, err := ours.sweep(dir, p.path)
			total += n
			return err
		})
		if err != nil {
			failures = append(failures, fmt.Errorf("sweep %s: %w", p.path, err))
		}
	}
	return total, errors.Join(failures...)
}

func (d *Dirs) leftovers() map[*parent]leftovers {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make(map[*parent]leftovers, len(d.held))
	for _, p := range d.held {
		ours := make(leftovers, len(p.shares))
		for _, f := range p.shares {
			if f != nil {
				ours.add(f)
			}
		}
		if len(ours) > 0 {
			all[p] = ours
		}
	}
	return all
}

// sweep removes what l names from dir and returns how many it removed.
func (l leftovers) sweep(dir int, path string) (int, error) {
	list, err := readDir(dir)
	if err != nil {
		return 0, failed("list", path, err)
	}
	defer func() { _ = list.Close() }()
	total, failures := 0, []error(nil)
	for {
		names, err := list.Readdirnames(512)
		for _, name := range names {
			remove := removeLeftover
			key, isTemp := parseTemp(name)
			if !isTemp {
				key, isTemp = l.staged(name)
				remove = removeStaged
			}
			owner, isOurs := l[key]
			if !isTemp || !isOurs {
				continue
			}
			removed, err := remove(dir, name, owner)
			if removed {
				total++
			}
			if err != nil {
				failures = append(failures, failed("remove leftover "+name+" from", path, err))
			}
		}
		if errors.Is(err, io.EOF) {
			return total, errors.Join(failures...)
		}
		if err != nil {
			return total, errors.Join(append(failures, failed("list", path, plain(err)))...)
		}
	}
}

// removeLeftover removes a regular file of such a name. One that belongs to
// neither the agent nor the file's owner and may not be removed is not ours:
// in a directory that strangers can write to anybody may choose the name.
func removeLeftover(dir int, name string, owner uint32) (bool, error) {
	st, err := lstatAt(dir, name)
	if err == nil && !st.regular() {
		return false, nil
	}
	if err == nil {
		err = unlink(dir, name)
	}
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.Is(err, fs.ErrPermission) && !trusted(st.uid) && st.uid != owner:
		return false, nil
	default:
		return false, err
	}
}
