// Package config reads agent.yaml into validated plain data. The structs
// are the manual: each field says what it means, its default and its unit.
//
// Reading is strict. Unknown and repeated keys, wrong types and wrong values
// are errors, each with its file and line, and all of them are reported at
// once. Nothing is substituted in any field: what the file says is what counts.
package config

import (
	"fmt"
	"io/fs"
	"time"
)

// Config is one agent.yaml.
type Config struct {
	// Source says where secrets are read. Default: AWS, with the SDK's default
	// Region and credential chain.
	Source Source `yaml:"source"`
	// Refresh says how often.
	Refresh Refresh `yaml:"refresh"`
	// Secrets are the secrets that templates and clients may use.
	Secrets []Secret `yaml:"secrets"`
	// Files are the rendered outputs.
	Files []File `yaml:"files"`
	// Bundles are directories of rendered files that change together.
	Bundles []Bundle `yaml:"bundles"`
	// Vars are values for templates that are no secrets, by name: the text
	// itself, or a mapping {env: NAME} of an environment variable.
	Vars map[string]Var `yaml:"vars"`
	// Targets are told when files that name them in notify have changed.
	Targets []Target `yaml:"targets"`
	// Exec is a program that the agent runs, with secrets in its environment.
	// Absent: none is.
	Exec *Exec `yaml:"exec"`
	// Endpoint serves the secrets on localhost. Absent: nothing listens.
	Endpoint *Endpoint `yaml:"endpoint"`
	// Telemetry serves /metrics, /healthz and /readyz. Absent: nothing listens.
	Telemetry *Telemetry `yaml:"telemetry"`
	// Audit writes down who got which version of which secret. Absent: nothing
	// is written down.
	Audit *Audit `yaml:"audit"`
	// Log says what is logged to standard error.
	Log Log `yaml:"log"`
	// TemplateDir is where relative template paths start, and where include finds
	// others. Default: the directory of the configuration file. A relative one
	// starts there too.
	TemplateDir string `yaml:"template_dir"`
	// HealInterval is how often files are compared with what they should be and
	// repaired. Default: 1m.
	HealInterval Duration `yaml:"heal_interval"`
	// StateDir holds what must survive a crash of the agent: the notifications
	// owed, and which versions were refused. It holds no secret value. Default: /run/secretsd.
	StateDir string `yaml:"state_dir"`
	// OnExit is what becomes of files and bundles when the agent ends: keep, or
	// remove those that are still as it made them. Default: keep.
	OnExit string `yaml:"on_exit"`

	path   string
	faults error
	lines  map[any]int
	marks  map[any]mark
	// source is the file by lines; see Text.
	source []string
}

// Source is where secrets are read: aws or local, not both.
type Source struct {
	AWS   *AWS   `yaml:"aws"`
	Local *Local `yaml:"local"`
}

// AWS is AWS Secrets Manager.
type AWS struct {
	// Region is the Region of secrets that name none themselves, by a region
	// key or an ARN. Default: AWS_REGION, then the shared configuration file.
	Region string `yaml:"region"`
	// Endpoint is the URL of the service. Default: the SDK's, which follows
	// AWS_ENDPOINT_URL_SECRETS_MANAGER. Plain http is refused outside loopback.
	Endpoint string `yaml:"endpoint"`
	// RoleARN is assumed for every read of a secret without a role_arn.
	RoleARN string `yaml:"role_arn"`
	// ExternalID is sent when a role is assumed.
	ExternalID string `yaml:"external_id"`
	// CredentialsFile is a shared credentials file used in place of
	// ~/.aws/credentials.
	CredentialsFile string `yaml:"credentials_file"`
	// FIPS chooses the service's FIPS endpoint.
	FIPS bool `yaml:"fips"`
}

// Local is a local Secrets Manager inside the agent, for development and tests.
type Local struct {
	// Path is the YAML file its secrets are loaded from, and followed when it
	// changes. Default: none, it starts empty.
	Path string `yaml:"path"`
	// Listen is a loopback address, host:port, where the AWS CLI and SDKs can
	// reach it. Default: none, only the agent reaches it.
	Listen string `yaml:"listen"`
}

// Refresh is how often secrets are read.
type Refresh struct {
	// Interval is the time between two reads of a secret, spread by a tenth
	// either way. Default: 5m; at least 100ms.
	Interval Duration `yaml:"interval"`
	// MaxStale is how long the endpoint serves a value that could not be
	// confirmed, before it answers with the error instead. Files stay as they
	// are whatever happens. Default: 24h.
	MaxStale Duration `yaml:"max_stale"`
}

// Secret is one secret, at one staging label or version.
type Secret struct {
	// Name is what templates and clients call it. Default: the id.
	Name string `yaml:"name"`
	// ID is the secret's name, its ARN, or its ARN without the random suffix.
	ID string `yaml:"id"`
	// Stage is the staging label that is followed. Default: AWSCURRENT.
	Stage string `yaml:"stage"`
	// VersionID pins one version, which then never changes. Not with stage.
	VersionID string `yaml:"version_id"`
	// Interval overrides refresh.interval. At least 100ms.
	Interval Duration `yaml:"interval"`
	// RoleARN is assumed to read this secret. Default: source.aws.role_arn.
	RoleARN string `yaml:"role_arn"`
	// Region is where this secret is. Default: its ARN's, or the source's.
	Region string `yaml:"region"`
	// Required says whether the agent is ready without it. A secret that is not
	// required may be absent: files that use it are skipped until it appears.
	// Being denied counts as a failure all the same. Default: true.
	Required *bool `yaml:"required"`
	// Pending says that files and environment show the version at AWSPENDING once
	// a program has said that the current one was refused, until the rotation ends:
	// for the rotation of one user, where the new password is set before AWSCURRENT
	// moves. Not with stage, version_id, or beside AWSPREVIOUS. Default: false.
	Pending bool `yaml:"pending"`
	// Expect is what a version has to be to be used at all. One that is not is
	// held: files, endpoint and child keep the version before. Default: nothing.
	Expect *Expect `yaml:"expect"`
}

// Expect is what the versions of one secret are tested for, once each, when they
// are read. All that is given must hold.
type Expect struct {
	// JSON says that the text is a JSON object.
	JSON bool `yaml:"json"`
	// Keys are keys that the JSON object has, with values that are not empty: not "",
	// null, {} or [].
	Keys []string `yaml:"keys"`
	// PEMPair is a certificate and the private key that belongs to it.
	PEMPair *PEMPair `yaml:"pem_pair"`
	// NotExpired says that every certificate of the pair, or of the text where
	// there is no pem_pair, is valid when the version is read.
	NotExpired bool `yaml:"not_expired"`
	// MinBytes is the least size of the value, in bytes.
	MinBytes int `yaml:"min_bytes"`
}

// PEMPair says where a certificate and its key are: with true both in the text,
// or as a mapping each in a key of the JSON object.
type PEMPair struct {
	// Certificate is the key of the certificate, with those of its chain behind
	// it.
	Certificate string `yaml:"certificate"`
	// Key is the key of the private key.
	Key string `yaml:"key"`
	// Whole says that both are in the text itself.
	Whole bool `yaml:"-"`
}

// IsRequired returns Required, or its default.
func (s *Secret) IsRequired() bool { return s.Required == nil || *s.Required }

// Telemetry is the listener for /metrics, /healthz and /readyz, and on loopback
// for the status page.
type Telemetry struct {
	// Listen is host:port; any address. One on loopback answers to localhost and to
	// addresses, not to other names. Default: 127.0.0.1:9273.
	Listen string `yaml:"listen"`
}

// Audit is the audit log, JSON lines. It holds ids and versions, never a value.
type Audit struct {
	// Path is an absolute path, or - for standard output. The file is made with
	// mode 0600 if it is missing, and opened again at SIGHUP.
	Path string `yaml:"path"`
	// Required keeps an answer back whose line cannot be written. Without it
	// such lines are counted as lost. Default: false.
	Required bool `yaml:"required"`
}

// Log is what the agent logs to standard error.
type Log struct {
	// Level is debug, info, warn or error. Default: info.
	Level string `yaml:"level"`
	// Format is text or json. Default: text.
	Format string `yaml:"format"`
}

// Duration is a time with its unit, such as 100ms, 5m or 24h.
type Duration time.Duration

// Std returns d as a [time.Duration].
func (d Duration) Std() time.Duration { return time.Duration(d) }

// Mode is a file mode written as quoted octal, such as "0400".
type Mode fs.FileMode

// Perm returns m as an [fs.FileMode] with permission bits only.
func (m Mode) Perm() fs.FileMode { return fs.FileMode(m).Perm() }

// The defaults of fields whose zero value means "not given".
const (
	DefaultPath           = "/etc/secretsd/agent.yaml"
	DefaultStateDir       = "/run/secretsd"
	DefaultListen         = "127.0.0.1:2773"
	DefaultTelemetry      = "127.0.0.1:9273"
	DefaultInterval       = 5 * time.Minute
	DefaultMaxStale       = 24 * time.Hour
	DefaultHealInterval   = time.Minute
	DefaultTokenGrace     = 5 * time.Minute
	DefaultCommandTimeout = 30 * time.Second
	DefaultDebounce       = time.Second
	DefaultCheckTimeout   = 10 * time.Second
	DefaultGrace          = 10 * time.Second
	DefaultConfirmTimeout = 30 * time.Second
	DefaultConfirmDelay   = time.Second
	DefaultAction         = "try-reload-or-restart"
	MinInterval           = 100 * time.Millisecond
)

// Path returns the path of the file the configuration was read from.
func (c *Config) Path() string { return c.path }

// Faults returns what [Parse] found wrong, or nil. A configuration with faults
// must not be run.
func (c *Config) Faults() error { return c.faults }

// Place returns "file:line" of field, which is a pointer to a field of c or of
// one of its elements. A field that the file does not mention has the place of
// what contains it, if that was asked for instead.
func (c *Config) Place(fields ...any) string {
	for _, f := range fields {
		if line, ok := c.lines[f]; ok {
			return fmt.Sprintf("%s:%d", c.path, line)
		}
	}
	return c.path
}

// Mentions reports whether the file gives field, a pointer as for [Config.Place].
func (c *Config) Mentions(field any) bool { return c.lines[field] != 0 }

// Errorf returns an [Error] at the place of the first of fields the file
// mentions.
func (c *Config) Errorf(fields []any, hint, format string, args ...any) *Error {
	return &Error{Place: c.Place(fields...), Err: fmt.Errorf(format, args...), hint: hint}
}

// Error is one fault of a configuration, at its place.
type Error struct {
	// Place is "file:line", or the file alone.
	Place string
	// Err says what is wrong.
	Err  error
	hint string
}

// NewError returns an [Error] at place, with a hint that may be empty.
func NewError(place, hint, format string, args ...any) *Error {
	return &Error{Place: place, Err: fmt.Errorf(format, args...), hint: hint}
}

// Error returns "PLACE: what is wrong".
func (e *Error) Error() string { return e.Place + ": " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *Error) Unwrap() error { return e.Err }

// Hint says how to mend it, or "".
func (e *Error) Hint() string { return e.hint }
