package files

import (
	"crypto/sha256"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// BackupName returns the path, or base name, that the backup of the file at
// path has: the name that people know from consul-template. A program that takes
// every file of a directory for data sees it; for such a directory a [Bundle] is
// the better choice, whose backup it does not see.
func BackupName(path string) string { return path + ".bak" }

// verifyBackup refuses what may not be replaced in the place of the backup.
func (f *File) verifyBackup(dir int) error {
	if !f.spec.Backup {
		return nil
	}
	name, path := BackupName(f.base), BackupName(f.spec.Path)
	st, err := lstatAt(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return failed("look at", path, err)
	}
	if err := replaceable(path, st); err != nil {
		return err
	}
	if mountRoot(dir, name) {
		return mountPoint(path, nil)
	}
	return nil
}

// RemoveBackup removes the backup, for when the option goes: call it on a File
// that was opened with [Spec].Backup, for without it a file of such a name is
// somebody else's as far as the package knows. That there is none is no error;
// what is not a regular file is left alone and is an error.
func (f *File) RemoveBackup() error {
	return f.wrap("remove backup of", f.inExisting(func(dir int, _ *handle) error {
		return f.unlink(dir, BackupName(f.base), BackupName(f.spec.Path))
	}))
}

// putInPlace renames the finished temporary file over the destination. With
// fresh the content there is another one, and becomes the backup if the spec
// wants one.
func (f *File) putInPlace(dir int, name string, content []byte, fresh bool) error {
	keep, err := false, error(nil)
	if f.spec.Backup && fresh {
		keep, err = f.worthKeeping(dir, content)
	}
	if err != nil {
		return err
	}
	if !keep {
		return f.rename(dir, name)
	}
	if err := f.verifyBackup(dir); err != nil {
		return err
	}
	err = exchange(dir, name, f.base)
	switch {
	case err == nil:
		return f.keepExchanged(dir, name)
	case errors.Is(err, fs.ErrNotExist): // nothing is left to keep
		return f.rename(dir, name)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOTSUP):
		if err := f.keepLinked(dir); err != nil {
			return err
		}
		return f.rename(dir, name)
	default:
		return f.notReplaced(err)
	}
}

// worthKeeping reports whether the file that is there may become the backup. What
// somebody else has changed may not, nor what they are about to be cured of: a
// repair brings back the content that was there before. After a restart nothing
// is known of that. A file that has a wrong mode or owner or a second name would
// stay open to whom it is open now.
func (f *File) worthKeeping(dir int, content []byte) (bool, error) {
	left := f.left.Load()
	if left != nil && left.digest == sha256.Sum256(content) {
		return false, nil
	}
	st, err := lstatAt(dir, f.base)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, failed("look at", f.spec.Path, err)
	}
	if !st.regular() || st.links != 1 || !f.attributes().match(st) {
		return false, nil
	}
	if left != nil && left.at == st {
		return true, nil
	}
	if left != nil {
		if ours, err := left.matches(dir, f.base, f.spec.Path, st); err != nil || !ours {
			return false, err
		}
	}
	fd, err := openAt(dir, f.base, toRead)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) {
		return false, nil
	}
	if err != nil {
		return false, failed("open", f.spec.Path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	return !hasACL(fd), nil
}

// keepExchanged makes a backup of the old file, which has got the temporary name
// in exchange for the new one. An exchange never leaves the file with two names,
// and works on a file that was given away, which Linux lets nobody link
// (proc_sys_fs(5), protected_hardlinks).
func (f *File) keepExchanged(dir int, name string) error {
	err := renameOver(dir, name, BackupName(f.base))
	if err == nil {
		return nil
	}
	_ = exchange(dir, name, f.base) // as it was: an error means that nothing is published
	return failed("make backup", BackupName(f.spec.Path), err)
}

// keepLinked makes a backup where two names cannot be exchanged. A crash before
// the new file is renamed into place leaves the old one with two names, which the
// next Publish repairs.
func (f *File) keepLinked(dir int) error {
	spare := tempName(f.key)
	err := retry(func() error { return unix.Linkat(dir, f.base, dir, spare, 0) })
	if err == nil {
		err = renameOver(dir, spare, BackupName(f.base))
	}
	if err != nil {
		_ = unlink(dir, spare)
		return failed("make backup", BackupName(f.spec.Path), err)
	}
	return nil
}
