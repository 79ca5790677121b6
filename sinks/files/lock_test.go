package files_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"secretsd/sinks/files"
)

// holdBundle is a second agent: it publishes once, says so, and waits for the end
// of its input.
func holdBundle() {
	b, err := files.New().OpenBundle(bundleSpec(os.Getenv(pathVar)))
	if err == nil {
		_, err = b.Publish(pair.entries(), 0)
	}
	fmt.Println(err)
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func TestTwoAgentsDoNotPublishIntoOneDirectory(t *testing.T) {
	dir := memoryDir(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"=holder", pathVar+"="+dir)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "<nil>\n" {
		t.Fatalf("the other agent says %q, %v", line, err)
	}
	b := openBundle(t, bundleSpec(dir)) // a look is free
	inspectEntries(t, b, pair.entries(), files.None)
	must(t, files.CheckBundle(bundleSpec(dir)))
	const words, hint = ": somebody else publishes a bundle there", "stop the other agent"
	_, err = b.Publish(set{"a": canary}.entries(), 0)
	refuses(t, err, "lock "+dir+words, hint)
	_, err = b.Sweep(0)
	refuses(t, err, words, hint)
	refuses(t, b.Remove(), words, hint)
	publishSetShown(t, dir, pair)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	_ = in.Close()
	publishSet(t, b, set{"a": canary}, files.Content)
}

func publishSetShown(t *testing.T, dir string, s set) {
	t.Helper()
	if err := shows(dir, s); err != nil {
		t.Error(err)
	}
}

// A reload opens the new Bundle before it closes the old one.
func TestTheLockGoesOverToTheNextBundle(t *testing.T) {
	dir := memoryDir(t)
	old := openBundle(t, bundleSpec(dir))
	publishSet(t, old, pair, files.Content)
	next := openBundle(t, bundleSpec(dir))
	inspectEntries(t, next, pair.entries(), files.None)
	_, err := next.Sweep(0)
	refuses(t, err, "somebody else", "")
	must(t, old.Close())
	publishSet(t, next, set{"a": "a"}, files.Content)
}

// A directory that was made anew is locked anew.
func TestTheLockFollowsTheDirectory(t *testing.T) {
	dir := filepath.Join(memoryDir(t), "dir")
	must(t, os.Mkdir(dir, 0o755))
	b := openBundle(t, bundleSpec(dir))
	publishSet(t, b, pair, files.Content)
	before := descriptors(t)
	must(t, os.Rename(dir, dir+".old"))
	must(t, os.Mkdir(dir, 0o755))
	publishSet(t, b, pair, files.Content)
	if got := descriptors(t) - before; got != 0 {
		t.Errorf("%d more descriptors", got)
	}
	_, err := openBundle(t, bundleSpec(dir)).Publish(nil, 0)
	refuses(t, err, "somebody else", "")
	publishSet(t, openBundle(t, bundleSpec(dir+".old")), set{"a": "a"}, files.Content)
}
