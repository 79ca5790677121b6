// Package source reads secrets from AWS Secrets Manager. It is the only
// importer of aws-sdk-go-v2: everything above it sees refs, versions and
// [secret.Error] values.
//
// A [Source] gathers the refs of one [Source.Fetch] into BatchGetSecretValue
// calls where the service allows it, reads the rest by GetSecretValue, and goes
// over to GetSecretValue by itself where the batch call is denied, throttled or
// unknown. It retries what the SDK retries and nothing more: when to read again
// is decided by its caller.
//
// No answer's body is ever logged or quoted in an error. Errors are built from
// the service's error code and message and from a short list of causes whose
// text cannot hold what the other side sent; the SDK's own error values, whose
// text can, are not in their chain.
package source

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"secretsd/agent/secret"
)

// Limits on one read. The SDK has none of its own: a peer that accepts the
// connection and says nothing would hold a call for ever.
const (
	attemptTimeout   = 5 * time.Second
	operationTimeout = 15 * time.Second
	dialTimeout      = 2 * time.Second
	handshakeTimeout = 3 * time.Second

	idleConnsPerHost = 2
	connsPerHost     = 4
)

// parallelReads is how many calls one Fetch has under way with one client. It
// equals connsPerHost: more would only wait for a connection.
const parallelReads = connsPerHost

// parallelClients is how many clients one Fetch talks to at once.
const parallelClients = 8

// Options say where and as whom secrets are read. The zero value reads from the
// Region and with the credentials of the SDK's default chain.
type Options struct {
	// Region is the Region of every ref that names none itself. When empty,
	// AWS_REGION, AWS_DEFAULT_REGION and the shared configuration file are
	// asked, in that order.
	Region string
	// Endpoint is Secrets Manager's URL. When empty,
	// AWS_ENDPOINT_URL_SECRETS_MANAGER, AWS_ENDPOINT_URL, the profile's
	// endpoint_url and then AWS's own address are used. Plain http is accepted
	// for loopback addresses only, wherever the URL comes from.
	Endpoint string
	// RoleARN is assumed for every ref that names no role of its own. A ref's
	// role is assumed with the chain's credentials, not by way of this one.
	RoleARN string
	// ExternalID is sent whenever a role is assumed; empty sends none.
	ExternalID string
	// SessionName names the assumed role's session in CloudTrail. When empty it
	// is AWS_ROLE_SESSION_NAME, or "secretsd-" and the host name. Characters
	// that STS refuses are replaced by "-".
	SessionName string
	// CredentialsFile is a shared credentials file. Its profile AWS_PROFILE, or
	// "default", goes before every other member of the chain, and it is read
	// again at least every minute, so that another program may renew it. It
	// may appear after New. A file that others can read, or that others than
	// root and the agent can write, is refused.
	CredentialsFile string
	// FIPS asks for the FIPS endpoint, as AWS_USE_FIPS_ENDPOINT does.
	FIPS bool
	// Transport, when set, answers every call in process: no network, no
	// credentials, no role is assumed and the environment is not read.
	Transport http.RoundTripper
	// Logger takes what the SDK and the source have to say; nil discards it.
	Logger *slog.Logger
	// Version is secretsd's own version, for the user agent that CloudTrail
	// records.
	Version string
}

// Result is the answer for one ref: a version, or the error that says why
// there is none. Exactly one of Version and Err is set.
type Result struct {
	// Ref is the ref as it was asked for.
	Ref secret.Ref
	// Version is shared between equal refs and is not to be written to.
	Version *secret.Version
	// Err is always a *[secret.Error].
	Err error
}

// Source reads secrets. It is safe for use by several goroutines at once.
type Source struct {
	opts   Options
	region string
	// regionErr says why the shared configuration could not be asked for a
	// Region, or is nil.
	regionErr error
	log       *slog.Logger
	stats     counters
	base      atomic.Pointer[base]
	clients   clients
}

// New returns a Source for o. It reads the environment and the shared
// configuration files and does no network I/O. It fails only for what is wrong
// in them whatever AWS would answer, with an error that has a Hint method;
// credentials are looked for at the first Fetch, and again at each one until
// there are some.
func New(ctx context.Context, o Options) (*Source, error) {
	s := &Source{opts: o, region: o.Region, log: o.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Transport != nil {
		s.useTransport()
		return s, nil
	}
	if err := s.readSettings(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// ResolveRegion returns the Region that ref is read from: its own, that of its
// ARN, or the source's. It asks nobody. The error is a *[secret.Error] of kind
// [secret.Invalid].
func (s *Source) ResolveRegion(ref secret.Ref) (string, error) {
	region := ref.Region
	if region == "" {
		region = parseID(ref.ID).region
	}
	if region == "" {
		region = s.region
	}
	if region == "" {
		return "", noRegion(ref.ID, s.regionErr)
	}
	if !validRegion(region) {
		return "", invalidRef(ref.ID, "region "+quote(region)+" is not a Region's name", "write it as in eu-west-1")
	}
	return region, nil
}

// Stats returns what has been counted since New.
func (s *Source) Stats() Stats {
	stats := s.stats.snapshot()
	stats.SinglesOnly = s.clients.singlesOnly()
	return stats
}

// Close closes idle connections. Reads under way go on, and the source may
// still be used.
func (s *Source) Close() {
	if b := s.base.Load(); b != nil {
		b.http.CloseIdleConnections()
	}
}

// Release forgets all that is kept for role: its credentials, and what was learned
// about its account. Reads under way keep what they have and end as they would
// have; a later one assumes the role anew.
func (s *Source) Release(role string) { s.clients.drop(role) }

// Fetch reads every ref and returns one Result for each, in the same order;
// equal refs are read once. A ref with neither stage nor version id is read at
// AWSCURRENT. The failure of one ref is its own: Fetch has no error.
//
// It blocks until all are answered or ctx ends. One call to AWS, retries
// included, takes at most 15 seconds, and so does finding credentials; once a
// Region and role have given no answer at all, what is left to read there is
// given up with the same error instead of waiting in turn.
func (s *Source) Fetch(ctx context.Context, refs []secret.Ref) []Result {
	order := make([]*read, len(refs))
	reads := make(map[secret.Ref]*read, len(refs))
	groups := make(map[clientKey][]*read)
	for i, ref := range refs {
		full, err := s.complete(ref)
		r := reads[full]
		if r == nil {
			r = &read{ref: full}
			reads[full] = r
			if err != nil {
				r.fail(err)
			} else {
				key := clientKey{region: full.Region, role: full.RoleARN}
				groups[key] = append(groups[key], r)
			}
		}
		order[i] = r
	}
	var g errgroup.Group
	g.SetLimit(parallelClients)
	for key, rs := range groups {
		g.Go(func() error {
			s.fetchFrom(ctx, key, rs)
			return nil
		})
	}
	_ = g.Wait() // the functions return nil
	results := make([]Result, len(refs))
	for i, r := range order {
		results[i] = Result{Ref: refs[i], Version: r.version}
		if r.err != nil {
			results[i].Err = r.err
		}
	}
	return results
}

// complete returns ref with everything written out that it leaves to the
// source, so that two refs that read the same thing become equal. It returns
// an error for what no service needs to be asked about.
func (s *Source) complete(ref secret.Ref) (secret.Ref, *secret.Error) {
	switch {
	case ref.ID == "":
		return ref, invalidRef(ref.ID, "the secret id is empty", "")
	case len(ref.ID) > maxIDLen:
		return ref, invalidRef(ref.ID[:64]+"...", "the secret id is longer than 2048 bytes", "")
	}
	region, err := s.ResolveRegion(ref)
	if err != nil {
		return ref, asSecretError(err)
	}
	ref.Region = region
	if ref.RoleARN == "" {
		ref.RoleARN = s.opts.RoleARN
	}
	if ref.RoleARN != "" && !secret.IsRole(ref.RoleARN) {
		return ref, invalidRef(ref.ID, quote(ref.RoleARN)+" is not the ARN of a role", "write arn:aws:iam::ACCOUNT:role/NAME")
	}
	if ref.Stage == "" && ref.VersionID == "" {
		ref.Stage = secret.StageCurrent
	}
	return ref, nil
}

// fetchFrom reads rs, which all belong to one client.
func (s *Source) fetchFrom(ctx context.Context, key clientKey, rs []*read) {
	c, err := s.client(ctx, key)
	if err == nil {
		err = c.authenticate(ctx)
	}
	if err != nil {
		for _, r := range rs {
			r.fail(err)
		}
		return
	}
	(&round{client: c}).run(ctx, rs)
}
