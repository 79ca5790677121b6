package e2e

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"secretsd/agent/source/local"
)

// issuer is a certification authority whose certificates count upwards.
type issuer struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{t: t, cert: &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "e2e"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}}
	i.key = i.newKey()
	der, err := x509.CreateCertificate(rand.Reader, i.cert, i.cert, i.key.Public(), i.key)
	if err == nil {
		i.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (i *issuer) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	return key
}

// pair returns a certificate of that number and its key, as the value of a secret.
func (i *issuer) pair(number int64) string {
	i.t.Helper()
	key := i.newKey()
	leaf := &x509.Certificate{SerialNumber: big.NewInt(number), DNSNames: []string{"localhost"}, NotBefore: i.cert.NotBefore, NotAfter: i.cert.NotAfter}
	der, err := x509.CreateCertificate(rand.Reader, leaf, i.cert, key.Public(), i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		i.t.Fatal(err)
	}
	value, err := json.Marshal(map[string]string{
		"crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		"key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})),
	})
	if err != nil {
		i.t.Fatal(err)
	}
	return string(value)
}

// handshakes are clients that connect to a TLS server all the time.
type handshakes struct {
	config *tls.Config
	addr   string
	count  atomic.Int64
	// last is the number of the certificate that each has been shown last.
	last []atomic.Int64

	mu     sync.Mutex
	failed []error
}

// once makes a handshake and a request.
func (h *handshakes) once(ctx context.Context, n int) error {
	dialer := &tls.Dialer{Config: h.config}
	conn, err := dialer.DialContext(ctx, "tcp", h.addr)
	if err != nil {
		return fmt.Errorf("shake hands: %w", err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	_ = res.Body.Close()
	tlsConn, ok := conn.(*tls.Conn)
	if !ok || res.StatusCode != http.StatusNoContent {
		return fmt.Errorf("it answers %s", res.Status)
	}
	h.last[n].Store(tlsConn.ConnectionState().PeerCertificates[0].SerialNumber.Int64())
	h.count.Add(1)
	return nil
}

// while calls f every few milliseconds until ctx is done, and keeps its errors.
func (h *handshakes) while(ctx context.Context, pause time.Duration, f func() error) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := f(); err != nil && ctx.Err() == nil {
			h.mu.Lock()
			h.failed = append(h.failed, err)
			h.mu.Unlock()
		}
	}
}

// shown reports whether all have been shown that certificate last.
func (h *handshakes) shown(number int64) bool {
	for i := range h.last {
		if h.last[i].Load() != number {
			return false
		}
	}
	return true
}

// nginxConf serves TLS from the bundle in dir.
func nginxConf(dir, addr string) string {
	var temps strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temps, "%s_temp_path %s/%s;\n", kind, dir, kind)
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user nobody nogroup;"
	}
	return fmt.Sprintf(`daemon off; worker_processes 2; pid %[1]s/nginx.pid; error_log stderr notice; %[4]s
events { worker_connections 256; }
http {
  access_log off;
  %[3]s
  server {
    listen %[2]s ssl;
    ssl_certificate %[1]s/tls/tls.crt;
    ssl_certificate_key %[1]s/tls/tls.key;
    location / { return 204; }
  }
}
`, dir, addr, temps.String(), user)
}

// readPair reads one generation of a bundle, as the README says, and checks that
// the key is the certificate's.
func readPair(dir string) error {
	data, err := os.OpenRoot(filepath.Join(dir, "..data"))
	if err != nil {
		return err
	}
	defer data.Close()
	crt, err := data.ReadFile("tls.crt")
	if err != nil {
		return err
	}
	key, err := data.ReadFile("tls.key")
	if err != nil {
		return err
	}
	_, err = tls.X509KeyPair(crt, key)
	return err
}

// TestTLSUnderLoad has a daemon that knows nothing of secretsd change its
// certificate a hundred times under load.
func TestTLSUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("starts nginx; left out by -short")
	}
	nginx := need(t, "nginx")
	svc, issuer := local.New(local.Options{}), newIssuer(t)
	srv := httptest.NewServer(svc)
	t.Cleanup(srv.Close)
	const rotations, first = 100, 1000
	put := func(number int64) {
		if err := svc.Put("prod/tls", issuer.pair(number)); err != nil {
			t.Fatal(err)
		}
	}
	put(first)
	f := newFixture(t)
	write(t, f.conf, strings.NewReplacer("DIR", f.dir, "SERVICE", srv.URL).Replace(`
source: {aws: {endpoint: SERVICE}}
refresh: {interval: 100ms}
state_dir: DIR/state
secrets: [{name: tls, id: prod/tls, expect: {pem_pair: {certificate: crt, key: key}}}]
bundles:
  - dir: DIR/tls
    create_dirs: true
    notify: [nginx]
    files:
      - {path: tls.crt, contents: '{{ (secret "tls").crt }}'}
      - {path: tls.key, contents: '{{ (secret "tls").key }}'}
targets: [{name: nginx, signal: HUP, process: {pid_file: DIR/nginx.pid}, debounce: 0s}]
`))
	agent := secretsd(t, cleanEnv(), "run", "--config", f.conf)
	agent.until("msg=ready")
	// The kernel dates processes to a hundredth of a second: see mainPath.
	published := time.Now()
	eventually(t, "nginx starts after the publication", func() bool { return time.Since(published) > 50*time.Millisecond })
	conf := filepath.Join(f.dir, "nginx.conf")
	write(t, conf, nginxConf(f.dir, f.endpoint))
	server := start(t, cleanEnv(), nginx, "-p", f.dir, "-e", "stderr", "-c", conf)

	roots := x509.NewCertPool()
	roots.AddCert(issuer.cert)
	h := &handshakes{addr: f.endpoint, config: &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}, last: make([]atomic.Int64, 4)}
	eventually(t, "nginx serves", func() bool { return h.once(t.Context(), 0) == nil })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for n := range h.last {
		wg.Go(func() {
			h.while(ctx, 5*time.Millisecond, func() error { return h.once(context.WithoutCancel(ctx), n) })
		})
	}
	var pairs atomic.Int64
	wg.Go(func() {
		h.while(ctx, time.Millisecond, func() error { pairs.Add(1); return readPair(filepath.Join(f.dir, "tls")) })
	})
	began := time.Now()
	for n := int64(first + 1); n <= first+rotations; n++ {
		put(n)
		eventually(t, fmt.Sprintf("nginx serves certificate %d", n), func() bool { return h.shown(n) })
	}
	took := time.Since(began)
	cancel()
	wg.Wait()
	t.Logf("%d rotations in %s: %d handshakes, and %d pairs read", rotations, took.Round(time.Millisecond), h.count.Load(), pairs.Load())
	if len(h.failed) > 0 {
		t.Errorf("%d handshakes or pairs failed: %v", len(h.failed), errors.Join(h.failed[:min(len(h.failed), 5)]...))
	}
	if faults := regexp.MustCompile(`(?m)^.*\[(warn|error|crit|alert|emerg)\].*$`).FindAllString(server.out.String(), 5); len(faults) > 0 {
		t.Errorf("nginx says\n%s", strings.Join(faults, "\n"))
	}
	if reloads := strings.Count(server.out.String(), "SIGHUP) received"); reloads != rotations {
		t.Errorf("nginx was told %d times of %d rotations", reloads, rotations)
	}
}
