package agent

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"secretsd/agent/notify"
	"secretsd/agent/secret"
)

// going is an output on its way back.
type going struct {
	*output
	// before is what it goes back to.
	before *content
	// from is what it holds, and to what before comes to.
	from, to []piece
}

// rollBack gives the files that target was told of, and could not use, their
// previous content back, refuses what they had until a version or a template
// changes, and has all who use them told once. It is all of these files or none,
// for a mixture is what the target has never had. A file that has newer content by
// now stays as it is, as if that had come after the rollback; the target is told of
// it, and may confirm that.
func (a *applier) rollBack(r reply) {
	if a.postpone(r) {
		return
	}
	target, told := r.target, r.told
	if needed := a.needed(target, told); len(needed) > 0 && r.read == nil {
		a.reread(r, needed)
		return
	}
	a.remind(r.read)
	back, err := a.goingBack(target, told)
	if err == nil && len(back) == 0 {
		a.log.Warn("not rolling back, for none of what the target was told of is in place any more, or it has confirmed it", "target", target)
		return
	}
	if err == nil {
		debts := debtsOf(back)
		a.owe(debts)
		defer a.owe(nil)
		if err = a.putBack(back); err == nil {
			a.refuse(target, back)
			a.give()
			for _, d := range debts {
				a.tell(d.Target, d.Change)
			}
			return
		}
	}
	a.log.Error("cannot roll back what a target did not confirm, keeping all its files as they are", attrs(err, "target", target)...)
}

// goingBack returns what a rollback changes, or why it cannot be. Where a file
// would be the same, it has nothing to go back from.
func (a *applier) goingBack(target string, told notify.Change) ([]going, error) {
	var asked []going
	var unknown []string
	var errs []error
	for _, o := range a.outputs {
		if !o.concernedBy(target, told) || o.good == nil {
			continue
		}
		if o.previous == nil {
			unknown = append(unknown, o.path)
			continue
		}
		asked = append(asked, going{output: o, before: o.previous})
	}
	if len(unknown) > 0 {
		return nil, unknownFormer(unknown)
	}
	var back []going
	all := a.stepsOf(asked)
	for _, g := range asked {
		if err := g.render(all); err != nil {
			errs = append(errs, err)
		} else if digest(g.from) != digest(g.to) {
			back = append(back, g)
		}
	}
	if len(asked) > 0 && len(errs) == 0 && len(back) == 0 {
		errs = append(errs, &fault{err: errors.New("its files hold what they held before"), hint: "mend the target, for its files are not the fault"})
	}
	if len(errs) == 0 {
		errs = append(errs, a.parted(back))
	}
	return back, errors.Join(errs...)
}

// render works out what g holds, and what it goes back to: of all secrets that go back
// by the same steps, for a file that waited may have held an older version than the
// others.
func (g *going) render(all map[string]step) error {
	v := maps.Clone(g.before.versions)
	for name, s := range all {
		if has, ok := v[name]; ok && !sameVersion(has, s.to) {
			v[name] = s.to
		}
	}
	if !maps.Equal(v, g.before.versions) {
		g.before = &content{recipe: g.before.recipe, versions: v, since: g.before.since}
	}
	var err error
	if g.from, err = g.good.again(); err != nil {
		return fmt.Errorf("render what %s holds: %w", g.path, err)
	}
	if g.to, err = g.before.again(); err != nil {
		return fmt.Errorf("render what %s held before: %w", g.path, err)
	}
	return nil
}

// parted returns an error if a rollback of back would leave another output of a
// target behind that is made of the same versions: the target would have a mixture.
func (a *applier) parted(back []going) error {
	steps := map[string]step{}
	targets := map[string]bool{}
	gone := map[*output]bool{}
	for _, g := range back {
		gone[g.output] = true
		for _, name := range g.notify {
			targets[name] = true
		}
		for name, from := range g.good.versions {
			if to := g.before.versions[name]; !sameVersion(from, to) {
				steps[name] = step{from, to}
			}
		}
	}
	for _, o := range a.outputs {
		i := slices.IndexFunc(o.notify, func(name string) bool { return targets[name] })
		if i >= 0 && !gone[o] && o.good != nil && o.depends(steps) {
			return &fault{
				err:  fmt.Errorf("target %s would have %s of the new versions beside files of those before", o.notify[i], o.path),
				hint: "put what must agree into one bundle, or give each target files of its own",
			}
		}
	}
	return nil
}

// depends reports whether steps would change what o holds.
func (o *output) depends(steps map[string]step) bool {
	v := maps.Clone(o.good.versions)
	for name, s := range steps {
		if has, ok := v[name]; ok && sameVersion(has, s.from) {
			v[name] = s.to
		}
	}
	if maps.Equal(v, o.good.versions) {
		return false
	}
	now, err := o.good.again()
	then, thenErr := o.good.with(v)
	return err != nil || thenErr != nil || digest(now) != digest(then)
}

func sameVersion(a, b *secret.Version) bool {
	return a == b || a != nil && b != nil && a.VersionID == b.VersionID && a.SameContent(b)
}

// debtsOf returns what a rollback owes to each target of the files concerned.
func debtsOf(back []going) []notify.Debt {
	debts := map[string]*notify.Debt{}
	for _, g := range back {
		for _, name := range g.notify {
			d := debts[name]
			if d == nil {
				d = &notify.Debt{Target: name, Change: notify.Change{Reason: notify.ReasonChange, Rollback: true}}
				debts[name] = d
			}
			d.Paths = append(d.Paths, g.path)
			for _, v := range g.before.versions.named() {
				if !slices.Contains(d.Secrets, v) {
					d.Secrets = append(d.Secrets, v)
				}
			}
		}
	}
	list := make([]notify.Debt, 0, len(debts))
	for _, name := range slices.Sorted(maps.Keys(debts)) {
		list = append(list, *debts[name])
	}
	return list
}

// putBack publishes what back held before. If one of them fails, those before it get
// their newer content again, and whatever fails at that is tried again as any file is.
func (a *applier) putBack(back []going) error {
	for i, g := range back {
		_, err := g.sink.publish(g.to)
		if err == nil {
			continue
		}
		a.counted.publishFailures++
		for _, again := range back[:i+1] {
			again.dirty, again.retryAt = true, 0
			if _, err := again.sink.publish(again.from); err != nil {
				a.degrade(again.output, err)
			}
		}
		return fmt.Errorf("publish what %s held before: %w", g.path, err)
	}
	return nil
}

// doubt notes that o holds new content, which some of doubters have yet to confirm.
// What it held is what a rollback leads to, unless that was in doubt itself.
func (o *output) doubt(doubters map[string]bool) {
	if len(o.doubts) == 0 {
		if o.previous = o.good; o.good != nil {
			o.former = nil // else it is what it held when the agent ended
		}
	}
	o.doubts = nil
	for _, name := range o.notify {
		if doubters[name] {
			o.doubtedBy(name)
		}
	}
	if o.doubts == nil {
		o.previous, o.former = nil, nil
	}
}

func (o *output) doubtedBy(target string) {
	if o.doubts == nil {
		o.doubts = map[string]bool{}
	}
	o.doubts[target] = true
}

// doubted notes that what the last agent has published is still in doubt.
func (a *applier) doubted(d notify.Debt) {
	for _, o := range a.outputs {
		if a.doubters[d.Target] && !d.Rollback && slices.Contains(o.notify, d.Target) && slices.Contains(d.Paths, o.path) {
			o.doubtedBy(d.Target)
		}
	}
}

// trust notes that target works with what it was told of, or has begun with it.
func (a *applier) trust(target string, told notify.Change) {
	for _, o := range a.outputs {
		if !o.concernedBy(target, told) || o.halfway && (o.good == nil || !told.At.After(a.recalled)) {
			continue
		}
		delete(o.doubts, target)
		if len(o.doubts) > 0 {
			continue
		}
		o.previous = nil // nobody will ask for it
		if o.former != nil {
			o.former = o.former.confirmed
		}
	}
}
