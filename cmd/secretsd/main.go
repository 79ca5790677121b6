// Command secretsd gets AWS Secrets Manager secrets into an application and
// keeps them right while they rotate.
//
// The rules of its interface: what people asked for goes to standard output,
// everything else to standard error; an error says what is wrong, where, and
// on a line of its own how to mend it; exit codes are those of exit.go and
// nothing else; no output ever holds a secret value, except where a command's
// whole purpose is to give it.
package main

import (
	"context"
	"os"
	"runtime"

	"secretsd/sinks/process"
)

// version is set by the linker in released builds.
var version = "devel"

// init keeps main on the process's first thread, and everything else off it, for
// process.ReapOrphans. Only during initialization does main surely run there
// (runtime.LockOSThread).
//
//nolint:gochecknoinits // main is too late: it may run on any thread
func init() { runtime.LockOSThread() }

func main() {
	ctx, signals := watchSignals(context.Background(), os.Args[1:])
	go func() {
		os.Exit(run(ctx, os.Args[1:], env{
			stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, signals: signals,
		}))
	}()
	process.ReapOrphans(signals.died)
}
