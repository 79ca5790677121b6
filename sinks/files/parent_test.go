package files_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"secretsd/sinks/files"
)

func TestOnlyRootsSymlinksAreFollowed(t *testing.T) {
	needRoot(t)
	const stranger = 12345
	rows := []struct {
		name, words string
		target      string
		spoil       func(dir, link string) error
	}{
		{name: "root's own", target: "ABS"},
		{name: "root's own, relative", target: "../a/real"},
		{name: "dangling", target: "none", words: "no such file"},
		{name: "loop", target: "link", words: "too many levels of symbolic links"},
		{name: "a stranger's link", target: "ABS", words: "belongs to user 12345, not to root",
			spoil: func(_, link string) error { return os.Lchown(link, stranger, -1) }},
		{name: "in a stranger's directory", target: "ABS", words: "its directory belongs to user 12345",
			spoil: func(dir, _ string) error { return os.Chown(dir, stranger, -1) }},
		{name: "where a group can write", target: "ABS", words: "others than root can write in its directory",
			spoil: func(dir, _ string) error { return os.Chmod(dir, 0o775) }},
		{name: "in a sticky directory", target: "ABS", words: "others than root can write in its directory",
			spoil: func(dir, _ string) error { return os.Chmod(dir, 0o777|fs.ModeSticky) }},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			top := memoryDir(t)
			dir := filepath.Join(top, "a")
			real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
			must(t, os.MkdirAll(real, 0o755))
			target := row.target
			if target == "ABS" {
				target = real
			}
			must(t, os.Symlink(target, link))
			if row.spoil != nil {
				must(t, row.spoil(dir, link))
			}
			f, err := files.New().Open(spec(filepath.Join(link, "db.env")))
			if row.words != "" {
				refuses(t, err, row.words, "")
				contains(t, real)
				return
			}
			must(t, err)
			defer func() { must(t, f.Close()) }()
			publish(t, f, canary, files.Content)
			holds(t, filepath.Join(real, "db.env"), canary, 0o400, -1, -1)
		})
	}
}

func TestAUsersOwnSymlinkIsNotFollowed(t *testing.T) {
	if isRoot() {
		t.Skip("needs an ordinary user: root's own symlinks are followed")
	}
	dir := memoryDir(t)
	must(t, os.Mkdir(filepath.Join(dir, "real"), 0o755))
	must(t, os.Symlink("real", filepath.Join(dir, "link")))
	refuses(t, files.Check(spec(filepath.Join(dir, "link", "db.env"))), "not to root", "real")
}

// swapped lays top/mid/dir/db.env, lets the test exchange something below top,
// and returns the open file.
func swapped(t *testing.T) (f *files.File, mid, dir string) {
	t.Helper()
	mid = filepath.Join(memoryDir(t), "mid")
	dir = filepath.Join(mid, "dir")
	must(t, os.MkdirAll(dir, 0o755))
	f = open(t, spec(filepath.Join(dir, "db.env")))
	publish(t, f, "first", files.Content)
	return f, mid, dir
}

func TestAParentSwappedForASymlinkLeadsNowhere(t *testing.T) {
	f, mid, dir := swapped(t)
	lure := filepath.Join(mid, "lure")
	must(t, os.Mkdir(lure, 0o755))
	must(t, os.Rename(dir, dir+".old"))
	must(t, os.Symlink(lure, dir))
	must(t, os.Chmod(mid, 0o777))
	_, err := f.Publish([]byte(canary))
	refuses(t, err, "follow symlink "+dir, lure)
	contains(t, lure)
	holds(t, filepath.Join(dir+".old", "db.env"), "first", 0o400, -1, -1)
}

func TestAParentSwappedWhereOthersCanWriteIsRefusedUntilOpenedAgain(t *testing.T) {
	f, mid, dir := swapped(t)
	must(t, os.Chmod(mid, 0o777))
	must(t, os.Rename(dir, dir+".old"))
	must(t, os.Mkdir(dir, 0o755))
	for range 2 {
		_, err := f.Publish([]byte(canary))
		refuses(t, err, "not the one found at start, and others than root and the agent can write in "+mid, "reload")
	}
	contains(t, dir)
	holds(t, filepath.Join(dir+".old", "db.env"), "first", 0o400, -1, -1)
	publish(t, open(t, spec(f.Path())), canary, files.Content)
	holds(t, f.Path(), canary, 0o400, -1, -1)
}

func TestOpeningAgainInTheSameDirsAdoptsTheNewDirectory(t *testing.T) {
	mid := filepath.Join(memoryDir(t), "mid")
	dir := filepath.Join(mid, "dir")
	must(t, os.MkdirAll(dir, 0o755))
	dirs := files.New()
	old := openIn(t, dirs, spec(filepath.Join(dir, "old.env")))
	must(t, os.Chmod(mid, 0o777))
	must(t, os.Remove(dir))
	must(t, os.Mkdir(dir, 0o755))
	_, err := old.Publish([]byte(canary))
	refuses(t, err, "not the one found at start", "reload")
	openIn(t, dirs, spec(filepath.Join(dir, "new.env")))
	publish(t, old, canary, files.Content)
	contains(t, dir, "old.env")
}

func TestADirectoryMadeAnewByItsOwnerIsTaken(t *testing.T) {
	f, _, dir := swapped(t)
	must(t, os.RemoveAll(dir))
	_, err := f.Publish([]byte(canary))
	refuses(t, err, "open "+dir+": no such file", "create_dirs")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the cause is lost: %v", err)
	}
	must(t, os.Mkdir(dir, 0o755))
	publish(t, f, canary, files.Content)
	holds(t, f.Path(), canary, 0o400, -1, -1)
	must(t, os.Rename(dir, dir+".old"))
	must(t, os.Mkdir(dir, 0o755))
	publish(t, f, canary, files.Content)
	publish(t, f, canary, files.None)
}

func TestADirectoryOthersCanWriteIsGoodEnough(t *testing.T) {
	for _, mode := range []fs.FileMode{0o777, 0o775 | fs.ModeSetgid, 0o777 | fs.ModeSticky} {
		dir := memoryDir(t) // itself in the sticky /dev/shm
		must(t, os.Chmod(dir, mode))
		f := open(t, spec(filepath.Join(dir, "db.env")))
		publish(t, f, canary, files.Content)
		holds(t, f.Path(), canary, 0o400, -1, -1)
	}
}

func TestCreateDirs(t *testing.T) {
	uid, gid := -1, -1
	if isRoot() {
		uid, gid = 12345, 54321
	}
	for mode, dirMode := range map[fs.FileMode]fs.FileMode{0o400: 0o700, 0o440: 0o750, 0o644: 0o755} {
		t.Run(fmt.Sprintf("%o", mode), func(t *testing.T) {
			top := memoryDir(t)
			s := spec(filepath.Join(top, "a", "b", "db.env"))
			s.Mode, s.UID, s.GID, s.CreateDirs = mode, uid, gid, true
			must(t, files.Check(s))
			f := open(t, s)
			inspect(t, f, canary, files.Content)
			if n, err := f.Sweep(); n != 0 || err != nil {
				t.Errorf("swept %d, %v", n, err)
			}
			must(t, f.Remove())
			contains(t, top)
			for range 2 { // made again after somebody removed them
				publish(t, f, canary, files.Content)
				holds(t, s.Path, canary, mode, uid, gid)
				for _, dir := range []string{"a", "a/b"} {
					st, err := os.Stat(filepath.Join(top, dir))
					must(t, err)
					sys := stat(t, filepath.Join(top, dir))
					if st.Mode() != fs.ModeDir|dirMode || isRoot() && (sys.Uid != 12345 || sys.Gid != 54321) {
						t.Errorf("%s is %v of %d:%d", dir, st.Mode(), sys.Uid, sys.Gid)
					}
				}
				must(t, os.RemoveAll(filepath.Join(top, "a")))
			}
		})
	}
}

func TestCreatedDirsKeepAnInheritedGroup(t *testing.T) {
	needRoot(t)
	top := memoryDir(t)
	must(t, os.Chown(top, 0, 54321))
	must(t, os.Chmod(top, 0o777|fs.ModeSetgid)) // a pod's emptyDir with fsGroup
	s := spec(filepath.Join(top, "a", "b", "db.env"))
	s.Mode, s.CreateDirs = 0o440, true
	f := open(t, s)
	publish(t, f, canary, files.Content)
	if gid := stat(t, s.Path).Gid; gid != 54321 {
		t.Errorf("the group is %d: fsGroup is lost on the way", gid)
	}
}

func TestADirectoryTheAgentCannotWriteIsFoundAtOpen(t *testing.T) {
	if isRoot() {
		t.Skip("needs an ordinary user: root writes everywhere")
	}
	dir := memoryDir(t)
	must(t, os.Chmod(dir, 0o555))
	for _, path := range []string{"db.env", "sub/db.env"} {
		s := spec(filepath.Join(dir, path))
		s.CreateDirs = true
		refuses(t, files.Check(s), "write to "+dir+": permission denied", "write and search permission")
	}
}

func TestDescriptorsGrowWithDirectoriesNotFiles(t *testing.T) {
	const directories, each = 3, 1000
	top := memoryDir(t)
	before := descriptors(t)
	dirs := files.New()
	var all []*files.File
	for d := range directories {
		dir := filepath.Join(top, fmt.Sprint(d))
		must(t, os.Mkdir(dir, 0o755))
		for n := range each {
			f, err := dirs.Open(spec(filepath.Join(dir, fmt.Sprint(n))))
			must(t, err)
			all = append(all, f)
		}
	}
	for _, f := range all {
		_, err := f.Publish([]byte(canary))
		must(t, err)
	}
	_, err := dirs.Sweep()
	must(t, err)
	_, err = dirs.Open(spec(filepath.Join(top, "none", "x")))
	refuses(t, err, "no such file", "")
	if got := descriptors(t) - before; got != directories {
		t.Errorf("%d files hold %d descriptors, want %d", len(all), got, directories)
	}
	must(t, os.RemoveAll(filepath.Join(top, "0")))
	must(t, os.Mkdir(filepath.Join(top, "0"), 0o755))
	for _, f := range all {
		_, err := f.Publish([]byte(canary))
		must(t, err)
	}
	if got := descriptors(t) - before; got != directories {
		t.Errorf("%d descriptors after a directory was made anew, want %d", got, directories)
	}
	for _, f := range all {
		must(t, f.Close())
	}
	if got := descriptors(t) - before; got != 0 {
		t.Errorf("%d descriptors are left after closing", got)
	}
}

func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/dev/fd")
	must(t, err)
	return len(entries)
}

// Many files of one directory are published while the directory is removed and
// made again under them: each publish ends well or says that it was taken
// away, and nothing deadlocks or is used after it was closed.
func TestPublishingBesideADirectoryMadeAnew(t *testing.T) {
	dir := filepath.Join(memoryDir(t), "dir")
	must(t, os.Mkdir(dir, 0o755))
	dirs := files.New()
	var all []*files.File
	for n := range 4 {
		all = append(all, openIn(t, dirs, spec(filepath.Join(dir, fmt.Sprint(n)))))
	}
	rounds := 300
	if testing.Short() {
		rounds = 50
	}
	var running sync.WaitGroup
	for _, f := range all {
		running.Go(func() {
			for n := range rounds {
				_, err := f.Publish(fmt.Append(nil, n))
				if err != nil && !errors.Is(err, fs.ErrNotExist) && !strings.Contains(err.Error(), "meanwhile") {
					t.Error(err)
					return
				}
			}
		})
	}
	running.Go(func() {
		for range rounds {
			_ = os.RemoveAll(dir)
			_ = os.Mkdir(dir, 0o755)
		}
	})
	running.Wait()
	_ = os.Mkdir(dir, 0o755)
	for _, f := range all {
		_, err := f.Publish([]byte("last"))
		must(t, err)
		holds(t, f.Path(), "last", 0o400, -1, -1)
	}
}
