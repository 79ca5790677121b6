package templates

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

func databaseRows() []row {
	return []row{
		{names: "pgpass", args: "HOST PORT DATABASE USER PASSWORD", doc: "A line of PostgreSQL's .pgpass; * as one of the first four matches everything.",
			example: `{{ pgpass "db.internal" 5432 "*" (secret "db").user "a:b\\" }}`, result: `db.internal:5432:*:app:a\:b\\`, fn: pgpass},
		{names: "pgbouncerUser", args: "USER PASSWORD", doc: "A line of pgbouncer's userlist.txt; PASSWORD may be a SCRAM or MD5 verifier.",
			example: `{{ pgbouncerUser (secret "db").user (secret "db").password }}`, result: `"app" "it's ""9"" & <more>"`, fn: pgbouncerUser},
		{names: "dockerConfig", args: "REGISTRY USER PASSWORD...", doc: "The config.json with which docker, podman and Kubernetes log in to registries; three arguments for each.",
			example: `{{ dockerConfig "registry.internal" "app" "pw" }}`, result: `{"auths":{"registry.internal":{"auth":"YXBwOnB3"}}}`, fn: dockerConfig, min: 3},
	}
}

// pgpass escapes the two characters that mean something
// (https://www.postgresql.org/docs/current/libpq-pgpass.html).
func pgpass(host, port, database, user, password string) (string, error) {
	fields := []string{host, port, database, user, password}
	escape := strings.NewReplacer(`\`, `\\`, ":", `\:`)
	for i, s := range fields {
		if s == "" {
			return "", &failure{msg: "an empty field means nothing in .pgpass", hint: `"*" matches everything; an empty password is none`}
		}
		if err := without(s, ".pgpass", noNUL, noBreaks); err != nil {
			return "", err
		}
		fields[i] = escape.Replace(s)
	}
	if fields[0][0] == '#' {
		fields[0] = `\` + fields[0] // no comment
	}
	return strings.Join(fields, ":"), nil
}

// pgbouncerUser doubles quotes. One entry that is too long ends the reading of
// the file, so that all users below it are lost (loader.c); the limits are those
// of pgbouncer 1.16 to 1.20, later ones allow more.
func pgbouncerUser(user, password string) (string, error) {
	quoted := func(s, what string, most int) (string, error) {
		if err := without(s, "userlist.txt", noNUL); err != nil {
			return "", err
		}
		s = strings.ReplaceAll(s, `"`, `""`)
		if len(s) > most {
			return "", fail("the " + what + " is longer than pgbouncer allows")
		}
		return `"` + s + `"`, nil
	}
	u, err := quoted(user, "user", 63)
	if err != nil {
		return "", err
	}
	p, err := quoted(password, "password", 2000)
	return u + " " + p, err
}

func dockerConfig(args ...string) (string, error) {
	if len(args)%3 != 0 {
		return "", fail("each registry takes three arguments: REGISTRY USER PASSWORD")
	}
	auths := make(map[string]any, len(args)/3)
	for i := 0; i < len(args); i += 3 {
		registry, user, password := args[i], args[i+1], args[i+2]
		if registry == "" || !utf8.ValidString(registry) {
			return "", fail("a registry has no name")
		}
		if user == "" || strings.Contains(user, ":") { // RFC 7617, section 2
			return "", fail("the name of a user is empty or has a colon, which ends it")
		}
		if err := without(user+password, "a registry's login", noNUL); err != nil {
			return "", err
		}
		if _, twice := auths[registry]; twice {
			return "", fail("a registry is named twice")
		}
		auths[registry] = map[string]any{"auth": base64.StdEncoding.EncodeToString([]byte(user + ":" + password))}
	}
	return encodeJSON(map[string]any{"auths": auths}, "")
}
