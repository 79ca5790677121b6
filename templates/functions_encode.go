package templates

import (
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"text/template"
)

func encodingRows() []row {
	return []row{
		{names: "base64Encode b64enc", args: "TEXT", doc: "Base64 with padding, standard alphabet.",
			example: `{{ base64Encode "a?>" }}`, result: "YT8+",
			fn: func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }},
		{names: "base64Decode b64dec", args: "TEXT", doc: "The bytes of a base64 text, padded or not; anything else is an error.",
			example: `{{ base64Decode "YT8+" }}`, result: "a?>",
			fn: func(s string) (string, error) {
				return decode64(s, base64.StdEncoding, base64.RawStdEncoding)
			}},
		{names: "base64URLEncode", args: "TEXT", doc: "Base64 with padding, alphabet for URLs and file names.",
			example: `{{ base64URLEncode "a?>" }}`, result: "YT8-",
			fn: func(s string) string { return base64.URLEncoding.EncodeToString([]byte(s)) }},
		{names: "base64URLDecode", args: "TEXT", doc: "The bytes of a base64 text in the URL alphabet, padded or not.",
			example: `{{ base64URLDecode "YT8-" }}`, result: "a?>",
			fn: func(s string) (string, error) {
				return decode64(s, base64.URLEncoding, base64.RawURLEncoding)
			}},
		{names: "b32enc", args: "TEXT", doc: "Base32 with padding.",
			example: `{{ b32enc "hi" }}`, result: "NBUQ===="},
		{names: "b32dec", args: "TEXT", doc: "The bytes of a base32 text; anything else is an error.",
			example: `{{ b32dec "NBUQ====" }}`, result: "hi",
			fn: func(s string) (string, error) {
				b, err := base32.StdEncoding.DecodeString(s)
				if err != nil {
					return "", fail("the text is not valid base32")
				}
				return string(b), nil
			}},
		{names: "urlquery", args: "TEXT...", doc: "TEXT escaped for the query of a URL.",
			example: `{{ urlquery (secret "db").password }}`, result: "it%27s+%229%22+%26+%3Cmore%3E", min: 1,
			fn: func(s ...any) (string, error) { return escaped(template.URLQueryEscaper, s) }},
		{names: "urlPathEscape", args: "TEXT", doc: "TEXT escaped for one segment of a URL's path, or for its user and password.",
			example: `{{ urlPathEscape "a/b c" }}`, result: "a%2Fb%20c", fn: url.PathEscape},
		{names: "urlParse", args: "URL", doc: "An object with scheme, userinfo, host, hostname, path, query, opaque and fragment.",
			example: `{{ (urlParse "https://u@h:1/p?q#f").host }}`, result: "h:1"},
		{names: "urlJoin", args: "OBJECT", doc: "The URL made of what urlParse gives.",
			example: `{{ urlJoin (dict "scheme" "https" "host" "h" "path" "/p") }}`, result: "https://h/p"},
		{names: "quote", args: "TEXT...", doc: "TEXT in double quotes with Go's escapes.",
			example: `{{ quote (secret "db").password }}`, result: `"it's \"9\" & <more>"`,
			fn: func(s ...string) string { return quoted(s, func(s string) string { return fmt.Sprintf("%q", s) }) }},
		{names: "squote", args: "TEXT...", doc: "TEXT between single quotes, without escapes.",
			example: `{{ squote (secret "db").port }}`, result: `'5432'`,
			fn: func(s ...string) string { return quoted(s, func(s string) string { return "'" + s + "'" }) }},
		{names: "html", args: "TEXT...", doc: "TEXT escaped for HTML and XML.",
			example: `{{ html (secret "db").password }}`, result: "it&#39;s &#34;9&#34; &amp; &lt;more&gt;", min: 1,
			fn: func(s ...any) (string, error) { return escaped(template.HTMLEscaper, s) }},
		{names: "js", args: "TEXT...", doc: "TEXT escaped for a string in JavaScript.",
			example: `{{ js "it's" }}`, result: `it\'s`, min: 1,
			fn: func(s ...any) (string, error) { return escaped(template.JSEscaper, s) }},
		{names: "sha1sum", args: "TEXT", doc: "SHA-1 in hexadecimal.",
			example: `{{ sha1sum "a" }}`, result: "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"},
		{names: "sha256sum sha256Hex", args: "TEXT", doc: "SHA-256 in hexadecimal.",
			example: `{{ sha256sum "a" }}`, result: "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"},
		{names: "sha512sum", args: "TEXT", doc: "SHA-512 in hexadecimal.",
			example: `{{ sha512sum "a" | trunc 16 }}`, result: "1f40fc92da241694"},
		{names: "adler32sum", args: "TEXT", doc: "Adler-32 in decimal.",
			example: `{{ adler32sum "a" }}`, result: "6422626"},
	}
}

func decode64(s string, padded, raw *base64.Encoding) (string, error) {
	b, err := padded.DecodeString(s)
	if err != nil {
		b, err = raw.DecodeString(s)
	}
	if err != nil {
		return "", fail("the text is not valid base64")
	}
	return string(b), nil
}

// escaped gives one of text/template's escapers the texts it is to join.
func escaped(escape func(...any) string, args []any) (string, error) {
	s, err := sprint(args)
	if err != nil {
		return "", err
	}
	return escape(s), nil
}

func quoted(texts []string, quote func(string) string) string {
	out := make([]string, len(texts))
	for i, s := range texts {
		out[i] = quote(s)
	}
	return strings.Join(out, " ")
}
