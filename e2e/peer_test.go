package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// wcp returns the path of AWS's agent, the Workload Credentials Provider: what
// SECRETSD_PEER names, or else the program that lies beside the checkout. It is
// no part of the repository and nothing installs it, so that a test is skipped
// without it, in CI too.
func wcp(t *testing.T) string {
	t.Helper()
	path := os.Getenv("SECRETSD_PEER")
	if path == "" {
		path = filepath.Join("..", "..", "shared", "peer-binaries", "aws-workload-credentials-provider")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("AWS's agent is not there, SECRETSD_PEER can name it: %v", err)
	}
	return path
}
