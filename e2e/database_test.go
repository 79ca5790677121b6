package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// The databases of a test have secrets of their own, which rotate side by side:
// together as many times as it takes to believe it.
const (
	databases = 10
	rotations = 10 // of each
)

// database is a server with an account for each secret, an agent that serves
// them, and programs that use them.
type database struct {
	*fixture
	pg      *postgres
	rotator *rotator
	agent   *process
	workers *workers
	secrets []string
}

// newDatabase starts all of it. more is added to the configuration, in which DIR
// is the fixture's directory.
func newDatabase(t *testing.T, alternate bool, interval time.Duration, secret func(n int) string, more func(*database) string) *database {
	t.Helper()
	d := &database{pg: startPostgres(t), fixture: newFixture(t)}
	var service string
	d.rotator, service = newRotator(t, d.pg, alternate)
	d.createAccounts()
	var lines strings.Builder
	for n := range databases {
		lines.WriteString("  " + secret(n) + "\n")
	}
	owner := strconv.Itoa(os.Geteuid())
	if owner == "0" { // servers that do not run as root have to read what is rendered
		owner = strconv.Itoa(nobody)
		if err := os.Chmod(d.dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	write(t, d.conf, strings.NewReplacer("DIR", d.dir, "OWNER", owner).Replace(fmt.Sprintf(`
source: {aws: {endpoint: %s}}
refresh: {interval: %s}
state_dir: DIR/state
endpoint: {listen: "%s", token_file: DIR/token}
secrets:
%s%s`, service, interval, d.fixture.endpoint, lines.String(), more(d))))
	d.agent = secretsd(t, cleanEnv(), "run", "--config", d.conf)
	d.agent.until("msg=ready")
	dsn := fmt.Sprintf("postgres://127.0.0.1:%s/postgres?sslmode=disable", d.pg.port)
	d.workers = runWorkers(t, dsn, d.fixture.endpoint, filepath.Join(d.dir, "token"), 3, 250*time.Millisecond, d.secrets)
	for _, id := range d.secrets {
		if err := d.moved(t.Context(), id, 0); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// role is the user of the n-th secret.
func role(n int) string { return fmt.Sprintf("app_%d", n) }

func (d *database) createAccounts() {
	d.t.Helper()
	ctx := d.t.Context()
	admin, err := d.pg.login(ctx, "admin", d.pg.password)
	if err != nil {
		d.t.Fatal(err)
	}
	defer admin.Close(ctx)
	for _, sql := range []string{"CREATE TABLE answer AS SELECT 42 AS n", "CREATE ROLE reader", "GRANT SELECT ON answer TO reader"} {
		if err := statement(ctx, admin, sql); err != nil {
			d.t.Fatal(err)
		}
	}
	for n := range databases {
		id, a := fmt.Sprintf("prod/db-%d", n), account{Username: role(n), Password: "0.first-" + role(n)}
		if err := errors.Join(statement(ctx, admin, "CREATE ROLE %I LOGIN PASSWORD %L IN ROLE reader", a.Username, a.Password),
			d.rotator.create(ctx, id, a)); err != nil {
			d.t.Fatal(err)
		}
		d.secrets = append(d.secrets, id)
	}
}

// served returns the version that the endpoint has of a secret.
func (d *database) served(ctx context.Context, id string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.fixture.endpoint+"/secretsmanager/get?secretId="+url.QueryEscape(id), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("X-Aws-Parameters-Secrets-Token", strings.TrimSpace(content(filepath.Join(d.dir, "token"))))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	var v struct{ VersionId string }
	return v.VersionId, errors.Join(err, json.Unmarshal(body, &v))
}

// await polls cond until it holds.
func await(ctx context.Context, what string, cond func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := cond()
		if done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited in vain until %s", what)
		}
	}
}

// rotate rotates all secrets side by side, each when everybody uses what its last
// rotation has brought. Between setSecret and finishSecret it calls between.
func (d *database) rotate(between func(ctx context.Context, secret string, rotation int) error, after func(ctx context.Context, secret string, rotation int) error) {
	d.t.Helper()
	g, ctx := errgroup.WithContext(d.t.Context())
	for _, id := range d.secrets {
		g.Go(func() error {
			for n := 1; n <= rotations; n++ {
				version, err := d.rotator.rotate(ctx, id, func(string) error { return between(ctx, id, n) })
				if err != nil {
					return fmt.Errorf("rotation %d: %w", n, err)
				}
				if err := await(ctx, "the endpoint serves what finishSecret made current", func() (bool, error) {
					got, err := d.served(ctx, id)
					return got == version, err
				}); err != nil {
					return fmt.Errorf("rotation %d of %s: %w", n, id, err)
				}
				if err := after(ctx, id, n); err != nil {
					return fmt.Errorf("rotation %d of %s: %w", n, id, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		d.t.Fatal(err)
	}
}

// moved waits until every worker has logged in with what a rotation has brought.
func (d *database) moved(ctx context.Context, secret string, rotation int) error {
	return await(ctx, fmt.Sprintf("the client uses rotation %d", rotation), func() (bool, error) { return d.workers.all(secret, rotation) })
}

// TestAlternatingUsers: applications go on with the user that they have until they
// see the other, and nobody is ever refused. Behind pgbouncer they see nothing.
func TestAlternatingUsers(t *testing.T) {
	run := tmpfs(t)
	_, port, err := net.SplitHostPort(freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	d := newDatabase(t, true, 300*time.Millisecond, func(n int) string {
		return fmt.Sprintf("- {name: db-%d, id: prod/db-%[1]d}\n  - {name: db-%[1]d-before, id: prod/db-%[1]d, stage: AWSPREVIOUS, required: false}", n)
	}, func(d *database) string { return poolerConf(run, port, d.pg.port) })
	pooled := runPooled(t, filepath.Join(d.dir, "pgbouncer"), run, port, d.secrets)
	for n, id := range d.secrets {
		if err := pooled.moved(t.Context(), id, role(n)); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	d.rotate(func(context.Context, string, int) error { return nil }, func(ctx context.Context, secret string, rotation int) error {
		user := role(slices.Index(d.secrets, secret))
		if rotation%2 == 1 {
			user += "_clone"
		}
		return errors.Join(d.moved(ctx, secret, rotation), pooled.moved(ctx, secret, user))
	})
	queries, logins := d.workers.noQueryFailed(t)
	t.Logf("%d rotations in %s: %d logins, %d queries", databases*rotations, time.Since(began).Round(time.Millisecond), logins, queries)
	d.workers.each(t, func(secret string, n int, one *worker) {
		if len(one.refused) > 0 {
			t.Errorf("%s, worker %d was refused: %v", secret, n, one.refused)
		}
	})
	pooled.noQueryFailed(t)
	if refused := d.pg.refused(); len(refused) > 0 {
		t.Errorf("PostgreSQL has refused %v", refused)
	}
}
