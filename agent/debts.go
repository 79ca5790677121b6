package agent

import (
	"slices"

	"secretsd/agent/notify"
	"secretsd/agent/store"
	"secretsd/sinks/files"
)

// owe writes down what the pass under way is about to owe, beside what the
// notifier owes already. A pass that is over owes nothing of its own.
func (a *Agent) owe(pending []notify.Debt) {
	a.pending.Store(&pending)
	a.saveState()
}

// settled writes down what is still owed after a notification, and counts what became
// of it.
func (a *Agent) settled(target string, o notify.Outcome) {
	a.saveState()
	a.seen.settled(target, o)
	a.replied(target, o)
}

func (a *Agent) saveState() {
	err := a.state.save(func() state {
		// A debt passes from these to the notifier: asked first, they hold what it
		// does not owe yet.
		pending, restored := *a.pending.Load(), *a.restored.Load()
		return state{Debts: slices.Concat(a.notifier.Owed(), pending, restored), Held: *a.held.Load(), Refused: *a.refused.Load(), Outputs: *a.outputs.Load(), Placed: *a.placed.Load()}
	})
	if err != nil {
		a.log.Warn("cannot write down what is owed and held; a crash now would lose it", attrs(err)...)
	}
}

// remember writes down what is held.
func (a *Agent) remember(held []heldState) {
	a.held.Store(&held)
	a.saveState()
}

// loadState reads what the last agent owed and held. Paths that are no file of ours any
// more are left out: what reaches a hook's arguments comes from this
// configuration alone.
func (a *Agent) loadState() {
	st, err := a.state.load()
	if err != nil {
		a.log.Error("cannot read what the last agent owed; targets may have to be told by hand", "error", err)
		return
	}
	a.refused.Store(&st.Refused)
	a.refresh.recall(st.Refused)
	for i := range st.Debts {
		st.Debts[i].Paths = slices.DeleteFunc(st.Debts[i].Paths, func(path string) bool {
			return !slices.ContainsFunc(a.build.outputs, func(o *output) bool { return o.path == path })
		})
	}
	a.held.Store(&st.Held)
	a.placed.Store(&st.Placed)
	a.apply.recall(st.Held)
	a.apply.recallPlaced(st.Placed)
	st.Debts = a.apply.cutOff(st.Debts)
	a.restored.Store(&st.Debts)
	for _, d := range st.Debts {
		a.apply.doubted(d)
	}
	a.outputs.Store(&st.Outputs)
	a.apply.recallNamed(st.Outputs)
}

// restoreDebts hands what the last agent owed to the notifier. What it was killed amid
// publishing waits until it is known what the files hold, or that it will not be known
// soon: told before, a target might read, and confirm, files of two versions.
func (a *Agent) restoreDebts(snap *store.Snapshot) {
	debts := *a.restored.Load()
	if len(debts) == 0 {
		return
	}
	held := []notify.Debt{}
	for _, d := range debts {
		if d.At.IsZero() && a.apply.awaits(d.Paths, snap) {
			held = append(held, d)
			continue
		}
		if d.Unconfirmed {
			a.log.Warn("target is unconfirmed since before the start", "target", d.Target, "paths", d.Paths, "rolled_back", d.Rollback)
		} else {
			a.log.Info("owed since before the start", "target", d.Target, "paths", d.Paths)
		}
		a.notifier.Notify(d.Target, d.Change)
	}
	if len(held) < len(debts) {
		a.restored.Store(&held)
		a.saveState()
	}
}

// awaits reports whether the next pass may tell what the outputs at paths hold: it is
// not known, and the first read of a secret has not failed.
func (a *applier) awaits(paths []string, snap *store.Snapshot) bool {
	return slices.ContainsFunc(a.outputs, func(o *output) bool {
		if !slices.Contains(paths, o.path) || o.good != nil || o.err != nil || o.waiting == "" {
			return false
		}
		e, _ := snap.Get(o.waiting)
		return e.Err == nil
	})
}

// debts returns what is owed to each target for the candidates whose content
// changes, one debt for each target.
func (a *applier) debts(todo []candidate) []notify.Debt {
	type named struct {
		target  string
		version notify.SecretVersion
	}
	byTarget, has := map[string]*notify.Debt{}, map[named]bool{}
	var order []string
	for _, c := range todo {
		if c.change != files.Content {
			continue
		}
		for _, name := range c.output.notify {
			d := byTarget[name]
			if d == nil {
				d = &notify.Debt{Target: name, Change: notify.Change{Reason: c.reason, First: true}}
				byTarget[name] = d
				order = append(order, name)
			}
			d.Paths = append(d.Paths, c.output.path)
			d.Reason = max(d.Reason, c.reason)
			d.First = d.First && c.absent && c.reason == notify.ReasonStart
			for _, v := range c.versions.named() {
				if !has[named{name, v}] {
					has[named{name, v}] = true
					d.Secrets = append(d.Secrets, v)
				}
			}
		}
	}
	debts := make([]notify.Debt, len(order))
	for i, name := range order {
		debts[i] = *byTarget[name]
	}
	return debts
}
