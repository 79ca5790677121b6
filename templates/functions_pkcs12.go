package templates

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"software.sslmate.com/src/go-pkcs12"
)

func pkcs12Rows() []row {
	return []row{
		{names: "pkcs12KeyStore", args: "PEM PASSWORD [FORMAT]", doc: "The bytes of a PKCS#12 key store with the private key and the chain in PEM; PASSWORD is of printable ASCII. It is for OpenSSL 1.1.1, Java 8u301 and Java 12 or later. FORMAT \"legacy\" is for older ones, by weak ciphers. The same arguments give the same bytes.",
			example: `{{ pkcs12KeyStore (secret "tls") "changeit" | sha256sum | trunc 16 }}`, result: "1cb16679695d9f74", fn: keyStore, min: 2, max: 3},
		{names: "pkcs12TrustStore", args: "PEM PASSWORD [FORMAT]", doc: "The bytes of a PKCS#12 trust store for Java with all certificates in PEM.",
			example: `{{ pkcs12TrustStore (secret "tls").chain "changeit" | sha256sum | trunc 16 }}`, result: "a7fa2ded5d3b4aa7", fn: trustStore, min: 2, max: 3},
	}
}

// store is a store that is about to be written.
type store struct {
	pem      *pemBundle
	password string
	encoder  *pkcs12.Encoder
}

// newStore reads the arguments that both kinds have.
func (c *call) newStore(from any, password string, format []string) (*store, error) {
	b, err := c.readPEM([]any{from})
	if err != nil {
		return nil, err
	}
	// PKCS#12 could hold more, but Java takes no other (its PBEKey).
	if strings.ContainsFunc(password, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, fail("the password is not of printable ASCII, and Java takes no other")
	}
	s := &store{pem: b, password: password}
	// Named by year, so that a later version of the library writes the same.
	switch {
	case len(format) == 0 || format[0] == "modern":
		s.encoder = pkcs12.Modern2023
	case format[0] == "legacy":
		s.encoder = pkcs12.LegacyDES
	default:
		return nil, fail(`the format is neither "modern" nor "legacy"`)
	}
	// Two encryptions and a MAC of 2048 rounds each take some 3 ms.
	return s, c.r.spend(c.node, 30_000+len(password))
}

// salts returns the source of salts and initialization vectors: an HMAC of all
// that goes into the store, so that the same inputs give the same bytes and
// different ones share no salt.
func (s *store) salts(kind string) (io.Reader, error) {
	h := hmac.New(sha256.New, []byte(s.password))
	put := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	put([]byte(kind))
	if s.pem.keyBlock != nil {
		put(s.pem.keyBlock.Bytes)
	}
	for _, cert := range s.pem.certs {
		put(cert.Raw)
	}
	stream, err := hkdf.Expand(sha256.New, h.Sum(nil), "secretsd pkcs12", 1024)
	return bytes.NewReader(stream), err
}

func keyStore(c *call, from any, password string, format ...string) (any, error) {
	s, err := c.newStore(from, password, format)
	if err != nil {
		return nil, err
	}
	if s.pem.key == nil {
		return nil, fail("there is no private key in the PEM, or it is encrypted")
	}
	chain, err := s.pem.chain()
	if err != nil {
		return nil, err
	}
	salts, err := s.salts("key store")
	if err != nil {
		return nil, err
	}
	out, err := s.encoder.WithRand(salts).Encode(s.pem.key, chain[0], chain[1:], password)
	if err != nil {
		return nil, fail("the key has no form in PKCS#12")
	}
	return out, nil
}

func trustStore(c *call, from any, password string, format ...string) (any, error) {
	s, err := c.newStore(from, password, format)
	if err != nil {
		return nil, err
	}
	if len(s.pem.certs) == 0 {
		return nil, fail("there is no certificate in the PEM")
	}
	s.pem.keyBlock = nil // no part of the store
	salts, err := s.salts("trust store")
	if err != nil {
		return nil, err
	}
	out, err := s.encoder.WithRand(salts).EncodeTrustStoreEntries(aliased(s.pem.certs), password)
	if err != nil {
		return nil, fail("a certificate has no form in PKCS#12")
	}
	return out, nil
}

// aliased gives each certificate its subject as its alias. Java holds one entry
// under an alias, whatever its case, so that two of one name get a number.
func aliased(certs []*x509.Certificate) []pkcs12.TrustStoreEntry {
	entries := make([]pkcs12.TrustStoreEntry, len(certs))
	taken := make(map[string]int)
	for i, cert := range certs {
		name := cert.Subject.String()
		if !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r > 0xffff }) || name == "" {
			sum := sha256.Sum256(cert.Raw)
			name = hex.EncodeToString(sum[:])
		}
		key := strings.ToLower(name)
		if taken[key]++; taken[key] > 1 {
			name += " (" + strconv.Itoa(taken[key]) + ")"
		}
		entries[i] = pkcs12.TrustStoreEntry{Cert: cert, FriendlyName: name}
	}
	return entries
}
