package templates

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

func urlRows() []row {
	const from = "OBJECT holds username, password, host, port and dbname, as the secrets of RDS do; its other keys are left out. All keys of PARAMETERS count: those five go before OBJECT's, the others become parameters."
	return []row{
		{names: "postgresUrl", args: "OBJECT [PARAMETERS]", doc: "A postgresql:// URL for libpq and the drivers that follow it. " + from,
			example: `{{ postgresUrl (secret "rds") (dict "host" (var "db_host") "sslmode" "verify-full") }}`, result: "postgresql://app:p%40ss%2Fw@db.internal:5432/app?sslmode=verify-full", fn: postgresURL, min: 1, max: 2},
		{names: "postgresDsn", args: "OBJECT [PARAMETERS]", doc: "The same as keywords and values.",
			example: `{{ postgresDsn (secret "rds") (dict "host" (var "db_host")) }}`, result: "host='db.internal' port='5432' user='app' password='p@ss/w' dbname='app'", fn: postgresDSN, min: 1, max: 2},
		{names: "mysqlDsn", args: "OBJECT [PARAMETERS]", doc: "A data source name for Go's MySQL driver.",
			example: `{{ mysqlDsn (secret "rds") (dict "host" (var "db_host") "port" 3306 "tls" "true") }}`, result: "app:p@ss/w@tcp(db.internal:3306)/app?tls=true", fn: mysqlDSN, min: 1, max: 2},
		{names: "jdbcUrl", args: "OBJECT [PARAMETERS]", doc: "A JDBC URL for the driver of PostgreSQL, MySQL or MariaDB, whichever the key engine says, as in the secrets of RDS. Leave user and password to the program by: omit OBJECT \"username\" \"password\".",
			example: `{{ jdbcUrl (secret "rds") (dict "host" (var "db_host")) }}`, result: "jdbc:postgresql://db.internal:5432/app?user=app&password=p%40ss%2Fw", fn: jdbcURL, min: 1, max: 2},
	}
}

// connection is what a connection string is made of.
type connection struct {
	user, password, host, port, database, engine string
	params                                       [][2]string // sorted
}

// newConnection reads the arguments of the functions for connection strings.
func newConnection(from map[string]any, more []map[string]any) (*connection, error) {
	c := new(connection)
	known := map[string]*string{
		"username": &c.user, "user": &c.user, "password": &c.password, "host": &c.host, "hostname": &c.host,
		"port": &c.port, "dbname": &c.database, "database": &c.database, "engine": &c.engine,
	}
	for _, key := range sortedKeys(known) {
		if v, ok := from[key]; ok && truth(v) {
			s, err := asText(v)
			if err != nil {
				return nil, err
			}
			*known[key] = s
		}
	}
	for _, m := range more {
		for _, key := range sortedKeys(m) {
			s, err := asText(m[key])
			if err != nil {
				return nil, err
			}
			if field := known[key]; field != nil {
				*field = s
			} else {
				c.params = append(c.params, [2]string{key, s})
			}
		}
	}
	return c, c.check()
}

var (
	hostName   = pattern(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	portNumber = pattern(`^[0-9]{1,5}$`)
	paramName  = pattern(`^[A-Za-z_][A-Za-z0-9_.-]*$`)
)

// check refuses what no connection string can hold, and what would be taken for
// another part of it.
func (c *connection) check() error {
	if c.host == "" {
		return &failure{msg: "there is no host", hint: `the secrets that RDS manages hold none; give it as a parameter: dict "host" (var "db_host")`}
	}
	if _, err := netip.ParseAddr(c.host); err != nil && !hostName().MatchString(c.host) && (!c.local() || without(c.host, "", forbidden{"()'\\?\x00\n", ""}) != nil) {
		return fail("the host is neither a name, nor an address, nor the path of a socket")
	}
	if c.port != "" && !portNumber().MatchString(c.port) {
		return fail("the port is not a number")
	}
	values := []string{c.user, c.password, c.database}
	for _, p := range c.params {
		if !paramName().MatchString(p[0]) {
			return fail("a parameter has a name that is none: letters, digits and _.-")
		}
		values = append(values, p[1])
	}
	if slices.ContainsFunc(values, func(s string) bool { return strings.ContainsRune(s, 0) }) {
		return fail("a NUL byte cannot stand in a connection string")
	}
	return nil
}

// local reports whether the host is the path of a socket.
func (c *connection) local() bool { return strings.HasPrefix(c.host, "/") }

// address returns host and port as they stand in a URL.
func (c *connection) address() string {
	host := c.host
	if strings.Contains(host, ":") {
		host = "[" + strings.ReplaceAll(host, "%", "%25") + "]" // RFC 6874
	}
	if c.port != "" {
		host += ":" + c.port
	}
	return host
}

// percent escapes all but what RFC 3986 calls unreserved. A blank becomes %20,
// which everybody decodes, and not +.
func percent(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// query returns parameters as they stand in a URL, the question mark included.
func query(params [][2]string) string {
	var b strings.Builder
	for i, p := range params {
		b.WriteByte("?&"[min(i, 1)])
		b.WriteString(percent(p[0]) + "=" + percent(p[1]))
	}
	return b.String()
}

// postgresURL follows section 34.1.1.2 of PostgreSQL's manual, connection URIs.
func postgresURL(from map[string]any, more ...map[string]any) (string, error) {
	c, err := newConnection(from, more)
	if err != nil {
		return "", err
	}
	var login string
	if c.user != "" {
		login = percent(c.user)
		if c.password != "" {
			login += ":" + percent(c.password)
		}
		login += "@"
	} else if c.password != "" {
		c.params = append([][2]string{{"password", c.password}}, c.params...)
	}
	address := c.address()
	if c.local() {
		address = ""
		if c.port != "" {
			c.params = append([][2]string{{"port", c.port}}, c.params...)
		}
		c.params = append([][2]string{{"host", c.host}}, c.params...)
	}
	return "postgresql://" + login + address + "/" + percent(c.database) + query(c.params), nil
}

// postgresDSN follows section 34.1.1.1, keyword/value connection strings.
func postgresDSN(from map[string]any, more ...map[string]any) (string, error) {
	c, err := newConnection(from, more)
	if err != nil {
		return "", err
	}
	pairs := append([][2]string{{"host", c.host}, {"port", c.port}, {"user", c.user}, {"password", c.password}, {"dbname", c.database}}, c.params...)
	escape := strings.NewReplacer(`\`, `\\`, "'", `\'`)
	var out []string
	for i, p := range pairs {
		if p[1] != "" || i >= 5 {
			out = append(out, p[0]+"='"+escape.Replace(p[1])+"'")
		}
	}
	return strings.Join(out, " "), nil
}

// mysqlDSN follows github.com/go-sql-driver/mysql, which looks for the last /
// and the last @ before it, and takes user and password as they are.
func mysqlDSN(from map[string]any, more ...map[string]any) (string, error) {
	c, err := newConnection(from, more)
	if err != nil {
		return "", err
	}
	if strings.Contains(c.user, ":") {
		return "", fail("the name of a user cannot have a colon, which ends it")
	}
	login := c.user
	if c.password != "" {
		login += ":" + c.password
	}
	if login != "" {
		login += "@"
	}
	address := "tcp(" + c.address() + ")"
	if c.local() {
		address = "unix(" + c.host + ")"
	}
	return login + address + "/" + url.PathEscape(c.database) + query(c.params), nil
}

// jdbcEngines are the drivers by the names that RDS gives to engines.
var jdbcEngines = map[string]string{
	"postgres": "postgresql", "postgresql": "postgresql", "aurora-postgresql": "postgresql",
	"mysql": "mysql", "aurora-mysql": "mysql", "aurora": "mysql", "mariadb": "mariadb",
}

func jdbcURL(from map[string]any, more ...map[string]any) (string, error) {
	c, err := newConnection(from, more)
	if err != nil {
		return "", err
	}
	driver := jdbcEngines[c.engine]
	switch {
	case c.engine == "":
		return "", &failure{msg: "the engine is not known", hint: `give it as a parameter: dict "engine" "postgres"`}
	case driver == "":
		return "", fail("there is no JDBC URL for the engine: it is one of " + strings.Join(sortedKeys(jdbcEngines), ", "))
	case c.local():
		return "", fail("a JDBC URL cannot hold the path of a socket")
	}
	var login [][2]string
	if c.user != "" {
		login = append(login, [2]string{"user", c.user})
	}
	if c.password != "" {
		login = append(login, [2]string{"password", c.password})
	}
	prefix, params := "jdbc:"+driver+"://"+c.address()+"/", append(login, c.params...)
	if driver != "mariadb" {
		if err := trimmed(c.database, "the name of a database"); err != nil {
			return "", err
		}
		return prefix + percent(c.database) + query(params), nil
	}
	return mariadbURL(prefix, c.database, params)
}

// mariadbURL writes what MariaDB's driver reads: it undoes no escapes, and looks
// for the places of its separators only.
func mariadbURL(prefix, database string, params [][2]string) (string, error) {
	if strings.ContainsAny(database, "?/") {
		return "", fail("the name of a database with ? or / cannot stand in a URL for MariaDB's driver")
	}
	var b strings.Builder
	b.WriteString(prefix + database)
	for i, p := range params {
		if strings.Contains(p[1], "&") || strings.Contains(p[1], "address=(") {
			return "", &failure{msg: "a value with & cannot stand in a URL for MariaDB's driver, which undoes no escapes", hint: `leave user and password to the program: omit OBJECT "username" "password"`}
		}
		b.WriteByte("?&"[min(i, 1)])
		b.WriteString(p[0] + "=" + p[1])
	}
	return b.String(), nil
}
