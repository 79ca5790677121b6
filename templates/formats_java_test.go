package templates_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// classDir is where the test program was compiled to, by the first test that
// needs it; TestMain removes it.
var classDir string

func compiled(t *testing.T) string {
	t.Helper()
	javac := tool(t, "javac")
	if classDir == "" {
		dir, err := os.MkdirTemp("", "secretsd-java-") // outlives the test
		if err != nil {
			t.Fatal(err)
		}
		classDir = dir
		run(t, "", javac, "-d", dir, "testdata/Read.java")
	}
	return classDir
}

// java reads files of one kind as testdata/Read.java does, and returns the
// fields of each. More files may lie beside them, by the name they have.
func java(t *testing.T, kind, classpath string, docs []string, more map[string]string) [][]string {
	t.Helper()
	java, classes := tool(t, "java"), compiled(t)
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, doc := range docs {
		write(strconv.Itoa(i), doc)
	}
	for name, text := range more {
		write(name, text)
	}
	out := run(t, "", java, "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", classes+":"+classpath, "Read", kind, dir)
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) != len(docs) {
		t.Fatalf("Java read %d of %d files", len(lines), len(docs))
	}
	fields := make([][]string, len(lines))
	for i, line := range lines {
		for field := range strings.SplitSeq(line, " ") {
			b, err := base64.StdEncoding.DecodeString(field)
			if err != nil {
				t.Fatal(err)
			}
			fields[i] = append(fields[i], string(b))
		}
	}
	return fields
}

func TestProperties(t *testing.T) {
	for _, row := range []struct{ function, text string }{
		{"propertiesKey", "a=1\n{{ propertiesKey (secret \"s\") }}=v\n\\uffff\\uffff=1\n"},
		{"propertiesValue", "a=1\nk = {{ propertiesValue (secret \"s\") }}\nz=1\n"},
		{"toProperties", `{{ dict "a" 1 "k" (toString (secret "s")) "z" 1 | toProperties }}`},
	} {
		holds(t, row.function, row.text, "", func(t *testing.T, docs []string) []string {
			got := make([]string, len(docs))
			utf8 := java(t, "properties-utf8", "", docs, nil)
			for i, fields := range java(t, "properties-stream", "", docs, nil) {
				switch {
				case !slices.Equal(fields, utf8[i]) || !slices.Contains(fields, "ka"):
					t.Errorf("%.200q is read as %.200q and %.200q", docs[i], fields, utf8[i])
				case row.function != "propertiesKey" && len(fields) == 6:
					got[i] = strings.TrimPrefix(fields[3], "v")
				case len(fields) == 4: // the key is a itself
					got[i] = "a"
				case len(fields) == 6:
					at := slices.Index(fields, "vv") - 1
					got[i] = strings.TrimPrefix(fields[at], "k")
				}
			}
			return got
		})
	}
}

// chainOf makes an authority, an intermediate one and a certificate, and
// returns them as PEM, and the key of the certificate.
func chainOf(t *testing.T, key any, public any) (leaf, intermediate, root, keyPEM string) {
	t.Helper()
	_, rootKey, _ := ed25519.GenerateKey(rand.Reader)
	_, middleKey, _ := ed25519.GenerateKey(rand.Reader)
	serial := int64(0)
	make := func(name string, ca bool, parent *x509.Certificate, public, signer any) (*x509.Certificate, string) {
		t.Helper()
		serial++
		c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: ca, BasicConstraintsValid: true, DNSNames: []string{"app.internal"}}
		if ca {
			c.KeyUsage = x509.KeyUsageCertSign
		}
		if parent == nil {
			parent = c
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, public, signer)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert, encodePEM("CERTIFICATE", der)
	}
	rootCert, root := make("root", true, nil, rootKey.Public(), rootKey)
	middleCert, intermediate := make("intermediate", true, rootCert, middleKey.Public(), rootKey)
	_, leaf = make("app.internal", false, middleCert, public, middleKey)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return leaf, intermediate, root, encodePEM("PRIVATE KEY", der)
}

func encodePEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// keys makes a key of each kind.
func keys(t *testing.T) map[string][2]any {
	t.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][2]any{"RSA": {r, r.Public()}, "ECDSA": {e, e.Public()}, "Ed25519": {private, public}}
}

// TestPKCS12 opens key stores and trust stores by Java, under any password that
// has a form in PKCS#12, and by keytool and OpenSSL.
func TestPKCS12(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts Java and keytool")
	}
	var held, docs []string
	var want [][]string
	add := func(password, text, format string, fields []string) {
		t.Helper()
		secrets := secrets{"pem": text, "password": password}
		for _, format := range []string{format, format + ` "legacy"`} {
			got, err := render(secrets, optionsOf("{{ "+format+" }}"))
			if err != nil {
				ascii := !strings.ContainsFunc(password, func(r rune) bool { return r < ' ' || r > '~' })
				if ascii {
					t.Errorf("%.100q: %v", password, err)
				}
				continue
			}
			if again, err := render(secrets, optionsOf("{{ "+format+" }}")); again != got {
				t.Errorf("the same inputs give other bytes: %v", err)
			}
			held, docs, want = append(held, password), append(docs, got), append(want, fields)
		}
	}
	for _, pair := range keys(t) {
		leaf, middle, root, key := chainOf(t, pair[0], pair[1])
		store := append([]string{"key " + derOf(t, key)}, derOf(t, leaf), derOf(t, middle), derOf(t, root))
		add("changeit", root+leaf+key+middle, `pkcs12KeyStore (secret "pem") (secret "password")`, store)
		add("changeit", root+middle, `pkcs12TrustStore (secret "pem") (secret "password")`, []string{"trusted", derOf(t, middle), "trusted", derOf(t, root)})
	}
	pair := keys(t)["ECDSA"]
	_, middle, root, _ := chainOf(t, pair[0], pair[1])
	for i, password := range hostile() {
		if i%6 != 0 && len(password) < 60_000 {
			continue
		}
		add(password, root+middle, `pkcs12TrustStore (secret "pem") (secret "password")`, []string{"trusted", derOf(t, middle), "trusted", derOf(t, root)})
	}
	passwords := map[string]string{}
	for i, password := range held {
		passwords[strconv.Itoa(i)+".password"] = password
	}
	for i, fields := range java(t, "store", "", docs, passwords) {
		if strings.Join(fields, " ") != strings.Join(want[i], " ") {
			t.Errorf("password %.100q: Java reads %.300s\nwant %.300s", held[i], fields, want[i])
		}
	}
	keytool, openssl := tool(t, "keytool"), tool(t, "openssl")
	file := filepath.Join(t.TempDir(), "store.p12")
	for i, doc := range docs[:4] {
		if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
		list := run(t, "", keytool, "-J-Duser.language=en", "-list", "-storetype", "PKCS12", "-keystore", file, "-storepass", "changeit")
		if kind := map[bool]string{true: "PrivateKeyEntry", false: "trustedCertEntry"}[len(want[i]) == 4 && want[i][0] != "trusted"]; !strings.Contains(list, kind) {
			t.Errorf("keytool lists no %s:\n%s", kind, list)
		}
		if out := run(t, "", openssl, "pkcs12", "-in", file, "-nodes", "-passin", "pass:changeit"); !strings.Contains(out, "BEGIN CERTIFICATE") {
			t.Errorf("openssl reads %s", out)
		}
	}
}

func derOf(t *testing.T, text string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatal("no PEM")
	}
	return hex.EncodeToString(block.Bytes)
}

// TestStoresShareNoSalts: a store that differs in one input shares no salt with
// another, and so no key stream.
func TestStoresShareNoSalts(t *testing.T) {
	pair := keys(t)["Ed25519"]
	leaf, middle, root, key := chainOf(t, pair[0], pair[1])
	var stores [][]byte
	for _, row := range []struct{ text, password, function string }{
		{leaf + middle + root + key, "a", "pkcs12KeyStore"}, {leaf + middle + root + key, "b", "pkcs12KeyStore"}, {leaf + middle + key, "a", "pkcs12KeyStore"},
		{root, "a", "pkcs12TrustStore"}, {middle, "a", "pkcs12TrustStore"}, {root, "b", "pkcs12TrustStore"},
	} {
		got, err := render(secrets{"pem": row.text, "p": row.password}, optionsOf(`{{ `+row.function+` (secret "pem") (secret "p") }}`))
		if err != nil {
			t.Fatal(err)
		}
		stores = append(stores, []byte(got))
	}
	for i, a := range stores {
		for _, b := range stores[:i] {
			for at := 0; at+16 <= len(a); at++ {
				// Salts are OCTET STRINGs of 16 bytes (04 10).
				if at >= 2 && a[at-2] == 4 && a[at-1] == 16 && bytes.Contains(b, a[at-2:at+16]) {
					t.Errorf("two stores have the salt %x", a[at:at+16])
				}
			}
		}
	}
}

func TestJDBC(t *testing.T) {
	const postgres, mariadb = "/usr/share/java/postgresql.jar", "/usr/share/java/mariadb-java-client.jar"
	for _, jar := range []string{postgres, mariadb} {
		if _, err := os.Stat(jar); err != nil {
			lacks(t, jar)
		}
	}
	for _, row := range []struct{ engine, kind, jar, param string }{
		{"postgres", "postgresql", postgres, "ApplicationName"},
		{"mariadb", "mariadb", mariadb, "servicePrincipalName"},
	} {
		held, docs := jdbcURLs(t, row.engine, row.param)
		for i, fields := range java(t, row.kind, row.jar, docs, nil) {
			want := []string{"db.internal", "1234", "d", held[i], held[i], held[i]}
			if diff := cmp.Diff(want, fields); diff != "" {
				t.Errorf("%s: %.200q: %s", row.kind, docs[i], diff)
			}
		}
		if len(held) < 450 {
			t.Errorf("%s: only %d values are held", row.engine, len(held))
		}
	}
	// Connector/J, which Debian does not have, decodes as net/url does (its
	// ConnectionUrlParser); it was tried by hand, version 9.4.0.
	held, docs := jdbcURLs(t, "mysql", "x")
	for i, doc := range docs {
		u, err := url.Parse(strings.TrimPrefix(doc, "jdbc:"))
		if err != nil || u.Scheme != "mysql" || u.Host != "db.internal:1234" || u.Path != "/d" {
			t.Errorf("%.200q: %v", doc, err)
			continue
		}
		if q := u.Query(); q.Get("user") != held[i] || q.Get("password") != held[i] || q.Get("x") != held[i] {
			t.Errorf("%.200q is read as %.200q", doc, q)
		}
	}
}

// jdbcURLs returns URLs with each value as user, password and parameter.
func jdbcURLs(t *testing.T, engine, param string) (held, docs []string) {
	t.Helper()
	for _, v := range hostile() {
		if !utf8.ValidString(v) || v == "" { // JSON holds no other; an empty one is left out
			continue
		}
		object, err := json.Marshal(map[string]any{"username": v, "password": v, "port": 1234, "dbname": "d", "engine": engine, "other": "x"})
		if err != nil {
			t.Fatal(err)
		}
		doc, err := render(secrets{"s": v, "o": string(object)}, optionsOf(`{{ jdbcUrl (secret "o") (dict "host" "db.internal" "`+param+`" (secret "s")) }}`))
		if err == nil {
			held, docs = append(held, v), append(docs, doc)
		} else if !strings.Contains(v, "\x00") && !strings.Contains(v, "&") {
			t.Errorf("%q: %v", v, err)
		}
	}
	return held, docs
}
