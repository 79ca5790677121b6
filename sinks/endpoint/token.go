package endpoint

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// DefaultTokenGrace is how long a replaced token stays valid unless the
// configuration says otherwise.
const DefaultTokenGrace = 5 * time.Minute

// minTokenBytes is what a token must have after trimming (design.md, 10,
// "Tokens"); maxTokenBytes leaves room for an AWS session token and keeps a
// path given by mistake from being read whole.
const (
	minTokenBytes = 16
	maxTokenBytes = 8 << 10
)

// envFileMode is what a file named by an environment variable may be at most:
// AWS's agent's own installation has its token file at 0640.
const envFileMode fs.FileMode = 0o640

// TokenOptions say where the tokens come from. At least one of File and Env is
// given; with both, each token is valid.
type TokenOptions struct {
	// File is the path of a token file. It is made if it is missing, and so is
	// the directory it lies in, but not those above.
	File string
	// Mode is given to a file that is made, and an existing one may be readable
	// by its group only if Mode says so. At most 0640. Zero means 0400.
	Mode fs.FileMode
	// Owner is given to a file that is made, and an existing one may belong to
	// it. Nil means the agent's own user and group.
	Owner *Owner
	// Env are names of environment variables. The first that is set holds the
	// token, or file://PATH. Such a file is never made, and its group may read
	// it.
	Env []string
	// Grace is how long a token stays valid after it has been replaced. Zero
	// means not at all.
	Grace time.Duration
	// LookupEnv is os.LookupEnv where it is nil.
	LookupEnv func(name string) (value string, set bool)
}

// Owner are the numbers of a user and a group, each -1 where it is to stay as
// the system chose it.
type Owner struct{ UID, GID int }

// Tokens are the tokens that clients may send or sign with. Of each its SHA-256
// digest is kept and a keyed hash to verify signatures by, and not the token
// itself. Its methods may be called from any goroutine, but Reload by one at a
// time.
type Tokens struct {
	files []tokenFile
	grace time.Duration
	set   atomic.Pointer[tokenSet]
}

type digest = [sha256.Size]byte

// held is what is kept of a token.
type held struct {
	digest digest
	signer *signer
}

// tokenSet is immutable.
type tokenSet struct {
	// current has a token for each file, then those of the environment.
	current []held
	// replaced are tokens with the time up to which they are valid.
	replaced []replacedToken
}

type replacedToken struct {
	held
	until time.Time
}

// tokenFile is a file that is read again at every reload.
type tokenFile struct {
	path  string
	mode  fs.FileMode
	owner *Owner
	// looked is how the file was when [Tokens.Touched] last looked.
	looked fileState
}

// SameAs reports whether a token is valid in both t and u now. Two clients must
// not share one, for it would say nothing about who sends it.
func (t *Tokens) SameAs(u *Tokens) bool {
	mine, theirs := t.set.Load(), u.set.Load()
	return slices.ContainsFunc(mine.current, func(m held) bool {
		return slices.ContainsFunc(theirs.current, func(t held) bool { return m.digest == t.digest })
	})
}

// OpenTokens reads the tokens, having made the token file if it was missing.
// Every token must have 16 bytes after trimming, and a token file must be one
// that nobody but root and the agent can have written and nobody unasked can
// read; all else is an error with a hint. Where two agents make the same file
// at a time, one wins and both use its token.
func OpenTokens(o TokenOptions) (*Tokens, error) {
	t := &Tokens{grace: o.Grace}
	if o.File != "" {
		f, err := o.file()
		if err != nil {
			return nil, err
		}
		if err := f.make(); err != nil {
			return nil, err
		}
		t.files = append(t.files, f)
	}
	var fixed []held
	if len(o.Env) > 0 {
		var err error
		if fixed, err = t.useEnv(o); err != nil {
			return nil, err
		}
	}
	var current []held
	for _, f := range t.files {
		h, err := f.read()
		if err != nil {
			return nil, err
		}
		current = append(current, h)
	}
	current = append(current, fixed...)
	if len(current) == 0 {
		return nil, withHint("set endpoint.token_file", "read the endpoint's token: neither a file nor environment variables are named")
	}
	t.set.Store(&tokenSet{current: current})
	return t, nil
}

// useEnv adds the file that the environment names, or returns the token it
// holds.
func (t *Tokens) useEnv(o TokenOptions) ([]held, error) {
	name, value, err := lookupToken(o)
	if err != nil {
		return nil, err
	}
	if path, isFile := strings.CutPrefix(value, "file://"); isFile {
		t.files = append(t.files, tokenFile{path: path, mode: envFileMode})
		return nil, nil
	}
	h, err := holdToken(value, "environment variable "+name)
	if err != nil {
		return nil, err
	}
	return []held{h}, nil
}

// lookupToken returns the first variable that is set. An empty one is set: it
// is refused as a token, never passed over for the next.
func lookupToken(o TokenOptions) (name, value string, err error) {
	lookup := o.LookupEnv
	if lookup == nil {
		lookup = os.LookupEnv
	}
	for _, name := range o.Env {
		if value, set := lookup(name); set {
			return name, value, nil
		}
	}
	return "", "", withHint("set one of them to the token, or to file://PATH",
		"read the endpoint's token: none of the environment variables %s is set", strings.Join(o.Env, ", "))
}

// Touched reports whether a token file has changed since the last call, as far
// as that shows without reading it. A file that is not there counts as
// unchanged, for its token stays. It may be called by one goroutine at a time,
// and costs a stat for each file.
func (t *Tokens) Touched() bool {
	touched := false
	for i := range t.files {
		f := &t.files[i]
		info, err := os.Stat(f.path)
		if err != nil {
			continue
		}
		now := fileState{info: info, modified: info.ModTime(), size: info.Size(), mode: info.Mode(), uid: ownerOf(info)}
		if !now.same(f.looked) {
			touched = true
			f.looked = now
		}
	}
	return touched
}

// fileState is what tells that a file has changed.
type fileState struct {
	info     fs.FileInfo
	modified time.Time
	size     int64
	mode     fs.FileMode
	uid      int
}

func (s fileState) same(old fileState) bool {
	return old.info != nil && os.SameFile(s.info, old.info) && s.modified.Equal(old.modified) && s.size == old.size &&
		s.mode == old.mode && s.uid == old.uid
}

// Reload reads the files again and reports whether a token changed. A token
// that was replaced stays valid for the grace time; endGrace drops all that
// were, the one replaced now included. A file that has vanished or no longer
// passes keeps its token and is returned as an error; the others are reloaded
// all the same.
func (t *Tokens) Reload(endGrace bool) (changed bool, err error) {
	read := make([]held, len(t.files))
	errs := make([]error, len(t.files))
	for i, f := range t.files {
		read[i], errs[i] = f.read()
	}

	old, now := t.set.Load(), time.Now()
	next := &tokenSet{current: slices.Clone(old.current)}
	for _, r := range old.replaced {
		if now.Before(r.until) {
			next.replaced = append(next.replaced, r)
		}
	}
	for i := range t.files {
		if errors.Is(errs[i], fs.ErrNotExist) {
			errs[i] = withHint("clients that look for their token find none: put the file back, with the same token or another",
				"keep the token in use: %w", errs[i])
		} else if errs[i] != nil {
			errs[i] = fmt.Errorf("keep the token in use: %w", errs[i])
		} else if read[i].digest != old.current[i].digest {
			changed = true
			next.current[i] = read[i]
			next.replaced = append(next.replaced, replacedToken{held: old.current[i], until: now.Add(t.grace)})
		}
	}
	if endGrace {
		next.replaced = nil
	}
	t.set.Store(next)
	return changed, errors.Join(errs...)
}

// Valid reports whether token is valid now. It compares digests, and all of
// them whatever the first says, so that the time it takes tells nothing about
// any token; wrong ones cost no more than right ones and delay nobody.
func (t *Tokens) Valid(token string) bool {
	sum := digestOf(token)
	return t.hold(&sum)
}

// hold is [Tokens.Valid] for a digest.
func (t *Tokens) hold(sum *digest) bool {
	set := t.set.Load()
	valid := 0
	for i := range set.current {
		valid |= subtle.ConstantTimeCompare(set.current[i].digest[:], sum[:])
	}
	for i := range set.replaced {
		if time.Now().Before(set.replaced[i].until) {
			valid |= subtle.ConstantTimeCompare(set.replaced[i].digest[:], sum[:])
		}
	}
	return valid == 1
}

// holdToken trims a token and refuses one that is too short to be a secret
// or that no client could send. where names its place, for the error.
func holdToken(text, where string) (held, error) {
	token := strings.TrimSpace(text)
	const hint = "put a random token there: openssl rand -hex 32"
	switch {
	case len(token) < minTokenBytes:
		return held{}, withHint(hint, "use the token in %s: it has fewer than %d bytes", where, minTokenBytes)
	case len(token) > maxTokenBytes:
		return held{}, withHint(hint, "use the token in %s: it has more than %d bytes", where, maxTokenBytes)
	case strings.ContainsFunc(token, func(r rune) bool { return r < ' ' || r >= 0x7f }):
		return held{}, withHint(hint, "use the token in %s: it must be one line of ASCII, which is what a header can carry", where)
	}
	signer, err := newSigner(token)
	return held{digest: sha256.Sum256([]byte(token)), signer: signer}, err
}
