package notify

import (
	"context"
	"errors"
	"iter"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"secretsd/agent/secret"
)

// Command is a command that says something by its exit code. It is run as the
// commands of targets are: without a shell and without the agent's environment.
type Command struct {
	// Argv is the program and its arguments. An argument {} stands for Paths.
	Argv  []string
	Paths []string
	// Timeout ends it, with all it has started.
	Timeout time.Duration
	// User is whom it runs as, by name or number, with that user's groups and HOME;
	// empty means the agent's own user.
	User string
	// Change goes into its environment.
	Change Change
	// Secrets returns all values that output must not show; nil means that nothing is
	// kept of it. Else the end of it is told by [OutputOf] the error.
	Secrets func() iter.Seq[secret.Value]
}

// Run returns nil where the command has ended with exit code 0. It blocks until
// the command has ended, or was ended because of its time or of ctx.
func (c *Command) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	cmd := &exec.Cmd{Args: arguments(c.Argv, c.Paths), Env: environment("", c.Change), SysProcAttr: &syscall.SysProcAttr{}}
	if err := runAs(cmd, c.User); err != nil {
		return err
	}
	w := &teller{grace: killGrace, secrets: c.Secrets}
	if c.Secrets == nil {
		return w.exec(ctx, c.Argv[0], cmd, c.Timeout)
	}
	return w.listening(ctx, c.Argv[0], cmd, c.Timeout, nil)
}

// groupsOf returns the groups of a user, none where it has no entry.
func groupsOf(uid int) []uint32 {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return nil
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil
	}
	var groups []uint32
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			groups = append(groups, uint32(n))
		}
	}
	return groups
}

// Refused reports whether err is that of a command that was run and did not end
// with exit code 0, or not in time. Any other error says nothing of what the
// command was to judge.
func Refused(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.ran
}
