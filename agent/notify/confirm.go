package notify

import (
	"context"
	"time"
)

const (
	// firstAsk and lastAsk are the shortest and the longest wait between two
	// questions while a target may still confirm.
	firstAsk = 100 * time.Millisecond
	lastAsk  = time.Second
	// maxAnswering is how long one question may take: a target that did not answer
	// while it was reloading gets another chance within the same time.
	maxAnswering = 5 * time.Second
	// lateAsk is the wait between two questions to a target that is unconfirmed.
	lateAsk = 30 * time.Second
)

// trial is what a target was told and has not confirmed.
type trial struct {
	// change is what it is to confirm; its Told says by how many steps it was told.
	// Nil if nothing is awaited.
	change *Change
	// doubted is what it has not confirmed after the last step, until it confirms
	// that or something newer; nil if it has confirmed everything.
	doubted *Change
	// round is another one each time that earlier questions become worthless.
	round    int
	since    time.Time // told by the last step
	deadline time.Time
	ask      time.Time // the next question
	tries    int
	err      error // the last answer
	climbing bool  // a step is being taken
}

// begin awaits the confirmation of c, which t was told just now, and of what it has
// not confirmed of before.
func (tr *trial) begin(t Target, c Change, now time.Time) {
	if tr.change != nil {
		c = tr.change.merge(c)
	}
	c.Told = 1
	tr.change = &c
	if tr.doubted != nil && c.Rollback {
		tr.doubted = &c // it has not to confirm any more what is not there any more
	}
	tr.start(t, now)
}

// start gives t its time to confirm.
func (tr *trial) start(t Target, now time.Time) {
	tr.round++
	tr.since, tr.tries, tr.err = now, 0, nil
	tr.ask, tr.deadline = now.Add(t.Confirm.Delay), now.Add(t.Confirm.Timeout)
}

// retarget goes on with a new definition of the target.
func (tr *trial) retarget(t Target, now time.Time) {
	switch {
	case t.Confirm == nil:
		*tr = trial{round: tr.round + 1}
	case tr.change != nil:
		tr.change.Told = min(tr.change.Told, 1+len(t.Ladder))
		tr.start(t, now)
	case tr.doubted != nil:
		tr.start(t, now)
	}
}

// resume goes on with the trial of a debt that was told before the agent started. One
// that was unconfirmed goes on being asked. Where that leads to a rollback, which may
// not have been done, the target gets the time of its last step once more, for it may
// have been mended meanwhile, and is then reported as unconfirmed again.
func (q *queue) resume(c Change) {
	if q.target.Confirm == nil {
		return
	}
	if c.Unconfirmed {
		c.Unconfirmed = false
		doubted := c
		q.trial.doubted = &doubted
		if !q.target.Rollback || c.Rollback {
			q.trial.ask = time.Now().Add(q.target.Confirm.Delay)
			q.signal()
			return
		}
	}
	told := min(c.Told, 1+len(q.target.Ladder))
	if q.trial.change != nil {
		c = q.trial.change.merge(c)
	}
	c.Told = told
	q.trial.change = &c
	q.trial.start(q.target, time.Now())
	q.signal()
}

// next returns what to do about the trial, or false if that is nothing, or nothing
// before a newer change is told.
func (tr *trial) next(now time.Time, asking, superseded bool) (task, bool) {
	late := tr.change == nil
	switch {
	case late && tr.doubted == nil, superseded:
		return task{}, false
	case asking: // the answer comes, at the latest when its time is over
		return task{do: rest, wait: -1}, true
	case !late && !now.Before(tr.deadline):
		return task{do: climb, change: *tr.change, n: tr.round}, true
	case tr.ask.After(now):
		until := tr.ask
		if !late {
			until = earlier(until, tr.deadline)
		}
		return task{do: rest, wait: until.Sub(now)}, true
	case late:
		return task{do: askTarget, change: *tr.doubted, n: tr.round, limit: maxAnswering}, true
	}
	return task{do: askTarget, change: *tr.change, n: tr.round, limit: min(maxAnswering, tr.deadline.Sub(now))}, true
}

// asking is a question under way; the zero value is none.
type asking struct {
	answer chan answer // capacity 1
	cancel context.CancelFunc
	round  int
}

// answer is what a question came to; nil means that the target has confirmed.
type answer struct{ err error }

// ask asks in a goroutine of its own, so that a newer change is told meanwhile.
func (q *queue) ask(ctx context.Context, next task) asking {
	ctx, cancel := context.WithTimeout(ctx, next.limit)
	a := asking{answer: make(chan answer, 1), cancel: cancel, round: next.n}
	go func() {
		defer cancel()
		a.answer <- answer{q.world.probe(ctx, next.target, next.change)}
	}()
	return a
}

// cut ends a question early. Its answer still comes.
func (a *asking) cut() {
	if a.cancel != nil {
		a.cancel()
	}
}

// end cuts a question and waits until whoever asks it has ended.
func (a *asking) end() {
	a.cut()
	if a.answer != nil {
		<-a.answer
	}
}

// answered books an answer, unless it is one to an earlier question.
func (q *queue) answered(round int, err error) {
	now := time.Now()
	q.mu.Lock()
	tr := &q.trial
	if round != tr.round {
		q.mu.Unlock()
		return
	}
	if err != nil {
		tr.err = err
		wait := lateAsk
		if tr.change != nil {
			wait = min(lastAsk, firstAsk<<min(tr.tries, 10))
		}
		tr.tries++
		tr.ask = now.Add(wait)
		q.mu.Unlock()
		return
	}
	c, late := tr.change, false
	if c == nil {
		c, late = tr.doubted, true
	}
	took := now.Sub(tr.since)
	*tr = trial{round: tr.round + 1}
	q.mu.Unlock()
	q.log.Info("target confirmed", "reason", c.Reason.String(), "paths", len(c.Paths), "took", took, "late", late)
	q.report(Outcome{Kind: Confirmed, Change: *c, Took: took, Step: max(c.Told-1, 0)})
}

// climb takes the next step of the ladder for a target that did not confirm in
// time, or gives up if there is none.
func (q *queue) climb(ctx context.Context, next task, now time.Time) {
	t, c := next.target, next.change
	if c.Rollback || c.Told > len(t.Ladder) {
		q.giveUp(t, next.n, now)
		return
	}
	kind, answer := t.step(c.Told).kind(), q.climbing(true)
	q.log.Warn("target did not confirm, going on to the next step of its ladder", attrs(answer, "step", c.Told, "kind", kind)...)
	err := q.world.tell(context.WithoutCancel(ctx), t, c.Told, c)
	o := Outcome{Kind: Escalated, Change: c, Step: c.Told, Took: time.Since(now)}
	if err != nil {
		o.Kind, o.Err = Failed, err
		q.log.Warn("a step of the ladder failed", attrs(err, "step", c.Told, "kind", kind)...)
	}
	q.climbed(t, next.n, now, err)
	q.report(o)
}

// climbing notes whether a step is being taken, and returns the last answer.
func (q *queue) climbing(is bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.trial.climbing = is
	return q.trial.err
}

// climbed books the end of a step. A step that failed has used up its time.
func (q *queue) climbed(t Target, round int, began time.Time, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	tr := &q.trial
	tr.climbing = false
	if round != tr.round { // another definition of the target, or none
		return
	}
	tr.change.Told++
	if err != nil {
		return
	}
	now := time.Now()
	q.told, q.gate = now, began.Add(t.Debounce)
	q.due = later(q.due, q.gate)
	tr.start(t, now)
}

// giveUp books that the target is unconfirmed, unless a newer change is about to be
// told.
func (q *queue) giveUp(t Target, round int, now time.Time) {
	q.mu.Lock()
	tr := &q.trial
	if round != tr.round || q.owed != nil && q.trouble.err == nil {
		q.mu.Unlock()
		return
	}
	c, err, took := *tr.change, tr.err, now.Sub(tr.since)
	tr.doubted, tr.change = tr.change, nil
	tr.ask = now.Add(lateAsk)
	tr.round++
	q.mu.Unlock()
	rollback := t.Rollback && !c.Rollback
	q.log.Error("target did not confirm, it is unconfirmed",
		attrs(err, "reason", c.Reason.String(), "paths", len(c.Paths), "steps", c.Told, "rollback", rollback)...)
	q.report(Outcome{Kind: Unconfirmed, Change: c, Err: err, Took: took, Step: c.Told - 1, Rollback: rollback})
}
