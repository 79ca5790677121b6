package e2e

import (
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"secretsd/agent/source/local"
)

// readmeExample returns the indented block that follows a mark in README.md, with
// the empty lines in it.
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
		if !indented && line != "\n" {
			break
		}
		lines = append(lines, rest)
	}
	return strings.TrimRight(strings.Join(lines, ""), "\n") + "\n"
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
		if err := svc.Put("prod/db", fmt.Sprintf(`{"username": %q, "password": "p%d"}`, users[n%2], n)); err != nil {
			t.Error(err)
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

	// A rotation ends just before every third read, and so between the reads of the
	// two labels as often as not.
	const rotations = 40
	valid := map[string]int{entry(0): 0}
	for n := 1; n <= rotations; n++ {
		valid[entry(n)+entry(n-1)] = n
	}
	var reads, rotated atomic.Int64
	svc.SetFault(func(string, string) *local.Fault {
		if reads.Add(1)%3 == 0 && rotated.Load() < rotations {
			put(int(rotated.Add(1)))
		}
		return nil
	})
	at := 0
	eventually(t, "the last rotation", func() bool {
		// The rows of one step and of the one before it, and no others, whenever it is read.
		got := content(userlist)
		n, ok := valid[got]
		if !ok || n < at {
			t.Fatalf("after rotation %d:\n%s", at, got)
		}
		at = n
		return n == rotations
	})
	eventually(t, "the application has the last user", func() bool {
		return content(env) == fmt.Sprintf("DB_USER='%s'\nDB_PASSWORD='p%d'\n", users[rotations%2], rotations)
	})
}
