package local

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"secretsd/agent/secret"
)

// maxFile bounds what is read of a secrets file.
const maxFile = 16 << 20

// loadedFile is what a file said when it was last loaded.
type loadedFile struct {
	hash    [sha256.Size]byte
	entries map[string]fileEntry
}

// fileChanges counts what a load did.
type fileChanges struct{ created, updated int }

// Load reads secrets from the YAML file at path; the package comment shows its
// shape. A secret that the file has and the service has not is created. An
// entry whose value differs from what this file said at its last load becomes a
// new AWSCURRENT version, even of a secret that was deleted in between; its
// description and tags are carried over when they were edited. What the file
// says as before is left alone, so values changed through the API stay, and an
// entry that was dropped from the file leaves its secret in place.
//
// All faults are reported at once, as an error that joins a [FileError] for
// each, and then nothing has changed.
func (s *Service) Load(path string) error {
	data, err := readFile(path)
	if err != nil {
		return err
	}
	_, err = s.load(path, data)
	return err
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, &FileError{Place: path, Err: fmt.Errorf("find secrets file: %w", reason(err)), hint: "create it, or leave the path out to start without secrets"}
	}
	if !info.Mode().IsRegular() {
		return nil, &FileError{Place: path, Err: errors.New("the secrets file is not a regular file")}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, &FileError{Place: path, Err: fmt.Errorf("open secrets file: %w", reason(err))}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, &FileError{Place: path, Err: fmt.Errorf("read secrets file: %w", reason(err))}
	}
	if len(data) > maxFile {
		return nil, &FileError{Place: path, Err: errors.New("the secrets file is larger than 16 MiB")}
	}
	return data, nil
}

// reason strips the operation and the path, which the error's place holds.
func reason(err error) error {
	if p := (*os.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}

func (s *Service) load(path string, data []byte) (fileChanges, error) {
	var done fileChanges
	entries, err := parseFile(path, data)
	if err != nil {
		return done, err
	}
	key, err := filepath.Abs(path)
	if err != nil {
		return done, fmt.Errorf("load %s: %w", path, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.files[key]
	if last == nil {
		last = &loadedFile{entries: map[string]fileEntry{}}
		s.files[key] = last
	}
	for _, now := range entries {
		before, known := last.entries[now.name]
		s.apply(before, now, known, &done)
	}
	// What the file dropped is forgotten: it is a new entry if it comes back.
	last.entries = make(map[string]fileEntry, len(entries))
	for _, e := range entries {
		last.entries[e.name] = e
	}
	last.hash = sha256.Sum256(data)
	return done, nil
}

// lastHash returns the hash of the bytes last loaded from path.
func (s *Service) lastHash(key string) (hash [sha256.Size]byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.files[key]; f != nil {
		return f.hash, true
	}
	return hash, false
}

// apply carries out one entry, with the service locked.
func (s *Service) apply(before, now fileEntry, known bool, done *fileChanges) {
	if known && before.value.equal(now.value) && before.description == now.description && slices.EqualFunc(before.tags, now.tags, sameTag) {
		return
	}
	e := s.live(now.name)
	created := e == nil
	if created {
		e = s.add(now.name)
	}
	e.deletion = nil
	if created || before.description != now.description {
		e.description = now.description
	}
	s.applyTags(e, before.tags, now.tags)
	if created || !known || !before.value.equal(now.value) {
		s.applyValue(e, now)
	}
	e.changed = s.now()
	if created {
		done.created++
	} else {
		done.updated++
	}
}

// applyTags takes away the tags that the file dropped and sets those it has;
// tags set through the API stay unless the file says otherwise.
func (s *Service) applyTags(e *entry, before, now []tag) {
	var dropped []string
	for _, t := range before {
		if !slices.ContainsFunc(now, func(n tag) bool { return *n.Key == *t.Key }) {
			dropped = append(dropped, *t.Key)
		}
	}
	e.untag(dropped)
	// More than the quota is reached only together with tags set through the
	// API; then these stay and the file's are left out.
	if tags, err := mergeTags(e.tags, now); err == nil {
		e.tags = tags
	}
}

// applyValue makes the entry's value current. One that is current already needs
// no new version.
func (s *Service) applyValue(e *entry, now fileEntry) {
	if v := e.version(e.stages[secret.StageCurrent]); v != nil && v.value.equal(now.value) {
		return
	}
	// Labels come near their quota only through the API. AWSPREVIOUS is the one
	// label this can add; without room for it the old value stays.
	_ = e.addVersion(s.newVersion(s.uuid(), now.value), []string{stageCurrent})
}

func sameTag(a, b tag) bool { return *a.Key == *b.Key && *a.Value == *b.Value }
