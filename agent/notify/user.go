package notify

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// CheckUser checks that name, a user's name or number, can be found out. An empty
// name means the agent's own user.
func CheckUser(name string) error { return runAs(&exec.Cmd{SysProcAttr: &syscall.SysProcAttr{}}, name) }

// runAs has cmd run as the user called name, with that user's groups and HOME. It
// changes nothing for an empty name, and no rights for the agent's own user, which
// needs none to be itself.
func runAs(cmd *exec.Cmd, name string) error {
	if name == "" {
		return nil
	}
	u, err := lookup(name)
	if err != nil {
		return err
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return &failure{msg: fmt.Sprintf("user %q has no number", name), cause: err}
	}
	for i, kv := range cmd.Env {
		if strings.HasPrefix(kv, "HOME=") {
			cmd.Env[i] = "HOME=" + u.HomeDir
		}
	}
	if int(uid) != os.Geteuid() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: groupsOf(int(uid))}
	}
	return nil
}

// lookup finds a user. A number that no user has is a user without groups, whose
// own group has the same number: root's is given to nobody who was not given it.
func lookup(name string) (*user.User, error) {
	if strings.Trim(name, "0123456789") != "" {
		u, err := user.Lookup(name)
		if err != nil {
			return nil, &failure{
				msg:  fmt.Sprintf("look up user %q", name),
				hint: "create it, or give its number: names are looked up in the agent's own /etc/passwd",
			}
		}
		return u, nil
	}
	// Looked at first, because a C library takes what does not fit for another
	// number. The greatest means "no change" (setresuid(2)).
	if id, err := strconv.ParseUint(name, 10, 32); err != nil || id == 1<<32-1 {
		return nil, &failure{msg: fmt.Sprintf("look up user %q: not a user's number", name)}
	}
	u, err := user.LookupId(name)
	if err != nil {
		u = &user.User{Uid: name, Gid: name, HomeDir: "/"}
	}
	return u, nil
}
