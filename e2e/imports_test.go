package e2e

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The rooms of the house and what each may import of the others: design.md
// section 2. Everything may import agent/secret; a room may import its own
// sub-packages; nothing else is allowed that does not stand here. `.golangci.yml`
// holds the same table for editors, this test holds it for `go test`.
var rooms = map[string][]string{
	"cmd": {
		"agent", "agent/audit", "agent/config", "agent/metrics", "agent/notify", "agent/source", "agent/source/local",
		"agent/store", "cmd/secretsd/internal/wcp", "sinks/credentials", "sinks/endpoint", "sinks/files", "sinks/process", "templates",
	},
	"cmd/secretsd/internal/wcp": {"agent/config"},
	"agent": {
		"agent/audit", "agent/config", "agent/disposition", "agent/metrics", "agent/notify", "agent/redact", "agent/source",
		"agent/source/local", "agent/store", "sinks/credentials", "sinks/endpoint", "sinks/files", "sinks/process", "templates",
	},
	"agent/audit":        nil,
	"agent/config":       nil,
	"agent/disposition":  nil,
	"agent/metrics":      nil,
	"agent/notify":       {"agent/disposition", "agent/redact"},
	"agent/redact":       nil,
	"agent/secret":       nil,
	"agent/source":       nil,
	"agent/source/local": nil,
	"agent/store":        nil,
	"e2e/pgclient":       nil,
	"sinks/credentials":  nil,
	"sinks/endpoint":     nil,
	"sinks/files":        nil,
	"sinks/process":      {"agent/disposition"},
	"templates":          nil,
}

// outside names the packages of others that only some rooms may import, by the
// beginning of their import path.
var outside = []struct {
	prefix  string
	allowed []string
	reason  string
}{
	{"gopkg.in/yaml.v3", []string{"agent/config", "agent/source/local", "templates"}, "YAML is read in three places"},
	{"go.yaml.in/yaml", []string{"agent/config", "agent/source/local", "templates"}, "YAML is read in three places"},
	{"github.com/aws", []string{"agent/source"}, "agent/source is the only importer of the AWS SDK"},
	{"github.com/prometheus", []string{"agent/metrics"}, "agent/metrics is the one place that names Prometheus"},
	{"github.com/pelletier", []string{"cmd/secretsd/internal/wcp", "templates"}, "TOML is read to be converted, and written by templates"},
	{"github.com/spf13", []string{"cmd"}, "nothing below main knows flags (section 7, rule 2)"},
	{"flag", []string{"cmd"}, "nothing below main knows flags (section 7, rule 2)"},
	{"os/signal", []string{"cmd"}, "main turns signals into a context (section 7, rule 2)"},
}

// room returns the room of a package given by its directory in the module,
// or "" if it has none. agent and sinks hold rooms, so a new package in them
// must be given its place in the table before it is one; elsewhere a package
// belongs to the nearest room above it.
func room(pkg string) string {
	for dir := pkg; dir != "."; dir = path.Dir(dir) {
		_, known := rooms[dir]
		if known && (dir == pkg || dir != "agent") {
			return dir
		}
	}
	return ""
}

// refusal says why the package in directory pkg must not import the package
// imported (an import path); it is "" where the import is allowed.
func refusal(pkg, imported string) string {
	from := room(pkg)
	if from == "" {
		return "is in no room of design.md section 2: add it to the tables in e2e/imports_test.go and .golangci.yml"
	}
	if ours, ok := strings.CutPrefix(imported, "secretsd/"); ok || imported == "secretsd" {
		to := room(ours)
		if to == from || to == "agent/secret" || slices.Contains(rooms[from], to) {
			return ""
		}
		return "imports run one way: cmd, agent, its rooms, agent/secret; rooms beside each other do not import each other"
	}
	first, _, _ := strings.Cut(imported, "/")
	if from == "agent/secret" && strings.Contains(first, ".") {
		return "agent/secret is a leaf: standard library only"
	}
	for _, rule := range outside {
		within := imported == rule.prefix || strings.HasPrefix(imported, rule.prefix+"/")
		if within && !slices.Contains(rule.allowed, from) {
			return rule.reason + ": " + strings.Join(rule.allowed, ", ")
		}
	}
	return ""
}

// TestImportRules reads the imports of every file, whatever its build
// constraint; `go list` would see those of this operating system only. Test
// files are free: they stand outside what they test.
func TestImportRules(t *testing.T) {
	read := 0
	err := filepath.WalkDir("..", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if file != ".." && (strings.HasPrefix(name, ".") || name == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		read++
		inModule, err := filepath.Rel("..", file)
		if err != nil {
			return err
		}
		return checkImports(t, file, filepath.ToSlash(inModule))
	})
	if err != nil {
		t.Fatal(err)
	}
	if read == 0 {
		t.Fatal("no Go file was read: the test looks in the wrong directory")
	}
}

func checkImports(t *testing.T, file, inModule string) error {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		return fmt.Errorf("read the imports of %s: %w", inModule, err)
	}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return fmt.Errorf("read the imports of %s: %w", inModule, err)
		}
		if why := refusal(path.Dir(inModule), imported); why != "" {
			t.Errorf("%s imports %s: %s", inModule, imported, why)
		}
	}
	return nil
}

// TestImportRulesRefuse shows that the rules bite, so that a table emptied by
// mistake does not pass for a clean house.
func TestImportRulesRefuse(t *testing.T) {
	for _, row := range []struct {
		pkg, imported string
		allowed       bool
	}{
		{"cmd/secretsd", "secretsd/agent", true},
		{"cmd/secretsd", "github.com/spf13/cobra", true},
		{"cmd/secretsd", "secretsd/cmd/secretsd/internal/wcp", true},
		{"cmd/secretsd/internal/wcp", "secretsd/agent/config", true},
		{"cmd/secretsd/internal/wcp", "github.com/pelletier/go-toml/v2", true},
		{"templates", "github.com/pelletier/go-toml/v2", true},
		{"agent", "secretsd/sinks/files", true},
		{"agent", "secretsd/agent/source/local", true},
		{"agent/store", "secretsd/agent/secret", true},
		{"sinks/process", "secretsd/agent/disposition", true},
		{"agent/source", "github.com/aws/aws-sdk-go-v2/aws", true},
		{"sinks/endpoint/internal/wire", "secretsd/agent/secret", true},
		{"sinks/endpoint", "secretsd/sinks/endpoint/internal/wire", true},
		{"templates", "gopkg.in/yaml.v3", true},

		{"cmd/secretsd/internal/wcp", "secretsd/agent", false},
		{"cmd/secretsd/internal/wcp", "github.com/spf13/cobra", false},
		{"cmd/secretsd", "github.com/pelletier/go-toml/v2", false},
		{"agent/config", "github.com/pelletier/go-toml/v2", false},
		{"agent", "secretsd/cmd/secretsd", false},
		{"agent", "secretsd/e2e", false},
		{"agent", "gopkg.in/yaml.v3", false},
		{"agent", "github.com/spf13/pflag", false},
		{"agent/config", "secretsd/agent", false},
		{"agent/config", "secretsd/templates", false},
		{"agent/new", "fmt", false},
		{"agent/notify", "secretsd/agent/store", false},
		{"agent/notify", "secretsd/sinks/process", false},
		{"agent/disposition", "secretsd/agent/notify", false},
		{"agent/notify", "secretsd/agent/redact", true},
		{"agent/redact", "secretsd/agent/store", false},
		{"sinks/files", "secretsd/agent/disposition", false},
		{"agent/notify", "os/signal", false},
		{"agent/secret", "secretsd/agent/store", false},
		{"agent/secret", "golang.org/x/sys/unix", false},
		{"agent/source", "secretsd/agent/source/local", false},
		{"agent/source/local", "secretsd/agent/source", false},
		{"agent/source/local", "github.com/aws/smithy-go", false},
		{"agent/store", "github.com/prometheus/client_golang/prometheus", false},
		{"sinks/endpoint", "secretsd/sinks/files", false},
		{"sinks/new", "fmt", false},
		{"util", "fmt", false},
	} {
		why := refusal(row.pkg, row.imported)
		if (why == "") != row.allowed {
			t.Errorf("%s imports %s: allowed %v, want %v (%s)", row.pkg, row.imported, why == "", row.allowed, why)
		}
	}
}

// TestTopLevelEntries keeps the root of the repository to what was agreed:
// whoever opens it should see the house, not its furniture.
func TestTopLevelEntries(t *testing.T) {
	agreed := []string{
		"cmd", "agent", "sinks", "templates", "packaging", "e2e", "go.mod", "go.sum", "agent.yaml.example",
		"README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile",
	}
	// A source archive has no .git; there the rule has nothing to hold.
	if _, err := os.Stat("../.git"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no .git beside go.mod: CI works on a checkout")
		}
		t.Skip("no .git beside go.mod: not a checkout")
	}
	git := exec.CommandContext(t.Context(), need(t, "git"), "ls-files", "-z")
	git.Dir = ".."
	var complaint strings.Builder
	git.Stderr = &complaint
	listed, err := git.Output()
	if err != nil {
		t.Fatalf("list the repository's files: %v\n%s", err, complaint.String())
	}
	files := strings.Split(strings.TrimRight(string(listed), "\x00"), "\x00")
	if !slices.Contains(files, "go.mod") {
		t.Fatalf("git ls-files does not name go.mod, but %d other files", len(files))
	}
	seen := map[string]bool{}
	for _, file := range files {
		top, _, _ := strings.Cut(file, "/")
		if seen[top] || strings.HasPrefix(top, ".") || slices.Contains(agreed, top) {
			continue
		}
		seen[top] = true
		t.Errorf("%s stands at the top of the repository: put it into one of %s", top, strings.Join(agreed[:6], ", "))
	}
}
