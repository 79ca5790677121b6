package agent

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"secretsd/agent/notify"
	"secretsd/templates"
)

// rollback is a target that has not confirmed what it was told of.
type rollback struct {
	target string
	told   notify.Change
}

// rollBack gives the files that target was told of, and could not use, their
// previous content back, refuses what they had until a version or a template
// changes, and has all who use them told once. A file that has newer content by
// now stays as it is.
func (a *applier) rollBack(r rollback) {
	var back []*output
	for _, o := range a.outputs {
		if slices.Contains(o.notify, r.target) && slices.Contains(r.told.Paths, o.path) && o.heldSince(r.told) && a.restore(o, r.target) {
			back = append(back, o)
		}
	}
	told := map[string]*notify.Change{}
	for _, o := range back {
		for _, name := range o.notify {
			c := told[name]
			if c == nil {
				c = &notify.Change{Reason: notify.ReasonChange, Rollback: true, At: time.Now()}
				told[name] = c
			}
			c.Paths = append(c.Paths, o.path)
			for _, v := range o.named {
				if !slices.Contains(c.Secrets, v) {
					c.Secrets = append(c.Secrets, v)
				}
			}
		}
	}
	for name, c := range told {
		a.tell(name, *c)
	}
}

// heldSince reports whether o still has the versions that a target was told of.
func (o *output) heldSince(told notify.Change) bool {
	return len(o.named) > 0 && !slices.ContainsFunc(o.named, func(v notify.SecretVersion) bool { return !slices.Contains(told.Secrets, v) })
}

// restore publishes what o held before, and reports whether it could.
func (a *applier) restore(o *output, target string) bool {
	if o.previous == nil {
		a.log.Error("cannot roll back, for the content before is not known", "path", o.path, "target", target)
		return false
	}
	pieces, _, err := o.render(rendering{templates.NewPass(o.previous.lookup), o.previous.lookup})
	if err == nil {
		_, err = o.sink.publish(pieces)
	}
	if err != nil {
		a.counted.publishFailures++
		a.log.Error("cannot roll back", attrs(err, "path", o.path, "target", target)...)
		return false
	}
	refused := &heldBack{versions: o.named, source: o.source, rolledBack: true, reason: &fault{
		err:  fmt.Errorf("target %s did not confirm it, and the file was rolled back", target),
		hint: "mend the secret or the target; the next version or a changed template is tried again",
	}}
	a.settle(candidate{output: o, pieces: pieces, versions: o.previous})
	a.hold(o, refused)
	o.previous, o.gate.passed = nil, nil
	a.counted.publishes++
	a.published(o.path, o.named)
	a.log.Error("rolled back what a target did not confirm", "path", o.path, "target", target, "versions", o.named, "refused", refused.versions)
	return true
}

// errRollbacks is why a rollback that cannot be taken now is dropped.
var errRollbacks = errors.New("too many targets roll back at once")

// askRollback hands a rollback to the goroutine that applies. It does not block.
func (a *Agent) askRollback(target string, told notify.Change) {
	select {
	case a.rollbacks <- rollback{target, told}:
	default:
		a.log.Error("cannot roll back", "target", target, "error", errRollbacks)
	}
}
