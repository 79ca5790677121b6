// Package wcp converts configurations of AWS's agent to agent.yaml: those of
// the Workload Credentials Provider 3.x, which are nested, and those of the
// Secrets Manager Agent 2.x, which are flat and which 3.x reads, too. What is
// accepted and what the defaults are is what 3.0.0 does
// (github.com/aws/aws-workload-credentials-provider,
// aws_workload_credentials_provider_common/src/config).
//
// It stands below the command because nothing that an agent runs needs it.
package wcp

import (
	"fmt"

	"secretsd/agent/config"
)

// DefaultPath is the file that AWS's agent reads if it is named none. Where
// there is no such file, it has its built-in configuration.
const DefaultPath = "/etc/aws-workload-credentials-provider/config.toml"

// MaxBytes is the most that a file may have.
const MaxBytes = 1 << 20

// Convert returns the agent.yaml that does what data, the file that calls itself
// name, does with AWS's agent. Its comments say what is different and what has
// no counterpart. The same data gives the same bytes.
//
// An error is one of [config.Error] for each fault, joined. Faults are what
// AWS's agent refuses, but for what it finds in the machine's file system, and a
// file with which it would serve nobody.
func Convert(name string, data []byte) ([]byte, error) {
	d := &document{name: name}
	s := defaults()
	if len(data) > MaxBytes {
		d.fault(0, "", "read TOML: larger than %d MiB", MaxBytes>>20)
		return nil, d.err()
	}
	if values := d.parse(data); values != nil || len(d.faults) == 0 {
		s.read(d, values)
		s.checkUse(d)
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	return s.convert(inComment(name))
}

// Defaults returns what [Convert] returns for AWS's agent without a file.
func Defaults() ([]byte, error) {
	s := defaults()
	return s.convert("its built-in configuration")
}

// checkUse refuses what AWS's agent starts with in vain: converted it would
// have to serve somebody.
func (s *settings) checkUse(d *document) {
	if !s.enabled {
		d.faultAt("capabilities.secrets_manager.enabled", "", "AWS's agent serves no secrets with this file, so there is nothing to convert")
	}
	if len(s.usableHeaders()) == 0 && len(d.faults) == 0 {
		path := "ssrf_headers"
		if d.lines[path] == 0 {
			path = nestedKeys()[path]
		}
		d.faultAt(path, "name a header such as X-Vault-Token", "no request can have a header called one of %s, so nobody can send the token", list(s.headers))
	}
}

// convert writes the result, and holds that it can be loaded: a file that
// cannot must not look like one that is finished.
func (s *settings) convert(from string) ([]byte, error) {
	text := s.write(from)
	if _, err := config.Parse("agent.yaml", text); err != nil {
		return nil, fmt.Errorf("convert %s: the result is not valid, which is a fault of secretsd: %w", from, err)
	}
	return text, nil
}
