package httpx

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/logtest"
)

// pair writes a certificate for name and its key.
func pair(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return certFile, keyFile
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Editors put a byte order mark in front of a file.
func TestCertificateWithByteOrderMark(t *testing.T) {
	cert, key := pair(t, t.TempDir(), "a")
	for _, path := range []string{cert, key} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, append([]byte("\ufeff"), b...))
	}
	if _, err := NewCertReloader(cert, key, quiet); err != nil {
		t.Error(err)
	}
}

func TestMissingFilesAreNamed(t *testing.T) {
	dir := t.TempDir()
	cert, key := pair(t, dir, "a")
	_, otherKey := pair(t, t.TempDir(), "b")
	garbage := filepath.Join(dir, "garbage.pem")
	write(t, garbage, []byte("garbage"))
	missing := filepath.Join(dir, "missing.pem")
	for _, c := range []struct{ name, cert, key, want string }{
		{"no certificate", missing, key, "HTTPS certificate: open " + missing},
		{"no key", cert, missing, "HTTPS private key: open " + missing},
		{"certificate not named", "", key, "HTTPS needs a certificate file, and none is named"},
		{"key not named", cert, "", "HTTPS needs a private key file, and none is named"},
		{"garbage", garbage, key, "HTTPS certificate " + garbage},
		{"they do not fit", cert, otherKey, "HTTPS certificate " + cert + " with key " + otherKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewServer(ServerConfig{Listen: "127.0.0.1:0", CertFile: c.cert, KeyFile: c.key},
				http.NotFoundHandler(), quiet)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// handshake is the common name of the certificate that the server shows.
func handshake(t *testing.T, s *Server) string {
	t.Helper()
	c, err := tls.Dial("tcp", s.Addr().String(),
		&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestHTTPSServesNewCertificates(t *testing.T) {
	dir := t.TempDir()
	cert, key := pair(t, dir, "old")
	s := startServer(t, ServerConfig{CertFile: cert, KeyFile: key},
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.Proto)
		}))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	res, err := client.Get("https://" + s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if string(b) != "HTTP/2.0" {
		t.Errorf("got %s", b)
	}
	if got := handshake(t, s); got != "old" {
		t.Errorf("got %q", got)
	}
	pair(t, dir, "new")
	deadline := time.Now().Add(time.Minute)
	for handshake(t, s) != "new" {
		if time.Now().After(deadline) {
			t.Fatal("the new certificate is not served")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if _, err := tls.Dial("tcp", s.Addr().String(), &tls.Config{InsecureSkipVerify: true,
		MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is accepted")
	}
}

func TestCertReloader(t *testing.T) {
	var out logtest.Buffer
	dir := t.TempDir()
	cert, key := pair(t, dir, "old")
	c, err := NewCertReloader(cert, key, slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	shown := func(later bool) string { // later: as if the time until the next look at the files had passed
		t.Helper()
		if later {
			c.mu.Lock()
			c.checked = time.Time{}
			c.mu.Unlock()
		}
		got, err := c.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return got.Leaf.Subject.CommonName
	}
	if got := shown(true); got != "old" {
		t.Errorf("unchanged files: got %q", got)
	}
	newCert, newKey := pair(t, t.TempDir(), "new")
	b, err := os.ReadFile(newCert)
	if err != nil {
		t.Fatal(err)
	}
	write(t, cert, b) // the key is still the old one
	for range 3 {
		if got := shown(true); got != "old" {
			t.Errorf("half-written pair: got %q", got)
		}
	}
	if n := strings.Count(out.String(), "not usable yet"); n != 1 {
		t.Errorf("complained %d times: %s", n, out.String())
	}
	if b, err = os.ReadFile(newKey); err != nil {
		t.Fatal(err)
	}
	write(t, key, b)
	if got := shown(false); got != "old" {
		t.Errorf("looked again too early: got %q", got)
	}
	if got := shown(true); got != "new" {
		t.Errorf("whole pair: got %q", got)
	}
	for _, path := range []string{cert, key} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if got := shown(true); got != "new" {
		t.Errorf("files are gone: got %q", got)
	}
	if !strings.Contains(out.String(), "certificate reloaded") {
		t.Errorf("log: %s", out.String())
	}
}

// Files that are replaced between loading and remembering their stamp must be
// noticed later; so must a pair that many handshakes ask for at once.
func TestCertReloaderIsSafeForConcurrentUse(t *testing.T) {
	dir := t.TempDir()
	cert, key := pair(t, dir, "0")
	c, err := NewCertReloader(cert, key, quiet)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c.mu.Lock()
				c.checked = time.Time{}
				c.mu.Unlock()
				if got, err := c.GetCertificate(nil); err != nil || got == nil {
					t.Errorf("got %v, %v", got, err)
				}
			}
		})
	}
	for range 5 {
		pair(t, dir, "n")
	}
	pair(t, dir, "last")
	deadline := time.Now().Add(time.Minute)
	for {
		got, err := c.GetCertificate(nil)
		if err == nil && got.Leaf.Subject.CommonName == "last" {
			break
		}
		if time.Now().After(deadline) {
			t.Error("the last pair is not shown")
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	close(stop)
	readers.Wait()
}
