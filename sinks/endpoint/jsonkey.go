package endpoint

import (
	"encoding/json"
	"net/http"
	"strconv"

	"secretsd/agent/secret"
)

// withKey returns the answer for one field of a JSON secret: the object for v
// with the field's text as its SecretString. A string is its own text; anything
// else stays as the secret writes it. The errors name the key and nothing else.
func withKey(resp response, v *secret.Version, key string) response {
	var fields map[string]json.RawMessage
	if v.Text.IsZero() || json.Unmarshal(v.Text.Bytes(), &fields) != nil {
		return keyError("The secret is not a JSON object, so that it has no key " + strconv.Quote(key) + ".")
	}
	raw, ok := fields[key]
	if !ok {
		return keyError("The secret has no key " + strconv.Quote(key) + ".")
	}
	text := string(raw)
	if text[0] == '"' {
		_ = json.Unmarshal(raw, &text) // it has been decoded once already
	}
	part := *v
	part.Text = secret.NewValue(text)
	resp.body = encodeVersion(&part)
	return resp
}

func keyError(message string) response {
	return jsonError(http.StatusBadRequest, "InvalidParameterException", message)
}
