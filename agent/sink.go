package agent

import (
	"os"
	"path/filepath"
	"time"

	"secretsd/sinks/files"
)

// fileSink is a single file. It has one piece.
type fileSink struct{ *files.File }

func (s fileSink) inspect(pieces []piece) (files.Change, error) { return s.Inspect(pieces[0].content) }
func (s fileSink) publish(pieces []piece) (files.Change, error) { return s.Publish(pieces[0].content) }
func (s fileSink) removeOurs() (kept bool, err error)           { return s.RemoveOurs("") }
func (s fileSink) mark() files.Mark                             { return s.Mark() }
func (s fileSink) close() error                                 { return s.Close() }

func (s fileSink) recollect(m files.Mark) ([]piece, bool, error) {
	content, there, err := s.Recollect(m)
	if content == nil {
		return nil, there, err
	}
	return []piece{{content: content}}, there, err
}

func (s fileSink) exists() bool {
	_, err := os.Lstat(s.Path())
	return err == nil
}

func (s fileSink) stage(pieces []piece, uid int) (string, func() error, error) {
	staged, err := s.Stage(pieces[0].content, uid, -1)
	if err != nil {
		return "", nil, err
	}
	return staged.Path, staged.Remove, nil
}

// bundleSink is a bundle.
type bundleSink struct {
	*files.Bundle
	clock func() time.Duration
}

func (s bundleSink) inspect(pieces []piece) (files.Change, error) { return s.Inspect(entries(pieces)) }
func (s bundleSink) publish(pieces []piece) (files.Change, error) {
	return s.Publish(entries(pieces), s.clock())
}
func (s bundleSink) removeOurs() (kept bool, err error) { return s.RemoveOurs("") }
func (s bundleSink) mark() files.Mark                   { return s.Mark() }
func (s bundleSink) close() error                       { return s.Close() }

func (s bundleSink) recollect(m files.Mark) ([]piece, bool, error) {
	list, there, err := s.Recollect(m)
	pieces := make([]piece, len(list))
	for i, e := range list {
		pieces[i] = piece{path: e.Path, content: e.Content}
	}
	return pieces, there, err
}

func (s bundleSink) exists() bool {
	_, err := os.Stat(filepath.Join(s.Dir(), "..data"))
	return err == nil
}

func (s bundleSink) stage(pieces []piece, uid int) (string, func() error, error) {
	staged, err := s.Stage(entries(pieces), uid, -1)
	if err != nil {
		return "", nil, err
	}
	return staged.Path, staged.Remove, nil
}

func entries(pieces []piece) []files.Entry {
	list := make([]files.Entry, len(pieces))
	for i, p := range pieces {
		list[i] = files.Entry{Path: p.path, Mode: p.mode, Content: p.content, UID: -1, GID: -1}
	}
	return list
}
