package files_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"secretsd/sinks/files"
)

var pair = set{"tls.crt": "certificate", "tls.key": canary}

func TestABundleIsPublishedAsOneGeneration(t *testing.T) {
	dir := memoryDir(t)
	b := openBundle(t, bundleSpec(dir))
	for _, s := range []set{
		pair,
		{"tls.crt": "second", "tls.key": "second", "tls/ca.crt": "ca", "tls/deep/er/x": "", "a": ""},
		{"tls": "a file where a directory was", "tls.key": strings.Repeat(canary, 10_000)},
		{},
		pair,
	} {
		publishSet(t, b, s, files.Content)
		before := stat(t, filepath.Join(dir, "..data"))
		publishSet(t, b, s, files.None)
		publishSet(t, b, s, files.None)
		if stat(t, filepath.Join(dir, "..data")).Ino != before.Ino {
			t.Error("the link was made anew without need")
		}
		collect(t, b, time.Hour)
		if got := generations(t, dir); len(got) != 1 || dotted(t, dir) != 2 {
			t.Errorf("%v is left, and %d names", got, dotted(t, dir))
		}
	}
}

func TestModeAndOwnerInABundle(t *testing.T) {
	uid, gid, other := -1, -1, -1
	if isRoot() {
		uid, gid, other = 12345, 54321, 23456
	}
	for _, umask := range []int{0, 0o022, 0o077} {
		dir := memoryDir(t)
		s := bundleSpec(dir)
		s.Mode, s.UID, s.GID = 0o750, uid, gid
		b := openBundle(t, s)
		entries := []files.Entry{
			{Path: "cert", Content: []byte("c"), Mode: 0o444, UID: -1, GID: -1},
			{Path: "sub/key", Content: []byte(canary), Mode: 0o400, UID: other, GID: -1},
			{Path: "sub/script", Content: []byte("x"), Mode: 0o755, UID: -1, GID: other},
		}
		old := syscall.Umask(umask)
		publishEntries(t, b, entries, files.Content)
		syscall.Umask(old)
		data := filepath.Join(dir, "..data")
		or := func(id, otherwise int) int {
			if id < 0 {
				return otherwise
			}
			return id
		}
		holds(t, filepath.Join(data, "cert"), "c", 0o444, uid, or(gid, -1))
		holds(t, filepath.Join(data, "sub/key"), canary, 0o400, or(other, uid), gid)
		holds(t, filepath.Join(data, "sub/script"), "x", 0o755, uid, or(other, gid))
		for _, path := range []string{generations(t, dir)[0], "..data/sub"} {
			st, err := os.Lstat(filepath.Join(dir, path))
			must(t, err)
			if u, g := owner(st); st.Mode() != fs.ModeDir|0o750 || u != or(uid, os.Geteuid()) || g != or(gid, os.Getegid()) {
				t.Errorf("%s is %v of %d:%d", path, st.Mode(), u, g)
			}
		}
	}
}

func TestEveryDriftOfABundleIsMended(t *testing.T) {
	rows := map[string]struct {
		drift func(dir, data string) error
		want  files.Change
		root  bool
	}{
		"content":         {drift: func(_, data string) error { return os.WriteFile(data+"/tls.key", []byte("other-hunter2!"), 0) }, want: files.Content},
		"file gone":       {drift: func(_, data string) error { return os.Remove(data + "/tls.key") }, want: files.Content},
		"file added":      {drift: func(_, data string) error { return os.WriteFile(data+"/x", nil, 0o400) }, want: files.Content},
		"directory added": {drift: func(_, data string) error { return os.Mkdir(data+"/sub/y", 0o700) }, want: files.Content},
		"file by a link": {drift: func(_, data string) error {
			return errors.Join(os.Remove(data+"/tls.key"), os.Symlink("tls.crt", data+"/tls.key"))
		}, want: files.Content},
		"directory by a file": {drift: func(_, data string) error {
			return errors.Join(os.RemoveAll(data+"/sub"), os.WriteFile(data+"/sub", nil, 0o400))
		}, want: files.Content},
		"generation gone":          {drift: func(_, data string) error { return os.RemoveAll(data) }, want: files.Content},
		"data link gone":           {drift: func(dir, _ string) error { return os.Remove(dir + "/..data") }, want: files.Content},
		"link gone":                {drift: func(dir, _ string) error { return os.Remove(dir + "/tls.key") }, want: files.Content},
		"link of a directory gone": {drift: func(dir, _ string) error { return os.Remove(dir + "/sub") }, want: files.Content},
		"link led elsewhere": {drift: func(dir, _ string) error {
			return errors.Join(os.Remove(dir+"/tls.key"), os.Symlink("..data/tls.crt", dir+"/tls.key"))
		}, want: files.Content},
		"mode":           {drift: func(_, data string) error { return os.Chmod(data+"/tls.key", 0o444) }, want: files.Attributes},
		"mode of dir":    {drift: func(_, data string) error { return os.Chmod(data, 0o755) }, want: files.Attributes},
		"mode of subdir": {drift: func(_, data string) error { return os.Chmod(data+"/sub", 0o777) }, want: files.Attributes},
		"hard link":      {drift: func(dir, data string) error { return os.Link(data+"/tls.key", dir+"/theirs") }, want: files.Attributes},
		"owner":          {drift: func(_, data string) error { return os.Chown(data+"/tls.key", 12345, -1) }, want: files.Attributes, root: true},
		"group of dir":   {drift: func(_, data string) error { return os.Chown(data, -1, 12345) }, want: files.Attributes, root: true},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			if row.root {
				needRoot(t)
			}
			dir := memoryDir(t)
			spec := bundleSpec(dir)
			spec.GID = os.Getegid()
			b := openBundle(t, spec)
			s := set{"tls.crt": "certificate", "tls.key": canary, "sub/x": "x"}
			publishSet(t, b, s, files.Content)
			key := filepath.Join(dir, "..data", "tls.key")
			must(t, os.Chmod(key, 0o600))
			must(t, os.Chmod(key, 0o400))
			publishSet(t, b, s, files.None)
			before := generations(t, dir)[0]
			data := filepath.Join(dir, before)
			must(t, os.Chmod(key, 0o600))
			err := row.drift(dir, data)
			_ = os.Chmod(key, 0o400)
			if name == "mode" {
				err = os.Chmod(key, 0o444)
			}
			must(t, err)
			publishSet(t, b, s, row.want)
			if same := generations(t, dir)[0] == before; same != strings.HasPrefix(name, "link ") {
				t.Errorf("the generation is still the same: %v", same)
			}
			publishSet(t, openBundleAfter(t, b, spec), s, files.None)
		})
	}
}

func TestWhatIsSomebodyElsesIsNeverReplaced(t *testing.T) {
	rows := map[string]struct {
		lay         func(path string) error
		words, hint string
	}{
		"tls.key":  {func(p string) error { return os.WriteFile(p, []byte("theirs"), 0o600) }, "it is somebody else's regular file", "move it away"},
		"tls.crt":  {func(p string) error { return os.Mkdir(p, 0o700) }, "it is somebody else's directory", "another name"},
		"ca.crt":   {func(p string) error { return os.Symlink("/etc/ssl/ca.crt", p) }, "it is somebody else's symlink, to /etc/ssl/ca.crt", "move it away"},
		"sub":      {func(p string) error { return os.Symlink("..data/other", p) }, "it is somebody else's symlink", "move it away"},
		"..data":   {func(p string) error { return os.Symlink("..2026_01_01_00_00_00.123", p) }, "it points to \"..2026_01_01_00_00_00.123\", which is no generation of ours", "kubelet"},
		"..backup": {func(p string) error { return os.WriteFile(p, nil, 0o600) }, "it is not a symlink", "a directory of its own"},
	}
	s := set{"tls.crt": "c", "tls.key": canary, "ca.crt": "ca", "sub/x": "x", "fine": "f"}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			dir := memoryDir(t)
			spec := bundleSpec(dir)
			spec.Backup = true
			b := openBundle(t, spec)
			if name == "..backup" {
				publishSet(t, b, set{"fine": "before"}, files.Content)
			}
			names := dotted(t, dir)
			path := filepath.Join(dir, name)
			must(t, row.lay(path))
			before := stat(t, path)
			_, err := b.Publish(s.entries(), 0)
			refuses(t, err, "replace "+path+": "+row.words, row.hint)
			if name != "..backup" {
				_, err = b.Inspect(s.entries())
				refuses(t, err, row.words, row.hint)
			}
			if strings.HasPrefix(name, "..") {
				refuses(t, files.CheckBundle(spec), row.words, row.hint)
				names++
			}
			if stat(t, path).Ino != before.Ino {
				t.Error("it was replaced")
			}
			if got := dotted(t, dir); got != names {
				t.Errorf("%d names with two dots, want %d", got, names)
			}
			must(t, os.Remove(path))
			publishSet(t, b, s, files.Content)
		})
	}
	t.Run("all at once", func(t *testing.T) {
		dir := memoryDir(t)
		for _, name := range []string{"tls.crt", "tls.key"} {
			must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		}
		_, err := openBundle(t, bundleSpec(dir)).Publish(s.entries(), 0)
		refuses(t, err, dir+"/tls.crt", "")
		refuses(t, err, dir+"/tls.key", "")
		contains(t, dir, "tls.crt", "tls.key")
	})
}

func TestEntriesThatAreRefused(t *testing.T) {
	rows := []struct {
		paths       []string
		words, hint string
	}{
		{[]string{""}, "names no file", ""},
		{[]string{"/etc/passwd"}, "it is absolute", "from the bundle's directory"},
		{[]string{"a/../b"}, "shortest form", `write it as "b"`},
		{[]string{"a//b"}, "shortest form", ""},
		{[]string{"./a"}, "shortest form", ""},
		{[]string{"."}, "shortest form", ""},
		{[]string{"a/"}, "shortest form", ""},
		{[]string{"../a"}, `begin with ".."`, "another name"},
		{[]string{"..data"}, `begin with ".."`, ""},
		{[]string{"a/..b/c"}, `begin with ".."`, ""},
		{[]string{"a\nb"}, "control characters", ""},
		{[]string{"a\x00b"}, `use path "a\x00b"`, ""},
		{[]string{"a\xff"}, "not UTF-8", ""},
		{[]string{strings.Repeat("x", 256)}, "name too long", "255"},
		{[]string{"a/" + strings.Repeat("x", 256)}, "name too long", "255"},
		{[]string{"a", "a"}, `it collides with "a"`, "more than case"},
		{[]string{"a", "A"}, `use path "A": it collides with "a"`, "more than case"},
		{[]string{"ſ", "s"}, "it collides", ""},
		{[]string{"a", "a/b"}, `use path "a/b": it collides with "a"`, "the directory of another"},
		{[]string{"a/b", "a"}, `use path "a": it collides with "a/b"`, "the directory of another"},
		{[]string{"A/b/c", "a/b"}, `use path "a/b": it collides with "A/b/c"`, ""},
		{[]string{"TLS/crt", "tls/key"}, `use path "tls/key": it collides with "TLS/crt"`, ""},
		{[]string{strings.Repeat("x/", 2050) + "x"}, "name too long", ""},
	}
	dir := memoryDir(t)
	b := openBundle(t, bundleSpec(dir))
	for _, row := range rows {
		var entries []files.Entry
		for _, path := range row.paths {
			entries = append(entries, files.Entry{Path: path, Mode: 0o400, Content: []byte(canary), UID: -1, GID: -1})
		}
		_, err := b.Publish(entries, 0)
		refuses(t, err, row.words, row.hint)
		_, err = b.Inspect(entries)
		refuses(t, err, row.words, row.hint)
		if len(row.paths[0]) < 4000 {
			refuses(t, files.CheckEntries(entries), row.words, row.hint)
		}
	}
	bad := func(change func(*files.Entry)) error {
		e := files.Entry{Path: "a", Mode: 0o400, UID: -1, GID: -1}
		change(&e)
		return files.CheckEntries([]files.Entry{e, {Path: "../b"}})
	}
	refuses(t, bad(func(e *files.Entry) { e.Mode = 0o4400 }), "permission bits", "")
	refuses(t, bad(func(e *files.Entry) { e.UID = -2 }), "no such user", "")
	refuses(t, bad(func(e *files.Entry) { e.GID = 1<<32 - 1 }), `use path "../b"`, "") // all at once
	contains(t, dir)
	fine := set{"a-b/x": "1", "a/y": "2", "a/b/z": "3", "b": "4", "a.b": "5", ".hidden": "6", "é ö": "7", strings.Repeat("x", 255): "8"}
	publishSet(t, b, fine, files.Content)
}

func TestBundleSpecsThatAreRefused(t *testing.T) {
	dir := memoryDir(t)
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	rows := []struct {
		change      func(*files.BundleSpec)
		words, hint string
	}{
		{func(s *files.BundleSpec) { s.Dir = "tls" }, "not absolute", "from /"},
		{func(s *files.BundleSpec) { s.Dir = dir + "/" }, "shortest form", "write it as " + dir},
		{func(s *files.BundleSpec) { s.Dir = "/" }, "cannot hold a bundle", ""},
		{func(s *files.BundleSpec) { s.Dir = dir + "/none" }, "no such file", "create_dirs: true"},
		{func(s *files.BundleSpec) { s.Dir = dir + "/file" }, "not a directory", ""},
		{func(s *files.BundleSpec) { s.Dir = dir + "/file/x"; s.CreateDirs = true }, "open " + dir + "/file: not a directory", ""},
		{func(s *files.BundleSpec) { s.Mode = 0o770 }, "nobody else may write", `"0750"`},
		{func(s *files.BundleSpec) { s.Mode = 0o600 }, "the owner has to read and search", ""},
		{func(s *files.BundleSpec) { s.Mode = 0o4700 }, "more than permission bits", ""},
		{func(s *files.BundleSpec) { s.UID = -2 }, "no such user", ""},
		{func(s *files.BundleSpec) { s.Grace = -1 }, "negative", ""},
	}
	for _, row := range rows {
		s := bundleSpec(dir)
		row.change(&s)
		refuses(t, files.CheckBundle(s), row.words, row.hint)
		_, err := files.New().OpenBundle(s)
		refuses(t, err, row.words, row.hint)
	}
	contains(t, dir, "file")
}

func TestABundleMakesItsDirectory(t *testing.T) {
	uid, gid := -1, -1
	if isRoot() {
		uid, gid = 12345, 54321
	}
	top := memoryDir(t)
	s := bundleSpec(filepath.Join(top, "a", "b"))
	s.Mode, s.UID, s.GID, s.CreateDirs = 0o750, uid, gid, true
	must(t, files.CheckBundle(s))
	b := openBundle(t, s)
	inspectEntries(t, b, pair.entries(), files.Content)
	if n, err := b.Sweep(0); n != 0 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	must(t, b.Remove())
	contains(t, top)
	for range 2 { // made again after somebody removed it
		publishSet(t, b, pair, files.Content)
		for _, dir := range []string{"a", "a/b"} {
			st, err := os.Stat(filepath.Join(top, dir))
			must(t, err)
			if u, g := owner(st); st.Mode() != fs.ModeDir|0o750 || isRoot() && (u != uid || g != gid) {
				t.Errorf("%s is %v of %d:%d", dir, st.Mode(), u, g)
			}
		}
		must(t, os.RemoveAll(filepath.Join(top, "a")))
		if next, more := collect(t, b, time.Hour); more {
			t.Errorf("something is left to collect at %v", next)
		}
	}
}

func TestAnInheritedGroupReachesIntoABundle(t *testing.T) {
	needRoot(t)
	top := memoryDir(t)
	must(t, os.Chown(top, 0, 54321))
	must(t, os.Chmod(top, 0o777|fs.ModeSetgid)) // a pod's emptyDir with fsGroup
	s := bundleSpec(filepath.Join(top, "tls"))
	s.Mode, s.CreateDirs = 0o750, true
	b := openBundle(t, s)
	sub := set{"sub/x": canary}
	publishSet(t, b, sub, files.Content)
	for _, path := range []string{"..data/sub/x", "..data/sub", generations(t, s.Dir)[0]} {
		if gid := stat(t, filepath.Join(s.Dir, path)).Gid; gid != 54321 {
			t.Errorf("the group of %s is %d: fsGroup is lost on the way", path, gid)
		}
	}
	publishSet(t, openBundleAfter(t, b, s), sub, files.None)
}

func TestAClosedBundleDoesNothing(t *testing.T) {
	dir := memoryDir(t)
	b := openBundle(t, bundleSpec(dir))
	for range 2 {
		must(t, b.Close())
	}
	_, err := b.Publish(pair.entries(), 0)
	refuses(t, err, fs.ErrClosed.Error(), "")
	contains(t, dir)
}

func TestOneBundleADirectory(t *testing.T) {
	dir := memoryDir(t)
	dirs := files.New()
	b, err := dirs.OpenBundle(bundleSpec(dir))
	must(t, err)
	_, err = dirs.OpenBundle(bundleSpec(dir))
	refuses(t, err, "another bundle is published there", "a directory of its own")
	f := openIn(t, dirs, spec(filepath.Join(dir, "generation"))) // beside it, and not in its way
	publish(t, f, canary, files.Content)
	must(t, os.WriteFile(filepath.Join(dir, files.TempName("generation")), nil, 0o400))
	publishSet(t, b, pair, files.Content)
	if n, err := b.Sweep(0); n != 0 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	if n, err := dirs.Sweep(); n != 1 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	must(t, b.Close())
	must(t, f.Close())
	b, err = dirs.OpenBundle(bundleSpec(dir))
	must(t, err)
	publishSet(t, b, pair, files.None)
	must(t, b.Close())
}
