package redact

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// pemBoundary matches the lines around what is encoded in a PEM (RFC 7468).
// They are no secret, and without this every "private key" and "certificate"
// in an error message would be taken for a part of one.
var pemBoundary = regexp.MustCompile(
	`-----(?:BEGIN|END) (?:[A-Z0-9]+ ){0,3}(?:CERTIFICATE|CRL|CSR|REQUEST|KEY|PARAMETERS|PKCS7|CMS)-----`)

// engines are what the rotation functions of AWS want under the key "engine"
// (Secrets Manager User Guide, "JSON structure of secrets"). They are in half
// of what a database's tools say.
var engines = []string{
	"db2", "docdb", "mariadb", "mongo", "mysql", "oracle", "postgres", "redshift", "sqlserver",
}

// value looks for what is secret in a value: the leaves of a JSON object or
// array, or else the whole text.
func (f *forms) value(text string) {
	if json.Valid([]byte(text)) && f.json(text) {
		return
	}
	f.leaf(text)
}

// json looks for the strings and numbers in text, which is valid JSON, and
// reports whether it is an object or an array. It reads token by token because
// a map would lose all but the last of equal keys.
func (f *forms) json(text string) bool {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	// For what is outside and each open object or array: whether a key comes
	// next, or else the key that came.
	type level struct {
		object, keyNext bool
		key             json.Token
	}
	open := []level{{}}
	for count := 0; ; count++ {
		token, err := decoder.Token()
		if err != nil {
			return true
		}
		delimiter, isDelimiter := token.(json.Delim)
		if count == 0 && !isDelimiter {
			f.scalar(token)
			return false
		}
		if isDelimiter && (delimiter == '}' || delimiter == ']') {
			open = open[:len(open)-1]
			continue
		}
		last := &open[len(open)-1]
		if last.object && last.keyNext {
			last.key, last.keyNext = token, false
			continue
		}
		last.keyNext = true
		if isDelimiter {
			open = append(open, level{object: delimiter == '{', keyNext: delimiter == '{'})
			continue
		}
		if text, _ := token.(string); last.key != "engine" || !slices.Contains(engines, text) {
			f.scalar(token)
		}
	}
}

// scalar looks for a leaf of a JSON text; one that is JSON itself is a secret
// both as text and for its own leaves.
func (f *forms) scalar(token json.Token) {
	switch leaf := token.(type) {
	case string:
		f.leaf(leaf)
		if json.Valid([]byte(leaf)) {
			f.json(leaf)
		}
	case json.Number:
		f.leaf(leaf.String())
	}
}

// leaf looks for one secret text, and for what a program that was given it
// takes out of it: the password of a URL, and what was encoded as base64, such
// as a key, or the user:password of a container registry.
func (f *forms) leaf(text string) {
	trimmed := strings.TrimSpace(text)
	if scheme, rest, found := strings.Cut(trimmed, "://"); found {
		if u, err := url.Parse(trimmed); err == nil && u.User != nil && strings.EqualFold(u.Scheme, scheme) {
			password, _ := u.User.Password()
			f.part([]byte(password))
			// Everybody may know that it is postgres.
			text = rest
		}
	}
	parts := []string{text}
	// Trying the expression everywhere would take more time than all else.
	if strings.Contains(text, "-----") {
		parts = pemBoundary.Split(text, -1)
	}
	for _, part := range parts {
		f.part([]byte(part))
	}
	if len(trimmed)%4 != 0 {
		return
	}
	decoded, err := base64.StdEncoding.DecodeString(trimmed)
	// Any letters may decode to something; a quote or dot left of it is no secret.
	if err == nil && len(clean(nil, decoded)) >= gram {
		f.part(decoded)
	}
}
