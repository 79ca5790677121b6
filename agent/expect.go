package agent

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"secretsd/agent/config"
	"secretsd/agent/secret"
)

// expectation tests whether a version is what the configuration expects of its
// secret, so that one that was edited wrongly at the source reaches nobody.
type expectation config.Expect

// check returns all that v lacks, joined, or nil. The errors name keys and
// dates, never a value. A nil expectation takes everything, and everybody takes
// the empty version that stands for a label without one.
func (x *expectation) check(v *secret.Version, now time.Time) error {
	if x == nil || v.Unlabelled() {
		return nil
	}
	value := v.Text.Bytes()
	if v.Text.IsZero() {
		value = v.Binary.Bytes()
	}
	var errs []error
	if len(value) < x.MinBytes {
		errs = append(errs, fmt.Errorf("it has fewer than %d bytes", x.MinBytes))
	}
	var fields map[string]json.RawMessage
	if x.JSON || len(x.Keys) > 0 || x.PEMPair != nil && !x.PEMPair.Whole {
		if json.Unmarshal(value, &fields) != nil || fields == nil {
			return errors.Join(append(errs, errors.New("it is not a JSON object"))...)
		}
	}
	for _, key := range x.Keys {
		if err := present(fields, key); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, x.checkPEM(value, fields, now))...)
}

// present reports whether a key is there and not empty.
func present(fields map[string]json.RawMessage, key string) error {
	raw, ok := fields[key]
	switch {
	case !ok:
		return fmt.Errorf("it has no key %q", key)
	case isEmpty(raw):
		return fmt.Errorf("its key %q is empty", key)
	}
	return nil
}

// isEmpty reports whether a JSON value holds nothing. A number or false is something.
func isEmpty(raw json.RawMessage) bool {
	switch raw[0] {
	case '{', '[':
		return len(bytes.TrimSpace(raw[1:len(raw)-1])) == 0
	default:
		return string(raw) == `""` || string(raw) == "null"
	}
}

// checkPEM tests the pair and the dates of certificates.
func (x *expectation) checkPEM(value []byte, fields map[string]json.RawMessage, now time.Time) error {
	certificate, key := value, value
	if x.PEMPair != nil {
		if !x.PEMPair.Whole {
			var err, keyErr error
			certificate, err = textOf(fields, x.PEMPair.Certificate)
			key, keyErr = textOf(fields, x.PEMPair.Key)
			if err := errors.Join(err, keyErr); err != nil {
				return err
			}
		}
		// The cause is left out: it is in crypto's words and could quote the text.
		if _, err := tls.X509KeyPair(certificate, key); err != nil {
			return errors.New("it is not a PEM certificate and the private key that belongs to it")
		}
	}
	if !x.NotExpired {
		return nil
	}
	return valid(certificate, now)
}

func textOf(fields map[string]json.RawMessage, key string) ([]byte, error) {
	if err := present(fields, key); err != nil {
		return nil, err
	}
	var text string
	if json.Unmarshal(fields[key], &text) != nil {
		return nil, fmt.Errorf("its key %q is not text", key)
	}
	return []byte(text), nil
}

// valid reports whether every certificate in text is valid at now, and that
// there is one.
func valid(text []byte, now time.Time) error {
	found := false
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "CERTIFICATE") {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return errors.New("it holds a certificate that cannot be read")
		}
		found = true
		if now.After(c.NotAfter) {
			return fmt.Errorf("it holds a certificate that expired on %s", c.NotAfter.UTC().Format(time.RFC3339))
		}
		if now.Before(c.NotBefore) {
			return fmt.Errorf("it holds a certificate that is valid from %s on", c.NotBefore.UTC().Format(time.RFC3339))
		}
	}
	if !found {
		return errors.New("it holds no PEM certificate")
	}
	return nil
}
