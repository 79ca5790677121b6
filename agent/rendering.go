package agent

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"secretsd/sinks/files"
	"secretsd/templates"
)

// part is one file of an output and the template it is made by.
type part struct {
	// path is below a bundle's directory, and empty for a file of its own.
	path string
	mode fs.FileMode
	tmpl *templates.Template
}

// explode makes a file of each key of a JSON secret.
type explode struct {
	secret string
	// name is what the files are called, with {} in the place of the key.
	name string
	mode fs.FileMode
}

// recipe is what an output is made by.
type recipe struct {
	parts []part
	// explode is nil where there is none.
	explode *explode
	// source is a digest of the templates' texts and options, and of the check.
	source [sha256.Size]byte
}

// content is what an output holds or held: rendering it comes to the same again,
// whatever the templates have become since.
type content struct {
	recipe
	versions versions
	// since is when it became what the output holds.
	since time.Time
}

// again renders c once more.
func (c *content) again() ([]piece, error) { return c.with(c.versions) }

// with renders the templates of c with other versions.
func (c *content) with(v versions) ([]piece, error) {
	pieces, _, err := c.render(rendering{templates.NewPass(v.lookup), v.lookup})
	return pieces, err
}

// piece is what a part came to.
type piece struct {
	path    string
	mode    fs.FileMode
	content []byte
}

// rendering is what outputs are rendered from.
type rendering struct {
	pass   *templates.Pass
	lookup templates.Lookup
}

// render executes all templates of m. It returns what they came to and the
// secrets on whose versions that depends, after an error too.
func (m *recipe) render(r rendering) (pieces []piece, used []string, err error) {
	var errs []error
	for _, p := range m.parts {
		res, err := r.pass.Render(p.tmpl)
		used = append(used, res.Used...)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		pieces = append(pieces, piece{p.path, p.mode, res.Content})
	}
	if e := m.explode; e != nil {
		made, err := e.render(r.lookup)
		used = append(used, e.secret)
		pieces = append(pieces, made...)
		errs = append(errs, err)
	}
	slices.Sort(used)
	err = errors.Join(errs...)
	if err == nil && m.explode != nil {
		err = m.explode.checkNames(pieces)
	}
	if err != nil {
		return nil, slices.Compact(used), err
	}
	return pieces, slices.Compact(used), nil
}

// render returns a piece for each key, in the order of the keys. Text is its own
// content, anything else is as the secret writes it.
func (e *explode) render(lookup templates.Lookup) ([]piece, error) {
	v, err := lookup(e.secret)
	if err != nil {
		return nil, fmt.Errorf("explode secret %s: %w", e.secret, err)
	}
	if v.Unlabelled() {
		return nil, unlabelledError("explode secret " + e.secret)
	}
	var fields map[string]json.RawMessage
	if v.Text.IsZero() || json.Unmarshal(v.Text.Bytes(), &fields) != nil || fields == nil {
		return nil, fmt.Errorf("explode secret %s: it is not a JSON object", e.secret)
	}
	if len(fields) == 0 { // as likely a mistake as a wish, and it would take every file away
		return nil, &fault{err: fmt.Errorf("explode secret %s: it has no keys", e.secret), hint: "put a key into the secret, or take the bundle out of the configuration"}
	}
	pieces := make([]piece, 0, len(fields))
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		name := strings.Replace(e.name, "{}", key, 1)
		if key == "" || strings.ContainsAny(key, "/\x00") || path.Clean(name) != name || strings.HasPrefix(name, "..") || len(name) > maxFileName {
			return nil, fmt.Errorf("explode secret %s: its key %q cannot be a file name", e.secret, key)
		}
		content := []byte(fields[key])
		if content[0] == '"' {
			var text string
			_ = json.Unmarshal(fields[key], &text) // it has been decoded once already
			content = []byte(text)
		}
		pieces = append(pieces, piece{name, e.mode, content})
	}
	return pieces, nil
}

// checkNames returns what is wrong with the names of all files of the bundle together.
// It is found here and not by publishing, for it lies in the version: another try of the
// same comes to the same.
func (e *explode) checkNames(pieces []piece) error {
	if err := files.CheckEntries(entries(pieces)); err != nil {
		return fmt.Errorf("explode secret %s: %w", e.secret, err)
	}
	return nil
}

// maxFileName is NAME_MAX of Linux's file systems, less what temporary names add.
const maxFileName = 200

// digest tells whether two renderings are the same. It never leaves memory.
func digest(pieces []piece) [sha256.Size]byte {
	h := sha256.New()
	for _, p := range slices.SortedFunc(slices.Values(pieces), func(a, b piece) int { return cmp.Compare(a.path, b.path) }) {
		fmt.Fprintf(h, "%q %o %d ", p.path, p.mode, len(p.content))
		_, _ = h.Write(p.content) // never fails
	}
	return [sha256.Size]byte(h.Sum(nil))
}
