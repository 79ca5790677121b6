package endpoint

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"hash"
	"net/textproto"
	"slices"
	"strings"
	"time"
)

// Signature Version 4 is described in the IAM User Guide, "Create a signed AWS
// API request"; what of it this file leaves out (paths, queries, presigned
// URLs) no SDK uses to call Secrets Manager.
const (
	sigAlgorithm  = "AWS4-HMAC-SHA256"
	sigTerminator = "aws4_request"
	sigService    = "secretsmanager"
	sigTime       = "20060102T150405Z"
)

// maxSkew is how far a signature's time may be from ours, either way. The IAM
// User Guide, "AWS Signature Version 4 for API requests", says five minutes for
// most services, and Secrets Manager names them in its answers.
const maxSkew = 5 * time.Minute

// The headers that have to be signed, beside the payload: with the method and
// the path, which do not vary, they are all that says what is asked of whom and
// when. Content-Type is not among them, because some SDKs (PHP's) leave it
// unsigned; only one is accepted, so that nobody gains by changing it.
var mustBeSigned = []string{"host", "x-amz-date", "x-amz-target"}

const unsignedPayload = "UNSIGNED-PAYLOAD"

// signer verifies signatures made with one token. It keeps the two states that
// HMAC has after the key (RFC 2104, section 4), from which the token cannot be
// had back.
type signer struct{ mac hash.Cloner }

func newSigner(token string) (*signer, error) {
	mac := hmac.New(sha256.New, []byte("AWS4"+token))
	mac.Reset() // puts the states in place of the key
	cloner, ok := mac.(hash.Cloner)
	if !ok {
		return nil, errors.New("keep a token for signatures: this build's HMAC cannot be cloned, as with GOFIPS140=v1.0.0")
	}
	return &signer{cloner}, nil
}

// sign returns what the signer's token makes of a text in a scope.
func (s *signer) sign(sc *scope, text []byte) []byte {
	mac, err := s.mac.Clone()
	if err != nil {
		return nil // documented never to happen; nothing equals it
	}
	mac.Write([]byte(sc.date))
	key := mac.Sum(nil)
	for _, part := range []string{sc.region, sc.service, sigTerminator} {
		key = hmacSum(key, []byte(part))
	}
	return hmacSum(key, text)
}

func hmacSum(key, text []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(text)
	return mac.Sum(nil)
}

// signed reports whether a token that is valid now made the signature. It tries
// all of them whatever the first says.
func (t *Tokens) signed(sig *signature, text []byte) bool {
	set, now := t.set.Load(), time.Now()
	valid := 0
	for i := range set.current {
		valid |= subtle.ConstantTimeCompare(set.current[i].signer.sign(&sig.scope, text), sig.mac)
	}
	for i := range set.replaced {
		if now.Before(set.replaced[i].until) {
			valid |= subtle.ConstantTimeCompare(set.replaced[i].signer.sign(&sig.scope, text), sig.mac)
		}
	}
	return valid == 1
}

// scope is what a signature is good for.
type scope struct{ date, region, service string }

func (s *scope) String() string {
	return s.date + "/" + s.region + "/" + s.service + "/" + sigTerminator
}

// signature is what the Authorization header says.
type signature struct {
	keyID string
	scope scope
	// names are the signed headers, in lower case and in order; list is how they
	// stand in the header.
	names []string
	list  string
	mac   []byte
}

func incomplete(message string) error {
	return &sdkFault{code: "IncompleteSignatureException", message: message, outcome: OutcomeBadToken}
}

func badSignature(message string) error {
	return &sdkFault{code: "InvalidSignatureException", message: message, outcome: OutcomeBadToken}
}

// parseAuthorization reads an Authorization header, strictly: each of its three
// parameters once and nothing else.
func parseAuthorization(header string) (signature, error) {
	rest, ok := strings.CutPrefix(header, sigAlgorithm+" ")
	if !ok {
		return signature{}, incomplete("Authorization header must begin with '" + sigAlgorithm + "'.")
	}
	given := map[string]string{}
	for _, pair := range strings.Split(rest, ",") {
		name, value, ok := strings.Cut(strings.Trim(pair, " "), "=")
		if _, twice := given[name]; !ok || twice || !slices.Contains(sigParameters, name) {
			return signature{}, incomplete("Authorization header must hold 'Credential', 'SignedHeaders' and 'Signature' as key=value pairs, each once.")
		}
		given[name] = value
	}
	var missing []string
	for _, name := range sigParameters {
		if given[name] == "" {
			missing = append(missing, "Authorization header requires '"+name+"' parameter.")
		}
	}
	if len(missing) > 0 {
		return signature{}, incomplete(strings.Join(missing, " "))
	}
	return parseParameters(given["Credential"], given["SignedHeaders"], given["Signature"])
}

var sigParameters = []string{"Credential", "Signature", "SignedHeaders"}

func parseParameters(credential, headers, mac string) (signature, error) {
	part := strings.Split(credential, "/")
	if len(part) != 5 || slices.Contains(part, "") {
		return signature{}, incomplete("Credential must have exactly 5 slash-delimited elements: keyid/date/region/service/term.")
	}
	sig := signature{keyID: part[0], scope: scope{date: part[1], region: part[2], service: part[3]}, list: headers, names: strings.Split(headers, ";")}
	if part[4] != sigTerminator {
		return signature{}, badSignature("Credential should be scoped with a valid terminator: '" + sigTerminator + "'.")
	}
	for i, name := range sig.names {
		if !isHeaderName(name) || name != strings.ToLower(name) || i > 0 && name <= sig.names[i-1] {
			return signature{}, incomplete("SignedHeaders must be names in lower case, in order, separated by ';'.")
		}
	}
	var err error
	if sig.mac, err = hex.DecodeString(mac); err != nil || len(sig.mac) != sha256.Size || mac != strings.ToLower(mac) {
		return signature{}, incomplete("Signature must be 64 hexadecimal digits in lower case.")
	}
	return sig, nil
}

// check holds that the signature covers what it has to, is meant for this
// service, and was made about now. Whether it is right it does not say.
func (s *signature) check(values func(name string) []string, now time.Time) error {
	for _, name := range mustBeSigned {
		if !slices.Contains(s.names, name) {
			return incomplete("'" + name + "' must be a 'SignedHeader' in the AWS Authorization.")
		}
	}
	for _, name := range s.names {
		if name != "host" && len(values(name)) == 0 {
			return incomplete("'" + name + "' is named as a SignedHeader, but it does not exist in the HTTP request.")
		}
	}
	if slices.Contains(values("x-amz-content-sha256"), unsignedPayload) {
		return badSignature("The signature must cover the payload: " + unsignedPayload + " is not accepted here.")
	}
	date := values("x-amz-date")
	at, err := time.Parse(sigTime, date[0])
	if err != nil || len(date) != 1 || at.Format(sigTime) != date[0] {
		return incomplete("Date must be in ISO-8601 'basic format': one X-Amz-Date such as 20060102T150405Z.")
	}
	if s.scope.service != sigService {
		return badSignature("Credential should be scoped to correct service: '" + sigService + "'.")
	}
	if s.scope.date != date[0][:8] {
		return badSignature("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.")
	}
	return checkSkew(at, now)
}

// checkSkew refuses a time too far from now in the service's words, from which
// some SDKs take its time.
func checkSkew(at, now time.Time) error {
	show := func(t time.Time) string { return t.UTC().Format(sigTime) }
	switch {
	case at.Before(now.Add(-maxSkew)):
		return badSignature("Signature expired: " + show(at) + " is now earlier than " + show(now.Add(-maxSkew)) + " (" + show(now) + " - 5 min.)")
	case at.After(now.Add(maxSkew)):
		return badSignature("Signature not yet current: " + show(at) + " is still later than " + show(now.Add(maxSkew)) + " (" + show(now) + " + 5 min.)")
	}
	return nil
}

// toSign returns the text that is signed for a POST of body to /.
func (s *signature) toSign(values func(name string) []string, body []byte) []byte {
	b := append(make([]byte, 0, 1024), "POST\n/\n\n"...)
	for _, name := range s.names {
		b = append(append(b, name...), ':')
		for i, value := range values(name) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, oneSpaced(value)...)
		}
		b = append(b, '\n')
	}
	b = append(append(append(b, '\n'), s.list...), '\n')
	sum := sha256.Sum256(body)
	sum = sha256.Sum256(hex.AppendEncode(b, sum[:]))
	text := sigAlgorithm + "\n" + values("x-amz-date")[0] + "\n" + s.scope.String() + "\n"
	return hex.AppendEncode([]byte(text), sum[:])
}

// oneSpaced returns a header's value without spaces around it, and with one
// where there are several.
func oneSpaced(s string) string {
	s = strings.Trim(s, " ")
	for strings.Contains(s, "  ") {
		s = strings.ReplaceAll(s, "  ", " ")
	}
	return s
}

// headerValues returns what gives all values of a header of r, by its name in
// lower case.
func (r *request) headerValues() func(name string) []string {
	return func(name string) []string {
		if name == "host" {
			return []string{r.host}
		}
		return r.post.values(textproto.CanonicalMIMEHeaderKey(name))
	}
}
