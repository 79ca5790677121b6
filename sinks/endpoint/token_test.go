package endpoint_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"secretsd/sinks/endpoint"
)

const (
	tokenA = "aaaaaaaaaaaaaaaa"
	tokenB = "bbbbbbbbbbbbbbbb"
	tokenC = "cccccccccccccccc"
)

// put replaces the file at path whole, whatever the umask.
func put(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	temp := path + ".new"
	if err := os.WriteFile(temp, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(temp, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, path); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, o endpoint.TokenOptions) *endpoint.Tokens {
	t.Helper()
	tokens, err := endpoint.OpenTokens(o)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// valid asks for each of the three test tokens and returns the letters of
// those that pass.
func valid(tokens *endpoint.Tokens) string {
	got := ""
	for _, token := range []string{tokenA, tokenB, tokenC} {
		if tokens.Valid(token) {
			got += token[:1]
		}
	}
	return got
}

func TestTokenFileIsMade(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	for mode, want := range map[fs.FileMode]fs.FileMode{0: 0o400, 0o440: 0o440, 0o640: 0o640} {
		dir := privateDir(t)
		path := filepath.Join(dir, "token")
		tokens := open(t, endpoint.TokenOptions{File: path, Mode: mode})
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`^[0-9a-f]{64}$`).Match(content) {
			t.Error("the file does not hold 256 bits in hexadecimal and nothing else")
		}
		if !tokens.Valid(string(content)) || tokens.Valid(string(content[1:])) || tokens.Valid("") {
			t.Error("the token that was made is not the one that is valid")
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != want {
			t.Errorf("mode %v and %v, want %v", info.Mode(), err, want)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("the directory holds %v and %v, want the token alone", entries, err)
		}
		if again := open(t, endpoint.TokenOptions{File: path, Mode: mode}); !again.Valid(string(content)) {
			t.Error("a second start does not use the file that is there")
		}
	}
}

// TestTokenFileMakersAgree starts many agents on one missing file, while
// readers look for a file that is not whole.
func TestTokenFileMakersAgree(t *testing.T) {
	for range 20 {
		path := filepath.Join(privateDir(t), "token")
		var wg sync.WaitGroup
		made := make([]*endpoint.Tokens, 8)
		done := make(chan struct{})
		reader := make(chan error, 1)
		go func() { reader <- readUntil(path, done) }()
		for i := range made {
			wg.Go(func() {
				tokens, err := endpoint.OpenTokens(endpoint.TokenOptions{File: path})
				if err != nil {
					t.Error(err)
				}
				made[i] = tokens
			})
		}
		wg.Wait()
		close(done)
		if err := <-reader; err != nil {
			t.Error(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, tokens := range made {
			if tokens == nil || !tokens.Valid(string(content)) {
				t.Errorf("maker %d does not use the token in the file", i)
			}
		}
	}
}

// readUntil reads path until done is closed and returns an error if it was ever
// there without being whole.
func readUntil(path string, done <-chan struct{}) error {
	for {
		content, err := os.ReadFile(path)
		if err == nil && len(content) != 64 {
			return errors.New("a reader saw a part of the token")
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case <-done:
			return nil
		default:
		}
	}
}

func TestTokensFromTheEnvironment(t *testing.T) {
	path := filepath.Join(privateDir(t), "token")
	put(t, path, " "+tokenB+"\n", 0o640)
	env := map[string]string{"A": tokenA, "FILE": "file://" + path, "EMPTY": "", "SHORT": "x", "GONE": "file:///nonexistent/token", "SPACED": " " + tokenC + "\n"}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	for names, want := range map[string]string{
		"A": "a", "NONE A": "a", "A FILE": "a", "FILE A": "b", "SPACED": "c",
		"": "", "NONE": "", "EMPTY A": "", "SHORT A": "", "GONE A": "",
	} {
		tokens, err := endpoint.OpenTokens(endpoint.TokenOptions{Env: strings.Fields(names), LookupEnv: lookup})
		switch {
		case want == "" && err == nil:
			t.Errorf("%q: no error", names)
		case want == "" && hint(err) == "":
			t.Errorf("%q: no hint with %v", names, err)
		case want != "" && err != nil:
			t.Errorf("%q: %v", names, err)
		case want != "" && valid(tokens) != want:
			t.Errorf("%q: %q are valid, want %q", names, valid(tokens), want)
		}
	}
	both := open(t, endpoint.TokenOptions{File: path, Mode: 0o440, Env: []string{"A"}, LookupEnv: lookup})
	if got := valid(both); got != "ab" {
		t.Errorf("with a file and a variable %q are valid, want ab", got)
	}
}

func TestTouchedSeesEveryWayAFileChanges(t *testing.T) {
	path := filepath.Join(privateDir(t), "token")
	put(t, path, tokenA, 0o400)
	tokens := open(t, endpoint.TokenOptions{File: path, Mode: 0o440})
	tokens.Touched()
	touched := func(what string, want bool) {
		t.Helper()
		if got := tokens.Touched(); got != want {
			t.Errorf("%s: %v", what, got)
		}
	}
	touched("as it was", false)
	put(t, path, tokenA, 0o400)
	touched("another file of the same content", true)
	touched("looked at again", false)
	if err := os.Chmod(path, 0o440); err != nil {
		t.Fatal(err)
	}
	touched("another mode", true)
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	touched("written in place", true)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	touched("gone", false)
	put(t, path, tokenB, 0o400)
	touched("back", true)
}

func TestTokenRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(privateDir(t), "token")
		put(t, path, tokenA, 0o400)
		tokens := open(t, endpoint.TokenOptions{File: path, Grace: 5 * time.Minute})
		reload := func(wantChanged bool) {
			t.Helper()
			if changed, err := tokens.Reload(false); err != nil || changed != wantChanged {
				t.Errorf("reload: changed %v and %v, want %v", changed, err, wantChanged)
			}
		}
		want := func(when, letters string) {
			t.Helper()
			if got := valid(tokens); got != letters {
				t.Errorf("%s: %q are valid, want %q", when, got, letters)
			}
		}
		want("at first", "a")
		put(t, path, tokenB, 0o400)
		want("before the reload", "a")
		reload(true)
		want("after it", "ab")
		<-time.After(4 * time.Minute)
		reload(false)
		put(t, path, tokenC+"\n", 0o400)
		reload(true)
		want("after a second one", "abc")
		<-time.After(time.Minute)
		want("when the first's grace is over", "bc")
		<-time.After(4 * time.Minute)
		want("when the second's grace is over", "c")

		put(t, path, tokenA, 0o400)
		reload(true)
		want("in grace again", "ac")
		if changed, err := tokens.Reload(true); changed || err != nil {
			t.Errorf("reload: changed %v and %v", changed, err)
		}
		want("when grace is ended", "a")
		put(t, path, tokenB, 0o400)
		if changed, err := tokens.Reload(true); !changed || err != nil {
			t.Errorf("reload: changed %v and %v", changed, err)
		}
		want("when changed without grace", "b")
	})
}

func TestBrokenTokenFileKeepsTheToken(t *testing.T) {
	path := filepath.Join(privateDir(t), "token")
	put(t, path, tokenA, 0o400)
	tokens := open(t, endpoint.TokenOptions{File: path, Grace: time.Minute})
	for name, breakIt := range map[string]func(){
		"vanished": func() { _ = os.Remove(path) },
		"empty":    func() { put(t, path, "", 0o400) },
		"short":    func() { put(t, path, "short", 0o400) },
		"open":     func() { put(t, path, tokenB, 0o444) },
	} {
		breakIt()
		for _, endGrace := range []bool{false, true} {
			changed, err := tokens.Reload(endGrace)
			if changed || err == nil || !strings.Contains(err.Error(), "keep the token in use") {
				t.Errorf("%s: changed %v and %v, want an error that says what is kept", name, changed, err)
			}
			if got := valid(tokens); got != "a" {
				t.Errorf("%s: %q are valid, want a", name, got)
			}
		}
		if _, err := os.Stat(path); name == "vanished" && err == nil {
			t.Error("a reload made the file again")
		}
	}
	put(t, path, tokenC, 0o400)
	if changed, err := tokens.Reload(false); !changed || err != nil || valid(tokens) != "ac" {
		t.Errorf("mended: changed %v and %v, %q are valid, want ac", changed, err, valid(tokens))
	}
}

// TestTokensWhileReloading is for the race detector: requests ask while the
// file changes, and the token that never leaves is always right.
func TestTokensWhileReloading(t *testing.T) {
	path := filepath.Join(privateDir(t), "token")
	put(t, path, tokenA, 0o400)
	tokens := open(t, endpoint.TokenOptions{File: path, Grace: time.Hour})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				if !tokens.Valid(tokenA) || tokens.Valid("wrong") {
					t.Error("a request was judged wrongly during a reload")
					return
				}
			}
		})
	}
	for i := range 20 {
		put(t, path, []string{tokenB, tokenC}[i%2], 0o400)
		if _, err := tokens.Reload(false); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}
