package agent

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"

	"secretsd/agent/config"
	"secretsd/agent/notify"
)

// newTarget makes a target, which stands at key in the configuration.
func (p *plan) newTarget(t *config.Target, key string) (notify.Target, error) {
	target := notify.Target{
		Name: t.Name, OnFirst: t.OnFirst, Debounce: t.Debounce.Std(), Splay: t.Splay.Std(), Rollback: t.Rollback,
		Retry: notify.Retry{Initial: t.Retry.Initial.Std(), Max: t.Retry.Max.Std()},
	}
	var errs [3]error
	target.Step, errs[0] = newStep(p.cfg, &t.Step, t)
	target.Confirm, errs[1] = newProbe(p.cfg, t)
	target.Ladder, errs[2] = newLadder(p.cfg, t, errs[0] == nil)
	p.logsOutput = p.logsOutput || target.LogsOutput()
	return target, errors.Join(append(errs[:], p.giveVariables(t, &target, key))...)
}

// giveVariables makes what the configuration gives the commands of target.
func (p *plan) giveVariables(t *config.Target, target *notify.Target, key string) error {
	var err error
	errs := make([]error, 1, 2+len(t.Ladder))
	target.Env, errs[0] = p.newCommandEnv(t.Name, key, t.Env)
	for i := range target.Ladder {
		target.Ladder[i].Env, err = p.newCommandEnv(t.Name, fmt.Sprintf("%s.ladder[%d]", key, i), t.Ladder[i].Env)
		errs = append(errs, err)
	}
	if f := t.Confirm; f != nil {
		target.Confirm.Env, err = p.newCommandEnv(t.Name, key+".confirm", f.Env)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// newCommandEnv makes the variables of one command of a target, and returns what the
// notifier asks for them by: another one for other variables. It is empty where there
// are none.
func (p *plan) newCommandEnv(target, key string, env map[string]*string) (string, error) {
	if len(env) == 0 {
		return "", nil
	}
	c := &commandEnv{target: target}
	c.parse = func() (*variables, error) { return p.newVariables(key+".env", env) }
	var err error
	c.variables, err = c.parse()
	digest := sha256.New()
	for _, v := range c.variables.list {
		fmt.Fprintf(digest, "%q %x ", v.name, v.tmpl.Digest())
	}
	id := fmt.Sprintf("%s %s %x", target, key, digest.Sum(nil))
	p.commands[id] = c
	return id, err
}

// newStep makes one way of telling; parent is where the file gives it. What the
// configuration's own check has found is not said again: for that the step is
// returned without an error.
func newStep(cfg *config.Config, s *config.Step, parent any) (notify.Step, error) {
	step := notify.Step{Command: s.Command, User: s.User, Output: s.LogsOutput(), HTTP: newHTTP(s.HTTP), Timeout: s.Timeout.Std()}
	if s.Ways() != 1 {
		return step, nil
	}
	switch {
	case s.Process != nil:
		return newSignal(cfg, step, s, parent)
	case s.Unit != nil:
		step.Unit = &notify.Unit{Name: s.Unit.Name, Action: s.Unit.Action}
		if s.Unit.Name == "" {
			return step, nil
		}
		return step, placed(cfg, cmp.Or(step.Validate(), notify.CheckUnit(s.Unit.Name)), s.Unit, parent)
	case s.HTTP != nil:
		if s.HTTP.URL == "" {
			return step, nil
		}
		return step, placed(cfg, step.Validate(), s.HTTP, parent)
	}
	return step, newCommand(cfg, step.Validate(), s.Command, s.User, &s.Command, &s.User, parent)
}

func newSignal(cfg *config.Config, step notify.Step, s *config.Step, parent any) (notify.Step, error) {
	p := s.Process
	step.Process = &notify.Process{PidFile: p.PIDFile, Exe: p.Exe, Argv0: p.Argv0, Cgroup: p.Cgroup, Unit: p.Unit, Child: p.Child}
	var err error
	if step.Signal, err = notify.ParseSignal(s.Signal); err != nil {
		return step, placed(cfg, err, &s.Signal, parent)
	}
	if p.Ways() != 1 {
		return step, nil
	}
	return step, placed(cfg, step.Validate(), p, parent)
}

// newCommand checks a command and its user, unless the command is invalid in
// itself.
func newCommand(cfg *config.Config, invalid error, argv []string, user string, command, userField, parent any) error {
	if invalid != nil {
		return placed(cfg, invalid, command, parent)
	}
	return errors.Join(
		placed(cfg, notify.CheckCommand(argv[0]), command, parent),
		placed(cfg, notify.CheckUser(user), userField, parent),
	)
}

func newHTTP(h *config.HTTP) *notify.HTTP {
	if h == nil {
		return nil
	}
	return &notify.HTTP{URL: h.URL, Method: h.Method, Status: h.Status}
}

// newProbe makes what a target confirms by, nil if it need not.
func newProbe(cfg *config.Config, t *config.Target) (*notify.Probe, error) {
	f := t.Confirm
	if f == nil {
		return nil, nil
	}
	p := &notify.Probe{HTTP: newHTTP(f.HTTP), Command: f.Command, User: f.User, Output: f.LogsOutput(), TCP: f.TCP, Delay: f.Delay.Std(), Timeout: f.Timeout.Std()}
	switch {
	case f.Ways() != 1:
		return p, nil
	case len(f.Command) > 0:
		return p, newCommand(cfg, p.Validate(), f.Command, f.User, &f.Command, &f.User, t)
	case f.TCP != "":
		return p, placed(cfg, p.Validate(), &f.TCP, f, t)
	case f.HTTP != nil && f.HTTP.URL != "":
		return p, placed(cfg, p.Validate(), f.HTTP, f, t)
	}
	return p, nil
}

// newLadder makes the steps of a ladder. What is wrong with the target's own process
// has been said where sound is false.
func newLadder(cfg *config.Config, t *config.Target, sound bool) ([]notify.Step, error) {
	var steps []notify.Step
	var errs []error
	for i := range t.Ladder {
		s, err := newStep(cfg, &t.Ladder[i], &t.Ladder[i])
		steps = append(steps, s)
		if sound || t.Ladder[i].Process != t.Process {
			errs = append(errs, err)
		}
	}
	return steps, errors.Join(errs...)
}
