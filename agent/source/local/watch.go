package local

import (
	"context"
	"crypto/sha256"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is the wait between the first event and the look at the file, so
	// that an editor's truncate and write count as one change.
	settle = 50 * time.Millisecond
	// pollInterval is how often the file is looked at where it cannot be
	// watched.
	pollInterval = 2 * time.Second
)

// Watch follows the file at path and loads it whenever its content changes, as
// [Service.Load] does, until ctx ends; then it returns nil. It begins with a
// look at the file, so nothing is missed between Load and Watch. The directory
// is watched and not the file: saving by rename and the flip of a ConfigMap's
// ..data are changes too. A broken or missing file changes nothing and is
// logged once. While the directory cannot be watched the file is looked at every
// two seconds. The error is one of finding the working directory of a relative
// path.
func (s *Service) Watch(ctx context.Context, path string) error {
	key, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	f := &follower{service: s, path: path, key: key}
	f.seen, f.looked = s.lastHash(key)
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		f.polling(err)
		watcher = &fsnotify.Watcher{} // nil channels: only the timer wakes it
	} else {
		defer watcher.Close()
		f.watcher = watcher
	}
	f.run(ctx, watcher.Events, watcher.Errors)
	return nil
}

// follower is the state of one Watch.
type follower struct {
	service   *Service
	watcher   *fsnotify.Watcher // nil if there can be none
	path, key string
	seen      [sha256.Size]byte // of the content last looked at, loaded or not
	looked    bool
	missing   bool
	polls     bool
}

func (f *follower) run(ctx context.Context, events <-chan fsnotify.Event, errs <-chan error) {
	next := time.NewTimer(0) // at once: the first look
	defer next.Stop()
	waiting := true
	// An event starts the wait and later ones do not prolong it: a busy
	// directory must not put the look off for ever.
	soon := func() {
		if !waiting {
			next.Reset(settle)
			waiting = true
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-events:
			soon()
		case err := <-errs:
			// An overflow has lost events: look, whatever they were.
			f.service.log.Warn("watching the secrets file had an error, reading it again", "path", f.path, "error", err)
			soon()
		case <-next.C:
			watched := f.watch()
			f.look()
			waiting = false
			if !watched {
				next.Reset(pollInterval)
			}
		}
	}
}

// watch watches the file's directory, and the one that the file really is in if
// path is a symbolic link. Adding one that is watched already does nothing; one
// that was removed, or replaced by another of its name, has left the watch and
// enters it anew.
func (f *follower) watch() bool {
	if f.watcher == nil {
		return false
	}
	if err := f.watcher.Add(filepath.Dir(f.key)); err != nil {
		f.polling(err)
		return false
	}
	f.polls = false
	if target, err := filepath.EvalSymlinks(f.key); err == nil {
		if err := f.watcher.Add(filepath.Dir(target)); err != nil {
			f.service.log.Warn("directory behind the secrets file cannot be watched", "path", f.path, "error", err)
		}
	}
	return true
}

// polling says once that the file is polled.
func (f *follower) polling(why error) {
	if !f.polls {
		f.service.log.Warn("secrets file cannot be watched, looking at it every two seconds", "path", f.path, "error", why)
	}
	f.polls = true
}

// look reads the file and loads it if its content is not what it was.
func (f *follower) look() {
	log := f.service.log
	data, err := readFile(f.path)
	if err != nil {
		if !f.missing {
			log.Error("secrets file cannot be read, keeping the secrets as they are", "path", f.path, "error", err)
		}
		f.missing = true
		return
	}
	f.missing = false
	hash := sha256.Sum256(data)
	if f.looked && hash == f.seen {
		return
	}
	f.seen, f.looked = hash, true
	done, err := f.service.load(f.path, data)
	if err != nil {
		log.Error("secrets file is broken, keeping the secrets as they are", "path", f.path, "error", err)
		return
	}
	log.Info("secrets file loaded", "path", f.path, "created", done.created, "updated", done.updated)
}
