package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"secretsd/agent/config"
	"secretsd/agent/secret"
	"secretsd/agent/source"
	"secretsd/agent/source/local"
)

// Options are what an agent needs beside its configuration.
type Options struct {
	// Logger takes what the agent has to say; nil discards it.
	Logger *slog.Logger
	// Version is secretsd's own version, for the user agent AWS records.
	Version string
	// Local, when set, is read in place of the configured source.
	Local *local.Service
	// Stdout is where an audit log with the path "-" is written; nil discards
	// it.
	Stdout io.Writer
	// Child says how the child is supervised, if the configuration has one.
	Child ChildOptions
	// Ready is called once, when everything is in place. It must not block.
	Ready func(Counts)

	// clock is bootClock where it is nil; tests whose time is not real set it.
	clock func() time.Duration
	// listenControl is listenControl where it is nil; tests whose time is not
	// real set it, for a socket that waits holds that time.
	listenControl func(dir string) (net.Listener, error)
}

// Counts say how much is in place.
type Counts struct {
	Secrets, Files, Targets int
	// Skipped are the files that wait for a secret which may be absent.
	Skipped int
	// Endpoint is the address bound, or empty if there is none.
	Endpoint string
}

// ConfigError is everything wrong with a configuration that can be told
// without the network and without writing anything.
type ConfigError struct{ err error }

// Error returns all faults, one on a line.
func (e *ConfigError) Error() string { return e.err.Error() }

// Unwrap returns the faults, joined.
func (e *ConfigError) Unwrap() error { return e.err }

// ReadConfig reads the configuration file at path and lets each of adjust
// change it. What is wrong in it is found by [New], [Agent.Reload], [Render] and
// [CheckConfig], with all else; the error here, a [ConfigError] too, is of a
// file that cannot be read at all.
func ReadConfig(path string, adjust ...func(*config.Config)) (*config.Config, error) {
	cfg, err := config.Load(path)
	if cfg == nil {
		return nil, &ConfigError{err}
	}
	for _, change := range adjust {
		change(cfg)
	}
	return cfg, nil
}

// CheckConfig finds all that is wrong with cfg and its templates and can be
// found without the network. Nothing is written. The error is a [ConfigError]
// that holds all faults.
func CheckConfig(ctx context.Context, cfg *config.Config, opts Options) error {
	b, err := newBuild(ctx, cfg, opts, nil)
	if err != nil {
		return &ConfigError{err}
	}
	b.close()
	return nil
}

// build is everything made from a configuration before it touches the world.
type build struct {
	*plan
	source *source.Source
	// service is the local Secrets Manager behind source, or nil.
	service *local.Service
	// region is where names are read, or empty if that is not known.
	region string
}

// newBuild makes a build, which the caller closes. The source of prev is kept if its configuration is
// the same, for its clients, credentials and local secrets live on.
func newBuild(ctx context.Context, cfg *config.Config, opts Options, prev *build) (*build, error) {
	b := &build{}
	p, planErr := newPlan(cfg)
	b.plan = p
	errs := []error{cfg.Faults(), planErr, checkEndpoint(cfg)}
	if prev != nil && sameSource(&prev.cfg.Source, &cfg.Source) {
		b.source, b.service = prev.source, prev.service
	} else {
		errs = append(errs, b.openSource(ctx, cfg, opts))
	}
	if b.source != nil {
		errs = append(errs, b.checkRegions(cfg))
	}
	if err := errors.Join(errs...); err != nil {
		p.close()
		return nil, err
	}
	return b, nil
}

func sameSource(a, b *config.Source) bool {
	if (a.AWS == nil) != (b.AWS == nil) || (a.Local == nil) != (b.Local == nil) {
		return false
	}
	if a.AWS != nil && *a.AWS != *b.AWS {
		return false
	}
	return a.Local == nil || a.Local.Path == b.Local.Path
}

func (b *build) openSource(ctx context.Context, cfg *config.Config, opts Options) error {
	o := source.Options{Logger: opts.Logger, Version: opts.Version}
	switch {
	case opts.Local != nil:
		b.service = opts.Local
	case cfg.Source.Local != nil:
		b.service = local.New(local.Options{Logger: opts.Logger})
		if err := loadLocal(b.service, cfg.Source.Local.Path); err != nil {
			return err
		}
	default:
		aws := cfg.Source.AWS
		o.Region, o.Endpoint, o.RoleARN, o.ExternalID = aws.Region, aws.Endpoint, aws.RoleARN, aws.ExternalID
		o.CredentialsFile, o.FIPS = aws.CredentialsFile, aws.FIPS
	}
	if b.service != nil {
		o.Region, o.Transport = "us-east-1", b.service.Transport()
	}
	src, err := source.New(ctx, o)
	if err != nil {
		return placed(cfg, fmt.Errorf("source: %w", err), &cfg.Source.AWS, &cfg.Source)
	}
	b.source = src
	return nil
}

// loadLocal loads the secrets of a local service, if there is a file of them
// and nobody else could have written it.
func loadLocal(svc *local.Service, path string) error {
	if path == "" {
		return nil
	}
	if _, err := config.ReadTrusted(path); err != nil {
		return err
	}
	return svc.Load(path)
}

// checkRegions notes where each secret is read, and finds those for which no
// Region is known, which no retry would mend.
func (b *build) checkRegions(cfg *config.Config) error {
	var errs []error
	region, err := b.source.ResolveRegion(secret.Current("any"))
	b.region = region
	for i, s := range b.secrets {
		if s.ref.ID == "" {
			continue // the configuration's own check has said so
		}
		var err error
		if s.region, err = b.source.ResolveRegion(s.ref); err != nil {
			errs = append(errs, placed(cfg, err, &cfg.Secrets[i].ID, &cfg.Secrets[i]))
		}
	}
	if e := cfg.Endpoint; e != nil && e.OnDemand != nil {
		d := e.OnDemand
		named := slices.ContainsFunc(d.Secrets, func(p string) bool { return !strings.HasPrefix(p, "arn:") })
		if err != nil && named {
			errs = append(errs, placed(cfg, err, &d.Secrets, &e.OnDemand))
		}
	}
	return errors.Join(errs...)
}
