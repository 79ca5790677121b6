package files_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"secretsd/sinks/files"
)

// bystanders are names near to ours that Sweep must leave.
var bystanders = []string{
	"..db.env..0123456789abcdef.secretsd",
	"..db.env.0123456789ABCDEF.secretsd",
	"..db.env.0123456789abcde.secretsd",
	"..db.env.0123456789abcdef",
	"..db.env.0123456789abcdef.secretsd~",
	"..db.envx.0123456789abcdef.secretsd",
	"..data",
	"..other.0123456789abcdef.secretsd",
	"..xdb.env.0123456789abcdef.secretsd",
	".db.env.0123456789abcdef.secretsd",
	"db.env.0123456789abcdef.secretsd",
	"db.env.tmp",
}

func layBystanders(t *testing.T, dir string) {
	t.Helper()
	for _, name := range bystanders {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("theirs"), 0o600))
	}
}

func TestSweepTakesExactlyOurLeftovers(t *testing.T) {
	dir := memoryDir(t)
	layBystanders(t, dir)
	f := open(t, spec(filepath.Join(dir, "db.env")))
	publish(t, f, "current", files.Content)
	for range 1500 { // more than one read of the directory
		must(t, os.WriteFile(filepath.Join(dir, files.TempName("db.env")), []byte(canary), 0))
	}
	folder := filepath.Join(dir, files.TempName("db.env"))
	must(t, os.Mkdir(folder, 0o700))
	for _, want := range []int{1500, 0} {
		if n, err := f.Sweep(); n != want || err != nil {
			t.Errorf("swept %d, %v, want %d", n, err, want)
		}
	}
	must(t, os.Remove(folder))
	contains(t, dir, append(append([]string{}, bystanders...), "db.env")...)
	for _, name := range bystanders {
		holds(t, filepath.Join(dir, name), "theirs", 0o600, -1, -1)
	}
	holds(t, f.Path(), "current", 0o400, -1, -1)
}

func TestSweepOfAllOpenFiles(t *testing.T) {
	top := memoryDir(t)
	dirs := files.New()
	for _, path := range []string{"a/one", "a/two", "b/one"} {
		must(t, os.MkdirAll(filepath.Join(top, filepath.Dir(path)), 0o755))
		f := openIn(t, dirs, spec(filepath.Join(top, path)))
		must(t, os.WriteFile(filepath.Join(filepath.Dir(f.Path()), files.TempName(filepath.Base(path))), nil, 0o400))
	}
	s := spec(filepath.Join(top, "missing", "x"))
	s.CreateDirs = true
	openIn(t, dirs, s)
	theirs := files.TempName("two")
	must(t, os.WriteFile(filepath.Join(top, "b", theirs), nil, 0o400))
	for _, want := range []int{3, 0} {
		if n, err := dirs.Sweep(); n != want || err != nil {
			t.Errorf("swept %d, %v, want %d", n, err, want)
		}
	}
	contains(t, filepath.Join(top, "a"))
	contains(t, filepath.Join(top, "b"), theirs)
}

// A second agent's Sweep may take the temporary file of a Publish under way.
// The one that lost it begins again, and in the end somebody's whole content is
// there.
func TestPublishSurvivesAnothersSweep(t *testing.T) {
	dir := memoryDir(t)
	path := filepath.Join(dir, "db.env")
	f, other := open(t, spec(path)), open(t, spec(path))
	stop, swept := make(chan struct{}), make(chan int)
	go func() {
		total := 0
		for {
			select {
			case <-stop:
				swept <- total
				return
			default:
				n, err := other.Sweep()
				total += n
				if err != nil {
					t.Error(err)
				}
			}
		}
	}()
	lost := 0
	contents := []string{strings.Repeat("a", 100_000), strings.Repeat("b", 100_001)}
	for n := range 500 {
		content := contents[n%2]
		if _, err := f.Publish([]byte(content)); err != nil {
			lost++ // lost it each time
			refuses(t, err, "removed meanwhile", "")
			continue
		}
		holds(t, path, content, 0o400, -1, -1)
	}
	close(stop)
	taken := <-swept
	t.Logf("%d temporary files were taken, %d publishes lost all they tried", taken, lost)
	if taken < 3*lost {
		t.Error("a publish gave up before its third temporary file was taken")
	}
	contains(t, dir, "db.env")
}

func FuzzTemporaryNames(f *testing.F) {
	for _, base := range []string{"x", "db.env", "a.long", strings.Repeat("é", 120), ".secretsd", "..x.0123456789abcdef.secretsd"} {
		f.Add(base, "db.env")
		f.Add(base+".0123456789abcdef.secretsd", base)
	}
	long := strings.Repeat("x", 230)
	key, _, _ := strings.Cut(strings.TrimPrefix(files.TempName(long), ".."), ".long.")
	f.Add(key+".long", long) // a name that looks like the shortened other
	f.Fuzz(func(t *testing.T, base, other string) {
		if base == "" || len(base) > 255 {
			return // no file name
		}
		name := files.TempName(base)
		if len(name) > 255 || !strings.HasPrefix(name, "..") || strings.ContainsAny(name, "/\x00") && !strings.ContainsAny(base, "/\x00") {
			t.Errorf("%q is no good name for a file of %q", name, base)
		}
		if !files.IsTempOf(name, base) {
			t.Errorf("%q is not known again as one of %q", name, base)
		}
		if base != other && files.IsTempOf(name, other) {
			t.Errorf("%q of %q is taken for one of %q", name, base, other)
		}
		_ = files.IsTempOf(other, base)
	})
}

func TestSweepReportsWhatItCannotRemove(t *testing.T) {
	if isRoot() {
		t.Skip("needs an ordinary user: root removes everything")
	}
	dir := memoryDir(t)
	f := open(t, spec(filepath.Join(dir, "db.env")))
	name := files.TempName("db.env")
	must(t, os.WriteFile(filepath.Join(dir, name), []byte(canary), 0o400))
	must(t, os.Chmod(dir, 0o555))
	n, err := f.Sweep()
	refuses(t, err, "remove leftover "+name+" from "+dir, "permission")
	if n != 0 || !errors.Is(err, os.ErrPermission) {
		t.Errorf("swept %d, %v", n, err)
	}
	must(t, os.Chmod(dir, 0o755))
}
