package source

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/sync/errgroup"

	"secretsd/agent/secret"
)

// read is one ref on its way to an answer. One goroutine at a time has it.
type read struct {
	ref     secret.Ref
	version *secret.Version
	err     *secret.Error
	// confirm is set when a batch call refused the ref for a reason that a
	// single read may not have.
	confirm bool
}

func (r *read) done() bool { return r.version != nil || r.err != nil }

// fail ends the read with e, which may be shared with others.
func (r *read) fail(e *secret.Error) {
	own := *e
	own.ID = r.ref.ID
	r.err = &own
}

// answer is what GetSecretValue's output and an entry of BatchGetSecretValue's
// have in common.
type answer struct {
	arn, name, versionID *string
	stages               []string
	created              *time.Time
	text                 *string
	binary               []byte
}

// answer ends the read with what the service answered.
func (r *read) answer(op string, a answer) {
	if a.text == nil && a.binary == nil {
		if a.arn == nil && a.name == nil {
			r.fail(&secret.Error{Kind: secret.Transient, Op: op, Status: http.StatusOK, Message: notUnderstood})
			return
		}
		r.fail(&secret.Error{
			Kind: secret.Invalid, Op: op, Status: http.StatusOK, Message: "the secret has no value",
			Remedy: "put a value into it: aws secretsmanager put-secret-value",
		})
		return
	}
	v := &secret.Version{
		ARN: aws.ToString(a.arn), Name: aws.ToString(a.name), VersionID: aws.ToString(a.versionID),
		Stages: a.stages, Created: aws.ToTime(a.created),
	}
	if a.text != nil {
		v.Text = secret.NewValue(*a.text)
	}
	if a.binary != nil {
		v.Binary = secret.NewValue(string(a.binary))
	}
	r.version, r.err = v, nil
}

// round is one Fetch's work with one client.
type round struct {
	client *client
	// heard is set once a call of this round was answered, be it by an error.
	heard atomic.Bool
	// unanswered counts the calls in a row that ended without any answer.
	unanswered atomic.Int32
	// last is the error of the latest of them.
	last atomic.Pointer[secret.Error]
}

// run answers every read: batches first, then one by one what no batch may
// hold and what a batch left open.
func (r *round) run(ctx context.Context, rs []*read) {
	batches, singles := r.client.plan(rs)
	left := make([][]*read, len(batches))
	parallel(len(batches), func(i int) {
		chunk := batches[i]
		if r.giveUp(chunk) {
			return
		}
		if r.client.batches.allowed() {
			r.client.batch(ctx, chunk)
		}
		for _, one := range chunk {
			if !one.done() {
				left[i] = append(left[i], one)
			}
		}
		if len(left[i]) < len(chunk) {
			r.note(firstDone(chunk))
		}
	})
	for _, l := range left {
		singles = append(singles, l...)
	}
	parallel(len(singles), func(i int) {
		one := singles[i]
		if r.giveUp(singles[i : i+1]) {
			return
		}
		r.client.get(ctx, one)
		r.note(one)
		if one.confirm && one.err == nil {
			r.client.accounts.foreign(parseID(one.ref.ID).account)
		}
	})
}

func firstDone(rs []*read) *read {
	for _, one := range rs {
		if one.done() {
			return one
		}
	}
	return nil
}

// note takes in whether there was an answer to a call.
func (r *round) note(one *read) {
	if e := one.err; e != nil && e.Kind == secret.Transient && e.Status == 0 {
		r.last.Store(e)
		r.unanswered.Add(1)
		return
	}
	r.heard.Store(true)
	r.unanswered.Store(0)
}

// giveUp fails rs if there seems to be nobody there: no call of this round was
// ever answered, or as many in a row as run at once were not. The others would
// only wait out the same limit, one after the other. One secret alone that is
// never answered does not bring that about.
func (r *round) giveUp(rs []*read) bool {
	if n := r.unanswered.Load(); n == 0 || (r.heard.Load() && n < parallelReads) {
		return false
	}
	e := r.last.Load()
	for _, one := range rs {
		one.fail(e)
	}
	return true
}

// parallel calls f for 0 to n-1, a few at a time, and returns when all are
// done.
func parallel(n int, f func(int)) {
	var g errgroup.Group
	g.SetLimit(parallelReads)
	for i := range n {
		g.Go(func() error {
			f(i)
			return nil
		})
	}
	_ = g.Wait() // the functions return nil
}
