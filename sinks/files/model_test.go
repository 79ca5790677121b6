package files_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"secretsd/sinks/files"
)

// model is what should be at the destination.
type model struct {
	exists  bool
	content string
	mode    fs.FileMode
	linked  bool // the file has a second name
}

func (m model) change(content string, mode fs.FileMode) files.Change {
	switch {
	case !m.exists || m.content != content:
		return files.Content
	case m.mode != mode || m.linked:
		return files.Attributes
	default:
		return files.None
	}
}

// Any sequence of publishes and of things that others do to the file leaves
// what the model says, changes what the model says, and touches nothing else.
func TestAnySequenceAgainstAModel(t *testing.T) {
	top := memoryDir(t)
	rapid.Check(t, func(t *rapid.T) {
		outer, err := os.MkdirTemp(top, "")
		check(t, err)
		defer func() { check(t, os.RemoveAll(outer)) }()
		dir := filepath.Join(outer, "dir")
		path, second := filepath.Join(dir, "db.env"), filepath.Join(outer, "second")
		s := spec(path)
		s.Mode = rapid.SampledFrom([]fs.FileMode{0o400, 0o440, 0o644}).Draw(t, "mode")
		s.CreateDirs = true
		f, err := files.New().Open(s)
		check(t, err)
		defer func() { check(t, f.Close()) }()
		contents := rapid.SampledFrom([]string{"", "a", "b", "ab", "a longer one"})
		var m model
		leftovers := 0
		t.Repeat(map[string]func(*rapid.T){
			"publish": func(t *rapid.T) {
				content := contents.Draw(t, "content")
				before, _ := os.Lstat(path)
				got, err := f.Publish([]byte(content))
				check(t, err)
				if want := m.change(content, s.Mode); got != want {
					t.Fatalf("Publish did %v, want %v", got, want)
				}
				after, err := os.Lstat(path)
				check(t, err)
				if same := before != nil && os.SameFile(before, after); same != (got == files.None) {
					t.Fatalf("Publish did %v, and the same file is there: %v", got, same)
				}
				m = model{exists: true, content: content, mode: s.Mode}
			},
			"inspect": func(t *rapid.T) {
				content := contents.Draw(t, "content")
				got, err := f.Inspect([]byte(content))
				check(t, err)
				if want := m.change(content, s.Mode); got != want {
					t.Fatalf("Inspect says %v, want %v", got, want)
				}
			},
			"others write": func(t *rapid.T) {
				if !m.exists {
					t.Skip()
				}
				m.content = contents.Draw(t, "content")
				check(t, os.Chmod(path, 0o600))
				check(t, os.WriteFile(path, []byte(m.content), 0))
				check(t, os.Chmod(path, m.mode))
			},
			"others change the mode": func(t *rapid.T) {
				if !m.exists {
					t.Skip()
				}
				m.mode = rapid.SampledFrom([]fs.FileMode{0o400, 0o444, 0o777}).Draw(t, "mode")
				check(t, os.Chmod(path, m.mode))
			},
			"others link": func(t *rapid.T) {
				if !m.exists {
					t.Skip()
				}
				_ = os.Remove(second)
				check(t, os.Link(path, second))
				m.linked = true
			},
			"others unlink": func(t *rapid.T) {
				_ = os.Remove(second)
				m.linked = false
			},
			"remove": func(t *rapid.T) {
				check(t, f.Remove())
				m = model{}
			},
			"directory removed": func(t *rapid.T) {
				check(t, os.RemoveAll(dir))
				m, leftovers = model{}, 0
			},
			"agent killed": func(t *rapid.T) {
				if os.WriteFile(filepath.Join(dir, files.TempName("db.env")), []byte("half"), 0o400) == nil {
					leftovers++
				}
			},
			"sweep": func(t *rapid.T) {
				n, err := f.Sweep()
				check(t, err)
				if n != leftovers {
					t.Fatalf("swept %d, want %d", n, leftovers)
				}
				leftovers = 0
			},
			"": func(t *rapid.T) { m.holds(t, dir, path, leftovers) },
		})
	})
}

func (m model) holds(t *rapid.T, dir, path string, leftovers int) {
	entries, _ := os.ReadDir(dir)
	want := leftovers
	if m.exists {
		want++
		st, err := os.Lstat(path)
		check(t, err)
		content, err := os.ReadFile(path)
		check(t, err)
		if st.Mode() != m.mode || string(content) != m.content {
			t.Fatalf("there is %v %q, want %v %q", st.Mode(), content, m.mode, m.content)
		}
	}
	if len(entries) != want {
		t.Fatalf("%v in the directory, want %d names", entries, want)
	}
}

func owner(st fs.FileInfo) (uid, gid int) {
	sys := st.Sys().(*syscall.Stat_t)
	return int(sys.Uid), int(sys.Gid)
}

func check(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}
