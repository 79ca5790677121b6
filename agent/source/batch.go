package source

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"secretsd/agent/secret"
)

// batchSize is how many ids one BatchGetSecretValue takes (API reference).
const batchSize = 20

// maxPages ends a batch whose answer never stops naming a next page. Pages may
// be empty, so there can be more of them than ids.
const maxPages = 2 * batchSize

// How long batch calls are left out after one failed as a whole. A policy takes
// an operator to change; a rate or one unlucky secret passes sooner.
const (
	deniedFor    = 15 * time.Minute
	throttledFor = 5 * time.Minute
)

// plan parts rs into batches of two to twenty and what is read one by one.
func (c *client) plan(rs []*read) (batches [][]*read, singles []*read) {
	if !c.batches.allowed() {
		return nil, rs
	}
	own := c.accounts.guess(rs)
	var fit []*read
	for _, r := range rs {
		account := parseID(r.ref.ID).account
		// A batch call takes no version or stage, is not among the operations
		// AWS lists for cross-account use, and one malformed id fails it whole.
		if r.ref.Stage == secret.StageCurrent && r.ref.VersionID == "" &&
			(account == "" || account == own) && idPattern.MatchString(r.ref.ID) {
			fit = append(fit, r)
		} else {
			singles = append(singles, r)
		}
	}
	for chunk := range slices.Chunk(fit, batchSize) {
		if len(chunk) == 1 {
			singles = append(singles, chunk[0])
		} else {
			batches = append(batches, chunk)
		}
	}
	return batches, singles
}

// batch reads chunk by BatchGetSecretValue. What it leaves open is to be read
// one by one.
func (c *client) batch(ctx context.Context, chunk []*read) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	in := &secretsmanager.BatchGetSecretValueInput{}
	for _, r := range chunk {
		in.SecretIdList = append(in.SecretIdList, r.ref.ID)
	}
	sure := c.accounts.known()
	for range maxPages {
		out, err := c.api.BatchGetSecretValue(ctx, in, func(o *secretsmanager.Options) { o.Retryer = c.batchRetryer })
		if err != nil {
			c.batchFailed(chunk, c.failure(opBatch, err))
			return
		}
		c.take(chunk, out, sure)
		if aws.ToString(out.NextToken) == "" {
			return
		}
		in.NextToken = out.NextToken
	}
}

// batchFailed deals with a call that failed as a whole. Where single reads may
// do better the reads are left open; otherwise, and above all when nobody
// answered, the failure is theirs: one lost call is not to become twenty.
func (c *client) batchFailed(chunk []*read, e *secret.Error) {
	reason, pause := fallbackFor(e)
	if reason != "" {
		c.stats.fallback(reason)
		c.remember(reason, pause, e)
		return
	}
	for _, r := range chunk {
		if !r.done() {
			r.fail(e)
		}
	}
}

// fallbackFor returns why single reads may work where the batch call failed
// with e, and for how long batch calls are left out; "" if they would fail too.
func fallbackFor(e *secret.Error) (reason string, pause time.Duration) {
	switch {
	case e.Op != opBatch:
		return "", 0 // no credentials: no call will do better
	case isUnknownOperation(e):
		return reasonUnsupported, deniedFor
	case e.Kind == secret.Throttled:
		return reasonThrottled, throttledFor
	case e.Kind == secret.Denied && isPolicyDenial(e):
		return reasonDenied, deniedFor
	case e.Status != 0 && (e.Kind == secret.NotFound || e.Kind == secret.Invalid || isDecryptionFailure(e.Code)):
		// AWS answers these per secret; moto fails the call for one secret that
		// has no value.
		return reasonRejected, throttledFor
	}
	return "", 0
}

// remember leaves out batch calls for a while and says so once.
func (c *client) remember(reason string, pause time.Duration, e *secret.Error) {
	if !c.batches.pause(pause) {
		return
	}
	attrs := []any{"reason", reason, "code", e.Code, "status", e.Status, "pause", pause}
	switch reason {
	case reasonDenied:
		c.log.Warn("batch read denied, reading secrets one by one", append(attrs,
			"hint", `allow secretsmanager:BatchGetSecretValue on resource "*", and check the VPC endpoint's policy`)...)
	case reasonThrottled:
		c.log.Warn("batch read throttled, reading secrets one by one", append(attrs,
			"hint", "BatchGetSecretValue has 100 calls a second for the whole account and Region; lengthen refresh.interval")...)
	default:
		c.log.Info("batch read failed as a whole, reading secrets one by one", attrs...)
	}
}

// take gives the reads of chunk what one page answers for them. Entries are
// matched by what they name: their order is not promised.
func (c *client) take(chunk []*read, out *secretsmanager.BatchGetSecretValueOutput, sure bool) {
	answers := indexAnswers(out.SecretValues)
	failures := make(map[string]*types.APIErrorType, len(out.Errors))
	for i := range out.Errors {
		failures[aws.ToString(out.Errors[i].SecretId)] = &out.Errors[i]
	}
	for _, r := range chunk {
		if r.done() {
			continue
		}
		if a := answers.find(r.ref.ID); a != nil {
			c.takeValue(r, a)
		} else if f := failures[r.ref.ID]; f != nil {
			c.takeFailure(r, f, sure)
		}
	}
}

// takeValue accepts one entry. An entry that does not carry AWSCURRENT is not
// what was asked for (moto answers so after a label has moved) and is left to a
// single read, which names the stage.
func (c *client) takeValue(r *read, a *types.SecretValueEntry) {
	if !slices.Contains(a.VersionStages, secret.StageCurrent) {
		return
	}
	r.answer(opBatch, answer{
		arn: a.ARN, name: a.Name, versionID: a.VersionId, stages: a.VersionStages,
		created: a.CreatedDate, text: a.SecretString, binary: a.SecretBinary,
	})
	if r.err == nil {
		c.accounts.learn(parseID(r.version.ARN).account)
	}
}

// takeFailure accepts one entry of Errors. While it is not known whether an
// ARN's account is the caller's own, a refusal may only mean that batch calls
// do not reach other accounts: then a single read decides.
func (c *client) takeFailure(r *read, f *types.APIErrorType, sure bool) {
	e := serviceError(opBatch, aws.ToString(f.ErrorCode), aws.ToString(f.Message), 0)
	if !sure && parseID(r.ref.ID).account != "" && (e.Kind == secret.Denied || e.Kind == secret.NotFound) {
		r.confirm = true
		return
	}
	r.fail(e)
}

// answerIndex finds a batch's entries by what a ref may call them.
type answerIndex struct {
	exact, loose map[string]*types.SecretValueEntry
}

func indexAnswers(entries []types.SecretValueEntry) answerIndex {
	ix := answerIndex{exact: make(map[string]*types.SecretValueEntry), loose: make(map[string]*types.SecretValueEntry)}
	for i := range entries {
		e := &entries[i]
		arn, name := aws.ToString(e.ARN), aws.ToString(e.Name)
		ix.exact[arn] = e
		ix.exact[name] = e
		ix.loose[withoutSuffix(arn)] = e // partial ARN
		ix.loose[parseID(arn).name] = e  // name with suffix
	}
	delete(ix.exact, "")
	delete(ix.loose, "")
	return ix
}

// find returns the entry that answers id, or nil. An exact ARN or name goes
// before a partial one.
func (ix answerIndex) find(id string) *types.SecretValueEntry {
	return cmp.Or(ix.exact[id], ix.loose[id])
}

// batchMemory remembers that batch calls are of no use for a while.
type batchMemory struct {
	mu    sync.Mutex
	until time.Time
}

func (m *batchMemory) allowed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !time.Now().Before(m.until)
}

// pause reports whether this call began the pause: batches that were under way
// at once fail at once.
func (m *batchMemory) pause(d time.Duration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if now.Before(m.until) {
		return false
	}
	m.until = now.Add(d)
	return true
}

// accounts is what is known about whose secrets a client can read in batches.
type accounts struct {
	mu     sync.Mutex
	own    string
	others map[string]bool
}

// learn notes the caller's own account; "" is ignored.
func (a *accounts) learn(account string) {
	if account == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.own == "" {
		a.own = account
	}
}

// foreign notes an account that is not the caller's own.
func (a *accounts) foreign(account string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if account == a.own {
		return
	}
	if a.others == nil {
		a.others = make(map[string]bool)
	}
	a.others[account] = true
}

func (a *accounts) known() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.own != ""
}

// guess returns the account whose ARNs may stand in a batch: the caller's own,
// or while that is unknown the one that most of rs name. "" means none.
func (a *accounts) guess(rs []*read) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.own != "" {
		return a.own
	}
	count := make(map[string]int)
	for _, r := range rs {
		if account := parseID(r.ref.ID).account; account != "" && !a.others[account] {
			count[account]++
		}
	}
	best := ""
	for _, account := range slices.Sorted(maps.Keys(count)) {
		if best == "" || count[account] > count[best] {
			best = account
		}
	}
	return best
}
