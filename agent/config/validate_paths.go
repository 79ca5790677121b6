package config

import (
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of Linux, in bytes: of one name, and of a path with its terminating zero
// (path_resolution(7)).
const (
	maxFileName = 255
	maxPath     = 4096
)

// apart holds that no output needs a directory where there is to be a file, and
// that backups have their names to themselves. taken are the paths of all outputs,
// and own those of other files that the configuration names, each with what it is.
func (v *validator) apart(taken, own map[string]string) {
	plain := maps.Clone(own) // paths at which there are files, not directories
	delete(plain, v.c.StateDir)
	for i := range v.c.Files {
		f := &v.c.Files[i]
		if f.Path == "" {
			continue
		}
		plain[f.Path] = taken[f.Path]
		if !f.Backup {
			continue
		}
		backup := f.Path + ".bak"
		if by := taken[backup]; by != "" {
			v.fault(&f.Backup, []any{f}, "leave backup out, or choose another path for one of the two",
				"files[%d].backup: the file's backup would be %s, which is %s", i, backup, by)
			continue
		}
		plain[backup] = fmt.Sprintf("the backup of files[%d]", i)
	}
	for i := range v.c.Files {
		f := &v.c.Files[i]
		v.notBelow(plain, &f.Path, []any{f}, fmt.Sprintf("files[%d].path", i))
	}
	for i := range v.c.Bundles {
		b := &v.c.Bundles[i]
		v.notBelow(plain, &b.Dir, []any{b}, fmt.Sprintf("bundles[%d].dir", i))
		v.notInBundle(i)
	}
	v.notAbove(own)
}

// notBelow refuses a path with a file among its directories.
func (v *validator) notBelow(plain map[string]string, p *string, up []any, key string) {
	for _, dir := range above(*p) {
		if by := plain[dir]; by != "" {
			v.fault(p, up, "choose another path for one of the two", "%s: %s lies below %s, which is %s", key, *p, dir, by)
			return
		}
	}
}

// notAbove refuses the paths of files that are directories of the configuration's
// other files.
func (v *validator) notAbove(own map[string]string) {
	inside := map[string]string{} // one of them, by directory
	for _, p := range slices.Sorted(maps.Keys(own)) {
		for _, dir := range above(p) {
			if inside[dir] == "" {
				inside[dir] = p
			}
		}
	}
	for i := range v.c.Files {
		f := &v.c.Files[i]
		if p := inside[f.Path]; p != "" && own[f.Path] == "" && f.Path != "" {
			v.fault(&f.Path, []any{f}, "choose another path", "files[%d].path: %s has to be a directory, for %s is %s", i, f.Path, p, own[p])
		}
	}
}

// above returns the directories that an absolute path leads through, but for the
// root.
func above(p string) []string {
	if !filepath.IsAbs(p) {
		return nil
	}
	var dirs []string
	for dir := path.Dir(p); dir != "/"; dir = path.Dir(dir) {
		dirs = append(dirs, dir)
	}
	return dirs
}

// notInBundle refuses the directory of a bundle that lies where another one has a
// file, or what it keeps its generations in.
func (v *validator) notInBundle(i int) {
	b := &v.c.Bundles[i]
	for j := range v.c.Bundles {
		other := &v.c.Bundles[j]
		rest, is := strings.CutPrefix(b.Dir, other.Dir+"/")
		if !is || other.Dir == "" {
			continue
		}
		first, _, _ := strings.Cut(rest, "/")
		k := slices.IndexFunc(other.Files, func(f BundleFile) bool { return f.Path == first || strings.HasPrefix(f.Path, first+"/") })
		const hint = "choose another directory"
		switch {
		case k >= 0:
			v.fault(&b.Dir, []any{b}, hint, "bundles[%d].dir: %s is taken by bundles[%d].files[%d]", i, path.Join(other.Dir, first), j, k)
		case strings.HasPrefix(first, ".."):
			v.fault(&b.Dir, []any{b}, hint, `bundles[%d].dir: names that begin with ".." in %s are those of bundles[%d] itself`, i, other.Dir, j)
		}
	}
}

// below holds that a path stays below a bundle's directory, and off the names
// that the bundle itself uses. It reports whether it does.
func (v *validator) below(p *string, up []any, key string) bool {
	why, hint := unfit(*p)
	if why != "" {
		v.fault(p, up, hint, "%s: %s", key, why)
	}
	return why == ""
}

// unfit returns why p cannot be the path of a file below a bundle's directory, and
// what to do, or "".
func unfit(p string) (why, hint string) {
	switch {
	case p == "":
		return "missing", ""
	case path.IsAbs(p) || !filepath.IsLocal(p):
		return p + " leads out of the directory", "give a path below the bundle's directory, such as tls.crt"
	case path.Clean(p) != p:
		return strconv.Quote(p) + " is not a plain path", "write " + path.Clean(p)
	case !utf8.ValidString(p) || strings.ContainsFunc(p, unicode.IsControl):
		return strconv.Quote(p) + " has control characters or is not UTF-8", "choose another name"
	case strings.HasPrefix(p, "..") || strings.Contains(p, "/.."):
		return p, `names that begin with ".." are the bundle's own`
	}
	for name := range strings.SplitSeq(p, "/") {
		if len(name) > maxFileName {
			return fmt.Sprintf("a name has %d bytes", len(name)), fmt.Sprintf("give it at most %d", maxFileName)
		}
	}
	return "", ""
}

// claim is what a path of a bundle is taken by.
type claim struct {
	spelled string // with its case
	dir     bool
	by      int // the index of its file
}

// distinct holds that files[j] of b, whose path is fit, can be there together with
// those before it, which have entered taken: paths differ in more than case, for
// readers that do not see it, and none is the directory of another.
func (v *validator) distinct(taken map[string]claim, b *Bundle, j int, key string) {
	f := &b.Files[j]
	up := []any{f, b}
	if n := len(path.Join(b.Dir, f.Path)); n >= maxPath {
		v.fault(&f.Path, up, "choose a shorter one", "%s: with its directory the path has %d bytes, and may have %d", key, n, maxPath-1)
	}
	for at, dir := f.Path, false; at != "."; at, dir = path.Dir(at), true {
		folded := strings.ToLower(strings.ToUpper(at)) // ToUpper first, for letters of which two are one in upper case only
		other, is := taken[folded]
		switch {
		case is && dir && other.dir && other.spelled == at:
			return // and so are the directories above
		case is && !dir && !other.dir && other.spelled == at:
			v.fault(&f.Path, up, "", "%s: %s is already the path of files[%d]", key, f.Path, other.by)
			return
		case is:
			v.fault(&f.Path, up, "paths must differ in more than case, and none may be the directory of another",
				"%s: %s collides with %s, the path of files[%d]", key, f.Path, b.Files[other.by].Path, other.by)
			return
		}
		taken[folded] = claim{spelled: at, dir: dir, by: j}
	}
}
