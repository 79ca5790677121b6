package files_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"secretsd/sinks/files"
)

func TestAFileIsRecollectedUnlessSomebodyWroteToIt(t *testing.T) {
	for name, row := range map[string]struct {
		change func(path string) error
		there  bool
	}{
		"as it was": {func(string) error { return nil }, true},
		"mode":      {func(path string) error { return os.Chmod(path, 0o444) }, true},
		"written to": {func(path string) error {
			return errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte(canary), 0))
		}, false},
		"replaced": {func(path string) error {
			return errors.Join(os.WriteFile(path+".new", []byte(canary), 0o400), os.Rename(path+".new", path))
		}, false},
		"gone": {os.Remove, false},
		"symlink": {func(path string) error {
			return errors.Join(os.Rename(path, path+".old"), os.Symlink(path+".old", path))
		}, false},
	} {
		t.Run("file, "+name, func(t *testing.T) {
			path := filepath.Join(memoryDir(t), "f")
			f := open(t, spec(path))
			publish(t, f, canary, files.Content)
			m := f.Mark()
			next := open(t, spec(path))
			must(t, row.change(path))
			content, there, err := next.Recollect(m)
			must(t, err)
			if there != row.there || there && string(content) != canary {
				t.Errorf("%q is there: %v", content, there)
			}
			if _, there, _ := next.Recollect(""); there {
				t.Error("the zero mark fits")
			}
			if there {
				if _, err := next.Publish(content); err != nil {
					t.Fatal(err)
				}
				if info, err := os.Stat(path); err != nil || info.Mode() != 0o400 {
					t.Errorf("the mode is %v, %v", info.Mode(), err)
				}
			}
		})
		t.Run("bundle, "+name, func(t *testing.T) {
			dir := memoryDir(t)
			b := openBundle(t, bundleSpec(dir))
			publishSet(t, b, pair, files.Content)
			m := b.Mark()
			must(t, row.change(filepath.Join(dir, "..data", "tls.key")))
			must(t, b.Close())
			next := openBundle(t, bundleSpec(dir))
			entries, there, err := next.Recollect(m)
			must(t, err)
			if there != row.there || there && len(entries) != len(pair) {
				t.Errorf("%d entries are there: %v", len(entries), there)
			}
			for _, e := range entries {
				if pair[e.Path] != string(e.Content) {
					t.Errorf("%s holds %q", e.Path, e.Content)
				}
			}
			if _, there, _ := next.Recollect(""); there {
				t.Error("the zero mark fits")
			}
		})
	}
}
