package endpoint_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"secretsd/sinks/endpoint"
)

// asRoot skips a test that gives files away, which only root can do.
func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to give a file to another user")
	}
}

func refusedTokenFile(t *testing.T, name, path string, mode fs.FileMode, want string) {
	t.Helper()
	before, _ := os.ReadDir(filepath.Dir(path))
	for call, err := range map[string]error{
		"check": endpoint.CheckTokenFile(endpoint.TokenOptions{File: path, Mode: mode}),
		"open":  func() error { _, err := endpoint.OpenTokens(endpoint.TokenOptions{File: path, Mode: mode}); return err }(),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s: got %v, want an error with %q", name, call, err, want)
			continue
		}
		if !strings.Contains(err.Error(), path) && !strings.Contains(err.Error(), "mode") {
			t.Errorf("%s: %s: the error does not name the file: %v", name, call, err)
		}
		if hint(err) == "" {
			t.Errorf("%s: %s: no hint with %v", name, call, err)
		}
		if strings.Contains(err.Error()+hint(err), tokenA) {
			t.Errorf("%s: %s: the error holds the token", name, call)
		}
	}
	if after, _ := os.ReadDir(filepath.Dir(path)); len(after) != len(before) {
		t.Errorf("%s: something was written: %v", name, after)
	}
}

func TestTokenFilesThatOthersCanReach(t *testing.T) {
	for mode, ok := range map[fs.FileMode]bool{
		0o400: true, 0o600: true, 0o700: true,
		0o440: false, 0o640: false, 0o404: false, 0o604: false, 0o444: false, 0o644: false, 0o420: false, 0o402: false, 0o410: false, 0o666: false,
	} {
		path := filepath.Join(privateDir(t), "token")
		put(t, path, tokenA, mode)
		if ok {
			open(t, endpoint.TokenOptions{File: path})
			continue
		}
		refusedTokenFile(t, fmt.Sprintf("mode %04o", mode), path, 0, "lets others in")
	}
	for mode, ok := range map[fs.FileMode]bool{0o440: true, 0o640: true, 0o400: true, 0o444: false, 0o460: false, 0o450: false} {
		path := filepath.Join(privateDir(t), "token")
		put(t, path, tokenA, mode)
		if _, err := endpoint.OpenTokens(endpoint.TokenOptions{File: path, Mode: 0o440}); (err == nil) != ok {
			t.Errorf("mode %04o where 0440 is configured: %v", mode, err)
		}
	}
	for _, mode := range []fs.FileMode{0o404, 0o444, 0o660, 0o500, 0o200, 0o040, fs.ModeSetuid | 0o400} {
		refusedTokenFile(t, fmt.Sprintf("configured mode %v", mode), filepath.Join(privateDir(t), "token"), mode, "give the token file mode")
	}
}

func TestTokenFilesOfOtherUsers(t *testing.T) {
	asRoot(t)
	path := filepath.Join(privateDir(t), "token")
	put(t, path, tokenA, 0o400)
	if err := os.Chown(path, 4711, -1); err != nil {
		t.Fatal(err)
	}
	refusedTokenFile(t, "owner", path, 0, "belongs to uid 4711")

	dir := privateDir(t)
	put(t, filepath.Join(dir, "token"), tokenA, 0o400)
	if err := os.Chown(dir, 4711, -1); err != nil {
		t.Fatal(err)
	}
	refusedTokenFile(t, "directory's owner", filepath.Join(dir, "token"), 0, "belongs to uid 4711")
	refusedTokenFile(t, "directory's owner, nothing there", filepath.Join(dir, "missing"), 0, "belongs to uid 4711")
}

func TestTokenFilesInDirectoriesOthersCanWrite(t *testing.T) {
	for mode, ok := range map[fs.FileMode]bool{
		0o755: true, 0o700: true, 0o777 | fs.ModeSticky: true, 0o775 | fs.ModeSticky: true,
		0o777: false, 0o775: false, 0o702: false, 0o770: false,
	} {
		dir := privateDir(t)
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "token")
		if !ok {
			refusedTokenFile(t, fmt.Sprintf("directory %v, nothing there", mode), path, 0, "others can write")
		}
		put(t, path, tokenA, 0o400)
		if ok {
			open(t, endpoint.TokenOptions{File: path})
			continue
		}
		refusedTokenFile(t, fmt.Sprintf("directory %v", mode), path, 0, "others can write")
		// Nor by way of a symlink in a good place.
		link := filepath.Join(privateDir(t), "token")
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		refusedTokenFile(t, fmt.Sprintf("symlink into directory %v", mode), link, 0, "others can write")
	}
}

func TestTokenFilesThatHoldNoToken(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"empty":        {"", "fewer than 16 bytes"},
		"blank":        {strings.Repeat(" \n", 20), "fewer than 16 bytes"},
		"short":        {"  123456789012345\n", "fewer than 16 bytes"},
		"two lines":    {tokenA + "\n" + tokenB, "one line"},
		"not ASCII":    {tokenA + "é", "one line"},
		"binary":       {tokenA + "\x00", "one line"},
		"far too long": {strings.Repeat("x", 9<<10), "more than"},
	} {
		path := filepath.Join(privateDir(t), "token")
		put(t, path, c.content, 0o400)
		refusedTokenFile(t, name, path, 0, c.want)
	}
	dir := filepath.Join(privateDir(t), "token")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	refusedTokenFile(t, "a directory", dir, 0, "not a regular file")
	pipe := filepath.Join(privateDir(t), "token")
	if err := syscall.Mkfifo(pipe, 0o400); err != nil {
		t.Fatal(err)
	}
	refusedTokenFile(t, "a pipe", pipe, 0, "not a regular file")
	refusedTokenFile(t, "no directory above", filepath.Join(privateDir(t), "none", "none", "token"), 0, "exists")
}

func TestCheckTokenFileWritesNothing(t *testing.T) {
	path := filepath.Join(privateDir(t), "token")
	if err := endpoint.CheckTokenFile(endpoint.TokenOptions{File: path}); err != nil {
		t.Errorf("a file that could be made: %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the check: %v, want no file", err)
	}
	put(t, path, tokenA, 0o400)
	if err := endpoint.CheckTokenFile(endpoint.TokenOptions{File: path}); err != nil {
		t.Errorf("a good file: %v", err)
	}
}

func TestDanglingTokenSymlink(t *testing.T) {
	path := filepath.Join(privateDir(t), "token")
	if err := os.Symlink("nowhere", path); err != nil {
		t.Fatal(err)
	}
	if _, err := endpoint.OpenTokens(endpoint.TokenOptions{File: path}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want a missing file", err)
	}
}

func TestTheTokensDirectoryIsMade(t *testing.T) {
	parent := privateDir(t)
	// As a pod's memory volume: everybody may write there.
	if err := os.Chmod(parent, 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(parent, "own", "token")
	o := endpoint.TokenOptions{File: path, Mode: 0o440}
	if err := endpoint.CheckTokenFile(o); err != nil {
		t.Fatalf("a directory that can be made is a fault: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(path)); err == nil {
		t.Error("a check made the directory")
	}
	if _, err := endpoint.OpenTokens(o); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Dir(path))
	if err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("the directory's mode is %v (%v), want 0750", info.Mode(), err)
	}
}

func TestTheTokensOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving a file away needs root")
	}
	const nobody = 65534
	path := filepath.Join(privateDir(t), "token")
	o := endpoint.TokenOptions{File: path, Owner: &endpoint.Owner{UID: nobody, GID: nobody}}
	if _, err := endpoint.OpenTokens(o); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Uid != nobody || st.Gid != nobody || info.Mode() != 0o400 {
		t.Errorf("the token belongs to %d:%d with mode %v", st.Uid, st.Gid, info.Mode())
	}
	// Its configured owner is trusted with it, and no other.
	if _, err := endpoint.OpenTokens(o); err != nil {
		t.Errorf("the configured owner's file is refused: %v", err)
	}
	if _, err := endpoint.OpenTokens(endpoint.TokenOptions{File: path}); err == nil {
		t.Error("another user's file is taken")
	}
}
