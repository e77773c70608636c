package deploy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
	"github.com/nats-io/nats.go"
	"go.yaml.in/yaml/v3"
)

// certify writes ca.crt, tls.crt and tls.key of an own authority into dir, as
// cert-manager does into a Secret; the certificate bears the serial number.
func certify(t testing.TB, dir string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "nats"}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	for name, b := range map[string][]byte{"ca.crt": public, "tls.crt": public,
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// NATS takes a renewed certificate without a restart, as the example of mutual
// TLS promises: its script, beside a real server.
func TestRenewedCertificate(t *testing.T) {
	var config object
	first, _, _ := bytes.Cut(read(t, deploy+"/examples/mutual-tls/nats.yaml"), []byte("\n---\n"))
	if err := yaml.Unmarshal(first, &config); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	here := strings.NewReplacer("/etc/nats-tls", dir, "/run/nats", dir)
	certify(t, dir, 1)
	port := proctest.FreePort(t)
	conf := fmt.Sprintf("listen: \"127.0.0.1:%s\"\npid_file: %q\n%s", port, dir+"/nats.pid",
		here.Replace(config.Data["security.conf"]))
	if err := os.WriteFile(dir+"/nats.conf", []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	binary := proctest.Build(t, "github.com/nats-io/nats-server/v2")
	server := proctest.Start(t, binary, dir, nil, "-c", dir+"/nats.conf")
	server.WaitFor("Server is ready")
	renew := func() {
		t.Helper()
		cmd := exec.Command("sh", "-c", here.Replace(config.Data["renew.sh"]))
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("renew.sh: %v\n%s", err, out)
		}
	}
	connect := func() (*nats.Conn, int64, error) {
		nc, err := nats.Connect("tls://127.0.0.1:"+port, nats.RootCAs(dir+"/ca.crt"),
			nats.ClientCert(dir+"/tls.crt", dir+"/tls.key"))
		if err != nil {
			return nil, 0, err
		}
		state, err := nc.TLSConnectionState()
		return nc, state.PeerCertificates[0].SerialNumber.Int64(), err
	}

	renew() // nothing is new
	old, serial, err := connect()
	if err != nil || serial != 1 {
		t.Fatalf("got the certificate %d, %v; want 1", serial, err)
	}
	defer old.Close()
	certify(t, dir, 2)
	renew()
	natstest.Eventually(t, 30*time.Second, "the server shows the renewed certificate", func() bool {
		nc, serial, err := connect()
		if err != nil {
			return false
		}
		defer nc.Close()
		return serial == 2
	})
	if err := old.FlushTimeout(time.Minute); err != nil || old.Reconnects != 0 {
		t.Errorf("the connection that stood: %v, %d reconnects; want it as it was", err, old.Reconnects)
	}
	server.Stop(20 * time.Second)
}
