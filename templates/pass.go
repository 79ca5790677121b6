package templates

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"sync"

	"secretsd/agent/secret"
)

// Lookup returns the version of the secret that the configuration calls name.
// It answers from memory. An error that is [ErrUnknown] means that the
// configuration has no such secret; any other says why there is no version
// yet. The text of the error becomes part of the template's error, so it must
// not hold a value. Several goroutines may call it at once if they render in
// one [Pass].
type Lookup func(name string) (*secret.Version, error)

// Pass renders any number of templates against one snapshot of secrets. A name
// is looked up at most once, and its JSON is parsed at most once, however many
// templates use it. A Pass holds decoded values: drop it when the pass is
// over. It is safe for concurrent use.
type Pass struct {
	lookup Lookup
	mu     sync.Mutex
	read   map[string]*reading
}

// reading is one secret as a pass sees it.
type reading struct {
	once    sync.Once
	version *secret.Version
	err     error
	value   any // what the function secret returns, unless err is set
}

// Result is what a rendering came to.
type Result struct {
	// Content is the rendered file. It belongs to the caller, and is nil after
	// an error.
	Content []byte
	// Used are the names really looked up, sorted, after an error too. The
	// outcome depends on the versions of these secrets and on nothing else.
	// Names for which the lookup said [ErrUnknown] are left out.
	Used []string
}

// Format implements [fmt.Formatter] and shows the names used, never the
// content.
func (r Result) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, secret.Redacted+" of "+fmt.Sprint(r.Used))
}

// LogValue implements [slog.LogValuer] and shows the names used, never the
// content.
func (r Result) LogValue() slog.Value { return slog.AnyValue(r.Used) }

// MarshalText implements [encoding.TextMarshaler], which JSON uses too, and
// returns [secret.Redacted].
func (r Result) MarshalText() ([]byte, error) { return []byte(secret.Redacted), nil }

// NewPass returns a Pass over what lookup answers. The answers must not change
// while the Pass is in use.
func NewPass(lookup Lookup) *Pass {
	return &Pass{lookup: lookup, read: make(map[string]*reading)}
}

// Render executes the template. The error is an [*Error] that names template,
// line and, where it can, column and secret; errors.Is and errors.As reach the
// error of a failed [Lookup] through it. Rendering blocks for nothing and ends
// with an error when it exceeds one of the package's limits: 8 MiB of output,
// 1 MiB in one value, or about half a second's work.
func (p *Pass) Render(t *Template) (Result, error) {
	r := &rendering{t: t, pass: p}
	err := r.run()
	res := Result{Used: slices.Sorted(slices.Values(r.used))}
	if err != nil {
		return res, err
	}
	res.Content = r.out
	return res, nil
}

// get returns the secret name, looked up on the first call for it.
func (p *Pass) get(name string) *reading {
	p.mu.Lock()
	rd := p.read[name]
	if rd == nil {
		rd = new(reading)
		p.read[name] = rd
	}
	p.mu.Unlock()
	rd.once.Do(func() {
		rd.version, rd.err = p.lookup(name)
		if rd.err == nil && rd.version == nil {
			rd.err = errNoVersion
		}
		if rd.err == nil {
			rd.value = parseSecret(name, rd.version.Text.Reveal())
			if rd.version.Unlabelled() {
				rd.value = text{secret: name, unlabelled: true}
			}
		}
	})
	return rd
}

var errNoVersion = errors.New("not read yet")

// version returns the secret name and notes that it was used. Shown says that
// the name stands literally in the template.
func (r *rendering) version(name string, shown bool) (*reading, error) {
	rd := r.pass.get(name)
	if !errors.Is(rd.err, ErrUnknown) && !slices.Contains(r.used, name) {
		r.used = append(r.used, name)
	}
	if rd.err == nil {
		return rd, nil
	}
	f := &failure{msg: "a secret whose name is computed cannot be read", err: rd.err}
	if shown || r.t.literal(name) {
		f.msg = "secret " + strconv.Quote(name) + ": " + rd.err.Error()
		f.secret = name
	}
	if errors.Is(rd.err, ErrUnknown) {
		f.hint = "add it under secrets:, or correct its name in the template"
	}
	return nil, f
}
