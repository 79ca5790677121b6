package source

import "sync/atomic"

// Stats counts what a Source has asked of AWS since New. All figures only ever
// grow.
type Stats struct {
	// Calls are the requests sent, retries and pages included, by operation
	// name. They are what AWS bills and throttles.
	Calls map[string]uint64
	// Fallbacks are the batch calls that failed as a whole and were repeated
	// one secret at a time, by reason: "denied", "throttled", "unsupported" and
	// "rejected".
	Fallbacks map[string]uint64
	// SDKWarnings are the warnings the SDK has logged.
	SDKWarnings uint64
}

// The operations and reasons that are counted.
const (
	opGet        = "GetSecretValue"
	opBatch      = "BatchGetSecretValue"
	opAssumeRole = "AssumeRole"
	// opCredentials stands in [secret.Error.Op] when the credential chain, and
	// no operation of a service, is what failed.
	opCredentials = "credentials"

	reasonDenied      = "denied"
	reasonThrottled   = "throttled"
	reasonUnsupported = "unsupported"
	reasonRejected    = "rejected"
)

type counters struct {
	get, batch, assumeRole                   atomic.Uint64
	denied, throttled, unsupported, rejected atomic.Uint64
	warnings                                 atomic.Uint64
}

func (c *counters) call(op string) {
	switch op {
	case opGet:
		c.get.Add(1)
	case opBatch:
		c.batch.Add(1)
	case opAssumeRole:
		c.assumeRole.Add(1)
	}
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
		Calls: map[string]uint64{opGet: c.get.Load(), opBatch: c.batch.Load(), opAssumeRole: c.assumeRole.Load()},
		Fallbacks: map[string]uint64{
			reasonDenied: c.denied.Load(), reasonThrottled: c.throttled.Load(),
			reasonUnsupported: c.unsupported.Load(), reasonRejected: c.rejected.Load(),
		},
		SDKWarnings: c.warnings.Load(),
	}
}
