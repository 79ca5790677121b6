package notify_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/notify"
)

// open returns a path that everybody can write to, and a program that everybody
// can run.
func open(t *testing.T) (path, program string) {
	t.Helper()
	program = self(t)
	dir := t.TempDir()
	for p := range map[string]bool{dir: true, filepath.Dir(program): true} {
		for ; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
			if err := os.Chmod(p, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "out"), program
}

func TestACommandIsRunAsItsUser(t *testing.T) {
	needRoot(t)
	t.Setenv("HOME", "/root")
	out, program := open(t)
	for user, tc := range map[string]struct {
		ids  []int
		home string
	}{
		"nobody": {[]int{nobody, nobody, nobody}, "/nonexistent"},
		"65534":  {[]int{nobody, nobody, nobody}, "/nonexistent"},
		// Nobody's number: no groups, and root's least of all.
		"424242": {[]int{424242, 424242}, "/"},
		"root":   {nil, "/root"},
		"":       {nil, "/root"},
	} {
		target := hook(program, "notify-child", "describe", out)
		target.User = user
		if err := notify.Attempt(target, change("/a")); err != nil {
			t.Errorf("%q: %v", user, err)
			continue
		}
		got := readDescription(t, out)
		_ = os.Remove(out)
		if diff := cmp.Diff(tc.ids, got.IDs); diff != "" && tc.ids != nil || got.IDs[0] != 0 && tc.ids == nil {
			t.Errorf("%q: ids (-want +got):\n%s", user, diff)
		}
		if !slices.Contains(got.Env, "HOME="+tc.home) {
			t.Errorf("%q: environment %q", user, got.Env)
		}
	}
	target := hook("true")
	target.User = "no such user"
	wantFailure(t, notify.Attempt(target, change("/a")), "failed", `look up user "no such user"`)
	if err := notify.CheckUser("no such user"); err == nil || notify.HintOf(err) == "" {
		t.Errorf("CheckUser: %v", err)
	}
	if err := notify.CheckUser("4294967296"); err == nil {
		t.Error("CheckUser takes a number that is none")
	}
}

func TestAnAgentWithoutRightsRunsCommandsAsItselfOnly(t *testing.T) {
	needRoot(t)
	out, program := open(t)
	target := hook(program, "notify-child", "describe", out)
	var own, other error
	asNobody(t, func() {
		target.User = "nobody"
		own = notify.Attempt(target, change("/a"))
		target.User = "root"
		other = notify.Attempt(target, change("/a"))
	})
	if own != nil {
		t.Errorf("as itself: %v", own)
	}
	wantFailure(t, other, "failed", "operation not permitted")
	if !strings.Contains(notify.HintOf(other), "CAP_SETUID") {
		t.Errorf("hint: %q", notify.HintOf(other))
	}
}
