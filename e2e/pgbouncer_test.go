package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// pooled is a pgbouncer whose configuration and users secretsd renders, and the
// applications behind it. These know one password, which never changes.
type pooled struct {
	*process
	mu sync.Mutex
	// users are the database's users that each application has last been, by
	// database and application.
	users   map[string][]string
	queries int
	failed  []error
}

const pooledPassword = "never-changes"

// poolerConf is what pgbouncer needs of agent.yaml. Its list has the user of
// AWSPREVIOUS too: the two files are read one after the other, and AWSCURRENT of
// the one may be AWSPREVIOUS of the other. A pool has one connection because
// pgbouncer takes a login that is under way when its user changes for a failed
// one, and fails its clients then (disconnect_server in its src/objects.c).
func poolerConf(dir, port, databasePort string) string {
	var lines, names strings.Builder
	for n := range databases {
		fmt.Fprintf(&lines, "          db-%d = host=127.0.0.1 port=%s dbname=postgres user={{ (secret \"db-%[1]d\").username }}\n", n, databasePort)
		fmt.Fprintf(&names, " \"db-%d\" \"db-%[1]d-before\"", n)
	}
	return strings.NewReplacer("LINES", lines.String(), "NAMES", names.String(), "RUN", dir, "PORT", port, "PASSWORD", pooledPassword).Replace(`
bundles:
  - dir: DIR/pgbouncer
    create_dirs: true
    owner: "OWNER"
    notify: [pgbouncer]
    files:
      - path: pgbouncer.ini
        contents: |
          [databases]
LINES
          [pgbouncer]
          listen_addr = 127.0.0.1
          listen_port = PORT
          unix_socket_dir =
          pidfile = RUN/pgbouncer.pid
          auth_type = plain
          auth_file = DIR/pgbouncer/userlist.txt
          default_pool_size = 1
          max_client_conn = 300
      - path: userlist.txt
        contents: |
          "web" "PASSWORD"
          {{ range (list NAMES) }}{{ if has . }}{{ with secret . -}}
          {{ pgbouncerUser .username .password }}
          {{ end }}{{ end }}{{ end -}}
targets:
  - {name: pgbouncer, signal: HUP, process: {pid_file: RUN/pgbouncer.pid}, debounce: 200ms}
`)
}

// runPooled starts pgbouncer on what is rendered, and each times two applications.
func runPooled(t *testing.T, confDir, runDir, port string, ids []string) *pooled {
	t.Helper()
	cmd := unprivileged(t, exec.Command(need(t, "pgbouncer"), filepath.Join(confDir, "pgbouncer.ini")), runDir)
	p := &pooled{process: startCommand(t, cmd), users: map[string][]string{}}
	eventually(t, "pgbouncer listens", func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	for _, id := range ids {
		p.users[id] = make([]string, 2)
		for n := range p.users[id] {
			dsn := fmt.Sprintf("postgres://web:%s@127.0.0.1:%s/%s?sslmode=disable", pooledPassword, port, strings.TrimPrefix(id, "prod/"))
			wg.Go(func() { p.application(ctx, dsn, id, n) })
		}
	}
	return p
}

// application queries all the time, as one that does not know of any rotation.
func (p *pooled) application(ctx context.Context, dsn, id string, n int) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		user, err := whoAmI(ctx, dsn)
		if ctx.Err() != nil {
			return
		}
		p.mu.Lock()
		if p.queries++; err != nil {
			p.failed = append(p.failed, fmt.Errorf("%s as %s: %w", id, p.users[id][n], err))
		} else {
			p.users[id][n] = user
		}
		p.mu.Unlock()
	}
}

func whoAmI(ctx context.Context, dsn string) (user string, err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "", err
	}
	var n int
	err = conn.QueryRow(ctx, "SELECT current_user, n FROM answer").Scan(&user, &n)
	return user, errors.Join(err, conn.Close(ctx))
}

// moved waits until all applications of a database are the user.
func (p *pooled) moved(ctx context.Context, id, user string) error {
	return await(ctx, "the applications behind pgbouncer are "+user, func() (bool, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, is := range p.users[id] {
			if is != user {
				return false, nil
			}
		}
		return true, nil
	})
}

// noQueryFailed checks that.
func (p *pooled) noQueryFailed(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Logf("behind pgbouncer: %d queries, each on a connection of its own", p.queries)
	if len(p.failed) > 0 {
		t.Errorf("%d of %d queries behind pgbouncer failed, the first of %v", len(p.failed), p.queries, p.failed[0])
	}
}
