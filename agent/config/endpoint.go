package config

// Endpoint is the HTTP endpoint on localhost.
type Endpoint struct {
	// Listen is a loopback address, host:port. Port 0 takes a free one, which
	// is logged. Default: 127.0.0.1:2773, the port of AWS's agent, or none where
	// there is a socket.
	Listen string `yaml:"listen"`
	// Socket is a unix socket, beside the address or in its place. Clients there
	// are known by their uids and gids. Default: none.
	Socket *Socket `yaml:"socket"`
	// TokenFile holds the token of whoever may read every secret configured. It
	// is made if it is missing. Either this or token_env, unless there are
	// clients.
	TokenFile TokenFile `yaml:"token_file"`
	// TokenEnv names environment variables; the first that is set holds the
	// token, or file://PATH. Not with token_file.
	TokenEnv []string `yaml:"token_env"`
	// TokenGrace is how long the old token stays valid after the file has
	// changed. Default: 5m.
	TokenGrace *Duration `yaml:"token_grace"`
	// Clients are those who may read some of the secrets, each with a token of
	// its own. Default: none.
	Clients []Client `yaml:"clients"`
	// OnDemand lets clients read secrets that are not configured. Default: they
	// cannot.
	OnDemand *OnDemand `yaml:"on_demand"`
	// PathPrefix is the prefix of the path style. The endpoint's own paths, such as
	// /ping, stay its own whatever the prefix. Default: /v1/.
	PathPrefix string `yaml:"path_prefix"`
	// TokenHeaders are the headers a token may come in, but for those that HTTP or
	// proxies use themselves. Default: X-Aws-Parameters-Secrets-Token and X-Vault-Token.
	TokenHeaders []string `yaml:"token_headers"`
	// AllowedHosts are Host header values accepted beside localhost and
	// loopback addresses.
	AllowedHosts []string `yaml:"allowed_hosts"`
	// UnsafeAnyAddress permits a listen address that other machines can reach.
	// Tokens and secrets cross the network in plain text then, and clients have
	// to ask for a host that allowed_hosts names. Default: false.
	UnsafeAnyAddress bool `yaml:"unsafe_any_address"`
	// MaxConnections is how many requests may be in flight, on the address and on
	// the socket each. Twice as many connections and some may be open, as far as
	// the process has descriptors. Default: 800.
	MaxConnections int `yaml:"max_connections"`
	// UnsafeAnySignature takes every SDK on the address, whatever it signs with,
	// for the holder of the top-level token, which there must be. For programs
	// whose keys cannot be chosen; every program on this machine can then read
	// what that token reads. Default: false.
	UnsafeAnySignature bool `yaml:"unsafe_any_signature"`
}

// OnDemand is what may be read because a client asks for it. What has been read
// is read again at its interval if it was asked for since, and dropped else.
type OnDemand struct {
	// Secrets are the secrets that may be read: names and globs, as those of
	// clients, whose own rights count too.
	Secrets []string `yaml:"secrets"`
	// Roles are the roles that clients may have assumed by roleArn: ARNs and globs
	// of them, in which * stands for any characters, / among them. A client needs
	// them among its own roles too. Default: none.
	Roles []string `yaml:"roles"`
	// MaxRoles is how many roles are assumed at a time, beside those that the
	// configuration itself has secrets read with. One that nobody asks for any
	// more is given up with what was read through it. Default: 20.
	MaxRoles int `yaml:"max_roles"`
	// MaxEntries is how many versions are kept. Default: 1000.
	MaxEntries int `yaml:"max_entries"`
	// Interval is how old an answer may become while AWS answers. Default:
	// refresh.interval; at least 100ms.
	Interval Duration `yaml:"interval"`
}

// Socket is a unix socket.
type Socket struct {
	// Path is its absolute path, of at most 90 bytes. A socket left there by a
	// crash is replaced.
	Path string `yaml:"path"`
	// Mode says who can connect, which takes the right to write. Default: "0600".
	Mode Mode `yaml:"mode"`
	// Owner is its user, by name or number. Default: the agent's own.
	Owner string `yaml:"owner"`
	// Group is its group, by name or number. Default: the agent's own.
	Group string `yaml:"group"`
}

// Client is one program, or one group of them, that uses the endpoint.
type Client struct {
	// Name is what logs call it, and the access key id of its AWS SDK.
	Name string `yaml:"name"`
	// TokenFile holds its token. It is made if it is missing. A client has this,
	// or uids or gids, or both; with both a request needs both.
	TokenFile TokenFile `yaml:"token_file"`
	// UIDs are the numbers of the users it runs as. They are known of programs
	// that come over the socket only.
	UIDs []int `yaml:"uids"`
	// GIDs are the numbers of its primary groups, which count like UIDs.
	GIDs []int `yaml:"gids"`
	// Secrets are the secrets it may read: names and ids, and globs of them, in
	// which * stands for any characters, / among them. What begins with arn: is
	// compared with ARNs, all else with names.
	Secrets []string `yaml:"secrets"`
	// Roles are the roles that it may have assumed by roleArn, each for every
	// secret above: ARNs and globs of them. A secret's name then means one of the
	// role's account. Default: none.
	Roles []string `yaml:"roles"`
}

// TokenFile is a path, or a mapping with these keys.
type TokenFile struct {
	// Path is the absolute path of the token file.
	Path string `yaml:"path"`
	// Mode is given to a file the agent makes: "0400" or "0440". A file that
	// the group may read is accepted only where this says so. Default: "0400".
	Mode Mode `yaml:"mode"`
	// Owner is given to a file the agent makes. Default: the agent's own user.
	Owner string `yaml:"owner"`
	// Group is given to a file the agent makes. Default: the agent's own group.
	Group string `yaml:"group"`
}
