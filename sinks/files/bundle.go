package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// BundleSpec says where a bundle goes and what it looks like. The zero value of
// UID and GID is root: a caller that has nothing to say about them sets -1.
type BundleSpec struct {
	// Dir is the directory: absolute and clean. It may be a mount point, and
	// other files may lie in it.
	Dir string
	// Mode is that of the generations and the directories in them: permission bits
	// only, with read and search for the owner, and write for nobody else. A Dir
	// that exists stays as it is.
	Mode fs.FileMode
	// UID and GID are the numbers of the owner and group of the generations and
	// all that is in them, as in [Spec].
	UID, GID int
	// CreateDirs lets Publish make Dir and its missing parents. They get Mode, with
	// write for the owner, and the bundle's owner and group. An agent that is not
	// root needs CAP_DAC_OVERRIDE to work in a Dir that it gave away like this.
	CreateDirs bool
	// AllowDisk lets the bundle lie on something other than tmpfs or ramfs. A
	// generation is then synced to the disk before it is published.
	AllowDisk bool
	// Grace is how long a generation stays after another took its place, for
	// readers that are still at it. Then it goes, whoever reads: an open file can
	// be read to its end, but no further one be opened in it.
	Grace time.Duration
	// Backup keeps the generation before the last for longer than that: the
	// symlink "..backup" points to it until a Publish with other content comes.
	// One that somebody else has changed, content or mode, is not kept, as far as
	// this process can know. An agent that is killed right after a flip may leave
	// the backup before.
	Backup bool
}

// Bundle is a directory in which files change together. In Dir are
//
//	..data -> ..generation.4f0c36d1a6a7f0e2.secretsd
//	..generation.4f0c36d1a6a7f0e2.secretsd/
//	tls.crt -> ..data/tls.crt
//	tls.key -> ..data/tls.key
//
// and a Publish makes another generation beside the first and flips "..data" to
// it by one rename. A name like tls/ca.crt is reached through a link of its first
// element. The layout is that of Kubernetes' volumes, which programs know.
//
// A reader that opens "..data" once, as a directory, and opens the files relative
// to that descriptor (openat(2)) sees one generation. One that goes by full paths
// sees whole files, of which two may come from two generations if a flip falls
// between them. Who wants to be told watches Dir for "..data" being moved there
// (inotify(7), IN_MOVED_TO); a watch on a file stays with the generation it was
// found in.
//
// One process at a time writes: the first call that does takes a lock on Dir
// (flock(2)) and holds it until Close, so that two agents with one configuration
// do not publish against each other for ever. The lock is on a second descriptor
// of the held directory, because one that was opened with O_PATH takes none; it
// goes with the process, however that ends, and to a directory that was made anew
// it moves with the next call. A reload closes the old Bundle before the new one
// writes.
//
// Different Bundles may be used at the same time; the methods of one Bundle are
// meant for one goroutine at a time.
type Bundle struct {
	share
	spec BundleSpec
	lock *lock
	// left is the current generation as it was left when it was last what it
	// should be, or nil.
	left *generation
	// retired are generations that wait for the end of their grace, and stale are
	// names whose links could not be removed.
	retired []retired
	stale   []string
}

// Names in the directory of a bundle. The keys of temporary names stand for what
// is a directory or symlink here; a [File] whose base name is the same has
// regular files.
const (
	dataLink       = "..data"
	backupLink     = "..backup"
	generationKey  = "generation" // complete
	unfinishedKey  = "unfinished" // being written
	linkKey        = "link"
	throughData    = dataLink + "/"
	directoryHint  = "a bundle needs a directory of its own: name another, or remove what is there"
	otherAgentHint = "stop the other agent, or give each its own directory"
)

// OpenBundle resolves and checks everything about s that can be known without
// writing, holds the directory, and returns the Bundle, which the caller closes.
// It writes nothing, makes no directory and takes no lock. With CreateDirs the
// directory may be missing: then the nearest one that exists is checked.
func (d *Dirs) OpenBundle(s BundleSpec) (*Bundle, error) {
	b, err := d.openBundle(s)
	if err != nil {
		return nil, fmt.Errorf("open bundle %s: %w", s.Dir, err)
	}
	return b, nil
}

// CheckBundle returns what [Dirs.OpenBundle] would object to, for checking a
// configuration. It writes nothing and holds nothing afterwards. Permissions are
// judged for the user it runs as.
func CheckBundle(s BundleSpec) error {
	b, err := New().openBundle(s)
	if err != nil {
		return fmt.Errorf("check bundle %s: %w", s.Dir, err)
	}
	return b.Close()
}

func (d *Dirs) openBundle(s BundleSpec) (*Bundle, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	if s.UID == -1 {
		s.UID = os.Geteuid()
	}
	b := &Bundle{spec: s}
	b.wants = wants{create: s.CreateDirs, anywhere: s.AllowDisk, made: b.attributes()}
	b.wants.made.mode |= 0o200 // the generations are made in there
	if err := d.acquire(&b.share, s.Dir, nil); err != nil {
		return nil, err
	}
	if err := b.verify(); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// verify checks the directory and the links in it that are to be replaced.
func (b *Bundle) verify() error {
	return b.in(adopt, func(dir int, _ *handle) error {
		if dir < 0 {
			return nil
		}
		if err := writable(dir, b.spec.Dir); err != nil {
			return err
		}
		if err := mayAccess(dir, ".", unix.R_OK); err != nil {
			return failed("list", b.spec.Dir, err)
		}
		_, err := b.target(dir, dataLink)
		if b.spec.Backup {
			_, backupErr := b.target(dir, backupLink)
			err = errors.Join(err, backupErr)
		}
		return err
	})
}

// Close lets the directory and the lock go; what is published stays. A second
// Close does nothing.
func (b *Bundle) Close() error {
	b.unlock()
	return b.close()
}

// Dir returns the directory, as it was given.
func (b *Bundle) Dir() string { return b.spec.Dir }

func (b *Bundle) attributes() attributes {
	return attributes{mode: uint32(b.spec.Mode.Perm()), uid: b.spec.UID, gid: b.spec.GID}
}

func (b *Bundle) wrap(verb string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s bundle %s: %w", verb, b.spec.Dir, err)
}

// target returns the name of the generation that a link of ours points to, or ""
// if there is no such link. What else has the name is somebody else's.
func (b *Bundle) target(dir int, link string) (string, error) {
	target, err := readlinkAt(dir, link)
	switch {
	case err == nil && isTemp(target, generationKey):
		return target, nil
	case err == nil:
		return "", refused("replace", b.below(link), fmt.Sprintf("it points to %q, which is no generation of ours", target),
			"another program publishes there, such as the kubelet for a ConfigMap or Secret: name another directory")
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case errors.Is(err, unix.EINVAL):
		return "", refused("replace", b.below(link), "it is not a symlink", directoryHint)
	default:
		return "", failed("read symlink", b.below(link), err)
	}
}

// isBundleLink reports whether name is what a bundle in dir calls one of its files.
func isBundleLink(dir int, name string) bool {
	target, err := readlinkAt(dir, name)
	if err != nil || target != throughData+name {
		return false
	}
	current, err := readlinkAt(dir, dataLink)
	return err == nil && isTemp(current, generationKey)
}

func (s *BundleSpec) validate() error {
	if !filepath.IsAbs(s.Dir) {
		return refused("use directory", s.Dir, "it is not absolute", "write the path from / on")
	}
	if clean := filepath.Clean(s.Dir); clean != s.Dir {
		return refused("use directory", s.Dir, "it is not in its shortest form", "write it as "+clean)
	}
	if s.Dir == string(filepath.Separator) || strings.ContainsRune(s.Dir, 0) {
		return refused("use directory", s.Dir, "it cannot hold a bundle", directoryHint)
	}
	if err := fitNames(s.Dir); err != nil {
		return err
	}
	if s.Mode.Perm()&0o500 != 0o500 || s.Mode&0o022 != 0 {
		return refused("set mode of generations in", s.Dir, "the owner has to read and search them and nobody else may write",
			`write it as in "0700" or "0750"`)
	}
	if s.Grace < 0 {
		return refused("keep generations in", s.Dir, "the grace is negative", "")
	}
	return validAttributes(s.Dir, s.Mode, s.UID, s.GID)
}
