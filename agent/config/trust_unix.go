//go:build unix

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// checkTrust holds the rule that files which steer the agent can be written by
// root and the agent's own user only. The directory counts too, for who may
// write there may put another file in this one's place; a read-only mount,
// such as a ConfigMap's, settles that.
func checkTrust(path string, info fs.FileInfo) error {
	if err := writers(path, info, 0o022); err != nil {
		return err
	}
	if err := checkDir(path, filepath.Dir(path)); err != nil {
		return err
	}
	// A link, as in a ConfigMap, has the directory it leads to as well.
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return &Error{Place: path, Err: fmt.Errorf("follow link: %w", err)}
	}
	if filepath.Dir(target) == filepath.Dir(path) {
		return nil
	}
	return checkDir(path, filepath.Dir(target))
}

func checkDir(path, dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return &Error{Place: path, Err: fmt.Errorf("stat directory: %w", err)}
	}
	if info.Mode()&fs.ModeSticky != 0 || readOnly(dir) {
		return nil
	}
	return writers(dir, info, 0o022)
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
