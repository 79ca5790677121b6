package wcp

import (
	"math"
	"strings"
	"sync"
)

// settings is what a configuration of AWS's agent says, with the defaults of
// what it leaves out.
type settings struct {
	// enabled is whether it serves secrets at all.
	enabled bool

	port, ttl, cacheSize, maxConn, maxRoles int
	headers, tokenEnv                       []string
	prefix, region, credentials, logLevel   string

	ignoreTransient, validateCredentials, logToFile bool

	prefetch     prefetch
	certificates []certificate

	// given are the keys that the file has, by their last part.
	given map[string]bool
	// ignored are those it has where AWS's agent does not look at them.
	ignored []string
}

// prefetch is what is read at start.
type prefetch struct {
	ratio   float32
	jitter  int
	tags    []fetched
	secrets []fetched
}

// fetched is a tag's key or a secret's id, and the role to ask with or "".
type fetched struct{ name, role string }

// The ranges of AWS's agent.
var (
	ports       = span{1024, 65535, true}
	ttls        = span{least: 0, most: 3600}
	cacheSizes  = span{least: 1, most: 1000}
	connections = span{least: 1, most: 1000}
	roles       = span{least: 1, most: 20}
	jitters     = span{least: 0, most: 10}
)

func defaults() settings {
	return settings{
		enabled: true, port: 2773, ttl: 300, cacheSize: 1000, maxConn: 800, maxRoles: 20,
		headers:  []string{"X-Aws-Parameters-Secrets-Token", "X-Vault-Token"},
		tokenEnv: []string{"AWS_TOKEN", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"},
		prefix:   "/v1/", logLevel: "info",
		ignoreTransient: true, validateCredentials: true, logToFile: true,
		prefetch: prefetch{ratio: 0.8}, given: map[string]bool{},
	}
}

// The keys of each table, in the order in which a list may stand for it.
var (
	rootKeys = []string{
		"log_level", "log_to_file", "http_port", "ttl_seconds", "cache_size", "ssrf_headers", "ssrf_env_variables",
		"path_prefix", "max_conn", "max_roles", "region", "ignore_transient_errors", "validate_credentials",
		"prefetch", "credentials_file_path", "capabilities", "logging",
	}
	serviceKeys = []string{
		"enabled", "http_port", "cache", "security", "path_prefix", "max_conn", "max_roles", "region",
		"ignore_transient_errors", "validate_credentials", "prefetch", "credentials_file_path",
	}
	cacheKeys    = []string{"ttl_seconds", "cache_size"}
	securityKeys = []string{"ssrf_headers", "ssrf_env_variables"}
	loggingKeys  = []string{"log_level", "log_to_file"}
	prefetchKeys = []string{"cache_buffer_ratio", "max_jitter_seconds", "filter_tags", "secrets"}
)

// nestedKeys returns the places of keys in the nested layout.
var nestedKeys = sync.OnceValue(func() map[string]string {
	const service = "capabilities.secrets_manager"
	places := map[string]string{}
	for _, t := range []struct {
		path string
		keys []string
	}{
		{"capabilities", []string{"secrets_manager", "acm"}}, {"logging", loggingKeys}, {service, serviceKeys},
		{service + ".cache", cacheKeys}, {service + ".security", securityKeys}, {service + ".prefetch", prefetchKeys},
	} {
		for _, key := range t.keys {
			places[key] = t.path + "." + key
		}
	}
	return places
})

// read reads the file's root, of either layout.
func (s *settings) read(d *document, values map[string]any) {
	root := d.table("", values, rootKeys...)
	switch {
	case root.has("capabilities") || root.has("logging"):
		s.nested(root)
	default:
		s.logging(root)
		s.flat(root)
	}
}

// nested reads the layout of 3.x, in which the flat keys are refused, but for
// two that are not looked at.
func (s *settings) nested(root *table) {
	for _, key := range rootKeys {
		switch {
		case !root.has(key) || key == "capabilities" || key == "logging":
		case key == "max_roles" || key == "prefetch":
			s.ignored = append(s.ignored, key)
		default:
			root.doc.fault(root.doc.line(key), "write it as "+nestedKeys()[key],
				"%s: flat keys cannot stand beside [logging] and [capabilities]", key)
		}
	}
	// Its types count all the same.
	readPrefetch(root.sub("prefetch", prefetchKeys...), false)
	s.logging(root.sub("logging", loggingKeys...))

	capabilities := root.sub("capabilities", "secrets_manager", "acm")
	if t := capabilities.sub("secrets_manager", serviceKeys...); capabilities.has("secrets_manager") {
		s.note(t, serviceKeys)
		s.enabled = t.boolean("enabled", s.enabled)
		s.port = t.number("http_port", ports, s.port)
		s.maxConn = t.number("max_conn", connections, s.maxConn)
		s.maxRoles = t.number("max_roles", roles, s.maxRoles)

		cache := t.sub("cache", cacheKeys...)
		s.note(cache, cacheKeys)
		s.ttl = cache.number("ttl_seconds", ttls, s.ttl)
		s.cacheSize = cache.number("cache_size", cacheSizes, s.cacheSize)

		s.door(t.sub("security", securityKeys...))
		s.rest(t)
	}
	if capabilities.has("acm") {
		s.certificates = readCertificates(capabilities.sub("acm", acmKeys...))
	}
}

// flat reads the layout of 2.x, whose numbers may be text.
func (s *settings) flat(root *table) {
	s.note(root, rootKeys)
	s.port = root.flatNumber("http_port", ports, s.port)
	s.ttl = root.flatNumber("ttl_seconds", ttls, s.ttl)
	s.cacheSize = root.flatNumber("cache_size", cacheSizes, s.cacheSize)
	s.maxConn = root.flatNumber("max_conn", connections, s.maxConn)
	s.maxRoles = root.flatNumber("max_roles", roles, s.maxRoles)
	s.door(root)
	s.rest(root)
}

func (s *settings) note(t *table, keys []string) {
	for _, key := range keys {
		s.given[key] = s.given[key] || t.has(key)
	}
}

func (s *settings) logging(t *table) {
	s.note(t, loggingKeys)
	s.logToFile = t.boolean("log_to_file", s.logToFile)
	level := t.text("log_level", s.logLevel)
	for _, known := range []string{"debug", "info", "warn", "error", "none"} {
		// EqualFold, because ToLower makes an i of more letters than the peer's
		// language does.
		if strings.EqualFold(level, known) {
			s.logLevel = known
			return
		}
	}
	if _, isText := t.keys["log_level"].(string); isText {
		t.doc.faultAt(t.at("log_level"), "", "want debug, info, warn, error or none, not %q", level)
	}
}

// door reads how clients are told from others.
func (s *settings) door(t *table) {
	s.headers = t.texts("ssrf_headers", s.headers)
	s.tokenEnv = t.texts("ssrf_env_variables", s.tokenEnv)
}

// rest reads what both layouts have in one form.
func (s *settings) rest(t *table) {
	s.prefix = t.text("path_prefix", s.prefix)
	if _, isText := t.keys["path_prefix"].(string); isText && !strings.HasPrefix(s.prefix, "/") {
		t.doc.faultAt(t.at("path_prefix"), "", "%q does not begin with /", s.prefix)
	}
	s.region = t.text("region", "")
	s.credentials = t.text("credentials_file_path", "")
	s.ignoreTransient = t.boolean("ignore_transient_errors", s.ignoreTransient)
	s.validateCredentials = t.boolean("validate_credentials", s.validateCredentials)
	p := t.sub("prefetch", prefetchKeys...)
	s.note(p, prefetchKeys)
	s.prefetch = readPrefetch(p, true)
}

// readPrefetch reads a prefetch table. Ranges are looked at only where it is
// effective.
func readPrefetch(t *table, effective bool) prefetch {
	seconds := jitters
	if !effective {
		seconds.most = math.MaxInt64
	}
	p := prefetch{ratio: t.ratio("cache_buffer_ratio", 0.8, effective), jitter: t.number("max_jitter_seconds", seconds, 0)}
	for _, tag := range t.subs("filter_tags", "key", "role_arn") {
		p.tags = append(p.tags, fetched{tag.required("key"), tag.text("role_arn", "")})
	}
	for _, secret := range t.subs("secrets", "secret_id", "role_arn") {
		p.secrets = append(p.secrets, fetched{secret.required("secret_id"), secret.text("role_arn", "")})
	}
	return p
}
