package templates_test

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
	"gopkg.in/ini.v1"
	"gopkg.in/yaml.v3"

	"secretsd/templates"
)

// eachDoc makes a parser of one for a single document.
func eachDoc(read func(doc string) (string, error)) func(*testing.T, []string) []string {
	return func(t *testing.T, docs []string) []string {
		t.Helper()
		got := make([]string, len(docs))
		for i, doc := range docs {
			var err error
			if got[i], err = read(doc); err != nil {
				t.Errorf("%.200q: %v", doc, err)
			}
		}
		return got
	}
}

func TestDotenv(t *testing.T) {
	parse := python(t, "dotenv", "import io\ndef read(doc):\n  d = dotenv.dotenv_values(stream=io.StringIO(doc))\n  return d['K'] if list(d) == ['A', 'K', 'Z'] and d['A'] == d['Z'] == '1' else repr(d)")
	holds(t, "dotenvQuote", "A=1\nK={{ dotenvQuote (secret \"s\") }}\nZ=1\n", "", parse)
	holds(t, "toDotenv", `{{ dict "K" (secret "s") "A" 1 "Z" 1 | toDotenv }}`, "", parse)
}

func TestYAML(t *testing.T) {
	parsers := map[string]func(*testing.T, []string) []string{
		"yaml.v3": eachDoc(func(doc string) (string, error) {
			var v struct{ K string }
			dec := yaml.NewDecoder(strings.NewReader(doc))
			dec.KnownFields(true)
			var any map[string]any // a string without being told so
			if err := yaml.Unmarshal([]byte(doc), &any); err != nil {
				return "", err
			}
			s, _ := any["k"].(string)
			return s, dec.Decode(&v)
		}),
		"PyYAML": python(t, "yaml", "def read(doc):\n  v = yaml.safe_load(doc)\n  return v['k'] if list(v) == ['k'] and type(v['k']) == str else repr(v)"),
	}
	for name, parse := range parsers {
		t.Run(name, func(t *testing.T) {
			holds(t, "toYAML", `{{ dict "k" (toString (secret "s")) | toYAML }}`, "", parse)
			holds(t, "yamlQuote", `k: {{ yamlQuote (secret "s") }}`, "", parse)
		})
	}
	keys := python(t, "yaml", "def read(doc):\n  v = yaml.safe_load(doc)\n  return list(v)[0] if list(v.values()) == [[{'a': [1]}]] else repr(v)")
	holds(t, "toYAML", `{{ dict (toString (secret "s")) (list (dict "a" (list 1))) | toYAML }}`, "", keys)
}

func TestTOML(t *testing.T) {
	parsers := map[string]func(*testing.T, []string) []string{
		"go-toml": eachDoc(func(doc string) (string, error) {
			var v struct{ K string }
			err := toml.Unmarshal([]byte(doc), &v)
			return v.K, err
		}),
		"tomllib": python(t, "tomllib", "def read(doc):\n  return tomllib.loads(doc)['k']"),
	}
	for name, parse := range parsers {
		t.Run(name, func(t *testing.T) {
			holds(t, "toTOML", `{{ dict "k" (toString (secret "s")) | toTOML }}`, "", parse)
			holds(t, "tomlQuote", `k = {{ tomlQuote (secret "s") }}`, "", parse)
		})
	}
	keys := python(t, "tomllib", "def read(doc):\n  v = tomllib.loads(doc)\n  return list(v)[0] if list(v.values()) == [{'a': [1, {'b': 'x'}]}] else repr(v)")
	holds(t, "toTOML", `{{ dict (toString (secret "s")) (dict "a" (list 1 (dict "b" "x"))) | toTOML }}`, "", keys)
}

// TestStructuresSurvive writes JSON in other formats and reads it back there.
func TestStructuresSurvive(t *testing.T) {
	const object = `{"a":{"b":[1,2.5,"x",true,{"c":-3,"d":1e3,"e":1.0,"big":9007199254740993}],"empty":{},"none":[]},"n":123456789012345678,"s":"y"}`
	for name, row := range map[string]struct{ text, module, load string }{
		"YAML": {`{{ secret "s" | toYAML }}`, "yaml", "yaml.safe_load"},
		"TOML": {`{{ secret "s" | toTOML }}`, "tomllib", "tomllib.loads"},
	} {
		parse := python(t, row.module, "def read(doc):\n  return json.dumps("+row.load+"(doc))")
		got := parse(t, []string{mustRender(t, secrets{"s": object}, row.text)})[0]
		var have, want any
		if err := json.Unmarshal([]byte(got), &have); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(object), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if !strings.Contains(got, "9007199254740993") {
			t.Errorf("%s: a large number lost digits: %s", name, got)
		}
	}
}

func TestINI(t *testing.T) {
	const text = "[s]\nk = {{ %s (secret \"s\") }}\nz = 1\n"
	strict := strings.ReplaceAll(text, "%s", "iniValue")
	const refused = "\"#$%';\\`"
	withConfigparser := func(parser string) func(*testing.T, []string) []string {
		return python(t, "configparser", "def read(doc):\n  c = configparser."+parser+"\n  c.read_string(doc)\n  return c['s']['k'] if c['s']['z'] == '1' else repr(dict(c['s']))")
	}
	holds(t, "iniValue", strict, refused, withConfigparser("ConfigParser()"))
	holds(t, "iniValue", strict, refused, withConfigparser("RawConfigParser(inline_comment_prefixes=('#', ';'))"))
	holds(t, "iniValue", strict, refused, withConfigparser("ConfigParser(interpolation=configparser.ExtendedInterpolation())"))
	holds(t, "iniValue", strict, refused, eachDoc(func(doc string) (string, error) {
		f, err := ini.Load([]byte(doc))
		if err != nil {
			return "", err
		}
		return f.Section("s").Key("k").String(), nil
	}))
	holds(t, "iniPython", strings.ReplaceAll(text, "%s", "iniPython"), "", withConfigparser("ConfigParser()"))
}

func TestXML(t *testing.T) {
	var v struct {
		A string `xml:"a,attr"`
		B string `xml:"b,attr"`
		T string `xml:",chardata"`
	}
	text := func(doc string) (string, error) { v.T = ""; err := xml.Unmarshal([]byte(doc), &v); return v.T, err }
	attrs := func(doc string) (string, error) {
		err := xml.Unmarshal([]byte(doc), &v)
		if v.A != v.B {
			t.Errorf("%.200q: %.200q and %.200q differ", doc, v.A, v.B)
		}
		return v.A, err
	}
	const inText, inAttr = `<e>{{ xmlText (secret "s") }}</e>`, `<e a="{{ xmlAttr (secret "s") }}" b='{{ xmlAttr (secret "s") }}'/>`
	holds(t, "xmlText", inText, "", eachDoc(text))
	holds(t, "xmlAttr", inAttr, "", eachDoc(attrs))
	const expat = "import xml.etree.ElementTree as e\ndef read(doc):\n  r = e.fromstring(doc)\n  return "
	holds(t, "xmlText", inText, "", python(t, "xml", expat+"r.text or ''"))
	holds(t, "xmlAttr", inAttr, "", python(t, "xml", expat+"r.get('a') if r.get('a') == r.get('b') else repr(r.attrib)"))
}

func TestShell(t *testing.T) {
	for _, shell := range []string{"sh", "bash"} {
		path := tool(t, shell)
		// Each document is read by one shell, into a fresh variable.
		read := func(t *testing.T, docs []string) []string {
			dir := t.TempDir()
			for i, doc := range docs {
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%04d", i)), []byte(doc), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			out := run(t, "", path, "-c", "for f in "+dir+`/*; do unset K; . "$f"; printf '%s\0' "$K"; done`)
			return strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")
		}
		holds(t, "shellQuote", `K={{ shellQuote (secret "s") }}`, "", read)
		holds(t, "toShell", `{{ dict "K" (secret "s") "a" 1 | toShell }}`, "", read)
	}
}

func TestDockerConfig(t *testing.T) {
	holds(t, "dockerConfig", `{{ dockerConfig "r.internal:5000" "app" (secret "s") "other" "x" "y" }}`, "", eachDoc(func(doc string) (string, error) {
		var config struct {
			Auths map[string]struct{ Auth []byte }
		}
		err := json.Unmarshal([]byte(doc), &config)
		user, password, _ := strings.Cut(string(config.Auths["r.internal:5000"].Auth), ":")
		if user != "app" || len(config.Auths) != 2 {
			t.Errorf("%.200s: user %q", doc, user)
		}
		return password, err
	}))
	podman := tool(t, "podman")
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(mustRender(t, secrets{}, `{{ dockerConfig "r.internal:5000" "it's me" "p:w" }}`)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := run(t, "", podman, "login", "--get-login", "--authfile", file, "r.internal:5000"); got != "it's me\n" {
		t.Errorf("podman reads the user %q", got)
	}
}

// TestWhatAFormatCannotHoldIsAnError holds the words.
func TestWhatAFormatCannotHoldIsAnError(t *testing.T) {
	s := secrets{"obj": `{"a b":"x","list":[1],"none":null,"nul":"\u0000","ok":"v"}`}
	for text, want := range map[string]string{
		`{{ dotenvQuote "a\x00" }}`:                                  "dotenvQuote: a NUL byte cannot stand in a .env file",
		`{{ dotenvQuote "${'\"" }}`:                                  "dotenvQuote: no way of writing the text is read alike by all readers of .env files: it has quotes, backslashes or a $ in an unlucky mixture",
		`{{ toDotenv (pick (secret "obj") "a b") }}`:                 "toDotenv: a key has no form here: its name is not one of a variable: letters, digits and _; the argument depends on secret \"obj\"",
		`{{ toShell (secret "obj") }}`:                               `key "a b" of secret "obj" has no form here: its name is not one of a variable: letters, digits and _`,
		`{{ toShell (omit (secret "obj") "a b") }}`:                  "toShell: a key is a list, not a text or number; the argument depends on secret \"obj\"",
		`{{ toProperties (pick (secret "obj") "none") }}`:            `key none of secret "obj" is JSON null`,
		`{{ toShell (pick (secret "obj") "nul") }}`:                  "toShell: a key has no form here: a NUL byte cannot stand in a word of a shell; the argument depends on secret \"obj\"",
		`{{ xmlText "\x01" }}`:                                       "xmlText: a control character cannot stand in XML",
		`{{ xmlAttr "\xff" }}`:                                       "xmlAttr: the text is not valid UTF-8, which XML cannot hold",
		`{{ toTOML (secret "obj") }}`:                                "toTOML: TOML has no null; the argument is secret \"obj\"",
		`{{ toTOML (list 1) }}`:                                      "toTOML: TOML is a table: a list has no form in it",
		`{{ toTOML (fromJson "{\"a\":123456789012345678901}")}}`:     "toTOML: a number is too large for TOML",
		`{{ toYAML "\xff" }}`:                                        "toYAML: the text is not valid UTF-8, which JSON cannot hold",
		`{{ iniValue "a;b" }}`:                                       "iniValue: a # or ; cannot stand in an INI file that every reader takes alike",
		`{{ iniPython " a" }}`:                                       "iniPython: white space at the ends cannot stand in an INI file",
		`{{ nginxQuote "a$b" }}`:                                     "nginxQuote: a $ begins a variable of nginx and cannot be escaped",
		`{{ nginxQuote (repeat 5000 "a") }}`:                         "nginxQuote: the text is longer than a parameter of nginx may be",
		`{{ myCnfQuote (repeat 5000 "a") }}`:                         "myCnfQuote: the text is longer than a line of an option file may be",
		`{{ pgpass "h" 1 "d" "u" "" }}`:                              "pgpass: an empty field means nothing in .pgpass",
		`{{ pgpass "h" 1 "d" "u" "a\nb" }}`:                          "pgpass: a line break cannot stand in .pgpass",
		`{{ pgbouncerUser "u" (repeat 5000 "a") }}`:                  "pgbouncerUser: the password is longer than pgbouncer allows",
		`{{ dockerConfig "r" "a:b" "c" }}`:                           "dockerConfig: the name of a user is empty or has a colon, which ends it",
		`{{ dockerConfig "r" "a" "c" "x" }}`:                         "dockerConfig: each registry takes three arguments: REGISTRY USER PASSWORD",
		`{{ postgresUrl (dict "username" "u") }}`:                    "postgresUrl: there is no host",
		`{{ postgresUrl (dict "host" "a b") }}`:                      "postgresUrl: the host is neither a name, nor an address, nor the path of a socket",
		`{{ postgresUrl (dict "host" "a" "port" "x") }}`:             "postgresUrl: the port is not a number",
		`{{ mysqlDsn (dict "host" "h" "user" "a:b") }}`:              "mysqlDsn: the name of a user cannot have a colon, which ends it",
		`{{ jdbcUrl (dict "host" "h") }}`:                            "jdbcUrl: the engine is not known",
		`{{ jdbcUrl (dict "host" "h" "engine" "oracle-se2") }}`:      "jdbcUrl: there is no JDBC URL for the engine: it is one of aurora, aurora-mysql, aurora-postgresql, mariadb, mysql, postgres, postgresql",
		`{{ pemKey "x" }}`:                                           "pemKey: there is no PEM block",
		`{{ pemKey "-----BEGIN X-----\\nAA\\n-----END X-----\\n" }}`: "pemKey: the PEM has no line breaks",
		`{{ pkcs12KeyStore "x" "y" "z" }}`:                           "pkcs12KeyStore: there is no PEM block",
		`{{ parseYAML "a: [" }}`:                                     "parseYAML: the text is not valid YAML",
		`{{ parseYAML "a: 1\n---\nb: 2" }}`:                          "parseYAML: the text holds more than one YAML document",
	} {
		_, err := render(s, templates.Options{Name: "m", Text: text})
		if err == nil || strings.TrimPrefix(err.Error(), "m:1:4: ") != want {
			t.Errorf("%s\n gives %v\n want  %s", text, err, want)
		}
	}
}
