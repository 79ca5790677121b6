package notify_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"testing"

	"secretsd/agent/notify"
)

// TestMain runs the test binary as one of the programs that targets are made
// of. The switch is an argument, because commands get a clean environment.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "notify-child" {
		os.Exit(child(os.Args[2], os.Args[3:]))
	}
	// Files that the tests make are not to be refused for a permissive umask.
	syscall.Umask(0o022)
	os.Exit(m.Run())
}

func child(mode string, args []string) int {
	switch mode {
	case "count":
		return countSignals()
	case "describe":
		return describe(args)
	case "become-root":
		return becomeRoot(args)
	case "master":
		return master()
	case "first":
		return first(args)
	case "tell":
		return tell(args)
	}
	fmt.Fprintln(os.Stderr, "no such child:", mode)
	return 2
}

// countSignals prints a line for each signal until its input ends.
func countSignals() int {
	ch := make(chan os.Signal, 16)
	signal.Notify(ch, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGTERM)
	fmt.Println("ready")
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for sig := range ch {
		fmt.Println(notify.SignalName(sig.(syscall.Signal)))
	}
	return 0
}

// master is a server with a worker: it prints what both are sent.
func master() int {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return 1
	}
	worker := exec.Command(exe, "notify-child", "count")
	in, err := worker.StdinPipe()
	if err != nil {
		return 1
	}
	defer in.Close()
	out, err := worker.StdoutPipe()
	if err != nil || worker.Start() != nil {
		return 1
	}
	sc := bufio.NewScanner(out)
	sc.Scan() // the worker is ready
	go func() {
		for sc.Scan() {
			fmt.Println("worker", sc.Text())
		}
	}()
	return countSignals()
}

// first is pid 1 of a pid namespace of its own, with a /proc that shows it. It runs
// the test binary there to tell it, and prints what it is sent.
func first(args []string) int {
	if os.Getpid() != 1 || syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, "") != nil ||
		syscall.Mount("proc", "/proc", "proc", 0, "") != nil {
		return 1
	}
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGHUP)
	for _, how := range []string{"exe", "argv0", "pid_file"} {
		out, err := exec.Command(args[0], "notify-child", "tell", how, args[1], args[2]).CombinedOutput()
		fmt.Printf("%s: %s", how, out)
		if err != nil {
			return 1
		}
		select {
		case <-ch:
			fmt.Println("SIGHUP")
		default:
		}
	}
	return 0
}

// tell makes one attempt to tell the program args[1], or the pid in the file
// args[2], in the way args[0].
func tell(args []string) int {
	p := map[string]*notify.Process{
		"exe": {Exe: args[1]}, "argv0": {Argv0: args[1]}, "pid_file": {PidFile: args[2]},
	}[args[0]]
	fmt.Println(notify.Attempt(notify.Target{Name: "app", Step: notify.Step{Process: p, Signal: syscall.SIGHUP}}, notify.Change{}))
	return 0
}

// description is what a command finds when it is run.
type description struct {
	Args  []string
	Env   []string
	Dir   string
	Group bool  // leads its own process group
	Input int   // bytes on standard input
	IDs   []int // user, group and further groups
}

// describe writes a description to the file args[0].
func describe(args []string) int {
	dir, err := os.Getwd()
	if err != nil {
		return 1
	}
	input, err := io.Copy(io.Discard, os.Stdin)
	if err != nil {
		return 1
	}
	groups, err := os.Getgroups()
	if err != nil {
		return 1
	}
	b, err := json.Marshal(description{
		IDs:   append([]int{os.Getuid(), os.Getgid()}, groups...),
		Args:  args[1:],
		Env:   os.Environ(),
		Dir:   dir,
		Group: syscall.Getpgrp() == os.Getpid(),
		Input: int(input),
	})
	if err != nil || os.WriteFile(args[0], b, 0o600) != nil {
		return 1
	}
	return 0
}

// becomeRoot turns from a set-user-ID program into one that the user who ran it
// may not signal, as sudo does, says so in the file args[0] and hangs.
func becomeRoot(args []string) int {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGTERM)
	if syscall.Setresuid(0, 0, 0) != nil {
		return 1
	}
	if os.WriteFile(args[0]+".new", []byte(strconv.Itoa(os.Getpid())), 0o600) != nil ||
		os.Rename(args[0]+".new", args[0]) != nil {
		return 1
	}
	for range ch { // nobody ends it but the test
	}
	return 0
}
