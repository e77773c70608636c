package httpx

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
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
)

// syncBuffer is a buffer that a server may log into.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}
func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// startServer runs a server on a free port until the test ends.
func startServer(t *testing.T, cfg ServerConfig, h http.Handler) *Server {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	s, err := NewServer(cfg, h, quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }() // waited for in Cleanup
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// talk sends raw bytes and returns everything that comes back until the
// server closes, or for five seconds.
func talk(t *testing.T, s *Server, raw string) string {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	_, err = io.Copy(&got, c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the server left the connection open after %.200q", got.String())
	}
	return got.String()
}

func TestServerServesAndStops(t *testing.T) {
	s, err := NewServer(ServerConfig{Listen: "127.0.0.1:0"}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	}), quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	res, err := http.Get("http://" + s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if string(b) != "hello" {
		t.Errorf("got %q", b)
	}
	cancel() // the client's connection is idle and must not hold it up
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(3 * time.Second):
		t.Fatal("did not stop")
	}
	http.DefaultClient.CloseIdleConnections()
	if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("still accepts")
	}
}

func TestServerStopsBeforeItBegan(t *testing.T) {
	s, err := NewServer(ServerConfig{Listen: "127.0.0.1:0"}, http.NotFoundHandler(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("still listens")
	}
}

func TestServerClose(t *testing.T) {
	s, err := NewServer(ServerConfig{Listen: "127.0.0.1:0"}, http.NotFoundHandler(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), s.Addr().String()) {
		t.Errorf("Run on a closed listener: got %v, want an error with the address", err)
	}
}

// Requests under way may finish within the grace period, and are cut off after it.
func TestServerGrace(t *testing.T) {
	for _, c := range []struct {
		name   string
		finish bool
	}{{"finishes", true}, {"is cut off", false}} {
		t.Run(c.name, func(t *testing.T) {
			entered, leave, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
			grace := 5 * time.Second
			if !c.finish {
				grace = 100 * time.Millisecond
			}
			s, err := NewServer(ServerConfig{Listen: "127.0.0.1:0", Grace: grace}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(left)
				close(entered)
				select {
				case <-leave:
					_, _ = io.WriteString(w, "done")
				case <-r.Context().Done():
				}
			}), quiet)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			answer := make(chan string, 1)
			go func() {
				res, err := http.Get("http://" + s.Addr().String())
				if err != nil {
					answer <- "cut off"
					return
				}
				b, _ := io.ReadAll(res.Body)
				_ = res.Body.Close()
				answer <- string(b)
			}()
			<-entered
			cancel()
			if c.finish {
				select {
				case err := <-done:
					t.Errorf("stopped at once: %v", err)
				case <-time.After(50 * time.Millisecond):
				}
				close(leave)
			}
			want := map[bool]string{true: "done", false: "cut off"}[c.finish]
			if got := <-answer; got != want {
				t.Errorf("the client got %q, want %q", got, want)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			<-left
			http.DefaultClient.CloseIdleConnections()
		})
	}
}

func TestSlowHeaderIsCutOff(t *testing.T) {
	s := startServer(t, ServerConfig{ReadTimeout: 200 * time.Millisecond}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a request with half a header was handled")
	}))
	for name, raw := range map[string]string{"nothing": "", "half a line": "GET / HT", "half a header": "GET / HTTP/1.1\r\nHost: x\r\nX-A: "} {
		begin := time.Now()
		if got := talk(t, s, raw); strings.Contains(got, " 200 ") {
			t.Errorf("%s: got %q", name, got)
		}
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
	}
}

func TestHugeHeaderIsRefused(t *testing.T) {
	s := startServer(t, ServerConfig{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }))
	head := func(n int) string {
		return "GET /?token=" + strings.Repeat("a", n) + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	}
	if got := talk(t, s, head(8<<10)); !strings.HasPrefix(got, "HTTP/1.1 204") {
		t.Errorf("the longest token: got %.100q", got)
	}
	if got := talk(t, s, head(64<<10)); !strings.HasPrefix(got, "HTTP/1.1 431") {
		t.Errorf("64 KiB: got %.100q", got)
	}
}

func TestTakenPortIsNamed(t *testing.T) {
	s := startServer(t, ServerConfig{}, http.NotFoundHandler())
	addr := s.Addr().String()
	_, err := NewServer(ServerConfig{Listen: addr}, http.NotFoundHandler(), quiet)
	if err == nil || !strings.HasPrefix(err.Error(), "listen on "+addr+":") || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
}

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
			_, err := NewServer(ServerConfig{Listen: "127.0.0.1:0", CertFile: c.cert, KeyFile: c.key}, http.NotFoundHandler(), quiet)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// handshake is the common name of the certificate that the server shows.
func handshake(t *testing.T, s *Server) string {
	t.Helper()
	c, err := tls.Dial("tcp", s.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestHTTPSServesNewCertificates(t *testing.T) {
	dir := t.TempDir()
	cert, key := pair(t, dir, "old")
	s := startServer(t, ServerConfig{CertFile: cert, KeyFile: key}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	}))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
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
	deadline := time.Now().Add(10 * time.Second)
	for handshake(t, s) != "new" {
		if time.Now().After(deadline) {
			t.Fatal("the new certificate is not served")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if _, err := tls.Dial("tcp", s.Addr().String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is accepted")
	}
}

func TestCertReloader(t *testing.T) {
	var out syncBuffer
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
	deadline := time.Now().Add(5 * time.Second)
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

func TestServerLogGoesToDebug(t *testing.T) {
	var out syncBuffer
	e := errorLog{slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if n, err := e.Write([]byte("http: TLS handshake error\n")); n != 26 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if !strings.Contains(out.String(), `level=DEBUG msg="http server" err="http: TLS handshake error"`) {
		t.Errorf("got %s", out.String())
	}
}
