//go:build unix

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// checkTrust holds the rule that files which steer the agent can be written by
// root and the agent's own user only. So can every directory and link on the way
// to them, for who may write there may put another file in this one's place:
// where nobody can, looking at the way by its names is safe. A read-only mount,
// such as a ConfigMap's, settles it too.
func checkTrust(path string, info fs.FileInfo) error {
	if err := writers(path, info, 0o022); err != nil {
		return err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return &Error{Place: path, Err: fmt.Errorf("find file: %w", err)}
	}
	dir, rest := "/", components(abs)
	for links := 0; len(rest) > 0; {
		if err := checkDir(path, dir); err != nil {
			return err
		}
		next := filepath.Join(dir, rest[0])
		entry, err := os.Lstat(next)
		if err != nil {
			return &Error{Place: path, Err: fmt.Errorf("find file: %w", err)}
		}
		if entry.Mode()&fs.ModeSymlink == 0 {
			dir, rest = next, rest[1:]
			continue
		}
		if links++; links > maxLinks {
			return &Error{Place: path, Err: errors.New("find file: too many links")}
		}
		target, err := followed(path, dir, next, entry)
		if err != nil {
			return err
		}
		dir, rest = "/", append(components(target), rest[1:]...)
	}
	return nil
}

// maxLinks is how many links a path may lead through, as in the kernel
// (path_resolution(7)).
const maxLinks = 40

func components(path string) []string {
	return strings.FieldsFunc(filepath.Clean(path), func(r rune) bool { return r == '/' })
}

// followed returns where the link entry, at next in dir, leads, if it is one of
// root or the agent.
func followed(path, dir, next string, entry fs.FileInfo) (string, error) {
	if !readOnly(dir) {
		// The mode of a link means nothing; its owner does, in a sticky directory.
		if err := writers(next, entry, 0); err != nil {
			return "", err
		}
	}
	target, err := os.Readlink(next)
	if err != nil {
		return "", &Error{Place: path, Err: fmt.Errorf("follow link: %w", err)}
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(dir, target)
	}
	return target, nil
}

// checkDir judges a directory on the way to path. In a sticky one only the
// owner of an entry, or of the directory, can exchange it.
func checkDir(path, dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return &Error{Place: path, Err: fmt.Errorf("stat directory: %w", err)}
	}
	if readOnly(dir) {
		return nil
	}
	bits := fs.FileMode(0o022)
	if info.Mode()&fs.ModeSticky != 0 {
		bits = 0
	}
	return writers(dir, info, bits)
}

func writers(path string, info fs.FileInfo, bits fs.FileMode) error {
	if info.Mode().Perm()&bits != 0 {
		return &Error{Place: path,
			Err:  fmt.Errorf("trust %s: users other than root and the agent's can write it (mode %04o)", kind(info), info.Mode().Perm()),
			hint: "chmod go-w " + path}
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return &Error{Place: path, Err: errors.New("stat file: no owner known")}
	}
	if owner := int(stat.Uid); owner != 0 && owner != os.Geteuid() {
		return &Error{Place: path,
			Err:  fmt.Errorf("trust %s: it belongs to uid %d, who is neither root nor the agent's user", kind(info), owner),
			hint: "chown root " + path}
	}
	return nil
}

func kind(info fs.FileInfo) string {
	if info.IsDir() {
		return "directory"
	}
	return "file"
}

func readOnly(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Flags&readOnlyFlag != 0
}
