//go:build !linux

package files_test

import "testing"

func onSmallTmpfs(t *testing.T, _ string, _ func(dir string)) {
	t.Helper()
	t.Skip("needs Linux: a small tmpfs")
}
