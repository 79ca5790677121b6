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
)

// version is set by the linker in released builds.
var version = "devel"

func main() {
	ctx, signals := watchSignals(context.Background(), os.Args[1:])
	os.Exit(run(ctx, os.Args[1:], env{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, reload: signals.reload,
	}))
}
