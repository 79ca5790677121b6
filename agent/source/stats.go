package source

import (
	"context"
	"sync/atomic"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"

	"secretsd/agent/secret"
)

// Stats counts what a Source has asked of AWS since New. All figures but
// SinglesOnly only ever grow.
type Stats struct {
	// Calls are the requests sent, retries and pages included, by operation
	// name and outcome: "ok", or the word of a [secret.Kind]. They are what AWS
	// bills and throttles.
	Calls map[string]map[string]uint64
	// Fallbacks are the batch calls that failed as a whole and were repeated
	// one secret at a time, by reason: "denied", "throttled", "unsupported" and
	// "rejected".
	Fallbacks map[string]uint64
	// SinglesOnly is how many pairs of Region and role are read one secret at a
	// time now, because batch calls have failed there.
	SinglesOnly int
	// SDKWarnings are the warnings the SDK has logged.
	SDKWarnings uint64
}

// The operations and reasons that are counted.
const (
	opGet         = "GetSecretValue"
	opBatch       = "BatchGetSecretValue"
	opAssumeRole  = "AssumeRole"
	opWebIdentity = "AssumeRoleWithWebIdentity"
	// opCredentials stands in [secret.Error.Op] when the credential chain, and
	// no operation of a service, is what failed.
	opCredentials = "credentials"

	reasonDenied      = "denied"
	reasonThrottled   = "throttled"
	reasonUnsupported = "unsupported"
	reasonRejected    = "rejected"
)

// outcomeOK is the outcome of a call that was answered.
const outcomeOK = "ok"

// callCounts are the calls of one operation: first those that were answered,
// then the failed ones by kind.
type callCounts [1 + secret.Invalid + 1]atomic.Uint64

func (c *callCounts) snapshot() map[string]uint64 {
	counts := map[string]uint64{outcomeOK: c[0].Load()}
	for k := secret.Transient; k <= secret.Invalid; k++ {
		counts[k.String()] = c[1+k].Load()
	}
	return counts
}

type counters struct {
	get, batch, assumeRole, webIdentity      callCounts
	denied, throttled, unsupported, rejected atomic.Uint64
	warnings                                 atomic.Uint64
}

// operation returns the counts of op, or nil for one that is not ours to count.
func (c *counters) operation(op string) *callCounts {
	switch op {
	case opGet:
		return &c.get
	case opBatch:
		return &c.batch
	case opAssumeRole:
		return &c.assumeRole
	case opWebIdentity:
		return &c.webIdentity
	}
	return nil
}

// count adds to the stack of an operation what counts each of its requests by
// how it was answered. It stands around the step that reads the answer and
// below the ones that sign and retry: what was never sent is not counted, and
// what was sent twice counts twice.
func (c *counters) count(stack *middleware.Stack) error {
	const name = "secretsdCount"
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc(name, func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (
		middleware.DeserializeOutput, middleware.Metadata, error) {
		out, md, err := next.HandleDeserialize(ctx, in)
		op := awsmiddleware.GetOperationName(ctx)
		if counts := c.operation(op); counts != nil {
			outcome := 0
			if err != nil {
				outcome = 1 + int(classify(op, err).Kind)
			}
			counts[outcome].Add(1)
		}
		return out, md, err
	}), middleware.Before)
}

func (c *counters) fallback(reason string) {
	switch reason {
	case reasonDenied:
		c.denied.Add(1)
	case reasonThrottled:
		c.throttled.Add(1)
	case reasonUnsupported:
		c.unsupported.Add(1)
	case reasonRejected:
		c.rejected.Add(1)
	}
}

// snapshot returns every counter, those at zero too, so that a metric exists
// before its first event.
func (c *counters) snapshot() Stats {
	return Stats{
		Calls: map[string]map[string]uint64{
			opGet: c.get.snapshot(), opBatch: c.batch.snapshot(),
			opAssumeRole: c.assumeRole.snapshot(), opWebIdentity: c.webIdentity.snapshot(),
		},
		Fallbacks: map[string]uint64{
			reasonDenied: c.denied.Load(), reasonThrottled: c.throttled.Load(),
			reasonUnsupported: c.unsupported.Load(), reasonRejected: c.rejected.Load(),
		},
		SDKWarnings: c.warnings.Load(),
	}
}
