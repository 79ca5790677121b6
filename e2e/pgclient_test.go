package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pgclientProgram returns the path of the program pgclient, built once for all
// tests.
var pgclientProgram = sync.OnceValues(func() (string, error) {
	secretsd, err := binary()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(secretsd), "pgclient") // removed with it
	cmd := exec.Command("go", "build", "-race=false", "-o", path, "./pgclient")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build pgclient: %w\n%s", err, out)
	}
	return path, nil
})

// worker is one of pgclient's users of connections, and what it has done.
type worker struct {
	logins, queries int
	failed          []string
	// at is the rotation whose password it has logged in with last, first -1.
	at int
	// refused counts, for each rotation, the logins that were refused with its
	// password; since is the time of the first after a login.
	refused map[int]int
	since   time.Time
	// recoveries are the times from a refused login to the next.
	recoveries []time.Duration
}

// workers follows the report of a running pgclient.
type workers struct {
	process *process
	mu      sync.Mutex
	report  *os.File
	rest    []byte
	// by has the workers of each secret.
	by map[string][]*worker
}

// runWorkers starts pgclient with a pool of perSecret workers for each secret.
func runWorkers(t *testing.T, dsn, agent, tokenFile string, perSecret int, pause time.Duration, secrets []string) *workers {
	t.Helper()
	program, err := pgclientProgram()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(tmpfs(t), "report")
	write(t, path, "")
	w := &workers{by: map[string][]*worker{}}
	if w.report, err = os.Open(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.report.Close() })
	for _, id := range secrets {
		for range perSecret {
			w.by[id] = append(w.by[id], &worker{at: -1, refused: map[int]int{}})
		}
	}
	args := append([]string{dsn, "http://" + agent, tokenFile, path, strconv.Itoa(perSecret), pause.String()}, secrets...)
	w.process = start(t, cleanEnv(), program, args...)
	return w
}

// read takes in what has been reported; w.mu is held.
func (w *workers) read() error {
	fresh := make([]byte, 1<<16)
	for {
		n, err := w.report.Read(fresh)
		w.rest = append(w.rest, fresh[:n]...)
		if err != nil { // the end, for now
			break
		}
	}
	for {
		line, rest, whole := bytes.Cut(w.rest, []byte("\n"))
		if !whole {
			return nil
		}
		w.rest = rest
		var e struct {
			Secret, What, Error string
			Worker, Rotation    int
			At                  time.Time
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("pgclient reports %s: %w", line, err)
		}
		if e.Worker < 0 || e.Worker >= len(w.by[e.Secret]) {
			return fmt.Errorf("pgclient reports a login of nobody's: %s", line)
		}
		w.by[e.Secret][e.Worker].add(e.What, e.Error, e.Rotation, e.At)
	}
}

func (w *worker) add(what, why string, rotation int, at time.Time) {
	switch what {
	case "login":
		w.logins++
		w.at = rotation
		if !w.since.IsZero() {
			w.recoveries = append(w.recoveries, at.Sub(w.since))
			w.since = time.Time{}
		}
	case "refused":
		w.refused[rotation]++
		if w.since.IsZero() {
			w.since = at
		}
	case "query":
		w.queries++
	case "failed":
		w.failed = append(w.failed, why)
	}
}

// all reports whether every worker of a secret has last logged in with the
// password of that rotation.
func (w *workers) all(secret string, rotation int) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.read(); err != nil {
		return false, err
	}
	return !slices.ContainsFunc(w.by[secret], func(one *worker) bool { return one.at != rotation }), nil
}

// each calls f for every worker.
func (w *workers) each(t *testing.T, f func(secret string, n int, one *worker)) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.read(); err != nil {
		t.Error(err)
	}
	for secret, all := range w.by {
		for n, one := range all {
			f(secret, n, one)
		}
	}
}

// noQueryFailed checks that, and that every worker has worked at all.
func (w *workers) noQueryFailed(t *testing.T) (queries, logins int) {
	t.Helper()
	w.each(t, func(secret string, n int, one *worker) {
		if len(one.failed) > 0 {
			t.Errorf("%s, worker %d: %d of its queries failed, the first with: %s", secret, n, len(one.failed), one.failed[0])
		}
		if one.queries == 0 || one.logins == 0 {
			t.Errorf("%s, worker %d: %d queries, %d logins", secret, n, one.queries, one.logins)
		}
		queries += one.queries
		logins += one.logins
	})
	return queries, logins
}

// TestThePoolOfTheReadme: what readers paste is what these tests run.
func TestThePoolOfTheReadme(t *testing.T) {
	if got, want := "package main\n\n"+readmeExample(t, "pool"), content("pgclient/pool.go"); got != want {
		t.Errorf("README.md's example is not pgclient/pool.go:\n%s", cmp.Diff(want, got))
	}
}
