package files

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ChecksMemory says whether this system can tell that a directory is in
// memory. Where it is false every directory is accepted, and a caller that
// promises "never on disk" has to say that it could not look.
const ChecksMemory = true

// holdDir opens a directory for work relative to it. O_PATH asks for no read
// permission: a directory that the agent may only write to and search will do.
const holdDir = unix.O_PATH | unix.O_DIRECTORY

const aclName = "system.posix_acl_access"

// fileSystems names what is met most by its magic number (statfs(2)).
var fileSystems = map[uint32]string{
	unix.TMPFS_MAGIC:           "tmpfs",
	unix.RAMFS_MAGIC:           "ramfs",
	unix.EXT4_SUPER_MAGIC:      "ext2, ext3 or ext4",
	unix.XFS_SUPER_MAGIC:       "xfs",
	unix.BTRFS_SUPER_MAGIC:     "btrfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
	unix.NFS_SUPER_MAGIC:       "nfs",
	unix.SMB2_SUPER_MAGIC:      "smb",
	unix.CIFS_SUPER_MAGIC:      "cifs",
	unix.FUSE_SUPER_MAGIC:      "fuse",
	unix.F2FS_SUPER_MAGIC:      "f2fs",
	unix.MSDOS_SUPER_MAGIC:     "vfat",
	unix.EXFAT_SUPER_MAGIC:     "exfat",
	unix.SQUASHFS_MAGIC:        "squashfs",
	unix.ECRYPTFS_SUPER_MAGIC:  "ecryptfs",
	unix.V9FS_MAGIC:            "9p",
	unix.CEPH_SUPER_MAGIC:      "ceph",
	unix.HUGETLBFS_MAGIC:       "hugetlbfs",
	unix.PROC_SUPER_MAGIC:      "proc",
	unix.SYSFS_MAGIC:           "sysfs",
	unix.CGROUP2_SUPER_MAGIC:   "cgroup2",
	unix.ISOFS_SUPER_MAGIC:     "iso9660",
	unix.BCACHEFS_SUPER_MAGIC:  "bcachefs",
	0x2fc12fc1:                 "zfs",
	0x01161970:                 "gfs2",
	0x0bd00bd0:                 "lustre",
}

// fsys is the file system a directory is on.
type fsys struct {
	name   string
	memory bool // content never reaches a disk, but for swap
	known  bool // memory was found out, not assumed
}

func fileSystem(fd int) (fsys, error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(fd, &st) }); err != nil {
		return fsys{}, err
	}
	magic := uint32(st.Type)
	name, ok := fileSystems[magic]
	if !ok {
		name = fmt.Sprintf("a file system of type 0x%x", magic)
	}
	return fsys{name: name, memory: magic == unix.TMPFS_MAGIC || magic == unix.RAMFS_MAGIC, known: true}, nil
}

// mountRoot reports whether something is mounted on name. The kernel says so
// since Linux 5.8; before that another device number gives away all but bind
// mounts within one file system, for which rename's EBUSY has to do.
func mountRoot(dir int, name string) bool {
	var st unix.Statx_t
	err := retry(func() error { return unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st) })
	if err == nil && st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	}
	return otherDevice(dir, name)
}

// dropACL takes off an access control list that came from the directory's
// default one: the directory's owner, whoever that is, would otherwise choose
// further readers for any mode that lets the group read (acl(5)).
func dropACL(fd int) error {
	err := retry(func() error { return unix.Fremovexattr(fd, aclName) })
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// hasACL reports whether the open file has an access control list.
func hasACL(fd int) bool {
	_, err := unix.Fgetxattr(fd, aclName, nil)
	return err == nil
}

// exchange swaps two names, both of which exist, in one step. EINVAL, ENOSYS and
// ENOTSUP mean that the file system or the kernel cannot.
func exchange(dir int, a, b string) error {
	return retry(func() error { return unix.Renameat2(dir, a, dir, b, unix.RENAME_EXCHANGE) })
}

// renameNew renames only if there is nothing of the new name: the answer is EEXIST
// otherwise, but for file systems that cannot tell.
func renameNew(dir int, from, to string) error {
	err := retry(func() error { return unix.Renameat2(dir, from, dir, to, unix.RENAME_NOREPLACE) })
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return renameOver(dir, from, to)
	}
	return err
}

// reserve makes sure that length bytes can be written into the file, without
// changing its size or content. EOPNOTSUPP and ENOSYS mean that the file system
// cannot promise that.
func reserve(fd int, length int64) error {
	if length == 0 {
		return nil
	}
	return retry(func() error { return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, length) })
}
