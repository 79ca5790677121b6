package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// legacy is a script that has psql read .pgpass and query all the time. When it is
// refused it asks for another password and has psql try once more.
type legacy struct{ *process }

// legacyConf shows the pending password of one secret, which is for the script.
const legacyConf = `
bundles:
  - dir: DIR/legacy
    create_dirs: true
    files:
      - {path: version, contents: '{{ version "db-0" }}'}
      - {path: pgpass, contents: '{{ with secret "db-0" }}{{ pgpass "*" "*" "*" .username .password }}{{ end }}'}
`

func (d *database) runLegacy(t *testing.T) legacy {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	const script = `
secretsd=$1 config=$2 port=$3
query() { psql -h 127.0.0.1 -p "$port" -U app_0 -w -At -c 'SELECT n FROM answer' postgres >/dev/null; }
rotation() { cut -d: -f5 pgpass | cut -d. -f1; }
while :; do
  version=$(cat version) n=$(rotation)
  if ! query; then
    echo "refused $n"
    "$secretsd" refresh db-0 --refused "$version" --config "$config" >/dev/null
    n=$(rotation)
    query || echo "failed $n"
  fi
  echo "used $n"
  sleep 0.25
done`
	need(t, "psql")
	cmd := exec.Command("/bin/sh", "-c", script, "legacy", program, d.conf, d.pg.port)
	cmd.Dir = filepath.Join(d.dir, "legacy")
	cmd.Env = cleanEnv("PGPASSFILE=pgpass", "PGSSLMODE=disable")
	return legacy{startCommand(t, cmd)}
}

// lines counts the lines of what it has printed.
func (l legacy) lines() map[string]int {
	counts := map[string]int{}
	for line := range strings.Lines(l.out.String()) {
		counts[strings.TrimSpace(line)]++
	}
	return counts
}

// moved waits until it uses what a rotation has brought.
func (l legacy) moved(ctx context.Context, rotation int) error {
	return await(ctx, fmt.Sprintf("psql uses rotation %d", rotation), func() (bool, error) { return l.lines()[fmt.Sprint("used ", rotation)] > 0, nil })
}

// TestSingleUser: from setSecret to finishSecret AWSCURRENT is wrong. Who is
// refused gets AWSPENDING, and goes on before the rotation is over.
func TestSingleUser(t *testing.T) {
	d := newDatabase(t, false, time.Second, func(n int) string {
		return fmt.Sprintf("- {name: db-%d, id: prod/db-%[1]d, pending: %t}", n, n == 0)
	}, func(*database) string { return legacyConf })
	legacy := d.runLegacy(t)
	if err := legacy.moved(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	d.rotate(func(ctx context.Context, secret string, rotation int) error {
		second := time.NewTimer(time.Second)
		defer second.Stop()
		// AWSCURRENT does not move before all have recovered, so none of them
		// has waited for that.
		if err := d.moved(ctx, secret, rotation); err != nil {
			return err
		}
		if secret == d.secrets[0] {
			if err := legacy.moved(ctx, rotation); err != nil {
				return err
			}
		}
		select {
		case <-second.C:
		case <-ctx.Done():
		}
		return ctx.Err()
	}, func(context.Context, string, int) error { return nil })
	took := time.Since(began)
	refused := legacy.atMostOneRefusal(t)
	queries, logins := d.workers.noQueryFailed(t)
	t.Logf("%d rotations in %s: %d logins, %d queries; psql was refused %d times", databases*rotations, took.Round(time.Millisecond), logins, queries, refused)
	d.atMostOneRefusal(t, map[string]int{role(0): refused})
}

// atMostOneRefusal checks that, and returns how many there were.
func (l legacy) atMostOneRefusal(t *testing.T) (refused int) {
	t.Helper()
	for line, times := range l.lines() {
		what, rotation, _ := strings.Cut(line, " ")
		switch {
		case what == "refused":
			refused += times
			if times > 1 {
				t.Errorf("psql was refused %d times with the password of rotation %s", times, rotation)
			}
		case what == "failed":
			t.Errorf("psql was refused with the password of rotation %s, which came in place of another", rotation)
		}
	}
	return refused
}

// atMostOneRefusal checks that each worker was refused once at most in a rotation.
// PostgreSQL has refused nobody else but those in others.
func (d *database) atMostOneRefusal(t *testing.T, others map[string]int) {
	t.Helper()
	var recoveries []time.Duration
	byRole := map[string]int{}
	rotationsMet := map[string]map[int]bool{}
	d.workers.each(t, func(secret string, n int, one *worker) {
		recoveries = append(recoveries, one.recoveries...)
		for rotation, times := range one.refused {
			if times > 1 {
				t.Errorf("%s, worker %d was refused %d times with the password of rotation %d", secret, n, times, rotation)
			}
			if rotationsMet[secret] == nil {
				rotationsMet[secret] = map[int]bool{}
			}
			rotationsMet[secret][rotation] = true
			byRole[role(slices.Index(d.secrets, secret))] += times
		}
	})
	for _, id := range d.secrets {
		if len(rotationsMet[id]) != rotations {
			t.Errorf("%s: the client met %d of %d rotations; the test shows nothing of the others", id, len(rotationsMet[id]), rotations)
		}
	}
	for name, n := range others {
		byRole[name] += n
	}
	if diff := cmp.Diff(byRole, d.pg.refused()); diff != "" {
		t.Errorf("what clients say was refused, and what PostgreSQL says (+):\n%s", diff)
	}
	if len(recoveries) == 0 {
		t.Fatal("nobody was refused")
	}
	slices.Sort(recoveries)
	half, most := recoveries[len(recoveries)/2], recoveries[len(recoveries)-1]
	t.Logf("%d logins refused; from there to the next login %s (p50), %s (p99), %s (max)", len(recoveries), half, recoveries[len(recoveries)*99/100], most)
	if half > time.Second {
		t.Errorf("half of the recoveries took longer than %s", half)
	}
}
