package agent

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"secretsd/agent/config"
	"secretsd/agent/notify"
	"secretsd/sinks/files"
	"secretsd/templates"
)

// parseFile builds the output of one entry of files, but for where it goes.
func (p *plan) parseFile(f *config.File) (*output, error) {
	o, source := &output{path: f.Path, notify: f.Notify, backup: f.Backup}, sha256.New()
	o.parse = func() (*output, error) { return p.parseFile(f) }
	err := errors.Join(p.addPart(o, source, &f.TemplateSource, part{mode: f.Mode.Perm()}, f), p.addCheck(o, source, f.Check))
	o.source = [sha256.Size]byte(source.Sum(nil))
	return o, err
}

// newFile builds the output of one entry of files.
func (p *plan) newFile(f *config.File) (*output, error) {
	o, parseErr := p.parseFile(f)
	errs := []error{parseErr}
	uid, gid, err := files.LookupOwner(f.Owner, f.Group)
	if err != nil {
		errs = append(errs, placed(p.cfg, err, &f.Owner, &f.Group, f))
	} else if strings.HasPrefix(f.Path, "/") {
		file, err := p.dirs.Open(files.Spec{Path: f.Path, Mode: f.Mode.Perm(), UID: uid, GID: gid, CreateDirs: f.CreateDirs,
			AllowDisk: f.AllowDisk, InPlace: f.Method == "inplace", Backup: f.Backup})
		if err != nil {
			errs = append(errs, placed(p.cfg, err, &f.Path, f))
		} else {
			to := fileSink{file}
			o.sink, o.place, o.trace = to, to, to
		}
	}
	return o, errors.Join(errs...)
}

// parseBundle builds the output of one entry of bundles, but for where it goes.
func (p *plan) parseBundle(b *config.Bundle) (*output, error) {
	o, source := &output{path: b.Dir, bundle: true, notify: b.Notify, backup: b.Backup}, sha256.New()
	o.parse = func() (*output, error) { return p.parseBundle(b) }
	var errs []error
	for i := range b.Files {
		f := &b.Files[i]
		errs = append(errs, p.addPart(o, source, &f.TemplateSource, part{path: f.Path, mode: f.Mode.Perm()}, f))
	}
	errs = append(errs, p.addExplode(o, source, b), p.addCheck(o, source, b.Check))
	o.source = [sha256.Size]byte(source.Sum(nil))
	return o, errors.Join(errs...)
}

// newBundle builds the output of one entry of bundles.
func (p *plan) newBundle(b *config.Bundle) (*output, error) {
	o, parseErr := p.parseBundle(b)
	errs := []error{parseErr}
	uid, gid, err := files.LookupOwner(b.Owner, b.Group)
	if err != nil {
		errs = append(errs, placed(p.cfg, err, &b.Owner, &b.Group, b))
	} else if strings.HasPrefix(b.Dir, "/") {
		bundle, err := p.dirs.OpenBundle(files.BundleSpec{Dir: b.Dir, Mode: searchable(b), UID: uid, GID: gid, CreateDirs: b.CreateDirs,
			AllowDisk: b.AllowDisk, Grace: b.Grace.Std(), Backup: b.Backup})
		if err != nil {
			errs = append(errs, placed(p.cfg, err, &b.Dir, b))
		} else {
			to := bundleSink{bundle, bootClock}
			o.sink, o.place, o.trace = to, to, to
		}
	}
	return o, errors.Join(errs...)
}

// searchable returns the mode of a bundle's directories: who may read any of its
// files may enter.
func searchable(b *config.Bundle) fs.FileMode {
	mode := b.Mode.Perm()
	for i := range b.Files {
		mode |= b.Files[i].Mode.Perm()
	}
	return 0o500 | mode&0o444 | mode&0o444>>2
}

// addPart parses the template of a file, adds it to o, and its source to the
// digest. The secrets it names have to be configured.
func (p *plan) addPart(o *output, source hash.Hash, t *config.TemplateSource, made part, parent any) error {
	opts := templates.Options{Name: t.Template, Text: t.Contents, MissingKey: t.MissingKey, AllowEnv: t.AllowEnv, Vars: p.vars, Library: p.library}
	if len(t.Delims) == 2 {
		opts.Delims = [2]string{t.Delims[0], t.Delims[1]}
	}
	if t.Template != "" {
		text, err := config.ReadTrusted(t.Template)
		if err != nil {
			return placed(p.cfg, fmt.Errorf("template: %w", err), &t.Template, parent)
		}
		opts.Text = string(text)
		o.templates = append(o.templates, t.Template)
	} else {
		opts.Name, opts.Place, opts.Key = p.cfg.Path(), p.cfg.Text(&t.Contents).Place, "contents"
	}
	tmpl, err := templates.Parse(opts)
	if err != nil {
		return err // it names file and line itself
	}
	made.tmpl = tmpl
	fmt.Fprintf(source, "%q %o %x ", made.path, made.mode, tmpl.Digest())
	for _, name := range tmpl.Files() {
		o.templates = append(o.templates, filepath.Join(p.cfg.TemplateDir, filepath.FromSlash(name)))
	}
	o.parts = append(o.parts, made)
	var errs []error
	for _, use := range tmpl.Secrets() {
		o.use(use.Name)
		if use.Test {
			o.tests(use.Name)
		}
		if !p.configured(use.Name) {
			errs = append(errs, p.unknownSecret(use))
		}
	}
	return errors.Join(errs...)
}

func (p *plan) addExplode(o *output, source hash.Hash, b *config.Bundle) error {
	e := b.Explode
	if e == nil || e.Secret == "" {
		return nil
	}
	if !p.configured(e.Secret) {
		return p.cfg.Errorf([]any{&e.Secret, e, b}, p.configuredHint(), "explode: there is no secret %q", e.Secret)
	}
	fmt.Fprintf(source, "explode %q %q %o ", e.Secret, e.Name, b.Mode)
	o.explode = &explode{secret: e.Secret, name: e.Name, mode: b.Mode.Perm()}
	o.use(e.Secret)
	return nil
}

func (p *plan) addCheck(o *output, source hash.Hash, c *config.Check) error {
	if c == nil || len(c.Command) == 0 {
		return nil
	}
	fmt.Fprintf(source, "check %q %q ", c.Command, c.User)
	uid := -1
	if c.User != "" {
		var err error
		if uid, _, err = files.LookupOwner(c.User, ""); err != nil {
			return placed(p.cfg, err, &c.User, c)
		}
	}
	o.check = &check{command: c.Command, timeout: c.Timeout.Std(), user: c.User, uid: uid, output: c.LogsOutput()}
	p.logsOutput = p.logsOutput || c.LogsOutput()
	return placed(p.cfg, notify.CheckCommand(c.Command[0]), &c.Command, c)
}

func (p *plan) configured(name string) bool {
	if p.names == nil {
		p.names = make(map[string]bool, len(p.secrets))
		for _, s := range p.secrets {
			p.names[s.name] = true
		}
	}
	return p.names[name]
}

// tests notes that the output asks whether a secret is there, and so does without
// it.
func (o *output) tests(name string) {
	if o.tested == nil {
		o.tested = map[string]bool{}
	}
	o.tested[name] = true
}

// use notes that the output depends on a secret.
func (o *output) use(name string) {
	if !slices.Contains(o.uses, name) {
		o.uses = append(o.uses, name)
		o.deps = slices.Clone(o.uses)
	}
}
