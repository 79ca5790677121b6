package notify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"
)

// maxPidFile is how much of a pid file is read. The first line has to end
// within it.
const maxPidFile = 64

// errEmptyPidFile is a pid file that its process has opened and not written.
var errEmptyPidFile = errors.New("pid file is empty")

// pidFile is what a pid file said when it was read, and who answers for it.
type pidFile struct {
	pid     int
	owner   uint32
	written time.Time // mtime
}

// readPidFile reads the pid file at path. It never blocks, whatever lies
// there, and its errors never hold what the file contained: a configuration
// that mixes up its paths may name a secret here.
func readPidFile(path string) (pidFile, error) {
	f, err := openPidFile(path)
	if err != nil {
		return pidFile{}, openFailure(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return pidFile{}, &failure{msg: "read pid file", cause: err}
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !ok || !fi.Mode().IsRegular():
		return pidFile{}, &failure{msg: fmt.Sprintf("pid file %s is not a regular file", path)}
	case fi.Mode().Perm()&0o002 != 0:
		// Its owner vouches for the pid; here nobody does.
		return pidFile{}, &failure{
			msg:  fmt.Sprintf("pid file %s can be written by everybody", path),
			hint: "chmod o-w it, or give the program that writes it a umask of 022",
		}
	}
	if fi.Mode().Perm()&0o020 != 0 && st.Uid == 0 && st.Gid != 0 {
		// Root's word counts for every process, and here a group has it.
		return pidFile{}, &failure{
			msg:  fmt.Sprintf("pid file %s belongs to root and can be written by group %d", path, st.Gid),
			hint: "chmod g-w it",
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPidFile))
	if err != nil {
		return pidFile{}, &failure{msg: "read pid file", cause: err}
	}
	pid, err := parsePid(b)
	switch {
	case errors.Is(err, errEmptyPidFile):
		return pidFile{}, &failure{class: absent, msg: fmt.Sprintf("pid file %s is empty", path)}
	case err != nil:
		return pidFile{}, &failure{
			msg:   fmt.Sprintf("pid file %s", path),
			cause: err,
			hint:  "its first line must be the process id, as a decimal number",
		}
	}
	return pidFile{pid: pid, owner: st.Uid, written: fi.ModTime()}, nil
}

func openFailure(err error) error {
	f, isFailure := errors.AsType[*failure](err)
	switch {
	case isFailure:
		return f
	case errors.Is(err, fs.ErrNotExist):
		return &failure{class: absent, msg: "no pid file", cause: err}
	case errors.Is(err, syscall.ELOOP):
		return &failure{
			msg:   "pid file is a symbolic link",
			cause: err,
			hint:  "name the file that the link leads to",
		}
	case errors.Is(err, fs.ErrPermission):
		return &failure{
			msg:   "open pid file",
			cause: err,
			hint:  fmt.Sprintf("let uid %d read it and pass through its directories", os.Geteuid()),
		}
	}
	return &failure{msg: "open pid file", cause: err}
}

// parsePid returns the pid in the first line of b, the first maxPidFile bytes
// of a pid file. Blanks around it are allowed (lock files in the manner of
// UUCP are padded), signs and other bytes are not. The file has no other
// format that would need interpreting: lines after the first are ignored.
func parsePid(b []byte) (int, error) {
	if len(bytes.TrimSpace(b)) == 0 && len(b) < maxPidFile {
		return 0, errEmptyPidFile
	}
	line, _, ended := bytes.Cut(b, []byte{'\n'})
	if !ended && len(b) >= maxPidFile {
		return 0, fmt.Errorf("first line is longer than %d bytes", maxPidFile)
	}
	pid, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 10, 31)
	if err != nil || pid == 0 {
		// The error of strconv would quote the file.
		return 0, errors.New("first line is not a process id")
	}
	return int(pid), nil
}
