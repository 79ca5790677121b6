package files_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"secretsd/sinks/files"
)

func TestBackupOfAFileThatWasGivenAway(t *testing.T) {
	if !asNobody(t, unix.CAP_CHOWN) {
		return
	}
	dir := memoryDir(t)
	s := backupSpec(filepath.Join(dir, "db.env"))
	s.UID = 12345
	f := open(t, s)
	publish(t, f, "first", files.Content)
	inode := stat(t, s.Path).Ino
	publish(t, f, "second", files.Content)
	if stat(t, files.BackupName(s.Path)).Ino != inode {
		t.Error("there is no backup")
	}
	contains(t, dir, "db.env", "db.env.bak")
}

// Some file systems behind the network cannot exchange names.
func TestBackupWhereNamesCannotBeExchanged(t *testing.T) {
	if !inChild(t, "no renameat2 allowed", nil) {
		return
	}
	forbidWith(t, unix.ENOSYS, unix.SYS_RENAMEAT2)
	dir := memoryDir(t)
	f := open(t, backupSpec(filepath.Join(dir, "db.env")))
	for n, content := range []string{"first", "second", "third"} {
		publish(t, f, content, files.Content)
		if n > 0 {
			holds(t, files.BackupName(f.Path()), []string{"first", "second"}[n-1], 0o440, -1, -1)
		}
	}
	contains(t, dir, "db.env", "db.env.bak")
	// An agent was killed between the backup and the new file.
	must(t, os.Remove(files.BackupName(f.Path())))
	must(t, os.Link(f.Path(), files.BackupName(f.Path())))
	publish(t, f, "third", files.Attributes)
	publish(t, f, "fourth", files.Content)
	holds(t, files.BackupName(f.Path()), "third", 0o440, -1, -1)
	contains(t, dir, "db.env", "db.env.bak")
}

// What becomes of the old file goes wrong after the new one took its place: it is
// put back, and nothing is left.
func TestABackupThatFailsPublishesNothing(t *testing.T) {
	for name, exchange := range map[string]bool{"exchanged": true, "linked": false} {
		t.Run(name, func(t *testing.T) {
			if !inChild(t, "no renameat allowed", nil) {
				return
			}
			dir := memoryDir(t)
			f := open(t, backupSpec(filepath.Join(dir, "db.env")))
			publish(t, f, "first", files.Content)
			forbid(t, unix.SYS_RENAMEAT)
			if !exchange {
				forbidWith(t, unix.ENOSYS, unix.SYS_RENAMEAT2)
			}
			_, err := f.Publish([]byte(canary))
			refuses(t, err, "make backup "+f.Path()+".bak: operation not permitted", "")
			holds(t, f.Path(), "first", 0o440, -1, -1)
			contains(t, dir, "db.env")
		})
	}
}
