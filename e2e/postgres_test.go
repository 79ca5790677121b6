package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// nobody is the user and group of servers that refuse to run as root.
const nobody = 65534

// unprivileged lets a command run as nobody where the tests run as root, and
// gives it the files that it is to have.
func unprivileged(t *testing.T, cmd *exec.Cmd, paths ...string) *exec.Cmd {
	t.Helper()
	cmd.Dir = "/"
	if os.Geteuid() != 0 {
		return cmd
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	for _, path := range paths {
		if err := os.Chown(path, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	return cmd
}

// postgres is a PostgreSQL of the test's own.
type postgres struct {
	*process
	t *testing.T
	// host is the directory of its socket, over which only the tests log in, and
	// port what its clients connect to on 127.0.0.1.
	host, port string
	// password is the one of its superuser admin.
	password string
}

// startPostgres starts a server that asks for passwords everywhere.
func startPostgres(t *testing.T) *postgres {
	t.Helper()
	if testing.Short() {
		t.Skip("starts PostgreSQL; left out by -short")
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // outside PATH on Debian
	bin := ""
	if len(found) > 0 {
		bin = filepath.Dir(found[len(found)-1])
	} else {
		bin = filepath.Dir(need(t, "initdb"))
	}
	dir := tmpfs(t)
	_, port, err := net.SplitHostPort(freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	p := &postgres{t: t, host: dir, port: port, password: "0.of-admin"}
	data, pwfile := filepath.Join(dir, "data"), filepath.Join(dir, "pwfile")
	write(t, pwfile, p.password)
	initdb := unprivileged(t, exec.CommandContext(t.Context(), filepath.Join(bin, "initdb"), "-D", data, "-U", "admin", "--pwfile="+pwfile,
		"--auth=scram-sha-256", "--no-sync", "--no-locale", "--encoding=UTF8"), dir, pwfile)
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	args := []string{"-D", data, "-k", dir, "-h", "127.0.0.1", "-p", port}
	for _, setting := range []string{"fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=16MB", "max_connections=300",
		"autovacuum=off", "jit=off", "log_line_prefix=%h ", "log_min_messages=fatal"} {
		args = append(args, "-c", setting)
	}
	p.process = startCommand(t, unprivileged(t, exec.Command(filepath.Join(bin, "postgres"), args...)))
	// SIGTERM, which comes after this, would wait for the clients to leave.
	t.Cleanup(func() { _ = p.cmd.Process.Signal(syscall.SIGINT) })
	eventually(t, "PostgreSQL lets the superuser in", func() bool {
		conn, err := p.login(t.Context(), "admin", p.password)
		if err == nil {
			_ = conn.Close(t.Context())
		}
		return err == nil
	})
	return p
}

// login connects over the socket.
func (p *postgres) login(ctx context.Context, user, password string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig("dbname=postgres sslmode=disable")
	if err != nil {
		return nil, err
	}
	cfg.Host, cfg.User, cfg.Password = p.host, user, password
	if _, err := fmt.Sscan(p.port, &cfg.Port); err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, cfg)
}

// statement runs a statement whose names (%I) and literals (%L) the server quotes.
func statement(ctx context.Context, conn *pgx.Conn, format string, args ...string) error {
	var quoted string
	if err := conn.QueryRow(ctx, "SELECT format($1, VARIADIC $2::text[])", format, args).Scan(&quoted); err != nil {
		return fmt.Errorf("format %s: %w", format, err)
	}
	if _, err := conn.Exec(ctx, quoted); err != nil {
		return fmt.Errorf("%s: %w", format, err)
	}
	return nil
}

// refused returns how many logins over TCP PostgreSQL says it has refused, by
// user.
func (p *postgres) refused() map[string]int {
	counts := map[string]int{}
	for line := range strings.Lines(p.out.String()) {
		_, user, found := strings.Cut(line, `127.0.0.1 FATAL:  password authentication failed for user "`)
		if found {
			user, _, _ = strings.Cut(user, `"`)
			counts[user]++
		}
	}
	return counts
}
