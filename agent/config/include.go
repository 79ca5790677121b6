package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// ReadIncluded reads a file that a template includes, by its name in the
// template directory dir. It never leaves dir, not by a link either, and holds
// the rules of [ReadTrusted].
func ReadIncluded(dir, name string) ([]byte, error) {
	path := filepath.Join(dir, name)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, &Error{Place: dir, Err: fmt.Errorf("open template directory: %w", errors.Unwrap(err)), hint: openHint(err)}
	}
	defer root.Close()
	// A named pipe that nobody writes must not hang the start.
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, &Error{Place: path, Err: fmt.Errorf("open file: %w", errors.Unwrap(err)), hint: openHint(err)}
	}
	defer f.Close()
	return readTrusted(path, f)
}
