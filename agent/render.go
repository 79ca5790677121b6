package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"secretsd/agent/config"
	"secretsd/agent/store"
)

// Report is what [Render] did. It holds no secret value.
type Report struct {
	Files []FileReport `json:"files"`
	// Missing are the secrets that could not be read, by configured name.
	Missing []string `json:"missing,omitempty"`

	errs []error
}

// FileReport is what became of one file.
type FileReport struct {
	Path string `json:"path"`
	// Outcome is written, unchanged, skipped (it waits for a secret that may be
	// absent), waiting (for one that could not be read), held (a check refused
	// it), or failed.
	Outcome string `json:"outcome"`
	Error   string `json:"error,omitempty"`
}

// Failed reports whether anything went wrong beside secrets that could not be
// read.
func (r *Report) Failed() bool {
	for _, f := range r.Files {
		if f.Outcome == "failed" || f.Outcome == "held" {
			return true
		}
	}
	return false
}

// Err returns all that went wrong, joined, or nil.
func (r *Report) Err() error { return errors.Join(r.errs...) }

// Render reads every secret of cfg once, writes the files that differ, and
// returns what it did. It notifies nobody. A fault of one secret or file does
// not stop the others; the error is non-nil only if nothing could be tried.
func Render(ctx context.Context, cfg *config.Config, opts Options) (Report, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	b, err := newBuild(ctx, cfg, opts, nil)
	if err != nil {
		return Report{}, &ConfigError{err}
	}
	defer b.close()
	quiet := slog.New(slog.DiscardHandler) // the report says it all
	st := store.New(nil)
	r := newRefresher(st, b.source, b.secrets, bootClock, quiet)
	r.readAll(ctx)
	a := newApplier(quiet, bootClock)
	a.configure(b.plan)
	if _, err := b.dirs.Sweep(); err != nil {
		opts.Logger.Warn("cannot clear leftovers beside files", "error", err)
	}
	checks, cancel := context.WithCancel(ctx)
	defer cancel()
	a.pass(checks, st.Snapshot(), false)
	for a.checking() && ctx.Err() == nil {
		select {
		case v := <-a.checker.done:
			a.judge(v)
			a.pass(checks, st.Snapshot(), false)
		case <-ctx.Done():
		}
	}
	cancel() // nobody waits for what still runs
	a.checker.running.Wait()
	if ctx.Err() != nil {
		return Report{}, fmt.Errorf("render: %w", context.Cause(ctx))
	}
	return report(b, st.Snapshot()), nil
}

// readAll reads every secret once and returns when all answers are in the
// store.
func (r *refresher) readAll(ctx context.Context) {
	r.begin(ctx)
	r.startDue()
	r.rounds.Wait()
}

// missing returns the secrets that could not be read, and why.
func missing(b *build, snap *store.Snapshot) (names []string, errs []error) {
	for _, s := range b.secrets {
		e, _ := snap.Get(s.name)
		if e.Version != nil || (!s.required && absent(e.Err)) {
			continue
		}
		names = append(names, s.name)
		errs = append(errs, e.Err)
	}
	return names, errs
}

func report(b *build, snap *store.Snapshot) Report {
	var r Report
	r.Missing, r.errs = missing(b, snap)
	for _, o := range b.outputs {
		f := FileReport{Path: o.path, Outcome: "unchanged"}
		switch {
		case o.err != nil:
			f.Outcome, f.Error = "failed", o.err.Error()
			r.errs = append(r.errs, o.err)
		case o.gate.held != nil:
			f.Outcome, f.Error = "held", o.gate.held.reason.Error()
			r.errs = append(r.errs, fmt.Errorf("check new content of %s: %w", o.path, o.gate.held.reason))
		case o.skipped:
			f.Outcome = "skipped"
		case o.waiting != "":
			f.Outcome, f.Error = "waiting", "secret "+o.waiting+" could not be read"
		case o.written:
			f.Outcome = "written"
		}
		r.Files = append(r.Files, f)
	}
	return r
}
