package endpoint

import "net/http"

const pathSecrets = "/secretsd/secrets"

// list answers with the configured secrets that rights allow: what they are
// called and which version is served, never a value.
func (v *View) list(rights *Rights) response {
	b := []byte(`{"Secrets":[`)
	for _, s := range v.entries {
		if !s.allowed(rights) {
			continue
		}
		if b[len(b)-1] != '[' {
			b = append(b, ',')
		}
		b = s.appendListed(b)
	}
	return response{status: http.StatusOK, body: append(b, "]}"...), json: true}
}

func (s *served) appendListed(b []byte) []byte {
	var id, arn, version string
	if len(s.ids) > 0 {
		id = s.ids[0]
	}
	if s.version != nil {
		arn, version = s.version.ARN, s.version.VersionID
	}
	b = appendNullable(append(b, `{"Name":`...), s.name)
	b = appendNullable(append(b, `,"SecretId":`...), id)
	b = appendNullable(append(b, `,"ARN":`...), arn)
	b = appendNullable(append(b, `,"VersionId":`...), version)
	b = appendNullable(append(b, `,"VersionStage":`...), s.stage)
	return append(b, '}')
}
