package e2e

import (
	"os"
	"path/filepath"
	"strconv"
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
	telemetry := freePort(t)
	o.write("files: [{path: DIR/small/f, contents: '{{ (secret \"db\").a }}'}, " +
		"{path: DIR/small/checked, contents: '{{ (secret \"db\").a }}', check: {command: [/bin/true]}}]\nbundles: [{dir: DIR/small/b, create_dirs: true, explode: db}]\n" +
		"telemetry: {listen: " + telemetry + "}\n")
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
	eventually(t, "each was tried again", func() bool {
		_, metrics := get(t, "http://"+telemetry+"/metrics", "")
		_, tail, _ := strings.Cut(metrics, "\nsecretsd_file_publish_failures_total ")
		n, _ := strconv.Atoi(strings.SplitN(tail, "\n", 2)[0])
		return n >= 9
	})
	for _, name := range []string{"f", "checked", "b"} {
		if n := strings.Count(o.agent.out.String(), `keeping it as it is" path=`+filepath.Join(small, name)+" "); n != 1 {
			t.Errorf("of %s it was said %d times:\n%s", name, n, o.agent.out.String())
		}
	}
	if err := os.Remove(filepath.Join(small, "filler")); err != nil {
		t.Fatal(err)
	}
	o.holds("small/f", strings.Repeat("new", 3000))
	o.holds("small/checked", strings.Repeat("new", 3000))
	o.holds("small/b/a", strings.Repeat("new", 3000))
}
