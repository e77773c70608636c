package natsx

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// security makes the options of TLS and credentials. The files are read here,
// so that a wrong one is an error at the start, and again at each connect: a
// renewed one is used without a restart from the next reconnect on. The
// connection that lasts keeps what it was made with. With an authority or a
// certificate a server that does not speak TLS is refused. Errors name the
// setting and the file.
func (c *Config) security() ([]nats.Option, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	var opts []nats.Option
	var certificate nats.TLSCertHandler
	var authority nats.RootCAsHandler
	if c.CertFile != "" {
		certificate = c.certificate
	}
	if c.CAFile != "" {
		authority = c.authority
	}
	if certificate != nil || authority != nil {
		opts = append(opts, nats.ClientTLSConfig(certificate, authority)) // calls both
	}
	if c.CredsFile != "" {
		if err := c.checkCreds(); err != nil {
			return nil, err
		}
		opts = append(opts, nats.UserCredentials(c.CredsFile)) // reads it at each connect
	}
	return opts, nil
}

func (c *Config) certificate() (tls.Certificate, error) {
	cert, err := config.ReadFile(c.CertFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("nats-cert: %w", err)
	}
	key, err := config.ReadFile(c.KeyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("nats-key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("nats-cert %s with nats-key %s: %w", c.CertFile, c.KeyFile, err)
	}
	return pair, nil
}

func (c *Config) authority() (*x509.CertPool, error) {
	b, err := config.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("nats-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("nats-ca: %s has no certificate (PEM)", c.CAFile)
	}
	return pool, nil
}

// checkCreds reads the file as nats.go does, whose errors do not name it.
func (c *Config) checkCreds() error {
	b, err := config.ReadFile(c.CredsFile)
	if err != nil {
		return fmt.Errorf("nats-creds: %w", err)
	}
	defer clear(b)
	if _, err := nkeys.ParseDecoratedJWT(b); err != nil {
		return fmt.Errorf("nats-creds: %s has no user JWT: %w", c.CredsFile, err)
	}
	seed, err := nkeys.ParseDecoratedNKey(b)
	if err != nil {
		return fmt.Errorf("nats-creds: %s has no user seed: %w", c.CredsFile, err)
	}
	seed.Wipe()
	return nil
}
