package notify

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks bounds how many symbolic links a path may lead through.
const maxLinks = 16

// trusted reports whether uid is root or the agent's own user.
func trusted(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }

// CheckCommand checks that argv0, an absolute path or a name to be found in
// PATH, is a program that only root and the agent's user can write or
// exchange (design, "Trust"): that holds for the file, for each directory on
// the way to it and for the symbolic links in between. It is checked again
// before each run. The error says which part others can write.
func CheckCommand(argv0 string) error {
	_, err := resolveCommand(argv0)
	return err
}

// commandName checks what can be said of argv0 without looking.
func commandName(argv0 string) error {
	if argv0 == "" {
		return &failure{msg: "command is empty"}
	}
	if strings.Contains(argv0, "/") && !filepath.IsAbs(argv0) {
		return &failure{
			msg:  fmt.Sprintf("command %q is a relative path", argv0),
			hint: "commands run in /: write an absolute path, or a name to be found in PATH",
		}
	}
	return nil
}

// resolveCommand returns the path to run argv0 by, checked.
func resolveCommand(argv0 string) (string, error) {
	if err := commandName(argv0); err != nil {
		return "", err
	}
	path, err := exec.LookPath(argv0)
	if err != nil {
		f := &failure{msg: fmt.Sprintf("find command %q", argv0), cause: errors.Unwrap(err)}
		switch {
		case errors.Is(err, exec.ErrNotFound):
			f.hint = "write its absolute path, or add its directory to the agent's PATH"
		case errors.Is(err, fs.ErrPermission):
			f.hint = "make it a file that the agent's user may execute"
		}
		return "", f
	}
	if err := checkTrust(path); err != nil {
		return "", err
	}
	return path, nil
}

// checkTrust checks every part of path. What it has checked cannot be changed
// by others afterwards, because the directory it lies in was checked before.
func checkTrust(path string) error {
	dir, parts, links := "/", strings.Split(path, "/"), 0
	if _, err := checkPart("/"); err != nil {
		return err
	}
	for len(parts) > 0 {
		name := parts[0]
		parts = parts[1:]
		if name == "" {
			continue
		}
		at := filepath.Join(dir, name)
		mode, err := checkPart(at)
		if err != nil {
			return err
		}
		if mode&fs.ModeSymlink == 0 {
			dir = at
			continue
		}
		link, err := os.Readlink(at)
		if err != nil {
			return &failure{msg: "check command", cause: err}
		}
		if links++; links > maxLinks {
			return &failure{msg: fmt.Sprintf("command %s", path), cause: syscall.ELOOP}
		}
		if filepath.IsAbs(link) {
			dir = "/"
		}
		parts = append(strings.Split(link, "/"), parts...)
	}
	return nil
}

// checkPart checks one file, directory or link by itself, and returns its mode.
func checkPart(path string) (fs.FileMode, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return 0, &failure{msg: "check command", cause: err}
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !trusted(st.Uid) {
		return 0, &failure{
			msg:  fmt.Sprintf("command file %s belongs to neither root nor the agent's user", path),
			hint: "chown it, or whoever owns it can have the agent run anything",
		}
	}
	// A link has no mode of its own, and in a sticky directory (/tmp) nobody
	// can exchange what belongs to others.
	exempt := fi.Mode()&fs.ModeSymlink != 0 || fi.IsDir() && fi.Mode()&fs.ModeSticky != 0
	if fi.Mode().Perm()&0o022 != 0 && !exempt {
		return 0, &failure{
			msg:  fmt.Sprintf("command file %s can be written by others than root and the agent's user", path),
			hint: "chmod go-w it, or whoever can write it can have the agent run anything",
		}
	}
	return fi.Mode(), nil
}
