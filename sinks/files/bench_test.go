package files_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"secretsd/sinks/files"
)

// BenchmarkPublish shows what one file of 1 KiB costs: with new content each
// time, and with the content it has already, as most passes find it.
func BenchmarkPublish(b *testing.B) {
	contents := [2][]byte{bytes.Repeat([]byte("a"), 1024), bytes.Repeat([]byte("b"), 1024)}
	for name, step := range map[string]int{"changed": 1, "unchanged": 2} {
		b.Run(name, func(b *testing.B) {
			f := open(b, spec(filepath.Join(memoryDir(b), "db.env")))
			b.ReportAllocs()
			for n := 0; b.Loop(); n += step {
				if _, err := f.Publish(contents[n%2]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpen shows what start-up costs for each of many files in one
// directory.
func BenchmarkOpen(b *testing.B) {
	dir := memoryDir(b)
	dirs := files.New()
	openIn(b, dirs, spec(filepath.Join(dir, "first")))
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		f, err := dirs.Open(spec(fmt.Sprintf("%s/%d", dir, n)))
		if err != nil {
			b.Fatal(err)
		}
		_ = f.Close()
	}
}

// BenchmarkPublishBundle shows what a certificate, its key and its chain cost,
// the removal of the generation before included; and what a heal pass costs for
// each bundle that is right.
func BenchmarkPublishBundle(b *testing.B) {
	sets := [2][]files.Entry{}
	for n := range sets {
		body := strings.Repeat(fmt.Sprint(n), 2000)
		sets[n] = set{"tls.crt": body, "tls.key": body, "ca.crt": body}.entries()
	}
	open := func(b *testing.B) *files.Bundle {
		s := bundleSpec(memoryDir(b))
		s.Grace = 0
		return openBundle(b, s)
	}
	b.Run("changed", func(b *testing.B) {
		bundle := open(b)
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			if _, err := bundle.Publish(sets[n%2], 0); err != nil {
				b.Fatal(err)
			}
			if _, _, err := bundle.Collect(0); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		bundle := open(b)
		if _, err := bundle.Publish(sets[0], 0); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if change, err := bundle.Inspect(sets[0]); err != nil || change != files.None {
				b.Fatal(change, err)
			}
		}
	})
}
