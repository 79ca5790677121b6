package templates_test

import (
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgpassfile"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestPgpassAsDriversReadIt(t *testing.T) {
	holds(t, "pgpass", "# comment\n{{ pgpass (secret \"s\") 5432 \"*\" (secret \"s\") (secret \"s\") }}\n*:*:*:*:other\n", "", func(t *testing.T, docs []string) []string {
		held, _ := rendered(t, "pgpass", `{{ pgpass (secret "s") 5432 "*" (secret "s") (secret "s") }}`, hostile())
		got := make([]string, len(docs))
		for i, doc := range docs {
			// Go's reader ends at 64 KiB, trims lines, and knows no escaped #; libpq,
			// whose format this is, takes all of them (TestPsql).
			if len(doc) > 60_000 || strings.TrimSpace(held[i]) != held[i] || strings.HasPrefix(held[i], "#") {
				got[i] = held[i]
				continue
			}
			file, err := pgpassfile.ParsePassfile(strings.NewReader(doc))
			if err != nil {
				t.Fatal(err)
			}
			got[i] = file.FindPassword(held[i], "5432", "any", held[i])
		}
		return got
	})
}

// TestPostgresStrings has pgx read each value as user, password, database and
// parameter; TestPsql has libpq read them.
func TestPostgresStrings(t *testing.T) {
	const arguments = ` (dict "username" (secret "s") "password" (secret "s") "engine" "ignored") (dict "host" "db.internal" "port" 1234 "dbname" (secret "s") "application_name" (secret "s")) }}`
	read := func(t *testing.T, doc string) (string, error) {
		c, err := pgconn.ParseConfig(doc)
		if err != nil {
			return "", err
		}
		if c.Host != "db.internal" || c.Port != 1234 {
			t.Errorf("%.200q: the address is %s:%d", doc, c.Host, c.Port)
		}
		if c.Password == "" { // no value: others come from the environment
			return "", nil
		}
		if c.User != c.Password || c.Database != c.Password || c.RuntimeParams["application_name"] != c.Password {
			t.Errorf("%.200q: the parts differ: %.200q", doc, []string{c.User, c.Password, c.Database, c.RuntimeParams["application_name"]})
		}
		return c.Password, nil
	}
	for _, function := range []string{"postgresUrl", "postgresDsn"} {
		holds(t, function, "{{ "+function+arguments, "", eachDoc(func(doc string) (string, error) { return read(t, doc) }))
	}
	for text, want := range map[string]string{
		`{{ postgresUrl (dict "host" "::1" "user" "u" "password" "p") }}`:              "postgresql://u:p@[::1]/",
		`{{ postgresUrl (dict "host" "/run/pg" "port" 1 "dbname" "d/x" "user" "u") }}`: "postgresql://u@/d%2Fx?host=%2Frun%2Fpg&port=1",
		`{{ postgresUrl (dict "host" "h" "password" "p") (dict "a" "b c") }}`:          "postgresql://h/?password=p&a=b%20c",
		`{{ postgresDsn (dict "host" "/run/pg" "password" "a'b\\c") }}`:                `host='/run/pg' password='a\'b\\c'`,
		`{{ mysqlDsn (dict "host" "/run/mysql.sock" "user" "u") }}`:                    "u@unix(/run/mysql.sock)/",
		`{{ mysqlDsn (dict "host" "::1" "port" 3306) }}`:                               "tcp([::1]:3306)/",
		`{{ jdbcUrl (dict "host" "::1" "port" "1" "engine" "aurora-mysql") }}`:         "jdbc:mysql://[::1]:1/",
		`{{ jdbcUrl (omit (secret "o") "password") (dict "ssl" true) }}`:               "jdbc:mariadb://h/d?user=u&ssl=true",
	} {
		got := mustRender(t, secrets{"o": `{"engine":"mariadb","host":"h","username":"u","password":"p","dbname":"d"}`}, text)
		if got != want {
			t.Errorf("%s gives %s, want %s", text, got, want)
		}
	}
}

func TestMySQLStrings(t *testing.T) {
	holds(t, "mysqlDsn", `{{ mysqlDsn (dict "username" "app@x/y" "password" (secret "s")) (dict "host" "db.internal" "port" 1234 "dbname" (secret "s") "param" (secret "s") "loc" "Europe/Berlin") }}`, "", eachDoc(func(doc string) (string, error) {
		c, err := mysql.ParseDSN(doc)
		if err != nil {
			return "", err
		}
		if c.Net != "tcp" || c.Addr != "db.internal:1234" || c.User != "app@x/y" || c.DBName != c.Passwd || c.Params["param"] != c.Passwd || c.Loc.String() != "Europe/Berlin" {
			t.Errorf("%.200q is read as %+v", doc, c)
		}
		return c.Passwd, nil
	}))
	holds(t, "mysqlDsn", `{{ mysqlDsn (dict "username" (secret "s") "password" "p") (dict "host" "db.internal") }}`, ":", eachDoc(func(doc string) (string, error) {
		c, err := mysql.ParseDSN(doc)
		if err != nil {
			return "", err
		}
		return c.User, nil
	}))
}
