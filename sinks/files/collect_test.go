package files_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"secretsd/sinks/files"
)

func TestTheOldGenerationStaysForItsGrace(t *testing.T) {
	dir := memoryDir(t)
	b := openBundle(t, bundleSpec(dir)) // ten seconds
	if next, more := collect(t, b, 0); more {
		t.Errorf("something is to be collected at %v", next)
	}
	put := func(content string, now time.Duration) *os.Root {
		t.Helper()
		_, err := b.Publish(set{"a": content, "b": content}.entries(), now)
		must(t, err)
		root, err := os.OpenRoot(filepath.Join(dir, "..data"))
		must(t, err)
		t.Cleanup(func() { _ = root.Close() })
		return root
	}
	first := put("first", 0)
	second := put("second", time.Second)
	put("third", 5*time.Second)
	steps := []struct{ now, next time.Duration }{
		{5 * time.Second, 11 * time.Second}, {11*time.Second - 1, 11 * time.Second},
		{11 * time.Second, 15 * time.Second}, {15 * time.Second, 0},
	}
	left := []int{3, 3, 2, 1}
	for i, step := range steps {
		next, more := collect(t, b, step.now)
		if next != step.next || more != (step.next > 0) {
			t.Errorf("at %v: again at %v, want %v", step.now, next, step.next)
		}
		if got := generations(t, dir); len(got) != left[i] {
			t.Errorf("at %v: %d generations, want %d", step.now, len(got), left[i])
		}
		got, err := second.ReadFile("b")
		if i < 3 && (err != nil || string(got) != "second") {
			t.Errorf("at %v: a reader of the second generation read %q, %v", step.now, got, err)
		}
	}
	for _, root := range []*os.Root{first, second} {
		if _, err := root.ReadFile("b"); !os.IsNotExist(err) {
			t.Errorf("a generation is still there after its grace: %v", err)
		}
	}
}

func TestAnOpenFileOutlivesTheGrace(t *testing.T) {
	dir := memoryDir(t)
	b := openBundle(t, bundleSpec(dir))
	publishSet(t, b, set{"a": "first"}, files.Content)
	f, err := os.Open(filepath.Join(dir, "a"))
	must(t, err)
	defer func() { _ = f.Close() }()
	publishSet(t, b, set{"a": "second"}, files.Content)
	collect(t, b, time.Hour)
	if got, err := io.ReadAll(f); err != nil || string(got) != "first" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestWithoutGraceAGenerationGoesAtOnce(t *testing.T) {
	dir := memoryDir(t)
	s := bundleSpec(dir)
	s.Grace = 0
	b := openBundle(t, s)
	for _, content := range []string{"first", "second", "third"} {
		publishSet(t, b, set{"a": content}, files.Content)
		if _, more := collect(t, b, 0); more || len(generations(t, dir)) != 1 {
			t.Errorf("%v is left", generations(t, dir))
		}
	}
}

// A hand on the link is a roll-back that an operator does while the agent is
// stopped or wedged: what it leads to must not go.
func TestAGenerationThatIsUsedAgainStays(t *testing.T) {
	dir := memoryDir(t)
	b := openBundle(t, bundleSpec(dir))
	publishSet(t, b, set{"a": "first"}, files.Content)
	first := generations(t, dir)[0]
	publishSet(t, b, set{"a": "second"}, files.Content)
	must(t, os.Remove(filepath.Join(dir, "..data")))
	must(t, os.Symlink(first, filepath.Join(dir, "..data")))
	if _, more := collect(t, b, time.Hour); more {
		t.Error("it is to be collected")
	}
	holds(t, filepath.Join(dir, first, "a"), "first", 0o400, -1, -1)
}

func TestCollectTriesAgain(t *testing.T) {
	if isRoot() {
		t.Skip("needs an ordinary user: root removes everything")
	}
	dir := memoryDir(t)
	b := openBundle(t, bundleSpec(dir))
	publishSet(t, b, set{"a": "first", "gone": "x"}, files.Content)
	_, err := b.Publish(set{"a": "second"}.entries(), 0)
	must(t, err)
	must(t, os.Chmod(dir, 0o555))
	next, more, err := b.Collect(10 * time.Second)
	refuses(t, err, "remove directory "+dir+"/..generation.", "permission")
	if !more || next != 20*time.Second {
		t.Errorf("again at %v, %v", next, more)
	}
	must(t, os.Chmod(dir, 0o755))
	if next, more := collect(t, b, 10*time.Second); !more || next != 20*time.Second {
		t.Errorf("before its time: again at %v, %v", next, more)
	}
	if _, more := collect(t, b, 20*time.Second); more || len(generations(t, dir)) != 1 {
		t.Errorf("%v is left", generations(t, dir))
	}
}

// layCrash lays all that a killed agent can leave beside a published bundle, and
// returns how many leftovers that is.
func layCrash(t testing.TB, dir string) int {
	t.Helper()
	n := 0
	for _, key := range []string{"unfinished", "generation"} {
		for _, content := range []string{"", canary} {
			orphan := filepath.Join(dir, files.TempName(key))
			must(t, os.MkdirAll(filepath.Join(orphan, "sub"), 0o700))
			must(t, os.WriteFile(filepath.Join(orphan, "sub", "tls.key"), []byte(content), 0o400))
			n++
		}
	}
	must(t, os.Symlink("..data/tls.key", filepath.Join(dir, files.TempName("link"))))
	must(t, os.Symlink(files.TempName("generation"), filepath.Join(dir, files.TempName("link"))))
	must(t, os.Symlink("..data/vanished", filepath.Join(dir, "vanished")))
	return n + 3
}

var bundleBystanders = map[string]func(path string) error{
	"..generation.0123456789ABCDEF.secretsd":  func(p string) error { return os.Mkdir(p, 0o700) },
	"..generation.0123456789abcdef":           func(p string) error { return os.Mkdir(p, 0o700) },
	"..generations.0123456789abcdef.secretsd": func(p string) error { return os.Mkdir(p, 0o700) },
	"..generation.fedcba9876543210.secretsd":  func(p string) error { return os.WriteFile(p, nil, 0o400) },
	"..link.fedcba9876543210.secretsd":        func(p string) error { return os.WriteFile(p, nil, 0o400) },
	"..data_tmp":                              func(p string) error { return os.Symlink("..2026", p) },
	"theirs":                                  func(p string) error { return os.Symlink("..data", p) },
	"renamed":                                 func(p string) error { return os.Symlink("..data/tls.key", p) },
	"elsewhere":                               func(p string) error { return os.Symlink("/..data/elsewhere", p) },
	"file":                                    func(p string) error { return os.WriteFile(p, nil, 0o400) },
	"dir":                                     func(p string) error { return os.Mkdir(p, 0o700) },
}

func layBundleBystanders(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	for name, lay := range bundleBystanders {
		must(t, lay(filepath.Join(dir, name)))
		names = append(names, name)
	}
	return names
}

func TestSweepOfABundleTakesExactlyOurLeftovers(t *testing.T) {
	for _, published := range []bool{true, false} {
		dir := memoryDir(t)
		theirs := layBundleBystanders(t, dir)
		b := openBundle(t, bundleSpec(dir))
		ours := []string{}
		if published {
			_, err := b.Publish(pair.entries(), 0)
			must(t, err)
			ours = []string{"..data", "tls.crt", "tls.key", current(dir)}
		}
		want := layCrash(t, dir)
		s := bundleSpec(dir)
		s.Grace = 0
		b = openBundleAfter(t, b, s)
		for _, want := range []int{want, 0} {
			if n, err := b.Sweep(0); n != want || err != nil {
				t.Errorf("swept %d, %v, want %d", n, err, want)
			}
		}
		if next, more := collect(t, b, 0); more {
			t.Errorf("something is to be collected at %v", next)
		}
		contains(t, dir, append(ours, theirs...)...)
		if published {
			inspectEntries(t, b, pair.entries(), files.None)
		}
	}
}

// current returns the name of the generation that is published.
func current(dir string) string {
	name, _ := os.Readlink(filepath.Join(dir, "..data"))
	return name
}

// An agent that is killed right after a flip and started again at once must not
// take the old generation from under its readers.
func TestSweepLeavesAGenerationItsGrace(t *testing.T) {
	dir := memoryDir(t)
	s := bundleSpec(dir)
	s.Grace = time.Hour
	b := openBundle(t, s)
	publishSet(t, b, set{"a": "first"}, files.Content)
	publishSet(t, b, set{"a": "second"}, files.Content)
	must(t, os.Mkdir(filepath.Join(dir, files.TempName("unfinished")), 0o700))
	b = openBundleAfter(t, b, s)
	for _, want := range []int{1, 0} {
		if n, err := b.Sweep(time.Minute); n != want || err != nil {
			t.Errorf("swept %d, %v, want %d", n, err, want)
		}
	}
	next, more := collect(t, b, time.Minute)
	if !more || next > time.Minute+time.Hour || next < time.Hour {
		t.Errorf("again at %v, %v, want about an hour later", next, more)
	}
	if got := generations(t, dir); len(got) != 2 {
		t.Errorf("%v", got)
	}
	if _, more := collect(t, b, next); more || len(generations(t, dir)) != 1 {
		t.Errorf("%v is left", generations(t, dir))
	}
	publishSet(t, b, set{"a": "second"}, files.None)
}

// A clock that was set back, as on a machine without one of its own, must not
// keep generations for that time. In a bubble it is the year 2000.
func TestALinkOfTheFutureDelaysNothing(t *testing.T) {
	dir := memoryDir(t)
	b := openBundle(t, bundleSpec(dir))
	publishSet(t, b, set{"a": "first"}, files.Content)
	publishSet(t, b, set{"a": "second"}, files.Content)
	b = openBundleAfter(t, b, bundleSpec(dir))
	synctest.Test(t, func(t *testing.T) {
		if n, err := b.Sweep(0); n != 1 || err != nil {
			t.Errorf("swept %d, %v", n, err)
		}
	})
}

func TestSweepLeavesWhatMayBeAnothers(t *testing.T) {
	dir := memoryDir(t)
	b := openBundle(t, bundleSpec(dir))
	lure := filepath.Join(dir, files.TempName("generation"))
	must(t, os.Mkdir(lure, 0o700))
	must(t, os.WriteFile(filepath.Join(lure, "precious"), nil, 0o600))
	must(t, os.Chmod(lure, 0o777))
	n, err := b.Sweep(0)
	refuses(t, err, "remove generation "+lure+": others can write in it", "by hand")
	if n != 0 {
		t.Errorf("swept %d", n)
	}
	if isRoot() { // a stranger moved a directory of theirs, with one of root's in it
		must(t, os.Chmod(lure, 0o755))
		must(t, os.Chown(lure, 12345, -1))
		must(t, os.Mkdir(filepath.Join(lure, "roots"), 0o755))
		_, err := b.Sweep(0)
		refuses(t, err, "it does not belong to the generation's owner", "by hand")
		contains(t, filepath.Join(lure, "roots"))
	}
}

func TestManyPublishesLeaveNothingBehind(t *testing.T) {
	dir := memoryDir(t)
	s := bundleSpec(dir)
	s.Backup = true
	b := openBundle(t, s)
	publishSet(t, b, pair, files.Content)
	before := descriptors(t)
	var now time.Duration
	for n := range 1000 {
		now += time.Second
		_, err := b.Publish(set{"a": strings.Repeat("x", n), "b": "b"}.entries(), now)
		must(t, err)
		collect(t, b, now)
		if got := len(generations(t, dir)); got > 12 {
			t.Fatalf("%d generations after %d publishes", got, n)
		}
	}
	collect(t, b, now+time.Minute)
	if got := descriptors(t) - before; got != 0 {
		t.Errorf("%d more descriptors", got)
	}
	if got := generations(t, dir); len(got) != 2 || dotted(t, dir) != 4 {
		t.Errorf("%v is left, %d names", got, dotted(t, dir))
	}
	must(t, b.Close())
	if got := descriptors(t) - before; got != -2 {
		t.Errorf("%d descriptors after closing, want the directory's two less", got)
	}
}

func TestVanishedNamesGoAfterTheFlipAndAreSwept(t *testing.T) {
	dir := memoryDir(t)
	b := openBundle(t, bundleSpec(dir))
	publishSet(t, b, set{"a": "a", "b/x": "x", "c": "c"}, files.Content)
	must(t, os.Remove(filepath.Join(dir, "c"))) // somebody took the name
	must(t, os.WriteFile(filepath.Join(dir, "c"), []byte("theirs"), 0o600))
	_, err := b.Publish(set{"a": "a"}.entries(), 0)
	must(t, err)
	holds(t, filepath.Join(dir, "c"), "theirs", 0o600, -1, -1)
	if _, err := os.Lstat(filepath.Join(dir, "b")); !os.IsNotExist(err) {
		t.Errorf("the link of a name that is gone is still there: %v", err)
	}
	_, err = b.Publish(set{"a": "a", "c": "c"}.entries(), 0)
	refuses(t, err, "somebody else's regular file", "move it away")
}
