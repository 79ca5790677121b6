package config

import (
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// outputs checks files and bundles: each path is written by one of them only.
func (v *validator) outputs() {
	own := v.ownFiles()
	taken := maps.Clone(own)
	claim := func(field *string, up []any, key, what string) {
		if *field == "" {
			return
		}
		if by := taken[*field]; by != "" {
			v.fault(field, up, "choose another path", "%s: %s is %s", key, *field, by)
			return
		}
		taken[*field] = what
	}
	for i := range v.c.Files {
		f, key := &v.c.Files[i], fmt.Sprintf("files[%d]", i)
		up := []any{f}
		v.absolute(&f.Path, up, key+".path")
		claim(&f.Path, up, key+".path", "already written by "+key)
		v.template(&f.TemplateSource, up, key)
		if f.Method != "rename" && f.Method != "inplace" {
			v.fault(&f.Method, up, "", "%s.method: want rename or inplace, not %q", key, f.Method)
		}
		if f.Method == "inplace" && f.Backup {
			v.fault(&f.Backup, up, "a file that is written in place has no copy of what it held", "%s.backup: not with method: inplace", key)
		}
		v.check(f.Check, up, key+".check")
		v.notified(f.Notify, up, key)
	}
	for i := range v.c.Bundles {
		b, key := &v.c.Bundles[i], fmt.Sprintf("bundles[%d]", i)
		v.absolute(&b.Dir, []any{b}, key+".dir")
		claim(&b.Dir, []any{b}, key+".dir", "already the directory of "+key)
		for j := range b.Files {
			f := &b.Files[j]
			if by := taken[path.Join(b.Dir, f.Path)]; by != "" && f.Path != "" {
				v.fault(&f.Path, []any{f, b}, "choose another path", "%s.files[%d].path: %s is %s", key, j, path.Join(b.Dir, f.Path), by)
			}
		}
		v.bundle(b, key)
	}
	for i := range v.c.Files {
		f := &v.c.Files[i]
		for j, b := range v.c.Bundles {
			if b.Dir != "" && strings.HasPrefix(f.Path, b.Dir+"/") {
				v.fault(&f.Path, []any{f}, "make it one of the bundle's files, or choose another directory",
					"files[%d].path: %s lies in the directory of bundles[%d]", i, f.Path, j)
			}
		}
	}
	v.apart(taken, own)
	v.vars()
}

func (v *validator) bundle(b *Bundle, key string) {
	up := []any{b}
	if len(b.Files) == 0 && b.Explode == nil {
		v.fault(b, nil, "give files: [{path: tls.crt, contents: ...}], or explode: SECRET", "%s: it has no files", key)
	}
	if e := b.Explode; e != nil {
		if e.Secret == "" {
			v.fault(&e.Secret, []any{e, b}, "", "%s.explode.secret: missing", key)
		}
		if strings.Count(e.Name, "{}") != 1 {
			v.fault(&e.Name, []any{e, b}, `for example name: "{}.txt"`, "%s.explode.name: %q has no {} for the key, or more than one", key, e.Name)
		} else if why, hint := unfit(strings.Replace(e.Name, "{}", "key", 1)); why != "" {
			v.fault(&e.Name, []any{e, b}, hint, "%s.explode.name: %s", key, why)
		}
	}
	taken := map[string]claim{}
	for j := range b.Files {
		f, key := &b.Files[j], fmt.Sprintf("%s.files[%d]", key, j)
		if v.below(&f.Path, []any{f, b}, key+".path") {
			v.distinct(taken, b, j, key+".path")
		}
		v.template(&f.TemplateSource, []any{f, b}, key)
	}
	v.check(b.Check, up, key+".check")
	v.notified(b.Notify, up, key)
}

func (v *validator) check(c *Check, up []any, key string) {
	if c == nil {
		return
	}
	up = append([]any{c}, up...)
	if len(c.Command) == 0 {
		v.fault(&c.Command, up, `for example command: [/usr/sbin/nginx, -t, -c, "{}"]`, "%s.command: missing", key)
	}
	v.atLeast(&c.Timeout, MinInterval, up, key+".timeout")
	v.output(&c.Output, up, key)
}

func (v *validator) notified(names []string, up []any, key string) {
	for j := range names {
		name := names[j]
		if !slices.ContainsFunc(v.c.Targets, func(t Target) bool { return t.Name == name }) {
			v.fault(&names[j], up, "", "%s.notify: there is no target %q", key, name)
		}
	}
}

func (v *validator) vars() {
	for _, name := range slices.Sorted(maps.Keys(v.c.Vars)) {
		place := "vars." + name
		if name == "" {
			v.fault(place, nil, "", "vars: a name is empty")
		}
		if x := v.c.Vars[name]; x.Env != "" && !envName(x.Env) {
			v.fault(place, nil, "", "%s.env: %q is no name of an environment variable", place, x.Env)
		}
	}
}

// envName reports whether s is a name as shells take it (IEEE Std 1003.1, 8.1).
func envName(s string) bool {
	return s != "" && (s[0] < '0' || s[0] > '9') && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// ownFiles are the files that the configuration names for something else, by
// path, with what they are.
func (v *validator) ownFiles() map[string]string {
	own := map[string]string{v.c.StateDir: "the state directory"}
	for _, name := range []string{"state.json", "lock", "control.sock"} {
		own[filepath.Join(v.c.StateDir, name)] = "a file of the state directory"
	}
	if abs, err := filepath.Abs(v.c.path); err == nil {
		own[abs] = "the configuration itself"
	}
	if e := v.c.Endpoint; e != nil {
		own[e.TokenFile.Path] = "the endpoint's token file"
		for _, client := range e.Clients {
			own[client.TokenFile.Path] = "the token file of client " + client.Name
		}
		if e.Socket != nil {
			own[e.Socket.Path] = "the endpoint's socket"
		}
	}
	if v.c.Source.Local != nil {
		own[v.c.Source.Local.Path] = "the file of the local secrets"
	}
	if v.c.Source.AWS != nil {
		own[v.c.Source.AWS.CredentialsFile] = "the file of AWS credentials"
	}
	if v.c.Audit != nil {
		own[v.c.Audit.Path] = "the audit log"
	}
	for _, t := range v.c.Targets {
		for _, s := range append(t.Ladder[:len(t.Ladder):len(t.Ladder)], t.Step) {
			if s.Process != nil {
				own[s.Process.PIDFile] = "a pid file of target " + t.Name
			}
		}
	}
	for i, f := range v.c.Files {
		own[f.Template] = fmt.Sprintf("the template of files[%d]", i)
	}
	for i, b := range v.c.Bundles {
		for j, f := range b.Files {
			own[f.Template] = fmt.Sprintf("the template of bundles[%d].files[%d]", i, j)
		}
	}
	delete(own, "")
	return own
}

func (v *validator) template(t *TemplateSource, up []any, key string) {
	hasContents := v.c.lines[&t.Contents] != 0
	if (t.Template != "") == hasContents {
		v.fault(up[0], up[1:], "", "%s: give either template (a file) or contents (the text itself)", key)
	}
	if n := len(t.Delims); n != 0 && (n != 2 || t.Delims[0] == "" || t.Delims[1] == "") {
		v.fault(&t.Delims, up, `for example ["[[", "]]"]`, "%s.delims: want two delimiters", key)
	}
	if !slices.Contains([]string{"error", "zero"}, t.MissingKey) {
		v.fault(&t.MissingKey, up, "", "%s.missing_key: want error or zero, not %q", key, t.MissingKey)
	}
	for i, name := range t.AllowEnv {
		if !envName(name) {
			v.fault(&t.AllowEnv[i], up, "", "%s.allow_env: %q is no name of an environment variable", key, name)
		}
	}
}
