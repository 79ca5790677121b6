package files_test

import (
	"path/filepath"
	"testing"

	"secretsd/sinks/files"
)

// TestSweepLeavesWhatACheckLooksAt stages, as one agent does, and sweeps as
// another, or the same after a reload.
func TestSweepLeavesWhatACheckLooksAt(t *testing.T) {
	dir := memoryDir(t)
	f := open(t, spec(filepath.Join(dir, "app.conf")))
	b, err := files.New().OpenBundle(bundleSpec(memoryDir(t)))
	must(t, err)
	defer func() { must(t, b.Close()) }()
	ofFile, err := f.Stage([]byte(canary), -1, -1)
	must(t, err)
	ofBundle, err := b.Stage([]files.Entry{{Path: "a", Content: []byte(canary)}}, -1, -1)
	must(t, err)
	for want := range 2 {
		if n, err := open(t, spec(filepath.Join(dir, "app.conf"))).Sweep(); n != want || err != nil {
			t.Errorf("swept %d of the file, %v, want %d", n, err, want)
		}
		if n, err := b.Sweep(0); n != want || err != nil {
			t.Errorf("swept %d of the bundle, %v, want %d", n, err, want)
		}
		if want == 0 {
			holds(t, ofFile.Path, canary, 0o400, -1, -1)
			holds(t, filepath.Join(ofBundle.Path, "a"), canary, 0o400, -1, -1)
			ofFile.Abandon()
			ofBundle.Abandon()
		}
	}
	contains(t, dir)
}
