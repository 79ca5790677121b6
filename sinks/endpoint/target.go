package endpoint

import (
	"strings"
	"time"
	"unicode/utf8"

	"secretsd/agent/secret"
)

// badRequest is a request refused for its parameters; the text is the body of
// the answer, word for word the peer's.
type badRequest string

func (e badRequest) Error() string { return string(e) }

const (
	errMissingParameter badRequest = "missing parameter secretId"
	errMissingID        badRequest = "missing secret ID"
	errRefreshNow       badRequest = "invalid refreshNow value"
	errJSONKey          badRequest = "invalid jsonKey value"
	errWaitVersion      badRequest = "invalid waitVersion value"
	errTimeout          badRequest = "invalid timeout value"
	errRoleFormat       badRequest = "invalid roleArn format, expected arn:<partition>:iam::<account>:role/<name>"
)

// params is what a request asks for. A version id or stage that is given but
// empty counts as absent: the service refuses empty ones, so no client can
// depend on them.
type params struct {
	id        string
	versionID string
	stage     string
	role      string
	hasRole   bool
	refresh   bool
	// key is the field of a JSON secret that is asked for, or empty.
	key string
	// waitVersion is the version the client has, and wait how long it waits for
	// another, if it says; without waitVersion it does not wait.
	waitVersion string
	wait        time.Duration
	hasWait     bool
	// refused are the versions that a refresh is to get rid of.
	refused []string
	// route is whose parameters are read.
	route route
}

// route says which parameters there are.
type route int

const (
	routeGet     route = iota // in query style and path style
	routeRefresh              // POST /secretsd/refresh
	routeList                 // GET /secretsd/secrets
)

// splitTarget returns path and query of a request-target, both as they stand
// on the wire: routing and path-style ids go by the undecoded path. Of the
// absolute form (RFC 9112, 3.2.2) the path begins after the authority. A
// fragment, which no client should send, is dropped.
func splitTarget(target string) (path, query string) {
	target, _, _ = strings.Cut(target, "#")
	if !strings.HasPrefix(target, "/") {
		if _, rest, ok := strings.Cut(target, "://"); ok {
			target = afterAuthority(rest)
		}
	}
	path, query, _ = strings.Cut(target, "?")
	return path, query
}

func afterAuthority(s string) string {
	i := strings.IndexAny(s, "/?")
	switch {
	case i < 0:
		return "/"
	case s[i] == '?':
		return "/" + s[i:]
	default:
		return s[i:]
	}
}

// parseQueryStyle reads the parameters of /secretsmanager/get. Errors come in
// the peer's order: the parameters from left to right, then the missing id,
// then the role.
func parseQueryStyle(query string) (params, error) {
	var p params
	if err := p.parse(query, true); err != nil {
		return params{}, err
	}
	if p.id == "" {
		return params{}, errMissingParameter
	}
	return p, p.checkRole()
}

// parsePathStyle reads the id, which is the rest of the path and not
// percent-decoded, and the parameters beside it. Here the missing id comes
// first.
func parsePathStyle(id, query string) (params, error) {
	if id == "" {
		return params{}, errMissingID
	}
	p := params{id: id}
	if err := p.parse(query, false); err != nil {
		return params{}, err
	}
	return p, p.checkRole()
}

// parse reads application/x-www-form-urlencoded pairs (URL standard, 5.1): only
// & separates them, the last of a repeated name wins, and each is checked.
func (p *params) parse(query string, idAllowed bool) error {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		if err := p.set(formDecode(name), formDecode(value), idAllowed); err != nil {
			return err
		}
	}
	return nil
}

func (p *params) set(name, value string, idAllowed bool) error {
	switch {
	case name == "secretId" && idAllowed:
		p.id = value
	case name == "refused" && p.route == routeRefresh:
		p.refused = append(p.refused, value)
	case name == "versionStage" && p.route != routeList:
		p.stage = value
	case name == "roleArn" && p.route != routeList:
		p.role, p.hasRole = value, true
	case p.route != routeGet:
		return badRequest("unknown parameter: " + name)
	case name == "versionId":
		p.versionID = value
	case name == "refreshNow":
		return p.setRefresh(value)
	default:
		return p.setExtension(name, value)
	}
	return nil
}

// setExtension sets the parameters that the peer does not have.
func (p *params) setExtension(name, value string) error {
	switch name {
	case "jsonKey":
		if p.key = value; value == "" {
			return errJSONKey
		}
	case "waitVersion":
		if p.waitVersion = value; value == "" {
			return errWaitVersion
		}
	case "timeout":
		if p.wait, p.hasWait = parseWait(value); !p.hasWait {
			return errTimeout
		}
	default:
		return badRequest("unknown parameter: " + name)
	}
	return nil
}

func (p *params) setRefresh(value string) error {
	switch strings.ToLower(value) {
	case "true", "1":
		p.refresh = true
	case "false", "0":
		p.refresh = false
	default:
		return errRefreshNow
	}
	return nil
}

func (p *params) checkRole() error {
	if p.hasRole && !secret.IsRole(p.role) {
		return errRoleFormat
	}
	return nil
}

// formDecode decodes one name or value: + is a space, %XX a byte, a bad escape
// stays as it is, and what is then not UTF-8 becomes U+FFFD.
func formDecode(s string) string {
	if !strings.ContainsAny(s, "+%") {
		return validUTF8(s)
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			b = append(b, ' ')
		case c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			b = append(b, c)
		}
	}
	return validUTF8(string(b))
}

func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	// The conversion replaces each invalid byte by one U+FFFD.
	return string([]rune(s))
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	default:
		return c - 'a' + 10
	}
}
