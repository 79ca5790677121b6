package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"secretsd/agent/config"
	"secretsd/agent/notify"
	"secretsd/agent/secret"
	"secretsd/sinks/files"
	"secretsd/templates"
)

// plan is all that a configuration asks for, built and checked, before any of
// it replaces what runs. Building it writes nothing and asks nobody over the
// network.
type plan struct {
	cfg     *config.Config
	secrets []*schedule
	// names are what the secrets are called; nil until configured is asked.
	names   map[string]bool
	outputs []*output
	targets []notify.Target
	child   *childSpec
	// commands are the variables of targets' commands, by what asks for them.
	commands map[string]*commandEnv
	// logsOutput says that the output of some command is logged.
	logsOutput bool
	dirs       *files.Dirs
	// library are the files that templates include, and vars what var gives.
	library *templates.Library
	vars    map[string]string
}

// newPlan builds what cfg asks for, and takes hold of the directories that its
// files go to; the caller closes it, faults or none. It returns all faults at
// once, each at its place in the configuration.
func newPlan(cfg *config.Config) (*plan, error) {
	p := &plan{cfg: cfg, dirs: files.New(), commands: map[string]*commandEnv{}}
	errs := []error{p.readVars()}
	p.freshLibrary()
	for i := range cfg.Secrets {
		p.secrets = append(p.secrets, newSchedule(&cfg.Secrets[i], cfg.Refresh.MaxStale.Std()))
	}
	for i := range cfg.Targets {
		t, err := p.newTarget(&cfg.Targets[i], fmt.Sprintf("targets[%d]", i))
		errs = append(errs, err)
		p.targets = append(p.targets, t)
	}
	for i := range cfg.Files {
		o, err := p.newFile(&cfg.Files[i])
		errs = append(errs, err)
		p.outputs = append(p.outputs, o)
	}
	for i := range cfg.Bundles {
		o, err := p.newBundle(&cfg.Bundles[i])
		errs = append(errs, err)
		p.outputs = append(p.outputs, o)
	}
	child, err := p.newChild()
	p.child = child
	errs = append(errs, err)
	errs = append(errs, p.checkChildTargets(), p.checkRollbacks())
	return p, errors.Join(errs...)
}

// checkChildTargets refuses targets that are a child where none is supervised:
// nobody would ever be told. Where one is, a rollback must not leave it with files
// of the previous version and an environment of the new one.
func (p *plan) checkChildTargets() error {
	if p.child != nil {
		return p.checkChildRollback()
	}
	var errs []error
	for i := range p.cfg.Targets {
		t := &p.cfg.Targets[i]
		if t.Process != nil && t.Process.Child {
			errs = append(errs, p.cfg.Errorf([]any{&t.Process.Child, &t.Process, t}, "add exec: {command: [...]}, or name the process in another way",
				"targets[%d].process.child: no child is supervised, for there is no exec", i))
		}
	}
	return errors.Join(errs...)
}

func (p *plan) checkChildRollback() error {
	inEnvironment := p.child.names()
	var errs []error
	for i := range p.cfg.Targets {
		t := &p.cfg.Targets[i]
		if !t.Rollback || t.Process == nil || !t.Process.Child {
			continue
		}
		for _, o := range p.outputs {
			j := slices.IndexFunc(o.uses, func(name string) bool { return slices.Contains(inEnvironment, name) })
			if j >= 0 && slices.Contains(o.notify, t.Name) {
				errs = append(errs, p.cfg.Errorf([]any{&t.Rollback, t}, "leave rollback out, or give the child this secret in files only",
					"targets[%d].rollback: %s could go back, and the child's environment, which has secret %q too, could not", i, o.path, o.uses[j]))
			}
		}
	}
	return errors.Join(errs...)
}

// checkRollbacks refuses to take a version back to one that logs in no more.
func (p *plan) checkRollbacks() error {
	oneUser := map[string]bool{}
	for _, s := range p.secrets {
		oneUser[s.name] = s.pending
	}
	var errs []error
	for i := range p.cfg.Targets {
		t := &p.cfg.Targets[i]
		for _, o := range p.outputs {
			j := slices.IndexFunc(o.uses, func(name string) bool { return oneUser[name] })
			if t.Rollback && j >= 0 && slices.Contains(o.notify, t.Name) {
				errs = append(errs, p.cfg.Errorf([]any{&t.Rollback, t}, "leave rollback out: it is for rotations that leave the version before valid",
					"targets[%d].rollback: %s shows secret %q, of which pending: true says that its rotation has one user", i, o.path, o.uses[j]))
			}
		}
	}
	return errors.Join(errs...)
}

// pinnedInterval is how often a pinned version is read again at most: its
// content cannot change, only the right to read it.
const pinnedInterval = time.Hour

func newSchedule(s *config.Secret, maxStale time.Duration) *schedule {
	sched := &schedule{
		name:     s.Name,
		ref:      secret.Ref{ID: s.ID, Stage: s.Stage, VersionID: s.VersionID, Region: s.Region, RoleARN: s.RoleARN},
		interval: s.Interval.Std(),
		required: s.IsRequired(),
		pending:  s.Pending,
		expect:   (*expectation)(s.Expect),
	}
	if s.VersionID != "" {
		sched.interval = min(max(sched.interval, pinnedInterval), max(sched.interval, maxStale/2))
	}
	return sched
}

func (p *plan) unknownSecret(use templates.SecretUse) error {
	return &fault{
		err:  fmt.Errorf("%s: template uses secret %q, which is not in the configuration", use.Place, use.Name),
		hint: p.configuredHint(),
	}
}

func (p *plan) configuredHint() string {
	names := make([]string, len(p.secrets))
	for i, s := range p.secrets {
		names[i] = s.name
	}
	slices.Sort(names)
	return "configured secrets: " + strings.Join(names, ", ")
}

// close lets the directories go; the files stay.
func (p *plan) close() {
	for _, o := range p.outputs {
		if o.sink != nil {
			_ = o.sink.close()
		}
	}
}

// placed puts err, if there is one, at the place of the first of fields that
// the file mentions.
func placed(cfg *config.Config, err error, fields ...any) error {
	if err == nil {
		return nil
	}
	return &placedError{place: cfg.Place(fields...), err: err}
}

type placedError struct {
	place string
	err   error
}

func (e *placedError) Error() string { return e.place + ": " + e.err.Error() }
func (e *placedError) Unwrap() error { return e.err }
