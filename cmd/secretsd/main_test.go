package main

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"secretsd": main})
}

// TestScript runs the command line as its users do. Each file in testdata is
// named after what it shows.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
			// MEM is a private directory on tmpfs, where there is one.
			parent := e.WorkDir
			if _, err := os.Stat("/dev/shm"); err == nil {
				parent = "/dev/shm"
			}
			mem, err := os.MkdirTemp(parent, "secretsd-script-")
			if err != nil {
				return err
			}
			e.Defer(func() { _ = os.RemoveAll(mem) })
			e.Setenv("MEM", mem)
			return os.WriteFile(filepath.Join(e.WorkDir, "mem"), []byte(mem), 0o600)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"subst": substitute,
			"exits": exits,
		},
	})
}

// substitute replaces $NAME of the environment in files, so that a
// configuration in a script can name its directory: nothing in agent.yaml is
// substituted by secretsd itself.
func substitute(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: subst FILE...")
	}
	for _, name := range args {
		path := ts.MkAbs(name)
		text := os.Expand(ts.ReadFile(name), func(key string) string {
			if key == "MEM" || key == "WORK" {
				return ts.Getenv(key)
			}
			return "$" + key
		})
		ts.Check(os.WriteFile(path, []byte(text), 0o600))
	}
}

// exits runs a command and holds its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit, ok := err.(interface{ ExitCode() int }); ok {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if want := args[0]; want != strconv.Itoa(code) {
		ts.Fatalf("%v exits with %d, want %s", args[1:], code, want)
	}
}
