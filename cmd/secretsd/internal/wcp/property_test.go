package wcp_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"secretsd/agent/config"
	"secretsd/cmd/secretsd/internal/wcp"
)

// file is a configuration of AWS's agent, made at random, and what it means.
type file struct {
	nested  bool
	tables  map[string][]string
	port    int
	ttl     int
	size    int
	headers []string
	ids     []string
}

// set gives a key in the layout that the file has. place is the nested one.
func (f *file) set(place, key, value string) {
	if !f.nested && !strings.HasSuffix(place, "prefetch") {
		place = ""
	} else if !f.nested {
		place = "prefetch"
	}
	f.tables[place] = append(f.tables[place], key+" = "+value)
}

func (f *file) String() string {
	var names []string
	for name := range f.tables {
		names = append(names, name)
	}
	slices.Sort(names) // the root's keys come first
	var b strings.Builder
	for _, name := range names {
		if name != "" {
			fmt.Fprintf(&b, "[%s]\n", name)
		}
		b.WriteString(strings.Join(f.tables[name], "\n") + "\n")
	}
	return b.String()
}

// tomlText quotes s so that TOML reads it back, whatever is in it.
func tomlText(s string) string {
	var b strings.Builder
	for _, r := range s {
		fmt.Fprintf(&b, `\U%08X`, r)
	}
	return `"` + b.String() + `"`
}

func tomlList(items []string) string {
	quoted := make([]string, len(items))
	for i, s := range items {
		quoted[i] = tomlText(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

func drawFile(t *rapid.T) *file {
	const service = "capabilities.secrets_manager"
	f := &file{nested: rapid.Bool().Draw(t, "nested"), tables: map[string][]string{}, port: 2773, ttl: 300, size: 1000,
		headers: []string{"X-Aws-Parameters-Secrets-Token", "X-Vault-Token"}}
	maybe := func(name string) bool { return rapid.Bool().Draw(t, name) }
	number := func(place, key string, least, most int, field *int) {
		if maybe(key) {
			*field = rapid.IntRange(least, most).Draw(t, key)
			f.set(place, key, fmt.Sprint(*field))
		}
	}
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"null", "~", "*", "&a", "!x", "{", "- a", "a: b", "'", `"`, "#", "yes", "\u0085", "\ufeff", "\u2028", "1e3"}))
	var ignored int
	number(service, "http_port", 1024, 65535, &f.port)
	number(service, "max_conn", 1, 1000, &ignored)
	number(service, "max_roles", 1, 20, &ignored)
	number(service+".cache", "ttl_seconds", 0, 3600, &f.ttl)
	number(service+".cache", "cache_size", 1, 1000, &f.size)
	number(service+".prefetch", "max_jitter_seconds", 0, 10, &ignored)
	for _, key := range []string{"ignore_transient_errors", "validate_credentials"} {
		if maybe(key) {
			f.set(service, key, fmt.Sprint(rapid.Bool().Draw(t, key+" value")))
		}
	}
	for _, key := range []string{"region", "credentials_file_path"} {
		if maybe(key) {
			f.set(service, key, tomlText(text.Draw(t, key+" value")))
		}
	}
	if maybe("path_prefix") {
		f.set(service, "path_prefix", tomlText("/"+text.Draw(t, "prefix")))
	}
	if maybe("ssrf_headers") {
		f.headers = []string{rapid.StringMatching("X-[A-Za-z0-9-]{1,10}").Draw(t, "header")}
		all := append(slices.Clone(f.headers), rapid.SliceOf(rapid.SampledFrom([]string{"", "a b", "é", "host", "a:b"})).Draw(t, "bad headers")...)
		f.set(service+".security", "ssrf_headers", tomlList(all))
	}
	if maybe("ssrf_env_variables") {
		f.set(service+".security", "ssrf_env_variables", tomlList(rapid.SliceOfN(text, 1, 4).Draw(t, "variables")))
	}
	f.drawPrefetch(t, service+".prefetch", text)
	return f
}

func (f *file) drawPrefetch(t *rapid.T, place string, text *rapid.Generator[string]) {
	var secrets, tags []string
	for _, id := range rapid.SliceOf(rapid.StringMatching("[a-z0-9/_+=.@!-]{1,20}")).Draw(t, "ids") {
		secrets = append(secrets, "{secret_id = "+tomlText(id)+"}")
		if !slices.Contains(f.ids, id) && f.ttl > 0 {
			f.ids = append(f.ids, id)
		}
	}
	for _, odd := range rapid.SliceOf(text).Draw(t, "odd ids") {
		secrets = append(secrets, "{role_arn = "+tomlText(odd)+", secret_id = "+tomlText(odd)+"}")
		tags = append(tags, "{key = "+tomlText(odd)+"}")
	}
	f.set(place, "secrets", "["+strings.Join(secrets, ", ")+"]")
	f.set(place, "filter_tags", "["+strings.Join(tags, ", ")+"]")
}

// TestEveryFileIsConverted: whatever AWS's agent accepts becomes a configuration
// that check finds nothing wrong with, that means the same, and that is the same
// every time.
func TestEveryFileIsConverted(t *testing.T) {
	setUp(t.Setenv)
	rapid.Check(t, func(rt *rapid.T) {
		f := drawFile(rt)
		text, err := wcp.Convert("config.toml", []byte(f.String()))
		if err != nil {
			rt.Fatalf("convert: %v\n%s", err, f)
		}
		if again, _ := wcp.Convert("config.toml", []byte(f.String())); !bytes.Equal(text, again) {
			rt.Fatalf("converted twice it differs:\n%s\n%s", text, again)
		}
		c := loads(t, text)
		interval := max(time.Duration(f.ttl)*time.Second, config.MinInterval)
		d := c.Endpoint.OnDemand
		if got := c.Endpoint.Listen; got != fmt.Sprintf("127.0.0.1:%d", f.port) || d.Interval.Std() != interval || d.MaxEntries != f.size ||
			!slices.Equal(c.Endpoint.TokenHeaders, f.headers) {
			rt.Fatalf("it means something else: %+v %+v\n%s", c.Endpoint, d, f)
		}
		var ids []string
		for _, s := range c.Secrets {
			ids = append(ids, s.ID)
		}
		if !slices.Equal(ids, f.ids) {
			rt.Fatalf("the secrets are %q, want %q\n%s", ids, f.ids, f)
		}
	})
}

// FuzzConvert: no file makes the converter panic, each fault has its place, and
// whatever is printed loads without faults.
func FuzzConvert(f *testing.F) {
	setUp(f.Setenv)
	for _, name := range []string{"flat.toml", "nested.toml"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, seed := range []string{
		"", "\xef\xbb\xbf", "a.b.c = [{d = [[1]]}, {}]\n[[a.e]]\n[a.e.f]\n[[a.e]]\n", "capabilities.secrets_manager = [true, 0, [0, 1]]",
		"ssrf_env_variables = [\"\\u0085\\ufeff\"]\npath_prefix = \"/\\u0000\"", "[prefetch]\nfilter_tags = [{key = \"\\r\\n- a\"}]\nsecrets = [[\"#\\u2028\", \"\"]]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		text, err := wcp.Convert("config.toml", data)
		switch {
		case err == nil:
			loads(t, text)
		case !strings.HasPrefix(err.Error(), "config.toml"):
			t.Fatalf("a fault without its place: %v", err)
		}
	})
}
