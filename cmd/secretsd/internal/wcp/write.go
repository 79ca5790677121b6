package wcp

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"secretsd/agent/config"
)

// write returns agent.yaml, its keys in the order of agent.yaml.example.
func (s *settings) write(from string) []byte {
	p := &page{}
	p.comment(0, "What AWS's agent (Workload Credentials Provider 3.x, Secrets Manager Agent 2.x) does with %s.", from)
	p.comment(0, "Made by secretsd convert wcp. The comments name that agent's keys and say what is different here.")
	p.blank()
	s.writeSource(p)
	p.blank()
	s.writeRefresh(p)
	p.blank()
	s.writeSecrets(p)
	s.writeEndpoint(p)
	p.blank()
	s.writeLog(p)
	s.writeLeftOut(p)
	return []byte(p.text.String())
}

// regionName is a Region as agent/source takes it: it becomes part of a host
// name.
var regionName = lazy(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (s *settings) writeSource(p *page) {
	region := regionName().MatchString(s.region)
	p.key(0, "source:")
	if !region && s.credentials == "" {
		s.noRegion(p, 1)
		p.key(1, "aws: {}")
		return
	}
	p.key(1, "aws:")
	if region {
		p.key(2, "region: %s", scalar(s.region))
	} else {
		s.noRegion(p, 2)
	}
	if s.credentials != "" {
		p.comment(2, "credentials_file_path. Read again every minute. It must not be readable by everyone. Keys without a session token are accepted, too.")
		p.key(2, "credentials_file: %s", scalar(s.credentials))
	}
}

func (s *settings) noRegion(p *page, depth int) {
	if s.given["region"] {
		p.comment(depth, "region was %s, which is no Region's name. Without one:", inComment(s.region))
	}
	p.comment(depth, "AWS_REGION or the shared configuration file names the Region. AWS's agent also asks the EC2 instance for it; where that was so, write region: here.")
}

// interval is how often what is in use is read, and text how it is written.
func (s *settings) interval() string {
	if s.ttl == 0 {
		return config.MinInterval.String()
	}
	return seconds(s.ttl)
}

// seconds returns n seconds as a duration of agent.yaml.
func seconds(n int) string {
	switch {
	case n%3600 == 0:
		return strconv.Itoa(n/3600) + "h"
	case n%60 == 0:
		return strconv.Itoa(n/60) + "m"
	default:
		return strconv.Itoa(n) + "s"
	}
}

func (s *settings) writeRefresh(p *page) {
	p.key(0, "refresh:")
	if s.ttl > 0 {
		p.comment(1, "ttl_seconds. What is in use is read again in the background before it is that old, so that no request waits when a TTL is over.")
		p.key(1, "interval: %s", s.interval())
	}
	if s.ignoreTransient {
		p.comment(1, "ignore_transient_errors = true: while AWS does not answer the last value is served, here for this long at most, and marked by X-Secretsd-Stale. "+
			"Throttling and refusals count, too, where AWS's agent answers with the error at once.")
		p.key(1, "max_stale: %s", seconds(24*3600))
		return
	}
	// Twice, because every read takes a while and the next comes only when the
	// interval is over: with the interval itself sound values would expire.
	p.comment(1, "ignore_transient_errors = false: AWS's agent answers with the error as soon as ttl_seconds are over. Here the last value is served, and reading tried again, until it is this old.")
	p.key(1, "max_stale: %s", seconds(max(2*s.ttl, 1)))
}

// writeSecrets writes what was prefetched, and why not all of it.
func (s *settings) writeSecrets(p *page) {
	if len(s.prefetch.secrets) == 0 {
		return
	}
	var ids, roles, impossible []string
	for _, f := range s.prefetch.secrets {
		switch {
		case f.role != "":
			roles = append(roles, inComment(f.name)+" as "+inComment(f.role))
		case !config.IsSecretID(f.name):
			impossible = append(impossible, inComment(f.name))
		case !slices.Contains(ids, f.name):
			ids = append(ids, f.name)
		}
	}
	if s.ttl == 0 {
		p.comment(0, "prefetch.secrets: with ttl_seconds = 0 AWS is asked about each request all the same, so these are left to be read on demand:")
		s.names(p, append(slices.Clone(ids), roles...))
		p.blank()
		return
	}
	if len(ids) > 0 {
		p.comment(0, "prefetch.secrets: read at start, and then at refresh.interval whether anybody asks or not: %s. "+
			"Not required, because AWS's agent serves the others when one of them cannot be read.", cost(len(ids), s.ttl))
		p.key(0, "secrets:")
		for _, id := range ids {
			p.key(1, "- {id: %s, required: false}", scalar(id))
		}
	}
	if len(roles) > 0 {
		// A configured secret's name leads to it without a role, too, where no
		// other has that name; with AWS's agent it is one of the own account.
		p.comment(0, "prefetch.secrets with a role_arn are left to be read on demand: at the first request with that roleArn, which waits for it. "+
			"One that is listed as {id: ID, role_arn: ARN} is read ahead, but its name leads to it without roleArn, too.")
		s.names(p, roles)
	}
	if len(impossible) > 0 {
		p.comment(0, "prefetch.secrets that no secret's name or ARN can be are left out. AWS's agent only logs that they cannot be read.")
		s.names(p, impossible)
	}
	p.blank()
}

func (s *settings) names(p *page, names []string) {
	for _, name := range names {
		p.example(name)
	}
}

// batch is how many secrets one call reads at most (BatchGetSecretValue, API
// reference), and month the seconds of thirty days.
const (
	batch = 20
	month = 30 * 24 * 3600
)

// cost says how many calls it takes to read n secrets every ttl seconds.
func cost(n, ttl int) string {
	return fmt.Sprintf("about %d calls to AWS a month", (n+batch-1)/batch*month/ttl)
}

func (s *settings) writeEndpoint(p *page) {
	p.key(0, "endpoint:")
	p.comment(1, "http_port. Clients that call this machine by another name than localhost need that name in allowed_hosts; AWS's agent does not look at it.")
	p.key(1, "listen: 127.0.0.1:%d", s.port)
	p.comment(1, "ssrf_env_variables: the first that is set has the token, or file://PATH, which is read again when it changes. A token needs 16 bytes at least.")
	p.key(1, "token_env: %s", list(s.tokenEnv))
	s.writeHeaders(p)
	s.writePrefix(p)
	p.comment(1, "max_conn: here requests that are being answered; more connections may be open.")
	p.key(1, "max_connections: %d", s.maxConn)
	p.comment(1, "As with AWS's agent, whoever has the token reads what the agent's role may read. Name secrets here to narrow that, or give programs tokens of their own: clients.")
	p.key(1, "on_demand:")
	p.key(2, `secrets: ["*"]`)
	p.comment(2, "roleArn is answered for every role that can be assumed.")
	p.key(2, `roles: ["*"]`)
	p.key(2, "max_roles: %d", s.maxRoles)
	p.comment(2, "cache_size, here for all roles together. What was asked for longest ago goes first; AWS's agent drops what was read longest ago.")
	p.key(2, "max_entries: %d", s.cacheSize)
	if s.ttl == 0 {
		p.comment(2, "ttl_seconds = 0: AWS's agent asks AWS about each request. Here an answer may be this old, the least there is, "+
			"so that one secret costs ten calls a second at most; refreshNow=true reads at once. A longer time costs less.")
	} else {
		p.comment(2, "ttl_seconds")
	}
	p.key(2, "interval: %s", s.interval())
}

// headerName is a token of RFC 9110, section 5.6.2.
var headerName = lazy("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// usableHeaders are the headers that a request can have and that mean nothing
// else to HTTP.
func (s *settings) usableHeaders() []string {
	return slices.DeleteFunc(slices.Clone(s.headers), func(h string) bool {
		return !headerName().MatchString(h) || strings.EqualFold(h, "Host")
	})
}

func (s *settings) writeHeaders(p *page) {
	usable := s.usableHeaders()
	if len(usable) < len(s.headers) {
		p.comment(1, "ssrf_headers, without those that no request can have the token in. They were %s.", list(s.headers))
	} else {
		p.comment(1, "ssrf_headers")
	}
	p.key(1, "token_headers: %s", list(usable))
}

func (s *settings) writePrefix(p *page) {
	if strings.ContainsAny(s.prefix, "?# \t\r\n") {
		p.comment(1, "path_prefix was %s, with which no request's path can begin. Left out: GET /v1/ID works here.", inComment(s.prefix))
		return
	}
	p.key(1, "path_prefix: %s", scalar(s.prefix))
}

func (s *settings) writeLog(p *page) {
	level := s.logLevel
	p.key(0, "log:")
	if level == "none" {
		p.comment(1, "log_level = none has no counterpart: what somebody has to act on is always said.")
		level = "error"
	}
	if s.logToFile {
		p.comment(1, "log_to_file = true: secretsd logs to standard error, which systemd and containers keep.")
	}
	p.key(1, "level: %s", level)
}
