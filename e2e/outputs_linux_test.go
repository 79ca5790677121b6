package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestAFullDiskLeavesTheOldFile fills a small tmpfs.
func TestAFullDiskLeavesTheOldFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a tmpfs takes root")
	}
	o := newOutputs(t)
	small := o.path("small")
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		t.Skipf("a tmpfs cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(small, syscall.MNT_DETACH) })
	o.put(`{"a": "old"}`)
	o.write("files: [{path: DIR/small/f, contents: '{{ (secret \"db\").a }}'}]\nbundles: [{dir: DIR/small/b, create_dirs: true, explode: db}]\n")
	o.agent = secretsd(t, cleanEnv(), "run", "--config", o.conf)
	o.agent.until("msg=ready")
	if err := os.WriteFile(filepath.Join(small, "filler"), make([]byte, 64<<10), 0o600); err == nil {
		t.Fatal("the file system did not fill up")
	}
	o.put(`{"a": "` + strings.Repeat("new", 3000) + `"}`)
	eventually(t, "status says that the disk is full", func() bool { return strings.Contains(o.status(), "no space left") })
	if content(o.path("small/f")) != "old" || content(o.path("small/b/a")) != "old" {
		t.Errorf("the old content is gone: %q, %q", content(o.path("small/f")), content(o.path("small/b/a")))
	}
	if err := os.Remove(filepath.Join(small, "filler")); err != nil {
		t.Fatal(err)
	}
	o.holds("small/f", strings.Repeat("new", 3000))
	o.holds("small/b/a", strings.Repeat("new", 3000))
}
