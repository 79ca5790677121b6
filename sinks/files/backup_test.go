package files_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"secretsd/sinks/files"
)

func backupSpec(path string) files.Spec {
	s := spec(path)
	s.Mode, s.Backup = 0o440, true
	return s
}

func TestBackupOfAFile(t *testing.T) {
	dir := memoryDir(t)
	s := backupSpec(filepath.Join(dir, "db.env"))
	bak := files.BackupName(s.Path)
	f := open(t, s)
	publish(t, f, "first", files.Content)
	contains(t, dir, "db.env")
	inode := stat(t, s.Path).Ino
	publish(t, f, "second", files.Content)
	holds(t, bak, "first", 0o440, -1, -1)
	if got := stat(t, bak); got.Ino != inode || got.Nlink != 1 {
		t.Error("the backup is a copy, or has a second name")
	}
	publish(t, f, "second", files.None)

	// What is repaired is no new content, and what was there meanwhile no old.
	must(t, os.Chmod(s.Path, 0o444))
	publish(t, f, "second", files.Attributes)
	must(t, os.Chmod(s.Path, 0o600))
	must(t, os.WriteFile(s.Path, []byte("theirs"), 0))
	must(t, os.Chmod(s.Path, 0o440))
	publish(t, f, "second", files.Content)
	must(t, os.Remove(s.Path))
	publish(t, f, "second", files.Content)
	holds(t, bak, "first", 0o440, -1, -1)

	// Neither becomes the backup what others have changed, or can open.
	must(t, os.Chmod(s.Path, 0o600))
	must(t, os.WriteFile(s.Path, []byte("theirs"), 0))
	must(t, os.Chmod(s.Path, 0o440))
	publish(t, f, "third", files.Content)
	must(t, os.Chmod(s.Path, 0o444))
	publish(t, f, "fourth", files.Content)
	must(t, os.Link(s.Path, filepath.Join(dir, "second-name")))
	publish(t, f, "fifth", files.Content)
	must(t, os.Remove(filepath.Join(dir, "second-name")))
	holds(t, bak, "first", 0o440, -1, -1)

	publish(t, f, "sixth", files.Content)
	holds(t, bak, "fifth", 0o440, -1, -1)
	publish(t, open(t, s), "seventh", files.Content) // after a restart
	holds(t, bak, "sixth", 0o440, -1, -1)
	holds(t, s.Path, "seventh", 0o440, -1, -1)
	contains(t, dir, "db.env", "db.env.bak")

	must(t, f.RemoveBackup())
	must(t, f.RemoveBackup())
	contains(t, dir, "db.env")
	publish(t, open(t, s), "eighth", files.Content)
	must(t, open(t, s).Remove())
	contains(t, dir)
}

func TestABackupReplacesOnlyARegularFile(t *testing.T) {
	dir := memoryDir(t)
	s := backupSpec(filepath.Join(dir, "db.env"))
	f := open(t, s)
	publish(t, f, "first", files.Content)
	bak := files.BackupName(s.Path)
	must(t, os.Symlink("/etc/passwd", bak))
	const words = "it is a symlink, not a regular file"
	_, err := f.Publish([]byte(canary))
	refuses(t, err, "replace "+bak+": "+words, "")
	refuses(t, f.RemoveBackup(), words, "")
	refuses(t, files.Check(s), words, "")
	contains(t, dir, "db.env", "db.env.bak")
	holds(t, s.Path, "first", 0o440, -1, -1)
	must(t, os.Remove(bak))
	publish(t, f, canary, files.Content)
	holds(t, bak, "first", 0o440, -1, -1)

	s.Path = filepath.Join(dir, strings.Repeat("x", 252))
	refuses(t, files.Check(s), "name too long", "255")
	s.Path, s.InPlace = f.Path(), true
	refuses(t, files.Check(s), "in place", "leave out backup")
}
