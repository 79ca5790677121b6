package templates_test

import (
	"fmt"
	"runtime"
	"testing"

	"secretsd/agent/secret"
	"secretsd/templates"
)

const small = `[client]
user = {{ (secret "db").user }}
password = {{ (secret "db").password | quote }}
{{- with secret "db" }}
port = {{ .port }}
{{- range $i, $h := .hosts }}
host{{ $i }} = {{ $h }}
{{- end }}
{{- end }}
`

func benchmarkTemplate(b *testing.B, text string) *templates.Template {
	t, err := templates.Parse(templates.Options{Name: "a.tmpl", Text: text})
	if err != nil {
		b.Fatal(err)
	}
	return t
}

func lookups() templates.Lookup {
	v := &secret.Version{VersionID: "v", Text: secret.NewValue(templates.SecretsOfExamples()["db"])}
	return func(string) (*secret.Version, error) { return v, nil }
}

// BenchmarkRender renders a small template in a pass of its own, which parses
// the secret's JSON, and in a pass that has parsed it.
func BenchmarkRender(b *testing.B) {
	t := benchmarkTemplate(b, small)
	lookup := lookups()
	b.Run("new pass", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := templates.NewPass(lookup).Render(t); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("same pass", func(b *testing.B) {
		p := templates.NewPass(lookup)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.Render(t); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		benchmarkTemplate(b, small)
	}
}

// BenchmarkMemory holds 10,000 parsed templates of some 200 bytes and reports
// what one of them takes.
func BenchmarkMemory(b *testing.B) {
	const n = 10_000
	benchmarkTemplate(b, small)
	for b.Loop() {
		held := make([]*templates.Template, n)
		before := heap()
		for i := range held {
			held[i] = benchmarkTemplate(b, fmt.Sprintf("# %d\n%s", i, small))
		}
		b.ReportMetric(float64(heap()-before)/n, "bytes/template")
		runtime.KeepAlive(held)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
