package endpoint

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const defaultTokenMode fs.FileMode = 0o400

// tokenMode returns the mode a token file is to have.
func tokenMode(mode fs.FileMode) (fs.FileMode, error) {
	if mode == 0 {
		return defaultTokenMode, nil
	}
	if mode&^0o640 != 0 || mode&0o400 == 0 {
		return 0, withHint(`use "0400", or "0440" for a group of readers`,
			"give the token file mode %04o: only its owner and readers in its group can be let in", uint32(mode))
	}
	return mode, nil
}

// CheckTokenFile reports what [OpenTokens] would find wrong with o.File,
// without writing anything. A missing file is no error where it could be made.
func CheckTokenFile(o TokenOptions) error { return CheckTokenFiles([]TokenOptions{o})[0] }

// CheckTokenFiles is [CheckTokenFile] for the files of several clients: it
// returns one error, or nil, for each. That two hold one token is an error of
// the second. Options without a file are right.
func CheckTokenFiles(options []TokenOptions) []error {
	errs := make([]error, len(options))
	seen := map[digest]string{}
	for i, o := range options {
		if o.File == "" {
			continue
		}
		sum, err := o.check()
		if err != nil || sum == nil {
			errs[i] = err
			continue
		}
		if other, taken := seen[*sum]; taken {
			errs[i] = withHint("give each client a token of its own: openssl rand -hex 32",
				"use token file %s: it holds the same token as %s", o.File, other)
			continue
		}
		seen[*sum] = o.File
	}
	return errs
}

// check returns the digest of the token in o.File, or nil if the file is yet to
// be made.
func (o TokenOptions) check() (*digest, error) {
	f, err := o.file()
	if err != nil {
		return nil, err
	}
	if missing, err := f.missing(); missing || err != nil {
		return nil, err
	}
	token, err := f.read()
	if err != nil {
		return nil, err
	}
	return &token.digest, nil
}

// file returns o.File as it is to be read and made.
func (o TokenOptions) file() (tokenFile, error) {
	mode, err := tokenMode(o.Mode)
	return tokenFile{path: o.File, mode: mode, owner: o.Owner}, err
}

// missing reports whether there is nothing at the path, in a directory that is
// fit for a token file, or could be made beside one that exists.
func (f tokenFile) missing() (bool, error) {
	if _, err := os.Lstat(f.path); err == nil {
		return false, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("look at token file %s: %w", f.path, err)
	}
	dir := filepath.Dir(f.path)
	if info, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		if err == nil && info.Mode()&fs.ModeSymlink != 0 && !isTrusted(ownerOf(info)) {
			return false, withHint("name the directory itself", "use token file %s: its directory is a link that belongs to uid %d", f.path, ownerOf(info))
		}
		return true, checkTokenDir(f.path)
	}
	if info, err := os.Stat(filepath.Dir(dir)); err != nil || !info.IsDir() {
		return false, withHint("make the directory, for example with systemd's RuntimeDirectory=",
			"use token file %s: neither directory %s nor the one above it exists", f.path, dir)
	}
	return true, nil
}

// read returns what is kept of the token, having checked that the file can be
// trusted. What is checked is the file that was opened.
func (f tokenFile) read() (held, error) {
	if err := checkTokenDirs(f.path); err != nil {
		return held{}, err
	}
	// Without O_NONBLOCK a named pipe would hold the agent here.
	file, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrPermission) {
		return held{}, withHint("let the agent own it, or give it a group the agent is in and set the mode 0440 in endpoint.token_file",
			"read the token file: %w", err)
	}
	if err != nil {
		return held{}, fmt.Errorf("read the token file: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return held{}, fmt.Errorf("read the token file: %w", err)
	}
	if err := f.trust(info); err != nil {
		return held{}, err
	}
	content, err := io.ReadAll(io.LimitReader(file, maxTokenBytes+2))
	if err != nil {
		return held{}, fmt.Errorf("read the token file: %w", err)
	}
	return holdToken(string(content), "token file "+f.path)
}

// trust refuses a file that others can read or write, or whose owner could
// choose the token.
func (f tokenFile) trust(info fs.FileInfo) error {
	perm := info.Mode().Perm()
	switch forbidden := 0o077 &^ (f.mode & 0o040); {
	case !info.Mode().IsRegular():
		return withHint("name a file that holds the token and nothing else", "use token file %s: not a regular file", f.path)
	case perm&forbidden != 0:
		hint := fmt.Sprintf("chmod %04o %s", f.mode, f.path)
		if perm&forbidden == 0o040 {
			hint += ", or allow the group with a mode of 0440 in endpoint.token_file"
		}
		return withHint(hint, "use token file %s: its mode %04o lets others in", f.path, perm)
	}
	if uid := ownerOf(info); !isTrusted(uid) && (f.owner == nil || uid != f.owner.UID) {
		return withHint(fmt.Sprintf("chown %d %s", os.Geteuid(), f.path),
			"use token file %s: it belongs to uid %d, neither root nor the agent (uid %d)", f.path, uid, os.Geteuid())
	}
	return nil
}

// checkTokenDirs checks the directory the path names and, where the file is a
// symlink, the one it really lies in.
func checkTokenDirs(path string) error {
	if err := checkTokenDir(path); err != nil {
		return err
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("read the token file: %w", err)
	}
	return checkTokenDir(target)
}

// checkTokenDir refuses a directory in which others could put another token
// file in this one's place: one they can write to without the sticky bit, or
// one they own.
func checkTokenDir(path string) error {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return withHint("make the directory, for example with systemd's RuntimeDirectory=",
			"use token file %s: directory %s does not exist", path, dir)
	case err != nil:
		return fmt.Errorf("look at the token file's directory: %w", err)
	default:
		return checkTokenDirInfo(path, info)
	}
}

func checkTokenDirInfo(path string, info fs.FileInfo) error {
	dir := filepath.Dir(path)
	switch {
	case !info.IsDir():
		return withHint("name a file in a directory", "use token file %s: %s is not a directory", path, dir)
	case info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0:
		return withHint(fmt.Sprintf("chmod go-w %s, or move the token to a directory of its own", dir),
			"use token file %s: others can write to directory %s (mode %04o)", path, dir, info.Mode().Perm())
	}
	if uid := ownerOf(info); !isTrusted(uid) {
		return withHint("move the token to a directory of its own",
			"use token file %s: directory %s belongs to uid %d, neither root nor the agent (uid %d)", path, dir, uid, os.Geteuid())
	}
	return nil
}

func isTrusted(uid int) bool { return uid == 0 || uid == os.Geteuid() }

// ownerOf returns the owner's uid, or -1, whom nobody trusts, where there is
// none to know.
func ownerOf(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

// make makes a file with a token of 256 bits if nothing is there, and the
// directory it lies in. The file appears whole under its name or not at all:
// the link fails if somebody else's is there first, and then theirs is the
// token.
func (f tokenFile) make() error {
	if missing, err := f.missing(); !missing || err != nil {
		return err
	}
	err := f.makeDir()
	if err == nil {
		err = f.link()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return withHint("let the agent write to the directory, or make the file yourself: (umask 077; openssl rand -hex 32 >"+f.path+")",
			"make token file %s: %w", f.path, err)
	}
	return nil
}

// makeDir makes the directory if it is missing: a pod's memory volume may be
// written by every container, and so is no place for the token itself. For the
// same reason nothing is followed out of the directory above.
func (f tokenFile) makeDir() error {
	dir := filepath.Dir(f.path)
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	above, err := os.OpenRoot(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer above.Close()
	mode := fs.FileMode(0o700)
	if f.mode&0o040 != 0 {
		mode = 0o750
	}
	name := filepath.Base(dir)
	if err := above.Mkdir(name, mode); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil // another agent was faster; it is checked before it is used
		}
		return err
	}
	made, err := above.Open(name)
	if err != nil {
		return err
	}
	defer made.Close()
	// On the descriptor, and only if it is what was just made: the name may
	// lead elsewhere by now.
	if names, err := made.Readdirnames(1); len(names) > 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("directory %s was exchanged while it was made", dir)
	}
	if f.owner != nil {
		// The agent keeps the directory, so that nobody else can put another
		// token into it.
		if err := made.Chown(-1, f.owner.GID); err != nil {
			return err
		}
	}
	return made.Chmod(mode) // whatever the umask
}

// openDir opens the token's directory, which has to be one that others cannot
// write to; what is opened is what was checked.
func (f tokenFile) openDir() (*os.Root, error) {
	root, err := os.OpenRoot(filepath.Dir(f.path))
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err == nil {
		err = checkTokenDirInfo(f.path, info)
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}

func (f tokenFile) link() (err error) {
	root, err := f.openDir()
	if err != nil {
		return err
	}
	defer root.Close()
	temp := "." + filepath.Base(f.path) + "." + rand.Text()
	file, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, defaultTokenMode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Remove(temp)) }()
	if err := f.write(file); err != nil {
		return err
	}
	return root.Link(temp, filepath.Base(f.path))
}

// write writes the token without a newline, for programs that put the file's
// bytes into a header as they are. Owner and mode are set before there is
// anything to read.
func (f tokenFile) write(file *os.File) (err error) {
	defer func() { err = errors.Join(err, file.Close()) }()
	if f.owner != nil {
		if err := file.Chown(f.owner.UID, f.owner.GID); err != nil {
			return err
		}
	}
	if err := file.Chmod(f.mode); err != nil {
		return err
	}
	var token [32]byte
	_, _ = rand.Read(token[:]) // never fails (crypto/rand, since Go 1.24)
	if _, err := file.WriteString(hex.EncodeToString(token[:])); err != nil {
		return err
	}
	return file.Sync()
}
