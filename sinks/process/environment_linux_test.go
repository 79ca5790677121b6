package process_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"secretsd/agent/secret"
	"secretsd/sinks/process"
)

const canary = "CANARY-hunter2"

// names returns NAME=VALUE of each.
func names(vars []process.Var) []string {
	var list []string
	for _, v := range vars {
		list = append(list, v.Name+"="+v.Value.Reveal())
	}
	return list
}

// found returns what a real program finds in the environment.
func found(t *testing.T, e *process.Environment) []string {
	t.Helper()
	out := t.TempDir() + "/env"
	r := run(t, process.Options{Once: true})
	r.sup.Set(&process.Program{Path: "/usr/bin/env", Args: []string{"sh", "/bin/sh", "-c", `tr '\0' '\n' < /proc/self/environ > "$0"`, out}, Env: e}, true)
	if exit, err := r.wait(); err != nil || exit.Status() != 0 {
		t.Fatalf("the child ended with %v, %v", exit, err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"), func(kv string) bool {
		return strings.HasPrefix(kv, "PWD=") || strings.HasPrefix(kv, "_=") // the shell's own
	})
}

func TestTheKeysOfASecretBecomeVariables(t *testing.T) {
	text := secret.NewValue(`{"user": "app", "digits": 12345, "big": 12345678901234567890, "yes": true, "no": null, "nested": {"a": [1, "x"]}, "text": "true", "empty": "", "quoted": "a\"b\u00e9\n"}`)
	got, err := process.Keys("secret app", "db_", false, text)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"db_big=12345678901234567890", "db_digits=12345", "db_empty=", `db_nested={"a": [1, "x"]}`, "db_no=null", "db_quoted=a\"bé\n",
		"db_text=true", "db_user=app", "db_yes=true"}
	if diff := cmp.Diff(want, names(got)); diff != "" {
		t.Errorf("the variables differ (-want +got):\n%s", diff)
	}
	got, err = process.Keys("secret app", "db_", true, secret.NewValue(`{"user_name": "app"}`))
	if diff := cmp.Diff([]string{"DB_USER_NAME=app"}, names(got)); err != nil || diff != "" {
		t.Errorf("in capitals (-want +got): %v\n%s", err, diff)
	}
}

func TestTheChildFindsItsEnvironmentAndNothingElse(t *testing.T) {
	e, err := process.NewEnvironment(
		process.Inherit([]string{"PATH=/usr/bin:/bin", "HOME=/root", "AWS_PROFILE=x", "AWS_REGION=y", "TOKEN=z", "OLD=inherited"}, []string{"PATH", "HOME", "AWS_*", "OLD"}, []string{"AWS_P*"}),
		[]process.Var{{Name: "B", Value: secret.NewValue("two words\nand a line")}, {Name: "OLD", Value: secret.NewValue("own")}, {Name: "a", Value: secret.NewValue("")}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"PATH=/usr/bin:/bin", "HOME=/root", "AWS_REGION=y", "B=two words", "and a line", "OLD=own", "a="}
	if diff := cmp.Diff(want, found(t, e)); diff != "" {
		t.Errorf("the environment differs (-want +got):\n%s", diff)
	}
}

func TestInheritKeepsAllByDefault(t *testing.T) {
	environ := []string{"A=1", "B=2", "A_B=3"}
	for _, tt := range []struct {
		allow, deny, want []string
	}{
		{nil, nil, environ},
		{nil, []string{"A*"}, []string{"B=2"}},
		{[]string{"A*"}, nil, []string{"A=1", "A_B=3"}},
		{[]string{"A*"}, []string{"?"}, []string{"A_B=3"}},
		{[]string{"C"}, nil, nil},
		{[]string{}, nil, nil},
	} {
		if diff := cmp.Diff(tt.want, process.Inherit(environ, tt.allow, tt.deny)); diff != "" {
			t.Errorf("allow %q, deny %q (-want +got):\n%s", tt.allow, tt.deny, diff)
		}
	}
}

// TestFaultsOfTheEnvironment holds what is refused, that the error says where it
// comes from, and that it never holds a value.
func TestFaultsOfTheEnvironment(t *testing.T) {
	own := func(name, value string) process.Var {
		return process.Var{Name: name, Value: secret.NewValue(canary + value), From: "exec.env." + name}
	}
	for _, tt := range []struct {
		name string
		vars []process.Var
		want string
	}{
		{"no name", []process.Var{own("", "")}, `"" cannot be the name of a variable`},
		{"a digit first", []process.Var{own("1A", "")}, `exec.env.1A: "1A" cannot be the name`},
		{"a dash", []process.Var{own("api-key", "")}, `"api-key" cannot be the name`},
		{"an equals sign", []process.Var{own("A=B", "")}, `"A=B" cannot be the name`},
		{"a NUL in the name", []process.Var{own("A\x00", "")}, `cannot be the name`},
		{"no ASCII", []process.Var{own("É", "")}, `cannot be the name`},
		{"twice", []process.Var{own("A", ""), {Name: "A", Value: secret.NewValue(canary), From: "secret b"}}, `variable A is given twice, by exec.env.A and by secret b`},
		{"a NUL byte", []process.Var{own("A", "a\x00b")}, `exec.env.A: variable A holds a NUL byte`},
		{"too long", []process.Var{own("A", strings.Repeat("x", 128<<10))}, `exec.env.A: variable A is longer than 128 KiB`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, err := process.NewEnvironment(nil, tt.vars)
			if err == nil || !strings.Contains(err.Error(), tt.want) || e != nil {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), canary) {
				t.Errorf("the error holds a value: %v", err)
			}
		})
	}
	_, err := process.NewEnvironment(nil, []process.Var{own("1", ""), own("A", "\x00"), own("2", "")})
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("not all faults are reported at once: %v", err)
	}
	for _, tt := range []struct {
		name string
		text secret.Value
		want string
	}{
		{"binary", secret.Value{}, "secret app: it is binary"},
		{"text", secret.NewValue(canary), "secret app: it is not a JSON object"},
		{"a list", secret.NewValue(`["` + canary + `"]`), "not a JSON object"},
		{"null", secret.NewValue("null"), "not a JSON object"},
		{"without keys", secret.NewValue(" {} "), "secret app: it has no keys"},
		{"cut off", secret.NewValue(`{"a": "` + canary), "not a JSON object"},
		{"two objects", secret.NewValue(`{"a": "` + canary + `"}{}`), "not a JSON object"},
		{"no UTF-8", secret.NewValue("{\"a\": \"" + canary + "\xff\"}"), "not a JSON object"},
	} {
		if _, err := process.Keys("secret app", "", false, tt.text); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: got %v, want %s and no value", tt.name, err, tt.want)
		}
	}
}

// TestTheLimitIsTheKernels holds that what is accepted can be run and what is
// refused could not.
func TestTheLimitIsTheKernels(t *testing.T) {
	const most = 128<<10 - 2 // the equals sign and the NUL
	if _, err := process.NewEnvironment(nil, []process.Var{{Name: "A", Value: secret.NewValue(strings.Repeat("x", most))}}); err == nil {
		t.Error("a variable that the kernel does not take is accepted")
	}
	cmd := exec.Command("/bin/true")
	cmd.Env = []string{"A=" + strings.Repeat("x", most)}
	if err := cmd.Run(); err == nil {
		t.Error("the kernel takes more than we do")
	}
	e, err := process.NewEnvironment(nil, []process.Var{{Name: "A", Value: secret.NewValue(strings.Repeat("x", most-1))}})
	if err != nil {
		t.Fatal(err)
	}
	if got := found(t, e); len(got) != 1 || len(got[0]) != most+1 {
		t.Error("the longest variable does not reach the child")
	}
	var many []process.Var
	for i := range 1000 {
		many = append(many, process.Var{Name: fmt.Sprintf("A%d", i), Value: secret.NewValue(strings.Repeat("x", 100<<10))})
	}
	if e, err = process.NewEnvironment(nil, many); err != nil {
		t.Fatal(err)
	}
	p := &process.Program{Path: "/bin/true", Args: []string{"true"}, Env: e}
	if err := p.Check(); err == nil || !strings.Contains(err.Error(), "argument list too long") {
		t.Errorf("100 MB of environment: %v", err)
	}
}

func TestAnEnvironmentNeverPrints(t *testing.T) {
	e, err := process.NewEnvironment([]string{"X=" + canary}, []process.Var{{Name: "A", Value: secret.NewValue(canary)}})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	p := process.Program{Path: "/bin/true", Env: e}
	for _, v := range []any{e, *e, p, &p, []*process.Environment{e}, struct{ e *process.Environment }{e}, process.Var{Name: "A", Value: secret.NewValue(canary)}} {
		fmt.Fprintf(&b, "%v %+v %#v %s %q\n", v, v, v, v, v)
		slog.New(slog.NewTextHandler(&b, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&b, nil)).Info("m", "v", v)
		_ = json.NewEncoder(&b).Encode(v)
	}
	if strings.Contains(b.String(), canary) {
		t.Errorf("a value was printed: %s", b.String())
	}
}

// FuzzKeys: whatever a secret holds, the variables made of it have names and
// values that the kernel and a shell understand, or there is an error without a
// value.
func FuzzKeys(f *testing.F) {
	f.Add(`{"user": "app", "password": "x"}`, "DB_", true)
	f.Add(`{"a-b": 1, "A": null, "a": {"b": ["\u0000"]}}`, "", true)
	f.Add(`{"": "", "=": "=", "1": "\ud800"}`, "x", false)
	f.Add(`null`, "", false)
	f.Fuzz(func(t *testing.T, text, prefix string, upper bool) {
		vars, err := process.Keys("secret app", prefix, upper, secret.NewValue(text))
		if err != nil {
			if err.Error() != "secret app: it has no keys" && !strings.HasPrefix(err.Error(), "secret app: it is not a JSON object") {
				t.Errorf("the error says more than it may: %v", err)
			}
			return
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &fields); err != nil || len(fields) != len(vars) {
			t.Fatalf("%d variables of %d keys (%v)", len(vars), len(fields), err)
		}
		e, err := process.NewEnvironment(nil, vars)
		if (e == nil) == (err == nil) {
			t.Fatal("neither an environment nor an error, or both")
		}
		seen := map[string]bool{}
		for _, v := range vars {
			good := process.IsName(v.Name) && !strings.ContainsRune(v.Value.Reveal(), 0) && len(v.Name)+len(v.Value.Reveal())+2 <= 128<<10 && !seen[v.Name]
			if seen[v.Name] = true; err == nil && !good {
				t.Errorf("accepted %q", v.Name)
			}
		}
	})
}
