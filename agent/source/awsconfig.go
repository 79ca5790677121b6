package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"

	"secretsd/agent/secret"
)

// Retry settings. All are written out because the SDK's own defaults depend on
// its version and on AWS_NEW_RETRIES_2026. There is no adaptive mode: its rate
// limiter would delay an application's read after a throttled refresh.
const (
	maxAttempts      = 3
	maxBackoff       = 2 * time.Second
	transientBackoff = 100 * time.Millisecond
	throttleBackoff  = time.Second

	retryTokens      = 500
	retryCost        = 5
	retryTimeoutCost = 10
)

// The in-process service checks no signature and has no Region of its own.
const (
	transportEndpoint = "http://secretsmanager.localhost"
	transportRegion   = "us-east-1"
)

// base is what every client is made from: the configuration with its
// credential chain, and the connections.
type base struct {
	cfg  aws.Config
	http *http.Client
	// roles tells whether roles can be assumed.
	roles bool
	// endpoint is Secrets Manager's URL, or "" for the one the SDK finds.
	endpoint string
}

// useTransport sets s up to talk to the in-process service.
func (s *Source) useTransport() {
	if s.region == "" {
		s.region = transportRegion
	}
	s.base.Store(&base{
		cfg: aws.Config{
			Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
			Logger:      sdkLogger{log: s.log, warnings: &s.stats.warnings},
			APIOptions:  s.apiOptions(),
		},
		http:     httpClient(s.opts.Transport),
		endpoint: transportEndpoint,
	})
}

// readSettings takes the Region and checks the endpoints that the environment
// and the shared configuration set. The credential chain is left out: building
// it can ask a resolver, and what it lacks may come later.
func (s *Source) readSettings(ctx context.Context) error {
	cfg, err := s.load(ctx, s.region, config.WithCredentialsProvider(aws.AnonymousCredentials{}))
	var noProfile config.SharedConfigProfileNotExistError
	if errors.As(err, &noProfile) {
		// The file that holds it may come later; then base looks again.
		s.regionErr = err
		if s.region == "" {
			s.region = firstOf(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"))
		}
		return nil
	}
	if err != nil {
		return &OptionError{text: "load AWS settings: " + oneLine(err.Error()), hint: "check the AWS_* environment variables and the shared configuration file", err: err}
	}
	if cfg.Region != "" && !validRegion(cfg.Region) {
		return &OptionError{text: "region " + quote(cfg.Region) + " is not a Region's name", hint: "check AWS_REGION, AWS_DEFAULT_REGION and the profile's region"}
	}
	s.region = cfg.Region
	return s.checkEndpoints(cfg)
}

// checkEndpoints refuses what the environment or the profile names as endpoint
// if secrets or credentials would cross a network in the clear, and settings
// that the SDK would refuse at every call.
func (s *Source) checkEndpoints(cfg aws.Config) error {
	sm := secretsmanager.NewFromConfig(cfg).Options()
	if s.opts.Endpoint != "" {
		sm.BaseEndpoint = &s.opts.Endpoint
	}
	for _, endpoint := range []*string{sm.BaseEndpoint, sts.NewFromConfig(cfg).Options().BaseEndpoint} {
		if endpoint == nil {
			continue
		}
		if err := checkEndpoint(*endpoint); err != nil {
			return err
		}
	}
	fips := sm.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled
	dual := sm.EndpointOptions.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled
	if sm.BaseEndpoint != nil && (fips || dual) {
		return &OptionError{
			text: "an endpoint of one's own excludes FIPS and dual-stack endpoints",
			hint: "name the FIPS or dual-stack address as the endpoint, or leave the endpoint out",
		}
	}
	return nil
}

// load runs the SDK's own loading with everything we insist on.
func (s *Source) load(ctx context.Context, region string, more ...func(*config.LoadOptions) error) (aws.Config, error) {
	opts := []func(*config.LoadOptions) error{
		config.WithHTTPClient(buildableClient()),
		config.WithRetryer(func() aws.Retryer { return newRetryer(newBucket(), true) }),
		config.WithLogger(sdkLogger{log: s.log, warnings: &s.stats.warnings}),
		config.WithClientLogMode(0),
		// "auto" would ask the instance metadata service for nothing we use.
		config.WithDefaultsMode(aws.DefaultsModeLegacy),
		config.WithAPIOptions(s.apiOptions()),
		// Without this a credential endpoint that accepts and says nothing
		// would hold the chain for ever: its client has no time limit.
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = buildableClient() }),
	}
	if region != "" {
		opts = append(opts, config.WithRegion(region))
	}
	if s.opts.FIPS {
		opts = append(opts, config.WithUseFIPSEndpoint(aws.FIPSEndpointStateEnabled))
	}
	return config.LoadDefaultConfig(ctx, append(opts, more...)...)
}

// loadBase returns the configuration with its credential chain, made at the
// first call that succeeds. Two calls at once may both make it; one is kept.
func (s *Source) loadBase(ctx context.Context, region string) (*base, *secret.Error) {
	if b := s.base.Load(); b != nil {
		return b, nil
	}
	var chain []func(*config.LoadOptions) error
	if s.opts.CredentialsFile != "" {
		file := &fileCredentials{path: s.opts.CredentialsFile, load: s.loadFile}
		chain = append(chain, config.WithCredentialsProvider(file))
	}
	// Web identity needs a Region for STS even where every secret has its own.
	cfg, err := s.load(ctx, firstOf(s.region, region), chain...)
	if err != nil {
		return nil, credentialError(err)
	}
	if err := s.checkEndpoints(cfg); err != nil {
		e := invalidRef("", err.Error(), "")
		var option *OptionError
		if errors.As(err, &option) {
			e.Remedy = option.hint
		}
		return nil, e
	}
	// AWS_CA_BUNDLE has been applied to the buildable client; from here on all
	// clients share its one pool of connections.
	buildable, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		return nil, invalidRef("", fmt.Sprintf("the SDK's HTTP client is a %T", cfg.HTTPClient), "")
	}
	b := &base{cfg: cfg, http: httpClient(buildable.GetTransport()), roles: true, endpoint: s.opts.Endpoint}
	if !s.base.CompareAndSwap(nil, b) {
		b = s.base.Load()
	}
	return b, nil
}

// loadFile returns the credentials that a profile of the credentials file
// leads to.
func (s *Source) loadFile(ctx context.Context) (aws.CredentialsProvider, error) {
	cfg, err := s.load(ctx, s.region,
		config.WithSharedCredentialsFiles([]string{s.opts.CredentialsFile}),
		config.WithSharedConfigProfile(firstOf(os.Getenv("AWS_PROFILE"), os.Getenv("AWS_DEFAULT_PROFILE"), config.DefaultSharedConfigProfile)))
	return cfg.Credentials, err
}

func (s *Source) apiOptions() []func(*middleware.Stack) error {
	return []func(*middleware.Stack) error{
		awsmiddleware.AddUserAgentKeyValue("secretsd", firstOf(s.opts.Version, "unknown")),
		s.stats.count,
	}
}

func firstOf(ss ...string) string {
	for _, s := range ss {
		if s != "" {
			return s
		}
	}
	return ""
}

// buildableClient returns the SDK's client with our limits. It stays the SDK's
// own type, to which alone AWS_CA_BUNDLE is applied.
func buildableClient() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithTimeout(attemptTimeout).
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout }).
		WithTransportOptions(func(t *http.Transport) {
			t.TLSHandshakeTimeout = handshakeTimeout
			t.MaxIdleConnsPerHost = idleConnsPerHost
			t.MaxConnsPerHost = connsPerHost
		})
}

// httpClient returns the client that carries every call. It follows no
// redirect: the service sends none, and a signed request belongs to one host.
func httpClient(t http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     t,
		Timeout:       attemptTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// newBucket returns the tokens that retries of one client are paid with, so
// that an outage does not triple its traffic for long.
func newBucket() *ratelimit.TokenRateLimit { return ratelimit.NewTokenRateLimit(retryTokens) }

// newRetryer returns the standard retryer with every setting written out.
// Without throttles it gives a throttled call back at once.
func newRetryer(bucket *ratelimit.TokenRateLimit, throttles bool) aws.Retryer {
	isThrottle := retry.IsErrorThrottles{retry.ThrottleErrorCode{Codes: retry.DefaultThrottleErrorCodes}}
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = maxAttempts
		o.MaxBackoff = maxBackoff
		o.RateLimiter = bucket
		o.RetryCost, o.RetryTimeoutCost, o.ThrottlingRetryCost, o.NoRetryIncrement = retryCost, retryTimeoutCost, retryCost, 1
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, err error) (time.Duration, error) {
			delay := transientBackoff
			if isThrottle.IsErrorThrottle(err) == aws.TrueTernary {
				delay = throttleBackoff
			}
			// Full jitter, so that agents hurt by one outage do not come back
			// together.
			return rand.N(min(delay<<min(max(attempt, 0), 8), maxBackoff)), nil
		})
		if !throttles {
			o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
				if isThrottle.IsErrorThrottle(err) == aws.TrueTernary {
					return aws.FalseTernary
				}
				return aws.UnknownTernary
			})}, o.Retryables...)
		}
	})
}

// sdkLogger hands the SDK's few log lines on. Its ClientLogMode stays 0, so
// that there are no requests or answers among them.
type sdkLogger struct {
	log      *slog.Logger
	warnings *atomic.Uint64
}

// Logf implements [logging.Logger].
func (l sdkLogger) Logf(c logging.Classification, format string, v ...any) {
	level := slog.LevelDebug
	if c == logging.Warn {
		level = slog.LevelWarn
		l.warnings.Add(1)
	}
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "aws sdk message", "text", oneLine(fmt.Sprintf(format, v...)))
	}
}
