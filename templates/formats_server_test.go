package templates_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// start runs a server until the test ends, and waits until it listens on the
// socket.
func start(t *testing.T, socket string, cmd *exec.Cmd) {
	t.Helper()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for {
		c, err := net.Dial("unix", socket)
		if err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-tick.C:
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended: %v\n%s", cmd.Path, err, out.String())
		case <-deadline.C:
			t.Fatalf("%s does not listen on %s: %v", cmd.Path, socket, err)
		}
	}
}

// shortDir returns a private directory that a socket's path has room for, and
// that any user can reach.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd") // t.TempDir's is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestNginx has nginx answer each value, as a directive and as the value of a
// map, in one configuration.
func TestNginx(t *testing.T) {
	nginx := tool(t, "nginx")
	parse := func(inMap bool) func(*testing.T, []string) []string {
		return func(t *testing.T, docs []string) []string {
			dir := shortDir(t)
			socket := filepath.Join(dir, "s")
			var maps, locations strings.Builder
			for i, doc := range docs {
				answer := doc
				if inMap {
					answer = fmt.Sprintf("$v%d", i)
					fmt.Fprintf(&maps, "map $uri %s { default %s; }\n", answer, doc)
				}
				fmt.Fprintf(&locations, "location = /%d { return 200 %s; }\n", i, answer)
			}
			var temps strings.Builder
			for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
				fmt.Fprintf(&temps, "%s_temp_path %s/%s;\n", kind, dir, kind)
			}
			conf := fmt.Sprintf("daemon off; master_process off; pid %s/pid; error_log stderr;\nevents { worker_connections 64; }\nhttp { access_log off; variables_hash_max_size 8192;\n%s%sserver { listen unix:%s;\n%s} }\n",
				dir, temps.String(), maps.String(), socket, locations.String())
			file := filepath.Join(dir, "nginx.conf")
			if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			start(t, socket, exec.CommandContext(t.Context(), nginx, "-p", dir, "-e", "stderr", "-c", file))
			client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}}
			defer client.CloseIdleConnections()
			got := make([]string, len(docs))
			for i := range docs {
				got[i] = ask(t, &client, "http://n/"+strconv.Itoa(i))
			}
			return got
		}
	}
	holds(t, "nginxQuote", `{{ nginxQuote (secret "s") }}`, "$", parse(false))
	holds(t, "nginxQuote", `{{ nginxQuote (secret "s") }}`, "$", parse(true))
}

func ask(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestMyCnf(t *testing.T) {
	defaults := tool(t, "my_print_defaults")
	holds(t, "myCnfQuote", "[g]\nk={{ myCnfQuote (secret \"s\") }}\nz=1\n", "", eachDoc(func(doc string) (string, error) {
		file := filepath.Join(t.TempDir(), "my.cnf")
		if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
			return "", err
		}
		out := run(t, "", defaults, "--defaults-file="+file, "g")
		value, ok := strings.CutSuffix(out, "\n--z=1\n")
		if !ok {
			return "", fmt.Errorf("the next option is lost: %q", out)
		}
		return strings.TrimPrefix(value, "--k="), nil
	}))
}

// bouncer runs pgbouncer over a userlist whose users may all use its console.
// The directory's name has the characters that .pgpass escapes.
func bouncer(t *testing.T, users []string, userlist string) (dir string) {
	t.Helper()
	pgbouncer := tool(t, "pgbouncer")
	dir = filepath.Join(shortDir(t), `a:b\c`)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"userlist.txt":  userlist,
		"pgbouncer.ini": fmt.Sprintf("[pgbouncer]\nlisten_addr =\nlisten_port = 6432\nunix_socket_dir = %s\nauth_type = plain\nauth_file = %s/userlist.txt\nadmin_users = %s\n", dir, dir, strings.Join(users, ",")),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), pgbouncer, filepath.Join(dir, "pgbouncer.ini"))
	if os.Geteuid() == 0 { // it refuses to run as root
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	start(t, filepath.Join(dir, ".s.PGSQL.6432"), cmd)
	return dir
}

// login reports whether pgbouncer knows the user by the password.
func login(t *testing.T, dir, user, password string) bool {
	t.Helper()
	cfg, err := pgconn.ParseConfig("host=/x port=6432 sslmode=disable dbname=pgbouncer user=x")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Host, cfg.User, cfg.Password = dir, user, password
	conn, err := pgconn.ConnectConfig(t.Context(), cfg)
	if err != nil {
		var refused *pgconn.PgError
		if !errors.As(err, &refused) {
			t.Fatal(err)
		}
		return false
	}
	_ = conn.Close(t.Context())
	return true
}

func TestPgbouncer(t *testing.T) {
	names := []string{`a"b`, "é", "it's", `a\b`, "a#b", `""`}
	var users []string
	var list strings.Builder
	held, docs := rendered(t, "pgbouncerUser", `{{ pgbouncerUser "USER" (secret "s") }}`, hostile())
	for i, doc := range docs {
		user := "u" + strconv.Itoa(i)
		users = append(users, user)
		list.WriteString(strings.Replace(doc, "USER", user, 1) + "\n")
	}
	held2, docs := rendered(t, "pgbouncerUser", `{{ pgbouncerUser (secret "s") "p" }}`, names)
	users = append(users, held2...)
	list.WriteString(strings.Join(docs, "\n"))
	dir := bouncer(t, users, list.String())
	for i, password := range held {
		if password == "" {
			continue // pgbouncer lets nobody in without one
		}
		if user := users[i]; !login(t, dir, user, password) {
			t.Errorf("pgbouncer does not know the password %.200q", password)
		}
	}
	for _, name := range names {
		if !login(t, dir, name, "p") {
			t.Errorf("pgbouncer does not know the user %q", name)
		}
	}
	if login(t, dir, "u1", "wrong") {
		t.Error("pgbouncer takes any password: the test proves nothing")
	}
	if len(held) < 400 {
		t.Errorf("only %d values are held", len(held))
	}
}

// TestPsql logs in to pgbouncer by psql, with what it finds in a .pgpass and in
// both kinds of connection strings.
func TestPsql(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts psql a hundred times")
	}
	psql := tool(t, "psql")
	var users, passwords []string
	var list strings.Builder
	for i, password := range hostile()[:120] { // those that are not random
		line, err := render(secrets{"s": password}, optionsOf(fmt.Sprintf(`{{ pgbouncerUser "u%d" (secret "s") }}`, i)))
		if err != nil || !strings.ContainsAny(password, "'\"\\:#%$&?@/= \té☃") {
			continue
		}
		users, passwords = append(users, "u"+strconv.Itoa(i)), append(passwords, password)
		list.WriteString(line + "\n")
	}
	dir := bouncer(t, users, list.String())
	pgpass := filepath.Join(t.TempDir(), "pgpass")
	try := func(user, password, lines string, args ...string) {
		t.Helper()
		if err := os.WriteFile(pgpass, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), psql, append([]string{"-w", "-X", "-q", "-c", "SHOW VERSION"}, args...)...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "PGPASSFILE=" + pgpass, "PGSSLMODE=disable"}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("psql does not log in with %.200q by %.200q: %v %s", password, append(args, lines), err, out)
		}
	}
	logins := 0
	for i, user := range users {
		s := secrets{"s": passwords[i], "dir": dir, "user": user}
		if line, err := render(s, optionsOf(`{{ pgpass (secret "dir") 6432 "*" (secret "user") (secret "s") }}`)); err == nil {
			try(user, passwords[i], "# a comment\nother:*:*:*:x\n"+line+"\n"+`*:*:*:*:wrong`, "-h", dir, "-p", "6432", "-U", user, "pgbouncer")
			logins++
		}
		if i%4 != 0 {
			continue // pgx has read all of them
		}
		if url, err := render(s, optionsOf(`{{ postgresUrl (dict "password" (secret "s")) (dict "host" "/x" "port" 6432 "user" (secret "user") "dbname" "pgbouncer" "application_name" (secret "s")) }}`)); err == nil {
			try(user, passwords[i], "", strings.Replace(url, "host=%2Fx", "host="+strings.NewReplacer("/", "%2F", ":", "%3A", `\`, "%5C").Replace(dir), 1))
		}
		if dsn, err := render(s, optionsOf(`{{ postgresDsn (dict "password" (secret "s")) (dict "host" "/x" "port" 6432 "user" (secret "user") "dbname" "pgbouncer" "application_name" (secret "s")) }}`)); err == nil {
			try(user, passwords[i], "", strings.Replace(dsn, "host='/x'", "host='"+strings.ReplaceAll(dir, `\`, `\\`)+"'", 1))
		}
	}
	if logins < 40 {
		t.Errorf("only %d logins by .pgpass", logins)
	}
	cmd := exec.CommandContext(t.Context(), psql, "-w", "-X", "-h", dir, "-p", "6432", "-U", users[0], "-c", "SHOW VERSION", "pgbouncer")
	cmd.Env = []string{"PGPASSWORD=wrong"}
	if cmd.Run() == nil {
		t.Error("psql logs in with a wrong password: the test proves nothing")
	}
}
