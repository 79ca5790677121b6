package files_test

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"secretsd/sinks/files"
)

func TestModeAndOwnerWhateverTheUmask(t *testing.T) {
	uid, gid := -1, -1
	if isRoot() {
		uid, gid = 12345, 54321
	}
	for _, umask := range []int{0, 0o022, 0o777} {
		for _, mode := range []fs.FileMode{0o400, 0o440, 0o644, 0o666, 0o700, 0o000} {
			t.Run(fmt.Sprintf("umask %03o mode %03o", umask, mode), func(t *testing.T) {
				path := filepath.Join(memoryDir(t), "db.env")
				s := spec(path)
				s.Mode, s.UID, s.GID = mode, uid, gid
				f := open(t, s)
				defer syscall.Umask(syscall.Umask(umask))
				publish(t, f, canary, files.Content)
				holds(t, path, canary, mode, uid, gid)
				publish(t, f, canary, files.None)
			})
		}
	}
}

func TestUnchangedIsNotTouched(t *testing.T) {
	dir := memoryDir(t)
	path := filepath.Join(dir, "db.env")
	f := open(t, spec(path))
	for _, content := range []string{canary, "", strings.Repeat(canary, 10_000)} {
		publish(t, f, content, files.Content)
		before, directory := touched(t, path), touched(t, dir)
		publish(t, f, content, files.None)
		publish(t, open(t, spec(path)), content, files.None)
		if diff := cmp.Diff(before, touched(t, path)); diff != "" {
			t.Errorf("the file was touched:\n%s", diff)
		}
		if diff := cmp.Diff(directory, touched(t, dir)); diff != "" {
			t.Errorf("something was made or removed in the directory:\n%s", diff)
		}
	}
}

// touched returns the inode number and the modification time.
func touched(t *testing.T, path string) [2]int64 {
	t.Helper()
	st, err := os.Lstat(path)
	must(t, err)
	return [2]int64{int64(stat(t, path).Ino), st.ModTime().UnixNano()}
}

func TestEveryOtherContentIsReplaced(t *testing.T) {
	dir := memoryDir(t)
	path := filepath.Join(dir, "db.env")
	f := open(t, spec(path))
	long := strings.Repeat("0123456789abcdef", 5000)
	for _, content := range []string{canary, "CANARY-hunter3", "C", "", long, long[:len(long)-1] + "!", "!" + long[1:], long + "!"} {
		publish(t, f, content, files.Content)
		holds(t, path, content, 0o400, -1, -1)
		contains(t, dir, "db.env")
	}
	must(t, os.Remove(path))
	publish(t, f, canary, files.Content)
	must(t, os.Chmod(path, 0o600))
	must(t, os.WriteFile(path, []byte("CANARY-hunter3"), 0))
	must(t, os.Chmod(path, 0o400))
	publish(t, f, canary, files.Content)
	holds(t, path, canary, 0o400, -1, -1)
}

func TestAttributesAreRepairedByANewFile(t *testing.T) {
	dir := memoryDir(t)
	path, other := filepath.Join(dir, "db.env"), filepath.Join(dir, "other")
	drifts := map[string]func() error{
		"wider mode":    func() error { return os.Chmod(path, 0o444) },
		"narrower mode": func() error { return os.Chmod(path, 0o400) },
		"setuid":        func() error { return os.Chmod(path, 0o440|fs.ModeSetuid) },
		"hard link":     func() error { return os.Link(path, other) },
		"owner":         func() error { return os.Chown(path, 12345, -1) },
		"group":         func() error { return os.Chown(path, -1, 12345) },
	}
	for name, drift := range drifts {
		t.Run(name, func(t *testing.T) {
			if name == "owner" || name == "group" {
				needRoot(t)
			}
			s := spec(path)
			s.Mode, s.GID = 0o440, os.Getegid()
			f := open(t, s)
			_, err := f.Publish([]byte(canary))
			must(t, err)
			before := stat(t, path)
			must(t, drift())
			publish(t, f, canary, files.Attributes)
			holds(t, path, canary, 0o440, -1, -1)
			if after := stat(t, path); after.Ino == before.Ino || after.Nlink != 1 {
				t.Error("the drifted file is still there under the published name")
			}
			_ = os.Remove(other)
			contains(t, dir, "db.env")
		})
	}
}

func TestOnlyARegularFileIsReplaced(t *testing.T) {
	rows := []struct {
		kind, hint string
		lay        func(path string) error
	}{
		{"directory", "add a file name", func(p string) error { return os.Mkdir(p, 0o755) }},
		{"named pipe", "choose another path", func(p string) error { return syscall.Mkfifo(p, 0o600) }},
		{"symlink", "name that file in the path", func(p string) error { return os.Symlink("victim", p) }},
		{"socket", "choose another path", func(p string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p})
			if err == nil {
				l.SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		}},
		{"device", "choose another path", func(p string) error { return syscall.Mknod(p, syscall.S_IFCHR|0o600, 1<<8|3) }},
	}
	for _, row := range rows {
		t.Run(row.kind, func(t *testing.T) {
			if row.kind == "device" {
				needRoot(t)
			}
			dir := memoryDir(t)
			path, victim := filepath.Join(dir, "db.env"), filepath.Join(dir, "victim")
			must(t, os.WriteFile(victim, []byte("as it was"), 0o600))
			f := open(t, spec(path))
			must(t, row.lay(path))
			before := stat(t, path)
			words := "it is a " + row.kind
			_, err := files.New().Open(spec(path))
			refuses(t, err, words, row.hint)
			refuses(t, files.Check(spec(path)), words, row.hint)
			_, err = f.Publish([]byte(canary))
			refuses(t, err, words, row.hint)
			_, err = f.Inspect([]byte(canary))
			refuses(t, err, words, row.hint)
			refuses(t, f.Remove(), words, row.hint)
			if stat(t, path).Ino != before.Ino {
				t.Error("it was replaced")
			}
			contains(t, dir, "db.env", "victim")
			holds(t, victim, "as it was", 0o600, -1, -1)
		})
	}
}

func TestRemove(t *testing.T) {
	dir := memoryDir(t)
	path := filepath.Join(dir, "sub", "db.env")
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
	f := open(t, spec(path))
	publish(t, f, canary, files.Content)
	for range 2 {
		must(t, f.Remove())
		contains(t, filepath.Join(dir, "sub"))
	}
	must(t, os.Remove(filepath.Join(dir, "sub")))
	must(t, f.Remove())
}

func TestAClosedFileDoesNothing(t *testing.T) {
	dir := memoryDir(t)
	f := open(t, spec(filepath.Join(dir, "db.env")))
	for range 2 {
		must(t, f.Close())
	}
	_, err := f.Publish([]byte(canary))
	refuses(t, err, fs.ErrClosed.Error(), "")
	contains(t, dir)
}

func TestPathsThatAreRefused(t *testing.T) {
	dir := memoryDir(t)
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	rows := []struct {
		change      func(*files.Spec)
		words, hint string
	}{
		{func(s *files.Spec) { s.Path = "db.env" }, "not absolute", "from /"},
		{func(s *files.Spec) { s.Path = "" }, "not absolute", ""},
		{func(s *files.Spec) { s.Path = dir + "/x/../db.env" }, "shortest form", "write it as " + dir + "/db.env"},
		{func(s *files.Spec) { s.Path = dir + "/db.env/" }, "shortest form", ""},
		{func(s *files.Spec) { s.Path = "/" }, "names no file", ""},
		{func(s *files.Spec) { s.Path = dir + "/a\x00b" }, "names no file", ""},
		{func(s *files.Spec) { s.Path = dir + "/..data" }, "kept for temporary files", "another file name"},
		{func(s *files.Spec) { s.Path = dir }, "it is a directory", "add a file name"},
		{func(s *files.Spec) { s.Path = dir + "/none/db.env" }, "open " + dir + "/none: no such file", "create_dirs: true"},
		{func(s *files.Spec) { s.Path = dir + "/file/db.env"; s.CreateDirs = true }, "open " + dir + "/file: not a directory", "a file"},
		{func(s *files.Spec) { s.Path = dir + "/" + strings.Repeat("x", 256) }, "name too long", "255"},
		{func(s *files.Spec) { s.Mode = 0o4400 }, "more than permission bits", ""},
		{func(s *files.Spec) { s.Mode = 0o400 | fs.ModeSetuid }, "more than permission bits", ""},
		{func(s *files.Spec) { s.UID = -2 }, "no such user", ""},
		{func(s *files.Spec) { s.GID = 1<<32 - 1 }, "no such user or group", ""},
	}
	for _, row := range rows {
		s := spec(filepath.Join(dir, "db.env"))
		row.change(&s)
		refuses(t, files.Check(s), row.words, row.hint)
		_, err := files.New().Open(s)
		refuses(t, err, row.words, row.hint)
	}
	contains(t, dir, "file")
}

func TestLongNamesArePublishedAndSwept(t *testing.T) {
	for _, n := range []int{1, 226, 227, 228, 255} {
		dir := memoryDir(t)
		base := strings.Repeat("é", n/2) + strings.Repeat("x", n%2)
		f := open(t, spec(filepath.Join(dir, base)))
		publish(t, f, canary, files.Content)
		must(t, os.WriteFile(filepath.Join(dir, files.TempName(base)), []byte(canary), 0o400))
		if n, err := f.Sweep(); n != 1 || err != nil {
			t.Errorf("%d bytes: swept %d, %v", len(base), n, err)
		}
		contains(t, dir, base)
	}
}

func TestLookupOwner(t *testing.T) {
	rows := []struct {
		user, group string
		uid, gid    int
	}{{"", "", -1, -1}, {"root", "", 0, -1}, {"0", "4294967294", 0, 1<<32 - 2}, {"", "7777", -1, 7777}}
	for _, row := range rows {
		uid, gid, err := files.LookupOwner(row.user, row.group)
		if err != nil || uid != row.uid || gid != row.gid {
			t.Errorf("%q %q: got %d %d %v, want %d %d", row.user, row.group, uid, gid, err, row.uid, row.gid)
		}
	}
	_, _, err := files.LookupOwner("no-such-user", "")
	refuses(t, err, "look up user no-such-user", "passwd")
	_, _, err = files.LookupOwner("", "no-such-group")
	refuses(t, err, "look up group no-such-group", "group")
	_, _, err = files.LookupOwner("4294967295", "")
	refuses(t, err, "not a user number", "4294967294")
	_, _, err = files.LookupOwner("no-such-user", "no-such-group")
	refuses(t, err, "no-such-group", "")
	refuses(t, err, "no-such-user", "")
}
