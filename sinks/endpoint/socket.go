package endpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Socket is a unix socket. Who connects to it is known by its peer credentials.
type Socket struct {
	// Path is absolute and has at most 90 bytes.
	Path string
	// Mode says who can connect: that takes the right to write. Zero means 0600.
	Mode fs.FileMode
	// Owner is given to the socket; nil means the agent's own user and group.
	Owner *Owner
}

const defaultSocketMode fs.FileMode = 0o600

// maxSocketPath leaves of the 104 bytes that every system has for a socket's
// address (unix(7); macOS has the fewest) what the private directory takes in
// which it is made.
const maxSocketPath = 90

// dialTimeout is how long a socket in the way may take to say that it is alive.
const dialTimeout = 2 * time.Second

// Check returns what is wrong with the socket and can be told without making
// it, with a hint.
func (s Socket) Check() error {
	switch {
	case !filepath.IsAbs(s.Path):
		return withHint("for example /run/secretsd/endpoint.sock", "listen on socket %q: not an absolute path", s.Path)
	case len(s.Path) > maxSocketPath:
		return withHint("choose a shorter path, such as /run/secretsd/endpoint.sock",
			"listen on socket %s: a path may have %d bytes", s.Path, maxSocketPath)
	case s.Mode&^0o666 != 0:
		return withHint(`"0600", "0660" or "0666"`, "give socket %s mode %04o: a socket is read and written only", s.Path, uint32(s.Mode))
	}
	return s.checkPlace()
}

// checkPlace refuses a path that is taken by anything but a socket, and a
// directory in which others could put a socket of theirs in its place.
func (s Socket) checkPlace() error {
	dir := filepath.Dir(s.Path)
	info, err := os.Stat(dir)
	if _, above := os.Stat(filepath.Dir(dir)); errors.Is(err, fs.ErrNotExist) && above == nil {
		return nil // it is made
	}
	switch {
	case err != nil:
		return withHint("make the directory, for example with systemd's RuntimeDirectory=", "listen on socket %s: %w", s.Path, err)
	case !info.IsDir():
		return withHint("name a path in a directory", "listen on socket %s: %s is not a directory", s.Path, dir)
	case info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0:
		return withHint("chmod go-w "+dir+", or choose a directory of its own",
			"listen on socket %s: others can write to directory %s (mode %04o)", s.Path, dir, info.Mode().Perm())
	case !isTrusted(ownerOf(info)):
		return withHint("choose a directory of its own",
			"listen on socket %s: directory %s belongs to uid %d, neither root nor the agent (uid %d)", s.Path, dir, ownerOf(info), os.Geteuid())
	}
	there, err := os.Lstat(s.Path)
	if err == nil && there.Mode().Type() != fs.ModeSocket {
		return withHint("move it away, or choose another path", "listen on socket %s: something that is no socket is there", s.Path)
	}
	return nil
}

// listen makes the socket in a private directory beside its place and moves it
// there when its owner and mode are right and it listens, so that nobody can
// connect before. One that is in the way is replaced if nobody listens on it.
func (s Socket) listen(ctx context.Context) (_ net.Listener, err error) {
	if err := s.checkStale(ctx); err != nil {
		return nil, err
	}
	// Others have to pass through it; the socket's own mode says who connects.
	if err := os.Mkdir(filepath.Dir(s.Path), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, withHint("let the agent make the directory, or make it yourself", "listen on socket %s: %w", s.Path, err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(s.Path), ".s") // mode 0700
	if err != nil {
		return nil, withHint("let the agent write to the directory", "listen on socket %s: %w", s.Path, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	temp := filepath.Join(dir, "s")
	l, err := new(net.ListenConfig).Listen(ctx, "unix", temp)
	if err != nil {
		return nil, fmt.Errorf("listen on socket %s: %w", s.Path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) //nolint:errcheck // a unix listener, and it knows the wrong path
	bound, err := s.place(temp)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &socketListener{Listener: l, path: s.Path, bound: bound}, nil
}

func (s Socket) place(temp string) (fs.FileInfo, error) {
	if err := s.own(temp); err != nil {
		return nil, err
	}
	bound, err := os.Lstat(temp)
	if err == nil {
		err = os.Rename(temp, s.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on socket %s: %w", s.Path, err)
	}
	return bound, nil
}

// Own gives the socket that is there the mode and the owner it should have,
// after a change of the configuration. One that has them is left alone, for
// nobody can connect while they change.
func (s Socket) Own() error {
	info, err := os.Lstat(s.Path)
	switch {
	case err != nil:
		return fmt.Errorf("set owner and mode of socket %s: %w", s.Path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return withHint("remove it and start the agent again", "set owner and mode of socket %s: something that is no socket is there", s.Path)
	}
	owner := s.owner()
	if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().Perm() == s.mode() && int(st.Uid) == owner.UID && int(st.Gid) == owner.GID {
		return nil
	}
	return s.own(s.Path)
}

func (s Socket) mode() fs.FileMode { return cmp.Or(s.Mode, defaultSocketMode) }

// owner returns whose the socket is to be, the agent's own user and group where
// nothing else is said: what an earlier configuration said does not stay.
func (s Socket) owner() Owner {
	owner := Owner{UID: os.Geteuid(), GID: os.Getegid()}
	if s.Owner != nil && s.Owner.UID >= 0 {
		owner.UID = s.Owner.UID
	}
	if s.Owner != nil && s.Owner.GID >= 0 {
		owner.GID = s.Owner.GID
	}
	return owner
}

func (s Socket) own(path string) error {
	owner := s.owner()
	// Nobody is let in by the old mode and the new owner together.
	err := os.Chmod(path, 0)
	if err == nil {
		err = os.Lchown(path, owner.UID, owner.GID)
	}
	if err == nil {
		err = os.Chmod(path, s.mode())
	}
	if err != nil {
		return withHint("the agent can give a socket to a group it is in; for another owner it needs CAP_CHOWN",
			"set owner and mode of socket %s: %w", s.Path, err)
	}
	return nil
}

// checkStale holds that what is at the path is nothing, or a socket that nobody
// listens on.
func (s Socket) checkStale(ctx context.Context) error {
	if err := s.checkPlace(); err != nil {
		return err
	}
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", s.Path)
	switch {
	case err == nil:
		_ = conn.Close()
		return withHint("stop the other program, perhaps another secretsd, or choose another path",
			"listen on socket %s: somebody listens there", s.Path)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return withHint("if nobody uses the socket any more, remove it", "look whether anybody listens on socket %s: %w", s.Path, err)
	}
}

// socketListener removes its socket when it is closed, unless another one has
// taken its place.
type socketListener struct {
	net.Listener
	path  string
	bound fs.FileInfo
	once  sync.Once
}

// Addr returns the path clients connect to, which is not the one that was bound.
func (l *socketListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

func (l *socketListener) inPlace() bool {
	there, err := os.Lstat(l.path)
	return err == nil && os.SameFile(there, l.bound)
}

// Close removes the socket first, so that nobody finds it dead.
func (l *socketListener) Close() error {
	l.once.Do(func() {
		if l.inPlace() {
			_ = os.Remove(l.path)
		}
	})
	return l.Listener.Close()
}

// peerOf returns the process at the other end of a unix socket, or nil for any
// other connection. A peer that cannot be known is nobody in particular: no uid
// and no gid is -1.
func peerOf(conn net.Conn) *Peer {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return nil
	}
	p, err := peerCredentials(c)
	if err != nil {
		return &Peer{UID: -1, GID: -1}
	}
	return p
}
