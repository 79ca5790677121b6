package files_test

import (
	"bytes"
	"fmt"
	"path/filepath"
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
