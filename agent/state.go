package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"secretsd/agent/notify"
)

// stateDir is the directory that holds what must survive a crash: the
// notifications owed. It is locked while the agent runs. No secret value, nor
// anything derived from one, is ever in it.
type stateDir struct {
	root *os.Root
	lock *os.File
	// saving is held across the write: it keeps writers in turn and guards no
	// memory.
	saving sync.Mutex
}

const (
	stateFile = "state.json"
	lockFile  = "lock"
)

// state is what state.json holds.
type state struct {
	Debts []notify.Debt `json:"debts"`
}

// openState makes the directory if it is missing, with mode 0700, and takes its
// lock.
func openState(path string) (*stateDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, &fault{err: fmt.Errorf("make state directory: %w", err),
			hint: "set state_dir to a directory the agent's user may write, on tmpfs"}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	lock, err := root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		_ = root.Close()
		return nil, &fault{err: fmt.Errorf("open lock in state directory %s: %w", path, errors.Unwrap(err)),
			hint: "set state_dir to a directory the agent's user may write, on tmpfs"}
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		_ = root.Close()
		return nil, &fault{err: fmt.Errorf("lock state directory %s: another secretsd is using it", path),
			hint: "stop the other one, or give each its own state_dir"}
	}
	return &stateDir{root: root, lock: lock}, nil
}

// load returns what the last agent left, or nothing if there was none.
func (s *stateDir) load() (state, error) {
	data, err := s.root.ReadFile(stateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, nil
	}
	if err != nil {
		return state{}, fmt.Errorf("read state: %w", err)
	}
	var st state
	if err := json.Unmarshal(data, &st); err != nil {
		return state{}, fmt.Errorf("read %s: %w", filepath.Join(s.root.Name(), stateFile), err)
	}
	return st, nil
}

// save replaces the state by what current returns, in one step. Calls take
// their turn, each asking for the state when it is its own, so that the last
// one to write is not the first one to have asked.
func (s *stateDir) save(current func() state) error {
	s.saving.Lock()
	defer s.saving.Unlock()
	data, err := json.Marshal(current())
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	const temp = "." + stateFile
	if err := s.root.WriteFile(temp, data, 0o600); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := s.root.Rename(temp, stateFile); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// close gives the lock back. The directory stays.
func (s *stateDir) close() {
	_ = s.lock.Close()
	_ = s.root.Close()
}
