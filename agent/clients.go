package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"

	"secretsd/agent/config"
	"secretsd/sinks/endpoint"
	"secretsd/sinks/files"
)

func endpointOptions(e *config.Endpoint, log *slog.Logger) endpoint.Options {
	return endpoint.Options{
		Listen: e.Listen, AnyAddress: e.UnsafeAnyAddress, TokenHeaders: e.TokenHeaders, PathPrefix: e.PathPrefix,
		AllowedHosts: e.AllowedHosts, MaxConnections: e.MaxConnections, AnySignature: e.UnsafeAnySignature, Logger: log,
	}
}

// socketOptions returns the options of the socket, which shares all others with
// the address.
func socketOptions(e *config.Endpoint, opts endpoint.Options) (endpoint.Options, error) {
	s := e.Socket
	opts.Listen, opts.Socket = "", &endpoint.Socket{Path: s.Path, Mode: s.Mode.Perm()}
	if s.Owner == "" && s.Group == "" {
		return opts, nil
	}
	uid, gid, err := files.LookupOwner(s.Owner, s.Group)
	opts.Socket.Owner = &endpoint.Owner{UID: uid, GID: gid}
	return opts, err
}

// tokenSource is where the tokens of one client come from, or those of the top
// level, whose name is empty.
type tokenSource struct {
	client  string
	options endpoint.TokenOptions
	// field is the token file in the configuration.
	field *config.TokenFile
}

// tokenSources returns all there are. Looking the owner of a token file up is
// all that can fail.
func tokenSources(cfg *config.Config) ([]tokenSource, error) {
	e := cfg.Endpoint
	var list []tokenSource
	var errs []error
	add := func(client string, f *config.TokenFile, env []string) {
		if f.Path == "" && len(env) == 0 {
			return
		}
		o := endpoint.TokenOptions{File: f.Path, Mode: f.Mode.Perm(), Env: env, Grace: e.TokenGrace.Std()}
		if f.Owner != "" || f.Group != "" {
			uid, gid, err := files.LookupOwner(f.Owner, f.Group)
			if err != nil {
				errs = append(errs, placed(cfg, err, f, &cfg.Endpoint))
				return
			}
			o.Owner = &endpoint.Owner{UID: uid, GID: gid}
		}
		list = append(list, tokenSource{client, o, f})
	}
	add("", &e.TokenFile, e.TokenEnv)
	for i := range e.Clients {
		add(e.Clients[i].Name, &e.Clients[i].TokenFile, nil)
	}
	return list, errors.Join(errs...)
}

// checkEndpoint finds what is wrong with the endpoint's options and its token
// files, which it does not make.
func checkEndpoint(cfg *config.Config) error {
	e := cfg.Endpoint
	if e == nil {
		return nil
	}
	var errs []error
	for i, name := range e.TokenHeaders {
		if err := endpoint.CheckTokenHeader(name); err != nil {
			errs = append(errs, placed(cfg, fmt.Errorf("endpoint.token_headers: %w", err), &e.TokenHeaders[i], &cfg.Endpoint))
		}
	}
	opts := endpointOptions(e, nil)
	opts.TokenHeaders = nil // they have places of their own
	if e.Listen != "" {
		errs = append(errs, placed(cfg, opts.Check(), &e.Listen, &cfg.Endpoint))
	}
	if e.Socket != nil {
		opts, err := socketOptions(e, opts)
		if err == nil {
			err = opts.Check()
		}
		errs = append(errs, placed(cfg, err, &e.Socket, &cfg.Endpoint))
	}
	sources, err := tokenSources(cfg)
	errs = append(errs, err)
	options := make([]endpoint.TokenOptions, len(sources))
	for i, s := range sources {
		options[i] = s.options
	}
	if len(e.TokenEnv) > 0 {
		// Opening these makes nothing.
		if _, err := endpoint.OpenTokens(endpoint.TokenOptions{Env: e.TokenEnv}); err != nil {
			errs = append(errs, placed(cfg, err, &e.TokenEnv, &cfg.Endpoint))
		}
	}
	for i, err := range endpoint.CheckTokenFiles(options) {
		if err != nil {
			errs = append(errs, placed(cfg, err, sources[i].field, &cfg.Endpoint))
		}
	}
	return errors.Join(errs...)
}

// openTokens are tokens in use and what they were opened from.
type openTokens struct {
	from   endpoint.TokenOptions
	tokens *endpoint.Tokens
}

// tokenSet are the tokens of all clients, by client; those of the top level have
// no name.
type tokenSet map[string]openTokens

// prepareTokens opens the tokens that b needs. Those in use are kept and read
// again at the commit, which ends the grace time of replaced ones.
func (l *listeners) prepareTokens(a *Agent, cfg *config.Config) (tokenSet, error) {
	sources, err := tokenSources(cfg)
	if err != nil {
		return nil, err
	}
	next := tokenSet{}
	for _, s := range sources {
		kept, ok := l.tokens[s.client]
		if ok && reflect.DeepEqual(kept.from, s.options) {
			next[s.client] = kept
			l.onCommit = append(l.onCommit, func() {
				if _, err := kept.tokens.Reload(true); err != nil {
					a.log.Error("cannot read a token of the endpoint again", attrs(err, "client", s.name())...)
				}
			})
			continue
		}
		tokens, err := endpoint.OpenTokens(s.options)
		if err != nil {
			return nil, placed(cfg, fmt.Errorf("endpoint: client %s: %w", s.name(), err), s.field, &cfg.Endpoint)
		}
		next[s.client] = openTokens{s.options, tokens}
	}
	if err := next.distinct(); err != nil {
		return nil, err
	}
	l.onCommit = append(l.onCommit, func() { l.tokens = next })
	return next, nil
}

// followTokens reads the token files that have changed. What they replace stays
// valid for token_grace.
func (l *listeners) followTokens(log *slog.Logger) {
	for client, open := range l.tokens {
		if !open.tokens.Touched() {
			continue
		}
		name := (&tokenSource{client: client}).name()
		changed, err := open.tokens.Reload(false)
		if err != nil {
			log.Warn("cannot use a changed token file", attrs(err, "client", name)...)
		}
		if !changed {
			continue
		}
		log.Info("token changed, the old one stays valid for the grace time", "client", name, "grace", open.from.Grace.String())
		if err := l.tokens.distinct(); err != nil {
			log.Error("two clients have one token now", attrs(err)...)
		}
	}
}

func (s *tokenSource) name() string {
	if s.client == "" {
		return endpoint.DefaultClient
	}
	return s.client
}

// distinct holds that no two clients have one token. The configuration's check
// has looked at the files; here are also those of the environment.
func (t tokenSet) distinct() error {
	for a, x := range t {
		for b, y := range t {
			if a < b && x.tokens.SameAs(y.tokens) {
				return &fault{err: fmt.Errorf("endpoint: client %s has the same token as %s", b, (&tokenSource{client: a}).name()),
					hint: "give each client a token of its own: openssl rand -hex 32"}
			}
		}
	}
	return nil
}

// clients returns the clients of e with their tokens.
func (t tokenSet) clients(e *config.Endpoint) []endpoint.Client {
	list := make([]endpoint.Client, len(e.Clients))
	for i := range e.Clients {
		c := &e.Clients[i]
		list[i] = endpoint.Client{
			Name: c.Name, Tokens: t[c.Name].tokens, UIDs: c.UIDs, GIDs: c.GIDs,
			Rights: endpoint.Rights{Secrets: c.Secrets, Roles: c.Roles},
		}
	}
	return list
}
