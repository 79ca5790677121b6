package notify

import (
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// openPidFile opens the pid file at an absolute path. The file itself may not
// be a symbolic link. Directories on the way may, by the rule of the design
// ("Trust"): if the link and the directory it lies in belong to root or the
// agent's user and nobody else can write there, as with /var/run. They are
// resolved anew each time, because a runtime directory comes and goes with its
// service.
func openPidFile(path string) (*os.File, error) {
	w := walk{path: path}
	defer func() { w.close() }()
	if err := w.root(); err != nil {
		return nil, err
	}
	parts := strings.Split(path, "/")
	for len(parts) > 1 {
		name := parts[0]
		parts = parts[1:]
		if name == "" || name == "." {
			continue
		}
		link, err := w.enter(name)
		if err != nil {
			return nil, err
		}
		if link == "" {
			continue
		}
		if strings.HasPrefix(link, "/") {
			if err := w.root(); err != nil {
				return nil, err
			}
		}
		parts = append(strings.Split(link, "/"), parts...)
	}
	// O_NONBLOCK, because opening a FIFO without a writer would wait for one.
	fd, err := unix.Openat(w.dir, parts[0], unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, w.failed(err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// walk goes through the directories of a path, one descriptor at a time, so
// that nothing that was checked can be exchanged behind it.
type walk struct {
	path  string
	open  bool
	dir   int
	links int
}

func (w *walk) failed(err error) error {
	return &fs.PathError{Op: "open", Path: w.path, Err: err}
}

func (w *walk) close() {
	if w.open {
		_ = unix.Close(w.dir)
		w.open = false
	}
}

func (w *walk) to(fd int) {
	w.close()
	w.dir, w.open = fd, true
}

func (w *walk) root() error {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return w.failed(err)
	}
	w.to(fd)
	return nil
}

// enter goes into the directory called name. If name is a symbolic link that
// may be followed, it stays where it is and returns what the link says.
func (w *walk) enter(name string) (link string, err error) {
	fd, err := unix.Openat(w.dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", w.failed(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return "", w.failed(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		w.to(fd) // what is not a directory fails in the next step
		return "", nil
	}
	defer unix.Close(fd)
	return w.follow(fd, name, st.Uid)
}

func (w *walk) follow(fd int, name string, owner uint32) (string, error) {
	var dir unix.Stat_t
	if err := unix.Fstat(w.dir, &dir); err != nil {
		return "", w.failed(err)
	}
	if w.links++; w.links > maxLinks {
		return "", w.failed(unix.ELOOP)
	}
	if !trusted(owner) || !trusted(dir.Uid) || dir.Mode&0o022 != 0 {
		return "", &failure{
			msg:  "pid file " + w.path + ": " + name + " is a symbolic link that others may have made",
			hint: "name the directory that the link leads to",
		}
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", w.failed(err)
	}
	return string(buf[:n]), nil
}
