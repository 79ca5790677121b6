package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
)

// Load reads and validates the file at path. All faults are reported at once,
// as one error that joins an [Error] for each.
//
// The configuration is returned even then, if the file could be read at all,
// so that the caller can go on looking for faults; it must not be run.
func Load(path string) (*Config, error) {
	data, err := ReadTrusted(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// Parse is [Load] for the bytes of a file that calls itself path. Relative
// paths in it start at path's directory.
func Parse(path string, data []byte) (*Config, error) {
	c := &Config{path: path}
	d := &decoder{path: path, lines: map[any]int{}, marks: map[any]mark{}}
	readable := d.parse(data, reflect.ValueOf(c).Elem())
	c.lines, c.marks, c.source = d.lines, d.marks, sourceLines(data)
	c.setDefaults()
	if readable {
		d.errs = append(d.errs, c.validate()...)
	}
	c.faults = errors.Join(d.errs...)
	return c, c.faults
}

func (c *Config) setDefaults() {
	setDefault(&c.Refresh.Interval, Duration(DefaultInterval))
	setDefault(&c.Refresh.MaxStale, Duration(DefaultMaxStale))
	setDefault(&c.HealInterval, Duration(DefaultHealInterval))
	setDefault(&c.StateDir, DefaultStateDir)
	setDefault(&c.OnExit, "keep")
	setDefault(&c.Log.Level, "info")
	setDefault(&c.Log.Format, "text")
	c.setTemplateDefaults()
	for i := range c.Secrets {
		s := &c.Secrets[i]
		setDefault(&s.Name, s.ID)
		setDefault(&s.Interval, c.Refresh.Interval)
		if s.VersionID == "" {
			setDefault(&s.Stage, "AWSCURRENT")
		}
	}
	for i := range c.Targets {
		c.Targets[i].setDefaults(c)
	}
	c.setExecDefaults()
	c.setListenerDefaults()
}

func (c *Config) setTemplateDefaults() {
	home := filepath.Dir(c.path)
	if abs, err := filepath.Abs(home); err == nil {
		home = abs
	}
	if !filepath.IsAbs(c.TemplateDir) {
		c.TemplateDir = filepath.Join(home, c.TemplateDir)
	}
	source := func(t *TemplateSource) {
		setDefault(&t.MissingKey, "error")
		if t.Template != "" && !filepath.IsAbs(t.Template) {
			t.Template = filepath.Join(c.TemplateDir, t.Template)
		}
	}
	for i := range c.Files {
		f := &c.Files[i]
		setDefault(&f.Mode, 0o400)
		setDefault(&f.Method, "rename")
		source(&f.TemplateSource)
		f.Check.setDefaults()
	}
	for i := range c.Bundles {
		b := &c.Bundles[i]
		setDefault(&b.Mode, 0o400)
		if b.Grace == nil {
			grace := Duration(DefaultGrace)
			b.Grace = &grace
		}
		if b.Explode != nil {
			setDefault(&b.Explode.Name, "{}")
		}
		for j := range b.Files {
			setDefault(&b.Files[j].Mode, b.Mode)
			source(&b.Files[j].TemplateSource)
		}
		b.Check.setDefaults()
	}
	if c.Source.Local != nil && c.Source.Local.Path != "" && !filepath.IsAbs(c.Source.Local.Path) {
		c.Source.Local.Path = filepath.Join(home, c.Source.Local.Path)
	}
	if c.Source.AWS == nil && c.Source.Local == nil {
		c.Source.AWS = &AWS{}
	}
}

func (c *Check) setDefaults() {
	if c != nil {
		setDefault(&c.Timeout, Duration(DefaultCheckTimeout))
	}
}

func (c *Config) setListenerDefaults() {
	if c.Telemetry != nil {
		setDefault(&c.Telemetry.Listen, DefaultTelemetry)
	}
	e := c.Endpoint
	if e == nil {
		return
	}
	if e.Socket == nil {
		setDefault(&e.Listen, DefaultListen)
	} else {
		setDefault(&e.Socket.Mode, 0o600)
	}
	setDefault(&e.PathPrefix, "/v1/")
	setDefault(&e.TokenFile.Mode, 0o400)
	for i := range e.Clients {
		setDefault(&e.Clients[i].TokenFile.Mode, 0o400)
	}
	if e.MaxConnections == 0 && c.lines[&e.MaxConnections] == 0 {
		e.MaxConnections = 800
	}
	if d := e.OnDemand; d != nil {
		setDefault(&d.Interval, c.Refresh.Interval)
		if c.lines[&d.MaxEntries] == 0 {
			d.MaxEntries = 1000
		}
		if c.lines[&d.MaxRoles] == 0 {
			d.MaxRoles = 20
		}
	}
	if len(e.TokenHeaders) == 0 {
		e.TokenHeaders = []string{"X-Aws-Parameters-Secrets-Token", "X-Vault-Token"}
	}
	if e.TokenGrace == nil {
		grace := Duration(DefaultTokenGrace)
		e.TokenGrace = &grace
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// maxFileBytes bounds what is read of a configuration or template file.
const maxFileBytes = 8 << 20

// ReadTrusted reads a configuration or template file. It refuses one that
// anybody but root and the agent's own user could have written, since its
// writer decides where secrets go.
func ReadTrusted(path string) ([]byte, error) {
	// A named pipe that nobody writes must not hang the start.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, &Error{Place: path, Err: fmt.Errorf("open file: %w", errors.Unwrap(err)), hint: openHint(err)}
	}
	defer f.Close()
	return readTrusted(path, f)
}

// readTrusted reads what was opened at path, if only root and the agent's user
// could have written it.
func readTrusted(path string, f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, &Error{Place: path, Err: fmt.Errorf("stat file: %w", err)}
	}
	if !info.Mode().IsRegular() {
		return nil, &Error{Place: path, Err: errors.New("read file: not a regular file")}
	}
	if err := checkTrust(path, info); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, &Error{Place: path, Err: fmt.Errorf("read file: %w", err)}
	}
	if len(data) > maxFileBytes {
		return nil, &Error{Place: path, Err: fmt.Errorf("read file: larger than %d MiB", maxFileBytes>>20)}
	}
	return data, nil
}

func openHint(err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "the path is wrong, or the file is not there yet"
	case errors.Is(err, os.ErrPermission):
		return "give the agent's user the right to read it"
	default:
		return ""
	}
}
