package templates

import (
	"encoding/json"
	"strings"
	"unicode/utf8"

	"secretsd/agent/secret"
)

func secretRows() []row {
	return []row{
		{names: "secret", args: "NAME", doc: "The secret's text, byte for byte; of a JSON object, .key is a field, nested ones too.",
			example: `{{ (secret "db").user }}:{{ (secret "db").tls.ca }} {{ secret "gcp" }}`, result: `app:CA {"type":"service_account"}`,
			fn: secretText, min: 1, max: 1, naming: namesSecret, reveals: true},
		{names: "secretBinary", args: "NAME", doc: "The bytes of a binary secret.",
			example: `{{ secretBinary "key-store" | base64Encode }}`, result: "AAH/",
			fn: secretBytes, min: 1, max: 1, naming: namesSecret, reveals: true},
		{names: "version", args: "NAME", doc: "The VersionId of the secret's version that is rendered.",
			example: `{{ version "db" }}`, result: "v-db",
			fn: secretVersion, min: 1, max: 1, naming: namesSecret},
		{names: "has", args: "NAME [KEY...]", doc: "Whether there is a secret NAME, which required: false allows not to be, or of AWSPREVIOUS a version, which there is from the first rotation on, and in it the key KEY, with a value that is not null; more KEYs lead into nested objects. With a list as the last argument it is sprig's: whether LIST holds an element.",
			example: `{{ if has "db" "tls" "ca" }}yes{{ end }} {{ has "b" (secret "db").hosts }}`, result: "yes true",
			fn: has, min: 1, max: -1, naming: namesSecretOrElement, reveals: true},
		{names: "mustHas sprig_has", args: "ELEMENT LIST", doc: "Whether LIST holds ELEMENT.", example: `{{ mustHas "b" (secret "db").hosts }}`, result: "true", fn: func(v any, l []any) (bool, error) { return contained(l, v) }},
		{names: "field", args: "KEY OBJECT", doc: "The field KEY, for keys that are no identifiers.",
			example: `{{ secret "db" | field "api-key" }}`, result: "k1",
			fn: fieldOf, min: 2, max: 2},
	}
}

// read looks up the secret that the first argument names.
func (c *call) read() (*reading, error) {
	name, err := asText(c.args[0])
	if err != nil {
		return nil, err
	}
	return c.r.version(name, c.literal(0))
}

// named returns a failure about the secret that the first argument names. The
// name is in the configuration, so it may be shown.
func (c *call) named(msg string) *failure {
	name, _ := asText(c.args[0])
	return &failure{msg: "secret " + quoteKey(name) + " " + msg, secret: name}
}

func secretText(c *call) (any, error) {
	rd, err := c.read()
	if err != nil {
		return nil, err
	}
	if rd.version.Text.IsZero() && !rd.version.Binary.IsZero() {
		f := c.named("is binary")
		f.hint = "its bytes are those of: secretBinary " + quoteKey(f.secret)
		return nil, f
	}
	return rd.value, nil
}

func secretBytes(c *call) (any, error) {
	rd, err := c.read()
	if err != nil {
		return nil, err
	}
	if rd.version.Binary.IsZero() && !rd.version.Text.IsZero() {
		f := c.named("is text, not binary")
		f.hint = "its text is that of: secret " + quoteKey(f.secret)
		return nil, f
	}
	return rd.version.Binary.Bytes(), nil
}

func secretVersion(c *call) (any, error) {
	rd, err := c.read()
	if err != nil {
		return nil, err
	}
	return rd.version.VersionID, nil
}

// has tells by how it is written what it asks for; see testsSecret.
func has(c *call) (any, error) {
	if testsSecret(c.nodes, len(c.args) > len(c.nodes)) {
		return c.hasSecret()
	}
	if len(c.args) == 2 {
		if l, ok := asList(c.args[1]); ok {
			return contained(l, c.args[0])
		}
	}
	return nil, &failure{msg: "a computed argument of has is not a list", hint: `a secret's key is asked for literally, has "NAME" "KEY", or by: hasKey (secret "NAME") KEY`}
}

// hasSecret answers false only for what AWS says does not exist: while it is
// not known, the template waits.
func (c *call) hasSecret() (any, error) {
	rd, err := c.read()
	if err != nil {
		if secret.KindOf(err) == secret.NotFound {
			return false, nil
		}
		return nil, err
	}
	if rd.version.Unlabelled() {
		return false, nil
	}
	v := rd.value
	for _, key := range c.args[1:] {
		if _, isNull := v.(none); isNull || v == nil {
			return false, nil
		}
		k, err := asText(key)
		if err != nil {
			return nil, err
		}
		if v, err = field(v, k, true, true); err != nil {
			return nil, err
		}
	}
	_, isNull := v.(none)
	return !isNull, nil
}

func fieldOf(c *call) (any, error) {
	key, err := asText(c.args[0])
	if err != nil {
		return nil, err
	}
	return field(c.args[1], key, c.literal(0), c.r.t.missing)
}

func jsonRows() []row {
	return []row{
		{names: "json toRawJson mustToRawJson toUnescapedJSON", args: "VALUE", doc: "VALUE as JSON on one line: sorted keys, numbers as they were written.",
			example: `{{ json (secret "db").user }} {{ dict "b" 1.50 "a" (secret "lines") | json }}`, result: `"app" {"a":"one\ntwo","b":1.5}`,
			fn: func(v any) (string, error) { return encodeJSON(v, "") }},
		{names: "toJSON toJson mustToJson", args: "VALUE", doc: "The same JSON with <, > and & as \\u003c, \\u003e and \\u0026, which every JSON parser reads as those.",
			example: `{{ toJSON "<a>" }}`, result: `"\u003ca\u003e"`,
			fn: func(v any) (string, error) { return escapedJSON(encodeJSON(v, "")) }},
		{names: "toJSONPretty toPrettyJson mustToPrettyJson", args: "VALUE", doc: "The JSON of toJSON, indented by two spaces.",
			example: `{{ dict "a" "<" | toJSONPretty }}`, result: "{\n  \"a\": \"\\u003c\"\n}",
			fn: func(v any) (string, error) { return escapedJSON(encodeJSON(v, "  ")) }},
		{names: "toUnescapedJSONPretty", args: "VALUE", doc: "The JSON of json, indented by two spaces.",
			example: `{{ secret "gcp" | toUnescapedJSONPretty }}`, result: "{\n  \"type\": \"service_account\"\n}",
			fn: func(v any) (string, error) { return encodeJSON(v, "  ") }},
		{names: "fromJson mustFromJson", args: "TEXT", doc: "The value that a JSON text holds. A secret that is a JSON array is text: this gives its elements.",
			example: `{{ range secret "tags" | fromJson }}{{ . }};{{ end }}`, result: "x;y;",
			fn: fromJSON},
		{names: "parseJSON", args: "TEXT", doc: "The value that a JSON text holds; of an empty text an empty object.",
			example: `{{ range secret "tags" | parseJSON }}{{ . }};{{ end }}`, result: "x;y;",
			fn: func(v any) (any, error) {
				if s, err := asText(v); err == nil && s == "" {
					return map[string]any{}, nil
				}
				return fromJSON(v)
			}},
	}
}

// escapedJSON escapes what Go's encoder escapes for HTML. Outside of strings
// there are none of these characters.
func escapedJSON(s string, err error) (string, error) {
	if err == nil {
		s = htmlInJSON.Replace(s)
	}
	return s, err
}

var htmlInJSON = strings.NewReplacer("<", `\u003c`, ">", `\u003e`, "&", `\u0026`)

func fromJSON(v any) (any, error) {
	var from origin
	switch v := v.(type) {
	case *object, *array:
		return v, nil
	case text:
		from.secret = v.secret
	}
	s, err := asText(v)
	if err != nil {
		return nil, err
	}
	if len(s) > maxText {
		return nil, errTooBig
	}
	if !utf8.ValidString(s) || !json.Valid([]byte(s)) {
		return nil, fail("the text is not valid JSON")
	}
	return decodeJSON(strings.Trim(s, jsonSpace), from), nil
}
