package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"secretsd/agent/secret"
)

// maxString is the most bytes that one variable or argument has, its name and
// the NUL behind it included (MAX_ARG_STRLEN, execve(2)).
const maxString = 128 << 10

// Var is one variable of the child.
type Var struct {
	Name  string
	Value secret.Value
	// From says where the variable comes from, for errors.
	From string
}

// Environment is all that the child finds in its environment. It is immutable,
// and prints as nothing: behind the pointer in it, as behind that of
// [secret.Value], fmt does not look.
type Environment struct{ vars *[]string }

// NewEnvironment returns the environment of inherited variables, NAME=VALUE, and
// of vars, which replace inherited ones. All that is wrong with vars is reported
// at once: names that cannot be variables, names given twice, values with NUL
// bytes, and values that are too long. The errors name variables and where they
// come from, and hold no values.
func NewEnvironment(inherited []string, vars []Var) (*Environment, error) {
	from := make(map[string]string, len(vars))
	own := make([]string, 0, len(vars))
	var errs []error
	for _, v := range vars {
		if err := v.check(); err != nil {
			errs = append(errs, err)
			continue
		}
		if first, taken := from[v.Name]; taken {
			errs = append(errs, withHint("give one of them another name: env_from takes a prefix",
				"variable %s is given twice, by %s and by %s", v.Name, first, v.From))
			continue
		}
		from[v.Name] = v.From
		own = append(own, v.Name+"="+v.Value.Reveal())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	slices.Sort(own)
	all := make([]string, 0, len(inherited)+len(own))
	for _, kv := range inherited {
		name, _, _ := strings.Cut(kv, "=")
		if _, replaced := from[name]; !replaced {
			all = append(all, kv)
		}
	}
	all = append(all, own...)
	return &Environment{vars: &all}, nil
}

func (v Var) check() error {
	value := v.Value.Reveal()
	switch {
	case !IsName(v.Name):
		return withHint("a variable's name has letters, digits and underscores, and begins with no digit: give it one of its own under env",
			"%s: %q cannot be the name of a variable", v.From, shown(v.Name))
	case strings.ContainsRune(value, 0):
		return withHint("put it into a file, or encode it: base64Encode", "%s: variable %s holds a NUL byte, which no variable can", v.From, v.Name)
	case len(v.Name)+len(value)+2 > maxString:
		return withHint("put it into a file", "%s: variable %s is longer than %d KiB, the most that the kernel takes", v.From, v.Name, maxString>>10)
	}
	return nil
}

// shown cuts what somebody else has chosen to a length that a log line bears.
func shown(name string) string {
	const most = 64
	if len(name) > most {
		return name[:most] + "…"
	}
	return name
}

// IsName reports whether s can be the name of a variable that every program and
// shell understands (POSIX.1-2017, Base Definitions, 3.235 and 8.1).
func IsName(s string) bool {
	for i, r := range s {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || r == '_'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}

// Keys returns a variable for each key of the JSON object in text, in the order
// of the keys. A string is its own text; everything else is as the secret writes
// it. The name of a variable is prefix and key, with upper in capitals. An object
// without keys is an error: it is as likely a mistake as a wish, and would take every
// variable from the program. The error holds nothing of the text.
func Keys(from, prefix string, upper bool, text secret.Value) ([]Var, error) {
	const hint = "only a JSON object has keys; take other secrets over one by one, as templates under env"
	if text.IsZero() {
		return nil, withHint(hint, "%s: it is binary", from)
	}
	var fields map[string]json.RawMessage
	if s := text.Reveal(); !utf8.ValidString(s) || json.Unmarshal([]byte(s), &fields) != nil || fields == nil {
		return nil, withHint(hint, "%s: it is not a JSON object", from)
	}
	if len(fields) == 0 {
		return nil, withHint("put a key into the secret, or take it out of env_from", "%s: it has no keys", from)
	}
	vars := make([]Var, 0, len(fields))
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		value := string(fields[key])
		if value[0] == '"' {
			var s string
			_ = json.Unmarshal(fields[key], &s) // it has been decoded once already
			value = s
		}
		name := prefix + key
		if upper {
			name = strings.ToUpper(name)
		}
		vars = append(vars, Var{Name: name, Value: secret.NewValue(value), From: fmt.Sprintf("%s, key %q", from, shown(key))})
	}
	return vars, nil
}

// Inherit returns those of environ, NAME=VALUE, whose names one of allow matches
// and none of deny. Both are globs as [path.Match] knows them. A nil allow means all, and
// an empty one nothing.
func Inherit(environ, allow, deny []string) []string {
	var kept []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if (allow == nil || matches(allow, name)) && !matches(deny, name) {
			kept = append(kept, kv)
		}
	}
	return kept
}

func matches(globs []string, name string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool {
		ok, _ := path.Match(glob, name) // the configuration's own check knows the patterns
		return ok
	})
}

// Equal reports whether both hold the same variables.
func (e *Environment) Equal(o *Environment) bool {
	if e == nil || o == nil {
		return e == o
	}
	return slices.Equal(*e.vars, *o.vars)
}

// Reveal returns the variables, NAME=VALUE. The caller hands them to a program and to
// nothing that prints.
func (e *Environment) Reveal() []string { return slices.Clone(*e.vars) }

// size is what the environment takes of what the kernel gives to arguments and
// environment together, pointers included.
func (e *Environment) size() int { return argumentSize(*e.vars) }

func argumentSize(list []string) int {
	const pointer = 8
	size := 0
	for _, s := range list {
		size += len(s) + 1 + pointer
	}
	return size
}

// Format implements [fmt.Formatter] and shows no variable.
func (e Environment) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, secret.Redacted) }

// LogValue implements [slog.LogValuer] and shows no variable.
func (e Environment) LogValue() slog.Value { return slog.StringValue(secret.Redacted) }

// MarshalText implements [encoding.TextMarshaler] and shows no variable.
func (e Environment) MarshalText() ([]byte, error) { return []byte(secret.Redacted), nil }
