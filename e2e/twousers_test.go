package e2e

import (
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"secretsd/agent/source/local"
)

// readmeExample returns the indented block that follows a mark in README.md.
func readmeExample(t *testing.T, mark string) string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "<!-- "+mark+" -->\n")
	if !found {
		t.Fatalf("README.md has no mark %s", mark)
	}
	var lines []string
	for line := range strings.Lines(after) {
		rest, indented := strings.CutPrefix(line, "    ")
		if !indented {
			break
		}
		lines = append(lines, rest)
	}
	return strings.Join(lines, "")
}

// TestTwoUsersFromOneSnapshot runs the README's example through alternating
// rotations, with a reader that looks all the time.
func TestTwoUsersFromOneSnapshot(t *testing.T) {
	svc := local.New(local.Options{})
	srv := httptest.NewServer(svc)
	t.Cleanup(srv.Close)
	users := []string{"app", "app_clone"}
	entry := func(n int) string { return fmt.Sprintf(`"%s" "p%d"`+"\n", users[n%2], n) }
	put := func(n int) {
		t.Helper()
		if err := svc.Put("prod/db", fmt.Sprintf(`{"username": %q, "password": "p%d"}`, users[n%2], n)); err != nil {
			t.Fatal(err)
		}
	}
	put(0)
	f := newFixture(t)
	paths := strings.NewReplacer("/run/app", f.dir, "/run/pgbouncer", f.dir)
	write(t, f.conf, fmt.Sprintf("source: {aws: {endpoint: %s}}\nrefresh: {interval: 100ms}\nstate_dir: %s/state\n%s",
		srv.URL, f.dir, paths.Replace(readmeExample(t, "two-users"))))
	agent := secretsd(t, cleanEnv(), "run", "--config", f.conf)
	agent.until("msg=ready")
	userlist, env := f.dir+"/userlist.txt", f.dir+"/db.env"
	if got := content(userlist); got != entry(0) {
		t.Fatalf("before the first rotation: %q", got)
	}

	const rotations = 30
	valid := map[string]int{entry(0): 0}
	for n := 1; n <= rotations; n++ {
		valid[entry(n)+entry(n-1)] = n
	}
	for n := 1; n <= rotations; n++ {
		put(n)
		// The two rows, and no others, in every state that is ever seen.
		eventually(t, fmt.Sprintf("rotation %d", n), func() bool {
			got := content(userlist)
			at, ok := valid[got]
			if !ok {
				t.Fatalf("two steps in one file:\n%s", got)
			}
			return at == n && content(env) == fmt.Sprintf("DB_USER='%s'\nDB_PASSWORD='p%d'\n", users[n%2], n)
		})
	}
}
