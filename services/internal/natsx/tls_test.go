package natsx_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/config/configtest"
	"github.com/herald-push/herald/services/internal/logtest"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	der, key := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, a.key = cert, key
	return a
}

// sign makes a certificate; the first one is the authority's own.
func (a *authority) sign(template *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	return der, key
}

// pair writes a certificate for 127.0.0.1 and its key.
func (a *authority) pair(name string) (certFile, keyFile string) {
	a.t.Helper()
	der, key := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	dir := a.t.TempDir()
	return write(a.t, dir, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		write(a.t, dir, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// file writes the authority's own certificate.
func (a *authority) file() string {
	return write(a.t, a.t.TempDir(), "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

func write(t *testing.T, dir, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// serve runs a nats-server with these options on a free port until the test
// ends.
func serve(t *testing.T, opts *server.Options) *server.Server {
	t.Helper()
	opts.Host, opts.Port, opts.NoSigs, opts.NoLog = "127.0.0.1", -1, true, true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("nats-server is not ready")
	}
	return s
}

// serveTLS demands a certificate of the authority's.
func serveTLS(t *testing.T, a *authority) string {
	t.Helper()
	certFile, keyFile := a.pair("nats")
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	s := serve(t, &server.Options{TLS: true, TLSVerify: true, TLSTimeout: 5, TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert,
	}})
	return s.Addr().String()
}

func TestTLS(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	secure, plain := serveTLS(t, a), serve(t, &server.Options{}).Addr().String()
	ca, otherCA := a.file(), stranger.file()
	cert, key := a.pair("herald")
	otherCert, otherKey := stranger.pair("herald")
	missing := filepath.Join(t.TempDir(), "missing.pem")
	garbage := write(t, t.TempDir(), "garbage.pem", []byte("garbage"))
	for _, c := range []struct {
		name, addr string
		cfg        natsx.Config
		want       string // in the error; empty: none
	}{
		{"all fits", secure, natsx.Config{CAFile: ca, CertFile: cert, KeyFile: key}, ""},
		{"nothing is set", secure, natsx.Config{}, "x509: certificate signed by unknown authority"},
		{"another authority", secure, natsx.Config{CAFile: otherCA, CertFile: cert, KeyFile: key},
			"x509: certificate signed by unknown authority"},
		// The server hangs up, at times before it says why.
		{"no certificate", secure, natsx.Config{CAFile: ca}, "tls"},
		{"a stranger's certificate", secure, natsx.Config{CAFile: ca, CertFile: otherCert, KeyFile: otherKey}, "tls"},
		{"no TLS there", plain, natsx.Config{CAFile: ca}, nats.ErrSecureConnWanted.Error()},
		{"no file of authorities", secure, natsx.Config{CAFile: missing}, "nats-ca: open " + missing},
		{"authorities of garbage", secure, natsx.Config{CAFile: garbage},
			"nats-ca: " + garbage + " has no certificate"},
		{"no certificate file", secure, natsx.Config{CertFile: missing, KeyFile: key}, "nats-cert: open " + missing},
		{"no key file", secure, natsx.Config{CertFile: cert, KeyFile: missing}, "nats-key: open " + missing},
		{"they do not fit", secure, natsx.Config{CertFile: cert, KeyFile: otherKey}, "nats-cert " + cert +
			" with nats-key " + otherKey},
		{"a certificate without a key", secure, natsx.Config{CertFile: cert}, "nats-cert and nats-key belong together"},
		{"a key without a certificate", secure, natsx.Config{KeyFile: key}, "nats-cert and nats-key belong together"},
		{"no credentials file", plain, natsx.Config{CredsFile: missing}, "nats-creds: open " + missing},
		{"credentials of garbage", plain, natsx.Config{CredsFile: garbage},
			"nats-creds: " + garbage + " has no user seed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.URL = "nats://" + c.addr
			nc, err := natsx.Connect(c.cfg, quiet)
			if err == nil {
				nc.Close()
			}
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// Files that are wrong end a service at its start, even one that would wait
// for NATS.
func TestAttachNamesFiles(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.pem")
	if nc, err := natsx.Attach(natsx.Config{URL: "nats://127.0.0.1:1", CAFile: missing}, quiet); err == nil ||
		!strings.Contains(err.Error(), "nats-ca: open "+missing) {
		t.Errorf("got %v, %v; want the file by name", nc, err)
	}
}

// Everything is renewed on disk, another authority included: the next connect
// uses it. While the files are of no use the log says which, once.
func TestRenewedFiles(t *testing.T) {
	before, after := newAuthority(t), newAuthority(t)
	first, second := serveTLS(t, before), serveTLS(t, after)
	cert, key := before.pair("herald")
	cfg := natsx.Config{URL: "nats://" + first + ",nats://" + second, CAFile: before.file(), CertFile: cert,
		KeyFile: key}
	var out logtest.Buffer
	nc, err := natsx.Connect(cfg, slog.New(slog.NewTextHandler(&out, nil)), nats.DontRandomize())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	if err := nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 30*time.Second, "the log names the file", func() bool {
		return strings.Contains(out.String(), "nats-cert: open "+cert)
	})
	newCert, newKey := after.pair("herald")
	for from, to := range map[string]string{after.file(): cfg.CAFile, newKey: key, newCert: cert} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	natstest.Eventually(t, 30*time.Second, "connected with the new files",
		func() bool { return nc.IsConnected() && nc.ConnectedAddr() == second })
	if n := strings.Count(out.String(), "cannot be reached"); n != 1 {
		t.Errorf("said %d times that NATS cannot be reached, want 1: %s", n, out.String())
	}
}

// creds writes the credentials of a new user of the account.
func creds(t *testing.T, account nkeys.KeyPair) string {
	t.Helper()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.NewUserClaims(public(t, user)).Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	b, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, t.TempDir(), "herald.creds", b)
}

func public(t *testing.T, k nkeys.KeyPair) string {
	t.Helper()
	p, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A server that knows accounts by their JWT takes the user of a credentials
// file, and nobody else.
func TestCreds(t *testing.T) {
	operator, err := nkeys.CreateOperator()
	if err != nil {
		t.Fatal(err)
	}
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.NewAccountClaims(public(t, account)).Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	resolver := &server.MemAccResolver{}
	if err := resolver.Store(public(t, account), token); err != nil {
		t.Fatal(err)
	}
	s := serve(t, &server.Options{TrustedKeys: []string{public(t, operator)}, AccountResolver: resolver})
	for name, c := range map[string]struct {
		file string
		ok   bool
	}{"the user": {creds(t, account), true}, "a stranger": {creds(t, stranger), false}, "nobody": {"", false}} {
		nc, err := natsx.Connect(natsx.Config{URL: s.ClientURL(), CredsFile: c.file}, quiet)
		if err == nil {
			nc.Close()
		}
		if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "Authorization Violation") {
			t.Errorf("%s: got %v, want %v", name, err, map[bool]string{true: "a connection",
				false: "Authorization Violation"}[c.ok])
		}
	}
}

func TestSecuritySettings(t *testing.T) {
	var c natsx.Config
	env := map[string]string{}
	for i, name := range []string{"CA", "CERT", "KEY", "CREDS"} {
		env["HERALD_NATS_"+name] = fmt.Sprint(i)
	}
	if _, err := config.Parse("x", nil, configtest.Vars(env), nil, nil, c.Settings()); err != nil {
		t.Fatal(err)
	}
	if want := (natsx.Config{CAFile: "0", CertFile: "1", KeyFile: "2", CredsFile: "3"}); c != want {
		t.Errorf("got %+v, want %+v", c, want)
	}
}
