package files_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"secretsd/sinks/files"
)

// TestStagedFilesAreThereForOneUserOnly looks at what a check gets to see, and at
// what a crash leaves of it.
func TestStagedFilesAreThereForOneUserOnly(t *testing.T) {
	dir := memoryDir(t)
	f := open(t, spec(filepath.Join(dir, "app.conf")))
	s, err := f.Stage([]byte(canary), -1, -1)
	must(t, err)
	if filepath.Base(s.Path) != "app.conf" || !strings.HasPrefix(s.Path, dir+"/..") {
		t.Errorf("staged at %s", s.Path)
	}
	holds(t, s.Path, canary, 0o400, -1, -1)
	if info, err := os.Stat(filepath.Dir(s.Path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is %v, %v", info, err)
	}
	must(t, s.Remove())
	contains(t, dir)

	// A crash leaves it to the next start, whatever the length of the name.
	long := open(t, spec(filepath.Join(dir, strings.Repeat("x", 250))))
	for _, f := range []*files.File{f, long} {
		s, err := f.Stage([]byte(canary), -1, -1)
		must(t, err)
		if n, err := f.Sweep(); n != 0 || err != nil {
			t.Errorf("swept %d of what a check looks at, %v", n, err)
		}
		s.Abandon()
		if n, err := f.Sweep(); n != 1 || err != nil {
			t.Errorf("swept %d, %v", n, err)
		}
	}
	contains(t, dir)
}

func TestStagedBundles(t *testing.T) {
	dir := memoryDir(t)
	b, err := files.New().OpenBundle(bundleSpec(dir))
	must(t, err)
	s, err := b.Stage([]files.Entry{{Path: "a", Content: []byte("1")}, {Path: "d/e/f", Content: []byte("2")}, {Path: "d/g", Content: []byte("3")}}, -1, -1)
	must(t, err)
	for name, want := range map[string]string{"a": "1", "d/e/f": "2", "d/g": "3"} {
		holds(t, filepath.Join(s.Path, name), want, 0o400, -1, -1)
	}
	must(t, s.Remove())
	contains(t, dir)
	_, err = b.Stage([]files.Entry{{Path: "../x", Content: []byte(canary)}}, -1, -1)
	if err == nil {
		t.Error("a path out of the directory was staged")
	}
	s, err = b.Stage([]files.Entry{{Path: "left", Content: []byte(canary)}}, -1, -1)
	must(t, err)
	s.Abandon()
	if n, err := b.Sweep(0); n != 1 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	contains(t, dir)
	must(t, b.Close())
}

// TestAFailedStagingIsTheSameEachTime holds that errors, which are logged once, have
// nothing in them that is another at the next try, and that nothing is left.
func TestAFailedStagingIsTheSameEachTime(t *testing.T) {
	dir := memoryDir(t)
	b, err := files.New().OpenBundle(bundleSpec(dir))
	must(t, err)
	deep := strings.Repeat(strings.Repeat("d", 250)+"/", 20) + "f" // no system call takes as long a path
	said := map[string]bool{}
	for range 3 {
		_, err := b.Stage([]files.Entry{{Path: "a", Content: []byte(canary)}, {Path: deep, Content: []byte(canary)}}, -1, -1)
		refuses(t, err, "stage a directory in "+dir+": file name too long", "255")
		said[err.Error()] = true
		contains(t, dir)
	}
	if len(said) != 1 {
		t.Errorf("it says %v", said)
	}
	must(t, b.Close())
}

// TestStagedFilesCanBeAnotherUsers takes root.
func TestStagedFilesCanBeAnotherUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving files away takes root")
	}
	dir := memoryDir(t)
	f := open(t, spec(filepath.Join(dir, "app.conf")))
	s, err := f.Stage([]byte(canary), 65534, 65534)
	must(t, err)
	holds(t, s.Path, canary, 0o400, 65534, 65534)
	must(t, s.Remove())
	contains(t, dir)
}

// TestWhatACheckLeavesGoesWithWhatItLookedAt has one write beside the candidate, as
// programs do that check a file by loading it.
func TestWhatACheckLeavesGoesWithWhatItLookedAt(t *testing.T) {
	dir := memoryDir(t)
	f := open(t, spec(filepath.Join(dir, "app.conf")))
	s, err := f.Stage([]byte(canary), -1, -1)
	must(t, err)
	must(t, os.WriteFile(s.Path+".new", []byte(canary), 0o400))
	must(t, os.MkdirAll(filepath.Join(filepath.Dir(s.Path), "run/deep"), 0o700))
	must(t, os.WriteFile(filepath.Join(filepath.Dir(s.Path), "run/deep/pid"), []byte("1"), 0o600))
	must(t, s.Remove())
	contains(t, dir)

	s, err = f.Stage([]byte(canary), -1, -1)
	must(t, err)
	staged := filepath.Dir(s.Path)
	must(t, os.Rename(staged, filepath.Join(dir, "aside")))
	must(t, os.Mkdir(staged, 0o700))
	must(t, os.WriteFile(filepath.Join(staged, "other"), nil, 0o600))
	refuses(t, s.Remove(), "remove directory "+staged+": somebody exchanged it meanwhile", "remove it by hand")
	contains(t, dir, filepath.Base(staged), "aside")
}
