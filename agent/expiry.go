package agent

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"time"
)

// earliestExpiry returns when the first of the PEM certificates in pieces
// expires, or zero if there is none.
func earliestExpiry(pieces []piece) time.Time {
	var first time.Time
	for _, p := range pieces {
		if !bytes.Contains(p.content, []byte("-----BEGIN CERTIFICATE-----")) {
			continue
		}
		for block, rest := pem.Decode(p.content); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" {
				continue
			}
			if c, err := x509.ParseCertificate(block.Bytes); err == nil && (first.IsZero() || c.NotAfter.Before(first)) {
				first = c.NotAfter
			}
		}
	}
	return first
}
