package templates

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/Masterminds/sprig/v3"
)

// Functions returns the function table, the one place where functions are
// documented: by group, then in the table's order. FUNCTIONS.md is made of it,
// and a test executes every example.
func Functions() []Function {
	var out []Function
	for _, f := range table() {
		out = append(out, f.Function)
	}
	return out
}

// functions returns the functions by name. It is built on the first use.
var functions = sync.OnceValue(func() map[string]*function {
	m := make(map[string]*function)
	for _, f := range table() {
		m[f.Name] = f
	}
	// consul-template gives every function of sprig a second name; templates
	// that come from there keep working.
	for name := range library() {
		// Where the two differ, the table has sprig's function under that name.
		if f := m[name]; f != nil && m["sprig_"+name] == nil {
			m["sprig_"+name] = f
		}
	}
	return m
})

// library returns sprig's functions. Only those that the table names are
// reached by templates.
var library = sync.OnceValue(sprig.GenericFuncMap)

// table returns all rows, those for second names included.
var table = sync.OnceValue(func() []*function {
	var out []*function
	add := func(group string, rows []row) {
		for _, r := range rows {
			out = append(out, r.functions(group)...)
		}
	}
	add("secrets", secretRows())
	add("variables and files", includeRows())
	add("JSON", jsonRows())
	add("YAML and TOML", yamlRows())
	add("YAML and TOML", tomlRows())
	add("encoding and quoting", encodingRows())
	add("environment files and shells", envRows())
	add("quoting for a format", quoteRows())
	add("databases and registries", databaseRows())
	add("connection strings", urlRows())
	add("certificates and key stores", pemRows())
	add("certificates and key stores", pkcs12Rows())
	add("text", textRows())
	add("regular expressions", regexRows())
	add("lists", listRows())
	add("objects", objectRows())
	add("choice and comparison", choiceRows())
	add("numbers", numberRows())
	add("from consul-template", consulRows())
	return out
})

// row is a row of the table as it is written down.
type row struct {
	names   string // the name, and after it others for the same function
	args    string
	doc     string
	example string
	result  string
	// fn is a Go function for wrap; nil takes sprig's function of the name.
	fn      any
	min     int // fewest arguments, for functions that wrap cannot count
	max     int
	naming  naming
	reveals bool
}

// functions makes the functions of a row, one for each of its names.
func (r row) functions(group string) []*function {
	names := strings.Fields(r.names)
	fn := r.fn
	if fn == nil {
		fn = library()[names[0]]
	}
	f := function{names: r.naming, reveals: r.reveals}
	f.run, f.min, f.max = wrap(fn)
	f.min = max(f.min, r.min)
	f.max = cmp.Or(r.max, f.max)
	f.Group = group
	out := make([]*function, 0, len(names))
	for _, name := range names {
		g := f
		g.Name = name
		g.lazy = name == "and" || name == "or"
		g.Signature = strings.TrimSpace(name + " " + r.args)
		g.Doc, g.Example, g.Result = r.doc, r.example, r.result
		if name != names[0] {
			g.Doc = "Another name of " + names[0] + "."
			g.Example = rename(r.example, names[0], name)
		}
		out = append(out, &g)
	}
	return out
}

// rename replaces a function's name in an example where it stands as a word.
func rename(example, from, to string) string {
	words := strings.Split(example, " ")
	for i, w := range words {
		if strings.TrimLeft(w, "(") == from {
			words[i] = strings.TrimSuffix(w, from) + to
		}
	}
	return strings.Join(words, " ")
}

// The reasons why functions that other programs have are not here.
const (
	reachesEnvironment = "it would read the agent's whole environment; use env, with the names under allow_env"
	reachesNetwork     = "it would reach the network, and the same secret would not give the same file; set the result under vars"
	reachesFiles       = "it treats paths as the agent's system does; base, clean, dir, ext and isAbs are those for slashes"
	dependsOnTime      = "its result depends on the time: the same secret would not give the same file; version \"NAME\" changes with the secret"
	isRandom           = "its result is random: the same secret would not give the same file; let Secrets Manager make it, and keep it in a secret"
	isConsul           = "it reads Consul, Vault or Nomad; here secrets come from: secret \"NAME\", and settings from: var \"NAME\""
	isGo               = "it speaks of Go's types; use kindOf or kindIs"
)

// refused are the functions people know from sprig and consul-template that
// this package leaves out, and why.
var refused = sync.OnceValue(func() map[string]string {
	m := map[string]string{
		"call":           "no value is a function here",
		"semver":         "to compare versions use: semverCompare CONSTRAINT VERSION",
		"tpl":            "a value is never executed as a template",
		"file":           "it would reach files beside the template; what does not come from a secret stands in the template, or in a file of template_dir: include \"NAME\"",
		"plugin":         "it would run a program for every rendering; let the program write its result into a secret, or under vars",
		"writeToFile":    "a template writes one file; give each file an entry of its own under files:",
		"scratch":        "keep values in a variable or a dict",
		"derivePassword": "passwords are made by Secrets Manager: get-random-password",
		"decryptAES":     "the application decrypts, or KMS",
	}
	for reason, names := range map[string]string{
		reachesEnvironment: "expandenv",
		reachesNetwork:     "getHostByName sockaddr",
		reachesFiles:       "osBase osClean osDir osExt osIsAbs",
		dependsOnTime: "now ago date date_in_zone date_modify dateInZone dateModify duration durationRound htmlDate htmlDateInZone " +
			"must_date_modify mustDateModify mustToDate toDate unixEpoch timestamp",
		isRandom: "randAlphaNum randAlpha randAscii randNumeric randBytes randInt uuidv4 shuffle bcrypt htpasswd encryptAES " +
			"genPrivateKey genCA genCAWithKey genSelfSignedCert genSelfSignedCertWithKey genSignedCert genSignedCertWithKey buildCustomCert",
		isConsul: "key keyExists keyExistsGet keyOrDefault explode ls safeLs tree safeTree service services node nodes datacenters connect caRoots " +
			"caLeaf secrets pkiCert nomadService nomadServices nomadVar nomadVarList nomadVarListSafe nomadVarExists byKey byTag byMeta byPort partitions peerings exportedServices importedServices",
		isGo: "typeOf typeIs typeIsLike spew_dump spew_sdump spew_printf spew_sprintf",
	} {
		for _, name := range strings.Fields(names) {
			m[name] = reason
		}
	}
	return m
})

// whyNot returns the hint for a function that does not exist.
func whyNot(name string) string {
	name = strings.TrimPrefix(name, "sprig_")
	if reason := refused()[name]; reason != "" {
		return name + " is left out: " + reason
	}
	for _, known := range slices.Sorted(maps.Keys(functions())) {
		if strings.EqualFold(known, name) {
			return "write it as " + known
		}
	}
	return ""
}
