package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"secretsd/agent/config"
	"secretsd/agent/secret"
	"secretsd/agent/store"
)

// newPair returns a certificate that is valid for a day around now, and its key,
// as PEM.
func newPair(t *testing.T, now time.Time) (certificate, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: now.Add(-12 * time.Hour), NotAfter: now.Add(12 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

func TestWhatVersionsAreTestedFor(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	cert, key := newPair(t, now)
	_, otherKey := newPair(t, now)
	tls := func(cert, key string) string {
		b, _ := json.Marshal(map[string]string{"crt": cert, "key": key})
		return string(b)
	}
	pair := "{pem_pair: {certificate: crt, key: key}, not_expired: true}"
	for _, tt := range []struct {
		name, expect, text string
		at                 time.Duration
		want               string // "" where it is right
	}{
		{"nothing", "{}", "x", 0, ""},
		{"json", "{json: true}", `{"a": 1}`, 0, ""},
		{"json of a list", "{json: true}", `[1]`, 0, "not a JSON object"},
		{"json null", "{json: true}", `null`, 0, "not a JSON object"},
		{"json with a canary", "{json: true}", `{"a": "canary`, 0, "not a JSON object"},
		{"keys", "{keys: [a, b]}", `{"a": 1, "b": "x", "c": null}`, 0, ""},
		{"keys that are missing", "{keys: [a, b, c]}", `{"a": "", "b": null}`, 0, "its key \"a\" is empty\nits key \"b\" is empty\nit has no key \"c\""},
		{"keys that hold nothing", "{keys: [a, b]}", "{\"a\": {}, \"b\": [ \n]}", 0, "its key \"a\" is empty\nits key \"b\" is empty"},
		{"keys that hold little", "{keys: [a, b, c, d, e]}", `{"a": 0, "b": false, "c": {"": null}, "d": [null], "e": " "}`, 0, ""},
		{"size", "{min_bytes: 3}", "abc", 0, ""},
		{"too small", "{min_bytes: 4}", "abc", 0, "fewer than 4 bytes"},
		{"pair", pair, tls(cert, key), 0, ""},
		{"pair in one text", "{pem_pair: true, not_expired: true}", key + cert, 0, ""},
		{"pair of two", pair, tls(cert, otherKey), 0, "the private key that belongs to it"},
		{"pair without a key", "{pem_pair: true}", cert, 0, "the private key that belongs to it"},
		{"pair with a key that is no text", pair, `{"crt": 1, "key": "canary"}`, 0, `its key "crt" is not text`},
		{"expired", pair, tls(cert, key), 13 * time.Hour, "expired on 2026-11-26T00:00:00Z"},
		{"not valid yet", "{pem_pair: true, not_expired: true}", cert + key, -13 * time.Hour, "valid from 2026-11-25T00:00:00Z on"},
		{"no certificate", "{not_expired: true}", "canary", 0, "no PEM certificate"},
		{"a broken certificate", "{not_expired: true}", "-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\n", 0, "cannot be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := config.Parse("agent.yaml", []byte("secrets: [{id: a, expect: "+tt.expect+"}]\n"))
			if err != nil {
				t.Fatal(err)
			}
			x := (*expectation)(cfg.Secrets[0].Expect)
			got := ""
			if err := x.check(&secret.Version{VersionID: "v", Text: secret.NewValue(tt.text)}, now.Add(tt.at)); err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if strings.Contains(got, "canary") {
				t.Errorf("the error quotes the value: %s", got)
			}
		})
	}
}

func TestAVersionThatIsNotExpectedIsHeld(t *testing.T) {
	src := newFakeSource()
	s := every("db", time.Minute)
	s.expect = &expectation{Keys: []string{"password"}}
	src.set(s.ref, "v1", `{"password": "one"}`)
	refreshing(t, src, []*schedule{s}, func(r *refresher, st *store.Store) {
		time.Sleep(2 * time.Minute)
		src.set(s.ref, "v2", `{"pasword": "two"}`)
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		e, _ := st.Snapshot().Get("db")
		if held(st, "db") != "v1" || e.Err != nil || e.Held == nil || e.Held.VersionID != "v2" || !strings.Contains(e.Held.Err.Error(), `no key "password"`) {
			t.Fatalf("the store holds %s, err %v, held %+v", held(st, "db"), e.Err, e.Held)
		}
		src.set(s.ref, "v3", `{"password": "three"}`)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if e, _ := st.Snapshot().Get("db"); held(st, "db") != "v3" || e.Held != nil {
			t.Errorf("after it was mended the store holds %s, held %+v", held(st, "db"), e.Held)
		}
	})
}

func TestAFirstVersionThatIsNotExpectedIsAnError(t *testing.T) {
	src := newFakeSource()
	s := every("db", time.Minute)
	s.expect = &expectation{JSON: true}
	src.set(s.ref, "v1", "canary")
	refreshing(t, src, []*schedule{s}, func(r *refresher, st *store.Store) {
		time.Sleep(time.Second)
		synctest.Wait()
		e, _ := st.Snapshot().Get("db")
		if e.Version != nil || secret.KindOf(e.Err) != secret.Invalid || strings.Contains(e.Err.Error(), "canary") {
			t.Errorf("version %v, err %v", e.Version, e.Err)
		}
		// A reload that expects less lets it in at once.
		next := every("db", time.Minute)
		r.configure(src, []*schedule{next})
		time.Sleep(time.Second)
		synctest.Wait()
		if held(st, "db") != "v1" {
			t.Error("the version is still held")
		}
	})
}

// TestAHeldVersionHoldsItsPair keeps AWSCURRENT and AWSPREVIOUS one step apart.
func TestAHeldVersionHoldsItsPair(t *testing.T) {
	src := newFakeSource()
	cur, prev := every("cur", time.Minute), every("prev", time.Minute)
	cur.ref, prev.ref = secret.Current("db"), secret.Ref{ID: "db", Stage: secret.StagePrevious}
	cur.expect = &expectation{JSON: true}
	set := func(current, previous, text string) {
		src.set(cur.ref, current, text)
		src.set(prev.ref, previous, "{}")
	}
	set("v2", "v1", "{}")
	log := &lockedLog{}
	logged := slog.New(slog.NewTextHandler(log, nil))
	refreshingTo(t, logged, src, []*schedule{cur, prev}, func(_ *refresher, st *store.Store) {
		changes := func() int { return strings.Count(log.String(), "secret changed") }
		time.Sleep(time.Second)
		set("v3", "v2", "broken")
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if held(st, "cur") != "v2" || held(st, "prev") != "v1" {
			t.Errorf("while v3 is held: current %s, previous %s", held(st, "cur"), held(st, "prev"))
		}
		if changes() != 0 {
			t.Errorf("said to have changed though it has not:\n%s", log)
		}
		set("v4", "v3", "{}")
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if held(st, "cur") != "v4" || held(st, "prev") != "v3" {
			t.Errorf("after v4: current %s, previous %s", held(st, "cur"), held(st, "prev"))
		}
		if changes() != 2 {
			t.Errorf("not said to have changed once each:\n%s", log)
		}
	})
}
