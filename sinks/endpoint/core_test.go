package endpoint

// Tests of what cannot be seen from outside: the encoder and the parser by
// themselves, which bodies a view takes over, and what a hit costs before any
// server is involved.

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"secretsd/agent/secret"
)

// serdeString escapes as serde_json documents it, one rune at a time.
func serdeString(s string) string {
	short := map[rune]string{'"': `\"`, '\\': `\\`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}
	out := `"`
	for _, r := range s {
		if e, ok := short[r]; ok {
			out += e
		} else if r < 0x20 {
			out += fmt.Sprintf(`\u%04x`, r)
		} else {
			out += string(r)
		}
	}
	return out + `"`
}

func checkString(t interface{ Fatalf(string, ...any) }, s string) {
	got := string(appendString(nil, s))
	if want := serdeString(s); got != want {
		t.Fatalf("encoded %q as %s, want %s", s, got, want)
	}
	var back string
	if err := json.Unmarshal([]byte(got), &back); err != nil {
		t.Fatalf("encoding/json cannot read %s: %v", got, err)
	}
	if want := string([]rune(s)); back != want {
		t.Fatalf("%q came back as %q", want, back)
	}
}

func TestStringsAreEscapedAsSerdeDoes(t *testing.T) {
	for c := range 0x100 {
		checkString(t, string(rune(c)))
		checkString(t, "a"+string([]byte{byte(c)})+"b")
	}
	checkString(t, "\xed\xa0\x80\xf0\x9f\xe2\x82\uFFFD\u2028<>&")
	rapid.Check(t, func(t *rapid.T) {
		checkString(t, rapid.OneOf(rapid.String(),
			rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "s"))
	})
}

func FuzzString(f *testing.F) {
	f.Add("hunter2")
	f.Add("\x00\x1f\"\\\u2028\xff")
	f.Fuzz(func(t *testing.T, s string) { checkString(t, s) })
}

// TestVersionsSurviveTheEncoding reads whole objects back with encoding/json.
func TestVersionsSurviveTheEncoding(t *testing.T) {
	type object struct {
		ARN, Name, VersionId *string
		SecretString         *string
		SecretBinary         []byte
		VersionStages        []string
		CreatedDate          *string
	}
	orNull := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String()
		v := &secret.Version{
			ARN: text.Draw(t, "arn"), Name: text.Draw(t, "name"), VersionID: text.Draw(t, "version"),
			Stages: rapid.SliceOfN(text, 0, 3).Draw(t, "stages"),
		}
		want := object{ARN: orNull(v.ARN), Name: orNull(v.Name), VersionId: orNull(v.VersionID)}
		if len(v.Stages) > 0 {
			want.VersionStages = v.Stages
		}
		if rapid.Bool().Draw(t, "binary") {
			want.SecretBinary = rapid.SliceOfN(rapid.Byte(), 1, 50).Draw(t, "bytes")
			v.Binary = secret.NewValue(string(want.SecretBinary))
		} else {
			s := text.Draw(t, "text")
			v.Text, want.SecretString = secret.NewValue(s), &s
		}
		// From 1987 to 2109: a float64 holds the milliseconds of such dates.
		if ms := rapid.Int64Range(1<<39, 1<<42).Draw(t, "ms"); rapid.Bool().Draw(t, "dated") {
			v.Created = time.UnixMilli(ms)
			date := strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%d.%03d", ms/1000, ms%1000), "0"), ".")
			want.CreatedDate = &date
		}
		var got object
		if err := json.Unmarshal(encodeVersion(v), &got); err != nil {
			t.Fatalf("encoding/json cannot read it: %v", err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// FuzzTarget compares the parser with net/url wherever net/url has an opinion,
// and holds what must be true of any input.
func FuzzTarget(f *testing.F) {
	for _, target := range []string{
		"/secretsmanager/get?secretId=a%2Bb+c&refreshNow=TRUE", "/v1/a/../b?versionStage=X&versionId=1",
		"http://h/v1/x?roleArn=arn:aws:iam::123456789012:role/r", "/v1/%zz?a=%f", "http://h?x", "*", "", "a://", "/?&&=&==#?",
	} {
		f.Add(target)
	}
	f.Fuzz(func(t *testing.T, target string) {
		path, query := splitTarget(target)
		if strings.ContainsAny(path, "?#") || strings.Contains(query, "#") {
			t.Fatalf("split %q into %q and %q", target, path, query)
		}
		p, err := parseQueryStyle(query)
		if err == nil && p.id == "" || err != nil && err.Error() == "" {
			t.Fatalf("parsed %q into %+v and %v", query, p, err)
		}
		for _, s := range []string{p.id, p.stage, p.versionID, p.role} {
			if !utf8.ValidString(s) {
				t.Fatalf("parsed %q into %q, which is not UTF-8", query, s)
			}
		}
		values, uerr := url.ParseQuery(query)
		if q, qerr := parsePathStyle(path, query); qerr == nil && (q.id != path || values.Has("secretId")) {
			t.Fatalf("path style took %q from %q?%q", q.id, path, query)
		}
		if uerr == nil && err == nil {
			compareWithURL(t, values, p)
		}
	})
}

func compareWithURL(t *testing.T, values url.Values, p params) {
	last := func(name string) string {
		v := values[name]
		if len(v) == 0 {
			return ""
		}
		return string([]rune(v[len(v)-1]))
	}
	refresh := strings.ToLower(last("refreshNow"))
	want := params{
		id: last("secretId"), versionID: last("versionId"), stage: last("versionStage"), role: last("roleArn"),
		hasRole: values.Has("roleArn"), refresh: refresh == "true" || refresh == "1",
	}
	if diff := cmp.Diff(want, p, cmp.AllowUnexported(params{})); diff != "" {
		t.Fatalf("net/url reads it differently (-net/url +ours):\n%s", diff)
	}
}

func TestNextViewEncodesOnlyWhatChanged(t *testing.T) {
	version := func(id string) *secret.Version {
		return &secret.Version{Name: "n", VersionID: id, Text: secret.NewValue("x")}
	}
	kept, old, fresh := version("1"), version("2"), version("3")
	e := func(id string, v *secret.Version) Entry {
		return Entry{IDs: []string{id}, Stage: secret.StageCurrent, Version: v}
	}
	first := NewView(nil, []Entry{e("kept", kept), e("changed", old)})
	second := NewView(first, []Entry{e("kept", kept), e("changed", fresh)})
	body := func(v *View, id string) []byte { return v.find(&params{id: id}).response.body }
	if &body(first, "kept")[0] != &body(second, "kept")[0] {
		t.Error("a version that did not change was encoded again")
	}
	if _, ok := second.bodies[old]; ok {
		t.Error("the body of a version that is gone is kept")
	}
	if string(body(second, "changed")) != string(encodeVersion(fresh)) {
		t.Error("the new version is not served")
	}
}

func benchCore(tb testing.TB) (*core, *request) {
	tokens, err := OpenTokens(TokenOptions{
		Env:       []string{"TOKEN"},
		LookupEnv: func(string) (string, bool) { return strings.Repeat("0123456789abcdef", 4), true },
	})
	if err != nil {
		tb.Fatal(err)
	}
	s, err := Options{}.settings(tokens)
	if err != nil {
		tb.Fatal(err)
	}
	c := new(core)
	c.replace(s, NewView(nil, []Entry{{IDs: []string{"MyTest"}, Stage: secret.StageCurrent,
		Version: &secret.Version{Name: "MyTest", Text: secret.NewValue("hunter2")}}}))
	return c, &request{
		method: "GET", target: "/secretsmanager/get?secretId=MyTest", host: "127.0.0.1:2773",
		header: httpHeader(http.Header{"X-Aws-Parameters-Secrets-Token": {strings.Repeat("0123456789abcdef", 4)}, "User-Agent": {"x"}}),
	}
}

func TestHitAllocatesNothing(t *testing.T) {
	c, r := benchCore(t)
	if got := c.answer(context.Background(), r); got.status != 200 {
		t.Fatalf("status %d, want 200", got.status)
	}
	if n := testing.AllocsPerRun(100, func() { c.answer(context.Background(), r) }); n != 0 {
		t.Errorf("a hit makes %v allocations, want none", n)
	}
}

func BenchmarkHit(b *testing.B) {
	c, r := benchCore(b)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		c.answer(ctx, r)
	}
}

// BenchmarkNextView publishes 1,000 secrets of which one changed.
func BenchmarkNextView(b *testing.B) {
	entries := make([]Entry, 1000)
	for i := range entries {
		name := fmt.Sprintf("prod/app/%d", i)
		entries[i] = Entry{Name: name, IDs: []string{name, "arn:aws:secretsmanager:us-west-2:123456789012:secret:" + name + "-NhBWsc"},
			Stage: secret.StageCurrent, Version: &secret.Version{Name: name, Text: secret.NewValue(strings.Repeat("x", 4096))}}
	}
	view := NewView(nil, entries)
	b.ReportAllocs()
	for b.Loop() {
		changed := *entries[0].Version
		entries[0].Version = &changed
		view = NewView(view, entries)
	}
}
