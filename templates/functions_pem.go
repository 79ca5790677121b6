package templates

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
)

func pemRows() []row {
	// part makes a function of one that picks some of the chain.
	part := func(pick func(chain []*x509.Certificate) []*x509.Certificate) func(*call, ...any) (string, error) {
		return func(c *call, from ...any) (string, error) {
			b, err := c.readPEM(from)
			if err != nil {
				return "", err
			}
			chain, err := b.chain()
			if err != nil {
				return "", err
			}
			return writeCertificates(pick(chain)), nil
		}
	}
	return []row{
		{names: "pemCertificate", args: "PEM...", doc: "The certificate of the server or client itself: the one of the private key, if PEM has one, else the one that no other is issued by. PEM is a text, or an object or list whose values hold the blocks. Text around the blocks and blocks that are neither certificate nor key are left out.",
			example: `{{ eq (pemCertificate (secret "tls")) (secret "tls").certificate }}`, result: "true", min: 1,
			fn: part(func(chain []*x509.Certificate) []*x509.Certificate { return chain[:1] })},
		{names: "pemChain", args: "PEM...", doc: "The other certificates, each followed by its issuer. One that does not belong to the chain is an error.",
			example: `{{ eq (pemChain (secret "tls").chain (secret "tls").certificate) (secret "tls").chain }}`, result: "true", min: 1,
			fn: part(func(chain []*x509.Certificate) []*x509.Certificate { return chain[1:] })},
		{names: "pemFullChain", args: "PEM...", doc: "What pemCertificate gives, then what pemChain gives: the order that TLS servers want.",
			example: `{{ with secret "tls" }}{{ eq (pemFullChain .chain .certificate) (print .certificate .chain) }}{{ end }}`, result: "true", min: 1,
			fn: part(func(chain []*x509.Certificate) []*x509.Certificate { return chain })},
		{names: "pemKey", args: "PEM...", doc: "The private key, in the form it has.",
			example: `{{ eq (pemKey (secret "tls")) (secret "tls").key }}`, result: "true", min: 1,
			fn: func(c *call, from ...any) (string, error) {
				b, err := c.readPEM(from)
				if err != nil {
					return "", err
				}
				if b.keyBlock == nil {
					return "", fail("there is no private key in the PEM")
				}
				return string(pem.EncodeToMemory(b.keyBlock)), nil
			}},
	}
}

// pemBundle is what one or several PEM texts hold.
type pemBundle struct {
	certs    []*x509.Certificate // as they stand, each once
	keyBlock *pem.Block
	key      crypto.PrivateKey // nil if there is none, or an encrypted one
}

// maxCertificates bounds the work of bringing certificates in order.
const maxCertificates = 500

// readPEM reads certificates and at most one private key.
func (c *call) readPEM(from []any) (*pemBundle, error) {
	text, err := joinPEM(from)
	if err != nil {
		return nil, err
	}
	b := new(pemBundle)
	rest := []byte(text)
	found := false
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		found = true
		if err := c.r.spend(c.node, 200+len(block.Bytes)/16); err != nil {
			return nil, err
		}
		if err := b.add(block); err != nil {
			return nil, err
		}
	}
	switch broken := bytes.Contains(rest, []byte("-----BEGIN ")); {
	case broken && bytes.Contains(rest, []byte(`\n`)):
		return nil, &failure{msg: "the PEM has no line breaks", hint: `they are written as \n; make them some: replace "\\n" "\n" …`}
	case broken:
		return nil, fail("a PEM block is broken")
	case !found:
		return nil, fail("there is no PEM block")
	}
	return b, nil
}

// joinPEM returns the texts of values, and those inside of objects and lists, in
// which other things may stand as well.
func joinPEM(from []any) (string, error) {
	var b strings.Builder
	for _, v := range from {
		parts := []any{v}
		if m, ok := asMap(v); ok {
			parts = parts[:0]
			for _, key := range sortedKeys(m) {
				parts = append(parts, m[key])
			}
		} else if l, ok := asList(v); ok {
			parts = l
		}
		for _, part := range parts {
			if k := kind(part); len(parts) == 1 || k == "text" || k == "bytes" {
				s, err := asText(part)
				if err != nil {
					return "", err
				}
				b.WriteString(s + "\n")
			}
		}
		if b.Len() > maxText {
			return "", errTooBig
		}
	}
	return b.String(), nil
}

func (b *pemBundle) add(block *pem.Block) error {
	switch {
	case block.Type == "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fail("a certificate in the PEM cannot be read")
		}
		if slices.ContainsFunc(b.certs, cert.Equal) {
			return nil
		}
		if b.certs = append(b.certs, cert); len(b.certs) > maxCertificates {
			return fail("there are more than 500 certificates in the PEM")
		}
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		if b.keyBlock != nil && !bytes.Equal(b.keyBlock.Bytes, block.Bytes) {
			return fail("there are several private keys in the PEM")
		}
		b.keyBlock = block
		return b.readKey()
	}
	return nil
}

// readKey leaves the key of a form nil that it does not know, which only
// matters where the key is looked into.
func (b *pemBundle) readKey() error {
	var err error
	switch b.keyBlock.Type {
	case "PRIVATE KEY":
		b.key, err = x509.ParsePKCS8PrivateKey(b.keyBlock.Bytes)
	case "RSA PRIVATE KEY":
		if b.keyBlock.Headers["DEK-Info"] == "" { // else encrypted, RFC 1421 section 4.6.1.3
			b.key, err = x509.ParsePKCS1PrivateKey(b.keyBlock.Bytes)
		}
	case "EC PRIVATE KEY":
		if b.keyBlock.Headers["DEK-Info"] == "" {
			b.key, err = x509.ParseECPrivateKey(b.keyBlock.Bytes)
		}
	}
	if err != nil {
		return fail("the private key in the PEM cannot be read")
	}
	return nil
}

// belongs reports whether a certificate is that of the private key.
func (b *pemBundle) belongs(cert *x509.Certificate) bool {
	signer, ok := b.key.(crypto.Signer)
	if !ok {
		return false
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}

// leaf returns the certificate that the others vouch for.
func (b *pemBundle) leaf() (*x509.Certificate, error) {
	if len(b.certs) == 0 {
		return nil, fail("there is no certificate in the PEM")
	}
	fits := func(cert *x509.Certificate) bool {
		return !slices.ContainsFunc(b.certs, func(other *x509.Certificate) bool { return other != cert && issued(cert, other) })
	}
	none, several := "the certificates in the PEM are no chain: each is the issuer of another", "the certificates in the PEM are no single chain"
	if b.key != nil {
		fits, none, several = b.belongs, "no certificate in the PEM is that of the private key", "several certificates in the PEM are those of the private key"
	}
	var leaf *x509.Certificate
	for _, cert := range b.certs {
		if !fits(cert) {
			continue
		}
		if leaf != nil {
			return nil, fail(several)
		}
		leaf = cert
	}
	if leaf == nil {
		return nil, fail(none)
	}
	return leaf, nil
}

// issued reports whether issuer is named as that of cert.
func issued(issuer, cert *x509.Certificate) bool {
	if !bytes.Equal(cert.RawIssuer, issuer.RawSubject) {
		return false
	}
	return len(cert.AuthorityKeyId) == 0 || len(issuer.SubjectKeyId) == 0 || bytes.Equal(cert.AuthorityKeyId, issuer.SubjectKeyId)
}

// chain returns all certificates, each followed by its issuer, as RFC 5246
// section 7.4.2 wants them.
func (b *pemBundle) chain() ([]*x509.Certificate, error) {
	leaf, err := b.leaf()
	if err != nil {
		return nil, err
	}
	left := slices.DeleteFunc(slices.Clone(b.certs), leaf.Equal)
	chain := []*x509.Certificate{leaf}
	for last := leaf; len(left) > 0; last = chain[len(chain)-1] {
		i := slices.IndexFunc(left, func(c *x509.Certificate) bool { return issued(c, last) && last.CheckSignatureFrom(c) == nil })
		if i < 0 {
			return nil, &failure{msg: "a certificate in the PEM does not belong to the chain", hint: "a bundle of authorities is no chain; it is text as it is"}
		}
		chain = append(chain, left[i])
		left = slices.Delete(left, i, i+1)
	}
	return chain, nil
}

func writeCertificates(certs []*x509.Certificate) string {
	var b bytes.Buffer
	for _, cert := range certs {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	}
	return b.String()
}
