package agent

import (
	"slices"

	"secretsd/agent/notify"
)

// owe writes down what the pass under way is about to owe, beside what the
// notifier owes already. A pass that is over owes nothing of its own.
func (a *Agent) owe(pending []notify.Debt) {
	a.pending.Store(&pending)
	a.saveState()
}

// settled counts what became of a notification, and writes down what is still
// owed.
func (a *Agent) settled(target string, o notify.Outcome) {
	a.seen.settled(target, o)
	a.saveState()
	a.replied(target, o)
}

func (a *Agent) saveState() {
	err := a.state.save(func() state {
		return state{Debts: slices.Concat(a.notifier.Owed(), *a.pending.Load(), *a.restored.Load()), Held: *a.held.Load()}
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
	for i := range st.Debts {
		st.Debts[i].Paths = slices.DeleteFunc(st.Debts[i].Paths, func(path string) bool {
			return !slices.ContainsFunc(a.build.outputs, func(o *output) bool { return o.path == path })
		})
	}
	a.restored.Store(&st.Debts)
	a.held.Store(&st.Held)
	a.apply.recall(st.Held)
	for _, d := range st.Debts {
		a.apply.doubted(d)
	}
}

// restoreDebts hands what the last agent owed to the notifier.
func (a *Agent) restoreDebts() {
	debts := *a.restored.Load()
	if len(debts) == 0 {
		return
	}
	for _, d := range debts {
		a.log.Info("owed since before the start", "target", d.Target, "paths", d.Paths)
		a.notifier.Notify(d.Target, d.Change)
	}
	a.restored.Store(&[]notify.Debt{})
	a.saveState()
}
