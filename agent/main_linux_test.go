package agent

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// TestMain runs the test binary as the program that a benchmark tells.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "told" {
		told()
	}
	os.Exit(m.Run())
}

// told prints a line for each SIGHUP, until somebody kills it.
func told() {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGHUP)
	for fmt.Println("ready"); ; fmt.Println("told") {
		<-ch
	}
}
