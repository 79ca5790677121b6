package templates_test

import (
	"crypto/tls"
	"crypto/x509"
	"math/rand/v2"
	"strings"
	"testing"

	"secretsd/templates"
)

// TestPEMIsSplitAndOrdered takes blocks in any order, with other text between
// them, and has crypto/tls use and verify what comes out.
func TestPEMIsSplitAndOrdered(t *testing.T) {
	for name, pair := range keys(t) {
		leaf, middle, root, key := chainOf(t, pair[0], pair[1])
		for range 6 {
			parts := []string{leaf, middle, root, key, middle, "-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n"}
			rand.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
			s := secrets{"pem": "Bag Attributes: none\n" + strings.Join(parts, "# comment\n\n")}
			for text, want := range map[string]string{
				`{{ pemCertificate (secret "pem") }}`: leaf, `{{ pemChain (secret "pem") }}`: middle + root, `{{ pemFullChain (secret "pem") }}`: leaf + middle + root, `{{ pemKey (secret "pem") }}`: key,
			} {
				if got := mustRender(t, s, text); got != want {
					t.Errorf("%s of %s gives\n%swant\n%s", text, name, got, want)
				}
			}
			cert, err := tls.X509KeyPair([]byte(mustRender(t, s, `{{ pemFullChain (secret "pem") }}`)), []byte(mustRender(t, s, `{{ pemKey (secret "pem") }}`)))
			if err != nil {
				t.Fatal(err)
			}
			roots, between := x509.NewCertPool(), x509.NewCertPool()
			roots.AppendCertsFromPEM([]byte(root))
			between.AppendCertsFromPEM([]byte(mustRender(t, s, `{{ pemChain (secret "pem") }}`)))
			if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: "app.internal"}); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestPEMThatIsNoChainIsAnError(t *testing.T) {
	pairs := keys(t)
	leaf, middle, root, key := chainOf(t, pairs["ECDSA"][0], pairs["ECDSA"][1])
	other, _, otherRoot, otherKey := chainOf(t, pairs["RSA"][0], pairs["RSA"][1])
	again, _, _, _ := chainOf(t, pairs["ECDSA"][0], pairs["ECDSA"][1])
	for _, row := range []struct{ function, text, want string }{
		{"pemCertificate", leaf + otherRoot, "the certificates in the PEM are no single chain"},
		{"pemFullChain", leaf + key + otherRoot, "a certificate in the PEM does not belong to the chain"},
		{"pemFullChain", leaf + root + key, "a certificate in the PEM does not belong to the chain"}, // the one between is missing
		{"pemFullChain", leaf + middle + otherKey, "no certificate in the PEM is that of the private key"},
		{"pemFullChain", leaf + again + key, "several certificates in the PEM are those of the private key"},
		{"pemCertificate", leaf + other, "the certificates in the PEM are no single chain"},
		{"pemCertificate", key, "there is no certificate in the PEM"},
		{"pemKey", leaf, "there is no private key in the PEM"},
		{"pemKey", key + otherKey, "there are several private keys in the PEM"},
		{"pemKey", key[:len(key)-20], "a PEM block is broken"},
		{"pemKey", strings.ReplaceAll(leaf+key, "\n", `\n`), "the PEM has no line breaks"},
		{"pemCertificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "a certificate in the PEM cannot be read"},
		{"pemKey", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "the private key in the PEM cannot be read"},
	} {
		_, err := render(secrets{"pem": row.text}, optionsOf("{{ "+row.function+` (secret "pem") }}`))
		if err == nil || !strings.HasSuffix(err.Error(), row.function+": "+row.want+`; the argument is secret "pem"`) {
			t.Errorf("%s gives %v, want %s", row.function, err, row.want)
		}
	}
	encrypted := "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
	if got := mustRender(t, secrets{"pem": leaf + encrypted + middle}, `{{ pemKey (secret "pem") }}{{ pemFullChain (secret "pem") }}`); got != encrypted+leaf+middle {
		t.Errorf("an encrypted key, whose certificate cannot be told by it: %s", got)
	}
	if _, err := render(secrets{"pem": leaf + encrypted}, optionsOf(`{{ pkcs12KeyStore (secret "pem") "changeit" }}`)); err == nil {
		t.Error("a key store is made of an encrypted key")
	}
}

func TestPEMOfAJSONSecret(t *testing.T) {
	s := templates.SecretsOfExamples()
	if got := mustRender(t, s, `{{ pemFullChain (secret "tls") }}{{ with secret "tls" }}{{ pemKey .key .certificate }}{{ end }}`); strings.Count(got, "-----BEGIN ") != 3 {
		t.Errorf("got %s", got)
	}
}
