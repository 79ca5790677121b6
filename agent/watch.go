package agent

import (
	"context"
	"log/slog"
	"maps"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// watchSettle is the quiet after an event that has to pass before the word of
	// it, so that an editor's truncate and write are one change, and a file that is
	// being copied is not read by halves. Other files of the same directory may never
	// be quiet: watchPatience is the most that it is waited for.
	watchSettle   = 200 * time.Millisecond
	watchPatience = 3 * time.Second
	// watchPoll is how often files are looked at where they cannot be watched.
	watchPoll = 5 * time.Second
)

// watcher tells that files may have changed. It watches their directories, for
// saving by rename and the flip of a ConfigMap's ..data are changes too.
type watcher struct {
	log *slog.Logger
	// changed receives when files are to be looked at; one signal stands for
	// any number.
	changed chan struct{}
	paths   chan []string
}

func newWatcher(log *slog.Logger) *watcher {
	return &watcher{log: log, changed: make(chan struct{}, 1), paths: make(chan []string, 1)}
}

// follow replaces the files that are watched. It does not block.
func (w *watcher) follow(paths []string) {
	select {
	case <-w.paths:
	default:
	}
	w.paths <- paths
}

// run watches until ctx is done. It holds no descriptor as long as there is
// nothing to watch.
func (w *watcher) run(ctx context.Context) {
	var paths []string
	var inotify *fsnotify.Watcher
	var events <-chan fsnotify.Event
	var errs <-chan error
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	waiting, said := false, false
	soon := func(d time.Duration) {
		if !waiting {
			waiting = true
			timer.Reset(d)
		}
	}
	var quiet settling
	defer func() {
		if inotify != nil {
			_ = inotify.Close()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case paths = <-w.paths:
			soon(0)
			if inotify == nil && len(paths) > 0 {
				if made, err := fsnotify.NewWatcher(); err == nil {
					inotify, events, errs = made, made.Events, made.Errors
				}
			}
		case <-events:
			waiting = true
			timer.Reset(quiet.event(time.Now()))
		case err := <-errs: // an overflow has lost events: look, whatever they were
			w.log.Debug("watching template files had an error, looking at them", "error", err)
			soon(watchSettle)
		case <-timer.C:
			waiting, quiet = false, settling{}
			err := watchAll(inotify, paths)
			if err != nil {
				if !said {
					w.log.Warn("template files cannot be watched, looking at them every few seconds", "error", err)
				}
				soon(watchPoll)
			}
			said = err != nil
			w.tell()
		}
	}
}

// settling is the wait for the end of a series of events.
type settling struct{ first time.Time }

// event returns how long to wait from now on, when there was an event.
func (s *settling) event(now time.Time) time.Duration {
	if s.first.IsZero() {
		s.first = now
	}
	return max(min(watchSettle, s.first.Add(watchPatience).Sub(now)), 0)
}

func (w *watcher) tell() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// watchAll watches the directories of paths, and those that the files really
// are in where paths are links. Those watched already stay; one that was
// replaced by another of its name enters anew.
func watchAll(inotify *fsnotify.Watcher, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	if inotify == nil {
		return fsnotify.ErrClosed
	}
	dirs := map[string]bool{}
	for _, path := range paths {
		dirs[filepath.Dir(path)] = true
		if target, err := filepath.EvalSymlinks(path); err == nil {
			dirs[filepath.Dir(target)] = true
		}
	}
	for _, old := range inotify.WatchList() {
		if !dirs[old] {
			_ = inotify.Remove(old)
		}
	}
	for dir := range maps.Keys(dirs) {
		if err := inotify.Add(dir); err != nil {
			return err
		}
	}
	return nil
}
