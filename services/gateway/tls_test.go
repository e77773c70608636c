package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
)

// certificate makes a pair of files for 127.0.0.1, and a pool that trusts it.
func certificate(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pool = x509.NewCertPool()
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(leaf)
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", private), pool
}

// Over TLS clients get the same; a page that asks over HTTP/2 is told what
// this path speaks.
func TestTLS(t *testing.T) {
	certFile, keyFile, pool := certificate(t)
	b := newBroker(t)
	g := b.gateway(func(c *Config) { c.CertFile, c.KeyFile = certFile, keyFile })
	d := websocket.Dialer{HandshakeTimeout: patience, TLSClientConfig: &tls.Config{RootCAs: pool}}
	ws, _, err := d.Dial("wss://"+g.Addr().String()+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.Close() })
	c := &client{t: t, ws: ws}
	c.want(proto.FrameWelcome)
	last := b.publishMany(2000, "broadcast")
	c.ids(b.upTo(1, last, 1)...)

	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("https://" + g.Addr().String() + "/ws")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var p proto.Problem
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || resp.ProtoMajor != 2 ||
		resp.StatusCode != http.StatusUpgradeRequired || p.Type != proto.ProblemUpgrade.Type {
		t.Errorf("over HTTP/2: got %s %s, %+v, %v; want 426", resp.Proto, resp.Status, p, err)
	}

	stopped := make(chan error, 1)
	go func() { stopped <- g.stop() }()
	if code, _ := c.closed(); code != proto.CloseGoingAway {
		t.Errorf("got %d, want %d", code, proto.CloseGoingAway)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
}
