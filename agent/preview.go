package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"secretsd/agent/config"
	"secretsd/agent/secret"
	"secretsd/agent/store"
	"secretsd/sinks/files"
	"secretsd/sinks/process"
	"secretsd/templates"
)

// Preview is what [Render] would do.
type Preview struct {
	Files []FilePreview `json:"files"`
	// Child is what would become of the child's environment: ready, waiting or
	// failed; empty where no child is run.
	Child string `json:"child,omitempty"`
	// Commands are those of targets that are given variables.
	Commands []CommandPreview `json:"commands,omitempty"`
	// Missing are the secrets that could not be read, by configured name.
	Missing []string `json:"missing,omitempty"`

	errs []error
}

// CommandPreview is what would become of the variables of one command of a target.
type CommandPreview struct {
	Target string `json:"target"`
	// Key is where the configuration has them.
	Key string `json:"key"`
	// Outcome is ready, waiting or failed, as of a child.
	Outcome string `json:"outcome"`
}

// FilePreview is what would become of one file or bundle.
type FilePreview struct {
	Path   string `json:"path"`
	Bundle bool   `json:"bundle,omitempty"`
	// Outcome is create, change, attributes (mode or owner is not right),
	// unchanged, skipped (it waits for a secret that may be absent), waiting (for
	// one that could not be read), or failed.
	Outcome string `json:"outcome"`
	Error   string `json:"error,omitempty"`
	// Diff are the lines that would change, with a name in the place of every
	// value; empty unless it was asked for.
	Diff []string `json:"diff,omitempty"`
}

// Failed reports whether anything is wrong beside secrets that could not be read.
func (p *Preview) Failed() bool {
	failed := func(c CommandPreview) bool { return c.Outcome == "failed" }
	return p.Child == "failed" || slices.ContainsFunc(p.Commands, failed) || slices.ContainsFunc(p.Files, func(f FilePreview) bool { return f.Outcome == "failed" })
}

// Err returns all that is wrong, joined, or nil.
func (p *Preview) Err() error {
	r := Report{errs: p.errs}
	return r.Err()
}

// PreviewRender reads every secret of cfg once, renders everything, and returns
// what writing it would change. It writes nothing, runs no check and tells
// nobody. With diff it also says which lines would change. The error is non-nil
// only if nothing could be tried.
func PreviewRender(ctx context.Context, cfg *config.Config, opts Options, diff bool) (Preview, error) {
	b, err := newBuild(ctx, cfg, opts, nil)
	if err != nil {
		return Preview{}, &ConfigError{err}
	}
	defer b.close()
	st := store.New(nil)
	r := newRefresher(st, b.source, b.secrets, bootClock, slog.New(slog.DiscardHandler))
	r.readAll(ctx)
	if ctx.Err() != nil {
		return Preview{}, fmt.Errorf("preview: %w", context.Cause(ctx))
	}
	snap := st.Snapshot()
	p := Preview{}
	p.Missing, p.errs = missing(b, snap)
	optional := map[string]bool{}
	for _, s := range b.secrets {
		optional[s.name] = !s.required
	}
	render := rendering{templates.NewPass(lookup(snap)), lookup(snap)}
	for _, o := range b.outputs {
		p.Files = append(p.Files, p.preview(o, render, snap, optional, diff))
	}
	mayLack := func(name string) bool { return optional[name] }
	if b.child != nil {
		p.previewChild(b.child, snap, mayLack)
	}
	for _, id := range slices.Sorted(maps.Keys(b.commands)) {
		p.previewCommand(b.commands[id], snap, mayLack)
	}
	return p, nil
}

func (p *Preview) previewCommand(c *commandEnv, snap *store.Snapshot, optional func(string) bool) {
	made := c.render(snap.Get, optional)
	if made.err == nil && made.waiting == "" {
		_, made.err = process.NewEnvironment(nil, made.vars)
	}
	p.Commands = append(p.Commands, CommandPreview{Target: c.target, Key: c.key, Outcome: p.outcome(made)})
}

// outcome says what became of variables, and notes what is wrong with them.
func (p *Preview) outcome(m made) string {
	switch {
	case m.err != nil:
		p.errs = append(p.errs, m.err)
		return "failed"
	case m.waiting != "":
		return "waiting"
	}
	return "ready"
}

func (p *Preview) previewChild(c *childSpec, snap *store.Snapshot, optional func(string) bool) {
	made := c.render(snap, optional, os.Environ())
	if made.err == nil && made.waiting == "" {
		next := c.program
		next.Env = made.env
		made.err = next.Check()
	}
	p.Child = p.outcome(made.made)
}

func (p *Preview) preview(o *output, render rendering, snap *store.Snapshot, optional map[string]bool, diff bool) FilePreview {
	f := FilePreview{Path: o.path, Bundle: o.bundle}
	if name, skip := o.missing(snap, optional); skip {
		f.Outcome = "skipped"
		return f
	} else if name != "" {
		f.Outcome, f.Error = "waiting", "secret "+name+" could not be read"
		return f
	}
	pieces, used, err := o.render(render)
	var change files.Change
	if err == nil {
		change, err = o.sink.inspect(pieces)
	}
	switch {
	case err != nil:
		f.Outcome, f.Error = "failed", err.Error()
		p.errs = append(p.errs, err)
		return f
	case change == files.None:
		f.Outcome = "unchanged"
	case change == files.Attributes:
		f.Outcome = "attributes"
	case !o.place.exists():
		f.Outcome = "create"
	default:
		f.Outcome = "change"
	}
	if diff && change == files.Content {
		f.Diff = o.diff(pieces, masked(snap, used))
	}
	return f
}

// masked returns what the secrets used are, with the name of each value in the
// place of the value, so that what is rendered from them shows where values are
// and holds none.
func masked(snap *store.Snapshot, used []string) rendering {
	known := versions{}
	for _, name := range used {
		known[name] = nil
		if e, ok := snap.Get(name); ok && e.Version != nil {
			v := *e.Version
			v.Text, v.Binary = secret.NewValue(maskText(name, e.Version.Text)), secret.Value{}
			known[name] = &v
		}
	}
	return rendering{templates.NewPass(known.lookup), known.lookup}
}

// maskText returns text of the same shape: an object keeps its keys, and lines
// keep their number.
func maskText(name string, text secret.Value) string {
	var fields map[string]any
	d := json.NewDecoder(bytes.NewReader(text.Bytes()))
	d.UseNumber()
	if d.Decode(&fields) == nil && fields != nil {
		var b strings.Builder
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if enc.Encode(maskValue(name, fields)) == nil {
			return strings.TrimSuffix(b.String(), "\n")
		}
	}
	return maskLines(name, text.Reveal())
}

func maskValue(name string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			out[k] = maskValue(name+"."+k, v[k])
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = maskValue(fmt.Sprintf("%s[%d]", name, i), v[i])
		}
		return out
	case string:
		return maskLines(name, v)
	case nil:
		return nil
	default:
		return "<" + name + ">"
	}
}

// maskLines returns the name as often as text has lines. How many a value has is
// shown by any file that holds it.
func maskLines(name, text string) string {
	mask := "<" + name + ">"
	return mask + strings.Repeat("\n"+mask, strings.Count(text, "\n"))
}

// diff returns the lines that would change, from the masked rendering. What the
// file holds now is not shown: which parts of it are values nobody can tell.
func (o *output) diff(pieces []piece, mask rendering) []string {
	shown, _, err := o.render(mask)
	var lines []string
	for i, p := range pieces {
		path := o.path
		if o.bundle {
			path = filepath.Join(o.path, p.path)
		}
		had, _ := os.ReadFile(path) // what cannot be read is shown as all new
		if bytes.Equal(had, p.content) {
			continue
		}
		if o.bundle {
			lines = append(lines, "  "+p.path)
		}
		if err != nil || i >= len(shown) || bytes.Count(shown[i].content, []byte("\n")) != bytes.Count(p.content, []byte("\n")) {
			lines = append(lines, "+ (not shown: the text depends on what the values are)")
			continue
		}
		lines = append(lines, diffLines(string(had), string(p.content), string(shown[i].content))...)
	}
	return lines
}

// diffLines compares line by line from both ends, as is enough for a
// configuration file, and shows lines of the new text as they are in shown.
func diffLines(had, next, shown string) []string {
	a, b, s := strings.Split(had, "\n"), strings.Split(next, "\n"), strings.Split(shown, "\n")
	if had == "" {
		a = nil
	}
	from := 0
	for from < len(a) && from < len(b) && a[from] == b[from] {
		from++
	}
	end := 0
	for end < len(a)-from && end < len(b)-from && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
	}
	var out []string
	switch n := len(a) - from - end; {
	case n == 1:
		out = append(out, fmt.Sprintf("- (line %d)", from+1))
	case n > 1:
		out = append(out, fmt.Sprintf("- (lines %d to %d)", from+1, from+n))
	}
	for i := from; i < len(b)-end; i++ {
		out = append(out, "+ "+s[i])
	}
	return out
}
