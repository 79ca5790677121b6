package source

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"secretsd/agent/secret"
)

// maxClients bounds the clients that are kept. An application may ask for any
// Region and role it is allowed; each client holds credentials.
const maxClients = 64

// Assumed roles: one hour is what every role permits (the least value of a
// role's MaxSessionDuration), and a minute is room for a clock that is off.
const (
	roleDuration     = time.Hour
	roleExpiryWindow = time.Minute
)

// clientKey tells clients apart.
type clientKey struct{ region, role string }

// client is Secrets Manager in one Region as one identity.
type client struct {
	key   clientKey
	api   *secretsmanager.Client
	creds chainCredentials
	// chain are the credentials that assume the role; equal to creds if there
	// is none.
	chain chainCredentials
	// batchRetryer gives a throttled batch call back at once, for then the
	// single reads, which have a hundred times the quota, go ahead.
	batchRetryer aws.Retryer
	stats        *counters
	log          *slog.Logger
	accounts     accounts
	batches      batchMemory
}

// clients are the clients made so far.
type clients struct {
	mu   sync.Mutex
	m    map[clientKey]*clientEntry
	tick uint64
}

type clientEntry struct {
	c    *client
	used uint64
}

// get returns the client of key, made by build if there is none, and drops the
// one that was used longest ago if there are too many. build must not block.
func (cs *clients) get(key clientKey, build func() *client) *client {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.tick++
	if e := cs.m[key]; e != nil {
		e.used = cs.tick
		return e.c
	}
	if cs.m == nil {
		cs.m = make(map[clientKey]*clientEntry)
	}
	if len(cs.m) >= maxClients {
		var oldest clientKey
		least := cs.tick
		for k, e := range cs.m {
			if e.used < least {
				oldest, least = k, e.used
			}
		}
		delete(cs.m, oldest)
	}
	c := build()
	cs.m[key] = &clientEntry{c: c, used: cs.tick}
	return c
}

// singlesOnly returns how many clients do without batch calls now.
func (cs *clients) singlesOnly() int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	n := 0
	for _, e := range cs.m {
		if !e.c.batches.allowed() {
			n++
		}
	}
	return n
}

// drop forgets the clients of role, in every Region.
func (cs *clients) drop(role string) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	maps.DeleteFunc(cs.m, func(key clientKey, _ *clientEntry) bool { return key.role == role })
}

// client returns the client of key. It fails only while the configuration
// cannot be loaded.
func (s *Source) client(ctx context.Context, key clientKey) (*client, *secret.Error) {
	b, err := s.loadBase(ctx, key.region)
	if err != nil {
		return nil, err
	}
	return s.clients.get(key, func() *client { return s.newClient(b, key) }), nil
}

// newClient does no I/O.
func (s *Source) newClient(b *base, key clientKey) *client {
	cfg := b.cfg.Copy()
	cfg.Region = key.region
	cfg.HTTPClient = b.http
	chain := chainCredentials{inner: b.cfg.Credentials}
	creds := chain
	cfg.Credentials = chain
	bucket := newBucket()
	c := &client{
		key:          key,
		chain:        chain,
		batchRetryer: newRetryer(bucket, false),
		stats:        &s.stats,
		log:          s.log.With("region", key.region),
	}
	if key.role != "" {
		c.log = c.log.With("role_arn", key.role)
	}
	if key.role != "" && b.roles {
		creds = s.assumeRole(cfg, key.role, bucket)
		_, account, _ := secret.ParseRole(key.role)
		c.accounts.learn(account)
	}
	c.creds = creds
	c.api = secretsmanager.NewFromConfig(cfg, func(o *secretsmanager.Options) {
		o.Credentials = creds
		o.Retryer = newRetryer(bucket, true)
		if b.endpoint != "" {
			o.BaseEndpoint = aws.String(b.endpoint)
		}
	})
	return c
}

// assumeRole returns the credentials of role, fetched from STS when they are
// first needed and kept until shortly before they expire.
func (s *Source) assumeRole(cfg aws.Config, role string, bucket *ratelimit.TokenRateLimit) chainCredentials {
	client := sts.NewFromConfig(cfg, func(o *sts.Options) { o.Retryer = newRetryer(bucket, true) })
	provider := stscreds.NewAssumeRoleProvider(client, role, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName = s.opts.sessionName()
		o.Duration = roleDuration
		if s.opts.ExternalID != "" {
			o.ExternalID = aws.String(s.opts.ExternalID)
		}
	})
	return chainCredentials{inner: aws.NewCredentialsCache(provider, func(o *aws.CredentialsCacheOptions) {
		o.ExpiryWindow = roleExpiryWindow
	})}
}

// authenticate makes sure that there are credentials, so that without them a
// round fails once and at once instead of once for every secret.
func (c *client) authenticate(ctx context.Context) *secret.Error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	creds, err := c.creds.Retrieve(ctx)
	if err != nil {
		return c.failure(opCredentials, err)
	}
	c.accounts.learn(creds.AccountID)
	return nil
}

// failure turns what the SDK returned into a [secret.Error] without an id, and
// forgets credentials that a service has called expired.
func (c *client) failure(op string, err error) *secret.Error {
	e := classify(op, err)
	if endsCredentials(e.Code) {
		c.creds.invalidate()
		c.chain.invalidate()
	}
	return e
}

// get reads one ref by GetSecretValue. The stage is always sent: it means the
// same to AWS, and IAM policies with a condition on secretsmanager:VersionStage
// deny a call that leaves it out.
func (c *client) get(ctx context.Context, r *read) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	in := &secretsmanager.GetSecretValueInput{SecretId: aws.String(r.ref.ID)}
	if r.ref.VersionID != "" {
		in.VersionId = aws.String(r.ref.VersionID)
	}
	if r.ref.Stage != "" {
		in.VersionStage = aws.String(r.ref.Stage)
	}
	out, err := c.api.GetSecretValue(ctx, in)
	if err != nil {
		r.fail(c.failure(opGet, err))
		return
	}
	r.answer(opGet, answer{
		arn: out.ARN, name: out.Name, versionID: out.VersionId, stages: out.VersionStages,
		created: out.CreatedDate, text: out.SecretString, binary: out.SecretBinary,
	})
	if r.err == nil && parseID(r.ref.ID).account == "" {
		c.accounts.learn(parseID(r.version.ARN).account)
	}
}
