package notify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// killGrace is how long a process group has between SIGTERM and SIGKILL, and
// how long its leader may take to go after that.
const killGrace = 2 * time.Second

// maxList bounds each list in a command's environment. The kernel refuses to
// run a command with a longer string than 128 KiB (MAX_ARG_STRLEN, execve(2)),
// and a notification that can never be sent would be owed for ever.
const maxList = 96 << 10

// run runs s.Command until ctx is done. Nobody who keeps its output open can hold
// the agent, and no flood of it takes memory.
func (w *teller) run(ctx context.Context, target string, s Step, c Change) error {
	if w.stray != nil {
		select {
		case <-w.stray:
			w.stray = nil
		default:
			return &failure{msg: "an earlier run of the command could not be ended and is still there"}
		}
	}
	cmd := &exec.Cmd{Args: arguments(s.Command, c.Paths), Env: environment(target, c), SysProcAttr: &syscall.SysProcAttr{}}
	if err := runAs(cmd, s.User); err != nil {
		return err
	}
	var given []string
	if s.Env != "" && w.variables != nil {
		var err error
		if given, err = w.variables(s.Env); err != nil {
			return &failure{msg: "make the command's environment", cause: err}
		}
		cmd.Env = append(cmd.Env, given...)
	}
	if !s.Output || w.secrets == nil {
		return w.exec(ctx, s.Command[0], cmd, s.Timeout)
	}
	return w.listening(ctx, s.Command[0], cmd, s.Timeout, given)
}

// listening is exec whose error tells the end of what the command has printed, but
// nothing of the values of given.
func (w *teller) listening(ctx context.Context, program string, cmd *exec.Cmd, timeout time.Duration, given []string) error {
	p, err := listen(cmd, w.secrets(), valuesOf(given))
	if err != nil {
		return err
	}
	err = w.exec(ctx, program, cmd, timeout)
	return p.tell(err, w.secrets())
}

// exec runs program as cmd says, in a process group of its own and with / as its
// directory, until ctx is done, which is after timeout.
func (w *teller) exec(ctx context.Context, program string, cmd *exec.Cmd, timeout time.Duration) error {
	path, err := resolveCommand(program)
	if err != nil {
		return err
	}
	cmd.Path, cmd.Dir, cmd.SysProcAttr.Setpgid = path, "/", true
	if err := commands.start(cmd); err != nil {
		f := &failure{msg: "start command", cause: err}
		if cmd.SysProcAttr.Credential != nil && errors.Is(err, syscall.EPERM) {
			f.hint = "to run it as another user the agent needs CAP_SETUID and CAP_SETGID"
		}
		return f
	}
	exited, wait := watch(cmd)
	reap := func() error {
		commands.remove(cmd.Process.Pid) // which is its own until it is reaped
		return wait()
	}
	select {
	case <-exited:
		return exitError(reap())
	case <-ctx.Done():
	}
	return w.end(cmd.Process.Pid, timeout, exited, reap)
}

// outputHint is how to find out more of a command of which nothing is kept.
const outputHint = "with output: log in the configuration the end of what it prints is logged, without secrets"

// exitError says how a command ended that did not end well.
func exitError(err error) error {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		if err != nil {
			err = &failure{msg: "wait for command", cause: err}
		}
		return err
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return &failure{msg: "command was ended by " + SignalName(ws.Signal()), hint: outputHint, ran: true}
	}
	return &failure{msg: fmt.Sprintf("command exited with status %d", exit.ExitCode()), hint: outputHint, ran: true}
}

// end ends the process group of a command that ran into its time-out. The
// leader is reaped last, so that the group's number cannot be another's by the
// time of the second signal.
func (w *teller) end(pid int, timeout time.Duration, exited <-chan struct{}, reap func() error) error {
	_ = syscall.Kill(-pid, syscall.SIGTERM)
	// The grace is waited out even if the leader has gone: what it started may
	// still be tidying up, and a group does not say who is left in it.
	grace := time.NewTimer(w.grace)
	defer grace.Stop()
	<-grace.C
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	late := &failure{
		msg:  fmt.Sprintf("command did not finish within %s and was ended", timeout),
		hint: "give it a longer timeout, or let it do its work in the background",
		ran:  true,
	}
	grace.Reset(w.grace)
	select {
	case <-exited:
		_ = reap()
		return late
	case <-grace.C:
	}
	// A set-user-ID program that the agent may not kill, or one that hangs in
	// the kernel. It is not waited for, and not started a second time.
	stray := make(chan struct{})
	w.stray = stray
	go func() {
		<-exited
		_ = reap()
		close(stray)
	}()
	late.msg = fmt.Sprintf("command did not finish within %s and could not be ended", timeout)
	return late
}

// arguments returns argv with each argument that is exactly {} replaced by
// paths.
func arguments(argv, paths []string) []string {
	var args []string
	for _, a := range argv {
		if a == "{}" {
			listed, _ := fitting(paths)
			args = append(args, paths[:listed]...)
			continue
		}
		args = append(args, a)
	}
	return args
}

// environment returns all the variables that a command gets. Those of AWS, and
// whatever else the agent was given, stay with the agent.
func environment(target string, c Change) []string {
	var env []string
	for _, key := range []string{"PATH", "HOME", "LANG"} {
		if v, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+v)
		}
	}
	names := make([]string, len(c.Secrets))
	ids := make([]string, len(c.Secrets))
	for i, s := range c.Secrets {
		names[i], ids[i] = s.Name, s.VersionID
	}
	n, allNames := fitting(names)
	i, allIDs := fitting(ids)
	n = min(n, i)
	p, allPaths := fitting(c.Paths)
	env = append(env,
		"SECRETSD_REASON="+c.Reason.String(),
		"SECRETSD_TARGET="+target,
		"SECRETSD_SECRETS="+strings.Join(names[:n], ","),
		"SECRETSD_VERSION_IDS="+strings.Join(ids[:n], ","),
		"SECRETSD_PATHS="+strings.Join(c.Paths[:p], "\n"),
	)
	if c.Rollback {
		env = append(env, "SECRETSD_ROLLBACK=1")
	}
	if !allNames || !allIDs || !allPaths {
		env = append(env, "SECRETSD_TRUNCATED=1")
	}
	return env
}

// fitting returns how many of list fit into maxList bytes with one byte between,
// and whether all do.
func fitting(list []string) (n int, all bool) {
	size := 0
	for i, s := range list {
		if size += len(s) + 1; size > maxList {
			return i, false
		}
	}
	return len(list), true
}
