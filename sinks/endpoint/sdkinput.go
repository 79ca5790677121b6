package endpoint

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// The constraints of the API model on what is asked for.
const (
	maxSecretID   = 2048
	maxStage      = 256
	minVersionID  = 32
	maxVersionID  = 64
	maxSecretList = 20
)

// sdkInput are the members of an operation's input by their exact names, which
// encoding/json would not insist on. As at the service members that an
// operation does not know are ignored, and null is as good as absent.
type sdkInput map[string]json.RawMessage

// parseSDKInput reads a body. The errors never quote it.
func parseSDKInput(body []byte) (sdkInput, error) {
	var in sdkInput
	if !utf8.Valid(body) || json.Unmarshal(body, &in) != nil || in == nil {
		return nil, badInput("SerializationException", "The request is not a JSON object.")
	}
	for name, value := range in {
		if string(value) == "null" {
			delete(in, name)
		}
	}
	return in, nil
}

// text returns a member that is a string of least to most bytes, or "" if it is
// absent.
func (in sdkInput) text(name string, least, most int) (string, error) {
	raw, ok := in[name]
	if !ok {
		return "", nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", badInput("SerializationException", name+" must be a string.")
	}
	return s, checkLength(name, len(s), least, most)
}

// secretID returns the member that says which secret is asked for.
func (in sdkInput) secretID() (string, error) {
	if _, ok := in["SecretId"]; !ok {
		return "", badInput("ValidationException", "1 validation error detected: Value null at 'secretId' failed to satisfy constraint: Member must not be null")
	}
	return in.text("SecretId", 1, maxSecretID)
}

// version returns what a GetSecretValue asks for.
func (in sdkInput) version() (p params, err error) {
	if p.id, err = in.secretID(); err != nil {
		return p, err
	}
	if p.versionID, err = in.text("VersionId", minVersionID, maxVersionID); err != nil {
		return p, err
	}
	p.stage, err = in.text("VersionStage", 1, maxStage)
	return p, err
}

// batch returns the ids that a BatchGetSecretValue asks for.
func (in sdkInput) batch() ([]string, error) {
	raw, listed := in["SecretIdList"]
	_, filtered := in["Filters"]
	_, limited := in["MaxResults"]
	_, continued := in["NextToken"]
	switch {
	case filtered:
		return nil, badInput("InvalidParameterException", "secretsd knows no Filters: name the secrets in SecretIdList.")
	case !listed:
		return nil, badInput("InvalidParameterException", "Either 'SecretIdList' or 'Filters' must be provided, but not both.")
	case limited:
		return nil, badInput("InvalidParameterException", "'Filters' not specified. 'Filters' must also be specified when 'MaxResults' is provided.")
	case continued:
		return nil, badInput("InvalidNextTokenException", "The NextToken value is invalid.")
	}
	var list []*string // null is no id
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, badInput("SerializationException", "SecretIdList must be a list of strings.")
	}
	if err := checkLength("SecretIdList", len(list), 1, maxSecretList); err != nil {
		return nil, err
	}
	ids := make([]string, len(list))
	for i, id := range list {
		if id == nil {
			return nil, badInput("SerializationException", "SecretIdList must be a list of strings.")
		}
		if err := checkLength("SecretIdList", len(*id), 1, maxSecretID); err != nil {
			return nil, err
		}
		ids[i] = *id
	}
	return ids, nil
}

func checkLength(name string, n, least, most int) error {
	if n >= least && n <= most {
		return nil
	}
	bound, limit := "less", most
	if n < least {
		bound, limit = "greater", least
	}
	return badInput("ValidationException", fmt.Sprintf("1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length %s than or equal to %d",
		string(name[0]|0x20)+name[1:], bound, limit))
}
