package files_test

import (
	"os"
	"path/filepath"
	"testing"

	"secretsd/sinks/files"
)

func TestRemoveOursKeepsWhatSomebodyElseChanged(t *testing.T) {
	dir := memoryDir(t)
	path := filepath.Join(dir, "db.env")
	rewrite := func(content string) func() error {
		return func() error {
			if err := os.Chmod(path, 0o600); err != nil {
				return err
			}
			return os.WriteFile(path, []byte(content), 0)
		}
	}
	rows := map[string]struct {
		before    func() error
		kept      bool // by the process that published
		keptLater bool // by the next, that has the mark
	}{
		"as it was":    {before: func() error { return nil }},
		"gone":         {before: func() error { return os.Remove(path) }},
		"mode":         {before: func() error { return os.Chmod(path, 0o444) }, keptLater: true},
		"same content": {before: rewrite(canary), keptLater: true},
		"same size":    {before: rewrite("C" + canary[:len(canary)-1]), kept: true, keptLater: true},
		"other size":   {before: rewrite("theirs"), kept: true, keptLater: true},
		"empty":        {before: rewrite(""), kept: true, keptLater: true},
	}
	for name, row := range rows {
		for _, restarted := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				_ = os.Remove(path)
				f := open(t, spec(path))
				if f.Mark() != "" {
					t.Error("a mark of nothing")
				}
				publish(t, f, canary, files.Content)
				mark := f.Mark()
				must(t, row.before())
				want := row.kept
				if restarted {
					f = open(t, spec(path))
					want = row.keptLater
				} else {
					mark = ""
				}
				_, statErr := os.Lstat(path)
				kept, err := f.RemoveOurs(mark)
				must(t, err)
				_, err = os.Lstat(path)
				if kept != want || kept != (err == nil) && statErr == nil {
					t.Errorf("kept: %v, want %v; lstat says %v", kept, want, err)
				}
			})
		}
	}
}

func TestRemoveOursKnowsWhatItFoundRight(t *testing.T) {
	dir := memoryDir(t)
	path := filepath.Join(dir, "db.env")
	publish(t, open(t, spec(path)), canary, files.Content)
	f := open(t, spec(path))
	if kept, err := f.RemoveOurs(""); !kept || err != nil {
		t.Errorf("removed what it knows nothing of: %v, %v", kept, err)
	}
	inspect(t, f, canary, files.None)
	if kept, err := f.RemoveOurs(""); kept || err != nil {
		t.Errorf("kept: %v, %v", kept, err)
	}
	contains(t, dir)
	must(t, os.Mkdir(path, 0o700))
	_, err := f.RemoveOurs("")
	refuses(t, err, "it is a directory", "")
	must(t, os.Remove(path))
	must(t, os.Remove(dir))
	if kept, err := f.RemoveOurs(""); kept || err != nil {
		t.Errorf("kept: %v, %v", kept, err)
	}
}
