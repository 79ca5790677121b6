package wcp

import "strings"

// writeLeftOut says what has no counterpart, and what to do about it.
func (s *settings) writeLeftOut(p *page) {
	if s.given["validate_credentials"] {
		p.blank()
		p.comment(0, "validate_credentials has no counterpart: it would always be false. secretsd starts whatever AWS answers and goes on trying; secretsd status and telemetry's /readyz tell.")
	}
	s.writeTags(p)
	if s.given["cache_buffer_ratio"] || s.given["max_jitter_seconds"] {
		p.blank()
		p.comment(0, "prefetch.cache_buffer_ratio and prefetch.max_jitter_seconds have no counterpart: every secret that is listed is read, and agents that start together spread their reads by themselves.")
	}
	for _, key := range s.ignored {
		p.blank()
		p.comment(0, "%s stands beside nested sections, where AWS's agent does not look at it, nor does this conversion.", key)
	}
	if len(s.certificates) > 0 {
		p.blank()
		p.comment(0, "capabilities.acm has no counterpart: secretsd has nothing to do with AWS Certificate Manager. "+
			"AWS's agent can go on writing these, beside secretsd, with its own acm start. A certificate that is kept as a secret is one of secretsd's files.")
		for _, c := range s.certificates {
			p.example(inComment(c.arn))
			for _, path := range []string{c.cert, c.key, c.chain} {
				if path != "" {
					p.example("  " + inComment(path))
				}
			}
		}
	}
}

// simpleTag is a tag's key that is the same in the command line's shorthand.
var simpleTag = lazy(`^[A-Za-z0-9_.:/@+-]+$`)

// writeTags says how to find what was prefetched by tag: a file cannot, without
// asking AWS. As in AWS's agent the tags of one role are looked for together.
func (s *settings) writeTags(p *page) {
	tags := s.prefetch.tags
	if len(tags) == 0 {
		return
	}
	p.blank()
	p.comment(0, "prefetch.filter_tags has no counterpart: a file that lists its secrets does not change by itself. "+
		"These are read on demand, when they are first asked for. To have one read ahead, list it under secrets as {id: NAME, required: false}. The AWS CLI names them:")
	var order []string
	keys := map[string][]string{}
	for _, t := range tags {
		if keys[t.role] == nil {
			order = append(order, t.role)
		}
		keys[t.role] = append(keys[t.role], t.name)
	}
	for _, role := range order {
		if role != "" {
			p.example("as " + inComment(role) + ":")
		}
		p.example(s.listCommand(keys[role]))
		for _, key := range keys[role] {
			if !simpleTag().MatchString(key) {
				p.example("  where KEY is " + inComment(key))
			}
		}
	}
}

func (s *settings) listCommand(keys []string) string {
	command := []string{"aws secretsmanager list-secrets"}
	if regionName().MatchString(s.region) {
		command = append(command, "--region "+s.region)
	}
	command = append(command, "--filters")
	for _, key := range keys {
		if !simpleTag().MatchString(key) {
			key = "KEY"
		}
		command = append(command, "Key=tag-key,Values="+key)
	}
	return strings.Join(append(command, "--query 'SecretList[].Name'", "--output text"), " ")
}
