package notify_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
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

// description is what a command finds when it is run.
type description struct {
	Args  []string
	Env   []string
	Dir   string
	Group bool // leads its own process group
	Input int  // bytes on standard input
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
	b, err := json.Marshal(description{
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
