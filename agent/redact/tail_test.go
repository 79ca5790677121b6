package redact_test

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"secretsd/agent/redact"
)

// TestTailKeepsTheEnd compares with keeping everything.
func TestTailKeepsTheEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tail redact.Tail
		var all []byte
		for range rapid.IntRange(0, 12).Draw(t, "writes") {
			size := rapid.OneOf(rapid.IntRange(0, 40), rapid.IntRange(0, 3*redact.TailSize)).Draw(t, "size")
			p := make([]byte, size)
			for i := range p {
				p[i] = 'a' + byte((len(all)+i)*31/7%25)
				if (len(all)+i)%70 == 69 {
					p[i] = '\n'
				}
			}
			all = append(all, p...)
			if n, err := tail.Write(p); n != size || err != nil {
				t.Fatalf("wrote %d of %d: %v", n, size, err)
			}
			clear(p)
		}
		want := string(all[max(0, len(all)-redact.TailSize):])
		dropped := len(all) > redact.TailSize
		if dropped {
			_, want, _ = strings.Cut(want, "\n")
		}
		if tail.Dropped() != dropped {
			t.Fatalf("dropped %v after %d bytes", tail.Dropped(), len(all))
		}
		if got := tail.Text(values()); got != want {
			t.Fatalf("got %d bytes, want %d of %d", len(got), len(want), len(all))
		}
	})
}

func TestTailDroppedInSmallWrites(t *testing.T) {
	var tail redact.Tail
	for written := 0; written < 10*redact.TailSize; {
		n, err := tail.Write([]byte(strings.Repeat("x", 1000)))
		if err != nil {
			t.Fatal(err)
		}
		if written += n; tail.Dropped() != (written > redact.TailSize) {
			t.Fatalf("dropped %v after %d bytes", tail.Dropped(), written)
		}
	}
	// After a slide exactly TailSize bytes are kept.
	tail = redact.Tail{}
	for range 3 {
		if _, err := tail.Write([]byte(strings.Repeat("x", 3000))); err != nil {
			t.Fatal(err)
		}
	}
	if !tail.Dropped() {
		t.Error("nothing was dropped of 9000 bytes")
	}
}

// TestTailCut: of a line whose head is lost nothing is kept that could be the
// unrecognisable rest of a secret.
func TestTailCut(t *testing.T) {
	const held = "correct-horse-battery-staple"
	fill := func(s string) string { return s + strings.Repeat(" y", redact.TailSize)[:redact.TailSize-len(s)] }
	for _, row := range []struct{ name, written, end, want string }{
		{"a cut line", "x " + held[:24], fill("aple z\nnext\n"), "next\n"},
		{"one line", "x " + held[:24], fill("aple z"), "z y"},
		{"one line and its end", "x " + held[:24], fill("aple z")[:redact.TailSize-1] + "\n", "z y"},
		{"one word", "x", strings.Repeat("z", redact.TailSize), ""},
		{"one word and its end", "x", strings.Repeat("z", redact.TailSize-1) + "\n", ""},
		{"nothing lost", "", fill("aple z\n"), "aple z\n y"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var tail redact.Tail
			for _, s := range []string{row.written, row.end} {
				if _, err := io.WriteString(&tail, s); err != nil {
					t.Fatal(err)
				}
			}
			got := tail.Text(values(held))
			if !strings.HasPrefix(got, row.want) || row.want == "" && got != "" {
				t.Errorf("got %.40q, want %q", got, row.want)
			}
		})
	}
}

// TestTailFlood: a command that floods its output costs no memory.
func TestTailFlood(t *testing.T) {
	for _, size := range []int{1, 100, 4095, 4097, 32 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			line := bytes.Repeat([]byte("x"), size)
			tails := make([]redact.Tail, 200)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			for i := range tails {
				for written := 0; written < 40<<10; written += size {
					if _, err := tails[i].Write(line); err != nil {
						t.Fatal(err)
					}
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / int64(len(tails))
			if most := int64(2*redact.TailSize + 512); each > most || each < redact.TailSize/2 {
				t.Errorf("a tail holds %d bytes", each)
			}
			runtime.KeepAlive(tails)
		})
	}
}
