package files

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"strings"
)

// LookupOwner returns the numbers of a user and a group given by name or
// number, and -1 for each that is empty. Numbers are taken as they are, without
// a look whether they exist: those of another container's users do not exist
// here. A name that is unknown is an error with a hint.
func LookupOwner(userName, groupName string) (uid, gid int, err error) {
	uid, userErr := lookup("user", userName, func(name string) (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
	gid, groupErr := lookup("group", groupName, func(name string) (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
	if err := errors.Join(userErr, groupErr); err != nil {
		return -1, -1, err
	}
	return uid, gid, nil
}

func lookup(what, name string, byName func(string) (string, error)) (int, error) {
	if name == "" {
		return -1, nil
	}
	number := name
	if strings.Trim(name, "0123456789") != "" {
		var err error
		if number, err = byName(name); err != nil {
			return -1, unknown(what, name, err)
		}
	}
	id, err := strconv.ParseUint(number, 10, 32)
	if err != nil || id == maxID {
		return -1, &Error{Op: "look up " + what, Path: name, Err: fmt.Errorf("%s is not a %s number", number, what),
			hint: fmt.Sprintf("numbers go from 0 to %d", maxID-1)}
	}
	return int(id), nil
}

func unknown(what, name string, err error) error {
	return &Error{Op: "look up " + what, Path: name, Err: err,
		hint: fmt.Sprintf("create it, or give its number: names are looked up in the agent's own /etc (%s)", map[string]string{
			"user": "passwd", "group": "group"}[what])}
}
