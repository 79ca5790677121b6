package files_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"secretsd/sinks/files"
)

func inPlace(t testing.TB, path string) files.Spec {
	t.Helper()
	must(t, os.WriteFile(path, nil, 0o600))
	s := spec(path)
	s.InPlace = true
	return s
}

func TestInPlaceKeepsTheFile(t *testing.T) {
	dir := memoryDir(t)
	path := filepath.Join(dir, "db.env")
	f := open(t, inPlace(t, path))
	must(t, os.Link(path, filepath.Join(dir, "second"))) // as good as a mount of it
	inode := stat(t, path).Ino
	long := strings.Repeat("0123456789abcdef", 5000)
	for _, content := range []string{canary, "CANARY-hunter3", "C", "", long, long[1:], "!" + long, canary} {
		publish(t, f, content, files.Content)
		holds(t, path, content, 0o400, -1, -1)
		before := touched(t, path)
		publish(t, f, content, files.None)
		publish(t, open(t, inPlaceThere(path)), content, files.None)
		if got := touched(t, path); got != before {
			t.Error("it was touched without need")
		}
	}
	if stat(t, path).Ino != inode {
		t.Error("it is another file")
	}
	contains(t, dir, "db.env", "second")
	must(t, f.Remove())
	holds(t, path, "", 0o400, -1, -1)
}

func inPlaceThere(path string) files.Spec {
	s := spec(path)
	s.InPlace = true
	return s
}

func TestInPlaceSetsModeAndOwnerBeforeContent(t *testing.T) {
	dir := memoryDir(t)
	path := filepath.Join(dir, "db.env")
	s := inPlace(t, path)
	if isRoot() {
		s.Mode, s.GID = 0o440, 54321
	}
	f := open(t, s)
	publish(t, f, canary, files.Content)
	holds(t, path, canary, s.Mode, -1, s.GID)
	must(t, os.Chmod(path, 0o666))
	publish(t, f, canary, files.Attributes)
	holds(t, path, canary, s.Mode, -1, s.GID)
	if !isRoot() {
		return
	}
	must(t, os.Chown(path, 12345, 12345)) // left to its owner, as UID is -1
	publish(t, f, canary, files.Attributes)
	holds(t, path, canary, s.Mode, 12345, 54321)
	s.UID = 23456
	f = open(t, s)
	publish(t, f, canary, files.Attributes)
	holds(t, path, canary, s.Mode, 23456, 54321)
}

func TestInPlaceNeverMakesNorFollows(t *testing.T) {
	dir := memoryDir(t)
	path, victim := filepath.Join(dir, "db.env"), filepath.Join(dir, "victim")
	s := inPlaceThere(path)
	const words, hint = "open %: no such file", "create it, empty"
	refuses(t, files.Check(s), strings.ReplaceAll(words, "%", path), hint)
	f := open(t, inPlace(t, path))
	must(t, os.Remove(path))
	_, err := f.Publish([]byte(canary))
	refuses(t, err, strings.ReplaceAll(words, "%", path), hint)
	_, err = f.Inspect([]byte(canary))
	refuses(t, err, strings.ReplaceAll(words, "%", path), hint)
	must(t, f.Remove())
	contains(t, dir)

	must(t, os.WriteFile(victim, []byte("as it was"), 0o600))
	must(t, os.Symlink("victim", path))
	refuses(t, files.Check(s), "it is a symlink", "")
	_, err = f.Publish([]byte(canary))
	refuses(t, err, "it is a symlink", "")
	refuses(t, f.Remove(), "it is a symlink", "")
	holds(t, victim, "as it was", 0o600, -1, -1)

	s.CreateDirs = true
	refuses(t, files.Check(s), "is there already", "leave out create_dirs")
}

func TestInPlaceOfWhatIsNotTheAgents(t *testing.T) {
	if isRoot() {
		t.Skip("needs an ordinary user: root writes everywhere")
	}
	path := os.Getenv(pathVar)
	if path == "" {
		t.Skip("needs a file of root's, which TestAsAnOrdinaryUser lays")
	}
	s := inPlaceThere(path)
	refuses(t, files.Check(s), "open "+path+": permission denied", "own the file, or to have write permission")
}

func TestRemoveOursInPlaceEmptiesIt(t *testing.T) {
	path := filepath.Join(memoryDir(t), "db.env")
	f := open(t, inPlace(t, path))
	publish(t, f, canary, files.Content)
	mark := f.Mark()
	f = open(t, inPlaceThere(path))
	must(t, os.Chmod(path, 0o600))
	must(t, os.WriteFile(path, []byte("theirs"), 0))
	if kept, err := f.RemoveOurs(mark); !kept || err != nil {
		t.Errorf("kept: %v, %v", kept, err)
	}
	publish(t, f, canary, files.Content)
	if kept, err := open(t, inPlaceThere(path)).RemoveOurs(f.Mark()); kept || err != nil {
		t.Errorf("kept: %v, %v", kept, err)
	}
	holds(t, path, "", fs.FileMode(0o400), -1, -1)
}
