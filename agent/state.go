package agent

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"secretsd/agent/notify"
)

// stateDir is the directory that holds what must survive a crash: the
// notifications owed, what is held, what is in place of it and what was refused. It is
// locked while the agent runs. No secret value, nor anything derived from one, is ever
// in it.
type stateDir struct {
	root *os.Root
	lock *os.File
	// saving has room for one: who has put something there writes.
	saving chan struct{}

	mu sync.Mutex
	// next is the turn that has not begun; nil if nobody waits for one.
	next *turn
}

// turn is one write of the state, for all who asked for it before it began.
type turn struct {
	done chan struct{}
	err  error
}

const (
	stateFile = "state.json"
	lockFile  = "lock"
	// maxState bounds what is read of a state file, in bytes.
	maxState = 16 << 20
	// lockPatience is how long the lock is waited for. An agent that was killed
	// while it started a program leaves everything it had open to that one, until
	// the program's own code runs.
	lockPatience = time.Second
	lockEvery    = 10 * time.Millisecond
)

// state is what state.json holds.
type state struct {
	// Refused is what programs were refused with in rotations of one user.
	Refused []refusedState `json:"refused,omitempty"`

	Debts []notify.Debt `json:"debts"`
	// Held is what checks have refused.
	Held []heldState `json:"held,omitempty"`
	// Placed is what outputs hold of which something newer is held.
	Placed []placedState `json:"placed,omitempty"`
	// Outputs are the versions that outputs are made of, for a rollback.
	Outputs []outputState `json:"outputs,omitempty"`
}

// openState makes the directory if it is missing, with mode 0700, and takes its
// lock. A directory that others can write, such as the root of a pod's memory
// volume, will do: nothing found in it is followed or believed unless it is a
// file of root or the agent.
func openState(path string) (*stateDir, error) {
	const hint = "set state_dir to a directory the agent's user may write, on tmpfs"
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, &fault{err: fmt.Errorf("make state directory: %w", err), hint: hint}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	lock, err := root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err == nil {
		err = ours(lock)
	}
	if err != nil {
		_ = root.Close()
		return nil, &fault{err: fmt.Errorf("open lock in state directory %s: %w", path, err), hint: hint}
	}
	if err := take(lock); err != nil {
		_ = lock.Close()
		_ = root.Close()
		return nil, &fault{err: fmt.Errorf("lock state directory %s: another secretsd is using it", path),
			hint: "stop the other one, or give each its own state_dir"}
	}
	return &stateDir{root: root, lock: lock, saving: make(chan struct{}, 1)}, nil
}

// take takes the lock of a file that nobody else holds for long.
func take(lock *os.File) error {
	late := time.NewTimer(lockPatience)
	defer late.Stop()
	again := time.NewTicker(lockEvery)
	defer again.Stop()
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-late.C:
			return err
		}
	}
}

// ours refuses what somebody else may have put there.
func ours(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return errors.New("not a regular file")
	case !ok || st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return errors.New("it belongs to neither root nor the agent's user")
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("others can write it (mode %04o)", info.Mode().Perm())
	}
	return nil
}

// load returns what the last agent left, or nothing if there was none.
func (s *stateDir) load() (state, error) {
	f, err := s.root.OpenFile(stateFile, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, nil
	}
	if err != nil {
		return state{}, fmt.Errorf("read state: %w", err)
	}
	defer f.Close()
	if err := ours(f); err != nil {
		return state{}, fmt.Errorf("read %s: %w", filepath.Join(s.root.Name(), stateFile), err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxState))
	if err != nil {
		return state{}, fmt.Errorf("read state: %w", err)
	}
	var st state
	if err := json.Unmarshal(data, &st); err != nil {
		return state{}, fmt.Errorf("read %s: %w", filepath.Join(s.root.Name(), stateFile), err)
	}
	return st, nil
}

// save replaces the state by what current returns, which must be the same function
// for all. It returns when a state has been written that was asked for since the
// call. Writes take their turn, and calls that wait for theirs share one: a thousand
// targets told at once would else be a thousand writes of all that is owed.
func (s *stateDir) save(current func() state) error {
	s.mu.Lock()
	t := s.next
	if t != nil {
		s.mu.Unlock()
		<-t.done
		return t.err
	}
	t = &turn{done: make(chan struct{})}
	s.next = t
	s.mu.Unlock()

	s.saving <- struct{}{}
	defer func() { <-s.saving }()
	s.mu.Lock()
	s.next = nil // who comes from here on may have changed what current is to see
	s.mu.Unlock()
	t.err = s.replace(current())
	close(t.done)
	return t.err
}

func (s *stateDir) replace(st state) error {
	data, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	temp := "." + stateFile + "." + rand.Text()
	if err := s.write(temp, data); err != nil {
		return errors.Join(fmt.Errorf("write state: %w", err), s.root.Remove(temp))
	}
	if err := s.root.Rename(temp, stateFile); err != nil {
		return errors.Join(fmt.Errorf("write state: %w", err), s.root.Remove(temp))
	}
	return nil
}

func (s *stateDir) write(name string, data []byte) error {
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// close gives the lock back, also from a program that is being started. The
// directory stays.
func (s *stateDir) close() {
	_ = unix.Flock(int(s.lock.Fd()), unix.LOCK_UN)
	_ = s.lock.Close()
	_ = s.root.Close()
}
