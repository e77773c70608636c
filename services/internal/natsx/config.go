package natsx

import (
	"errors"
	"fmt"
	"strings"

	"github.com/herald-push/herald/services/internal/config"
)

// Config is how to reach NATS.
type Config struct {
	URL  string // one or more, comma-separated; may hold user:password or token
	Name string // shown in NATS's connection list: "herald-gateway"

	// Paths of files; empty: none. CAFile has the authorities (PEM) that NATS's
	// certificate may be signed by, in place of the system's. CertFile and
	// KeyFile are this client's certificate (PEM), CredsFile a user JWT with
	// its seed, as nsc writes them.
	CAFile, CertFile, KeyFile, CredsFile string
}

// Settings declares the settings that every service has. The URL may hold a
// password, so it is never printed.
func (c *Config) Settings() []config.Setting {
	return append([]config.Setting{
		{Flag: "nats", Env: "HERALD_NATS_URL", Help: "NATS servers, comma-separated (default nats://127.0.0.1:4222)",
			Secret: true, Into: &c.URL},
	}, c.SecuritySettings()...)
}

// SecuritySettings are those of TLS and credentials alone.
func (c *Config) SecuritySettings() []config.Setting {
	return []config.Setting{
		{Flag: "nats-ca", Env: "HERALD_NATS_CA",
			Help: "file of the authorities (PEM) that may sign NATS's certificate, in place of the system's",
			Into: &c.CAFile},
		{Flag: "nats-cert", Env: "HERALD_NATS_CERT", Help: "certificate file (PEM) that NATS is shown",
			Into: &c.CertFile},
		{Flag: "nats-key", Env: "HERALD_NATS_KEY", Help: "private key file (PEM) of -nats-cert", Into: &c.KeyFile},
		{Flag: "nats-creds", Env: "HERALD_NATS_CREDS", Help: "NATS credentials file: a user JWT and its seed",
			Into: &c.CredsFile},
	}
}

// Validate reports what is wrong with the settings as such; whether the files
// are any good is Connect's to say.
func (c *Config) Validate() error {
	var faults []error
	shown := strings.Split(Redact(c.URL), ",") // of the whole list: a password may have a comma
	for i, server := range strings.Split(c.URL, ",") {
		scheme, rest, ok := strings.Cut(strings.TrimSpace(server), "://")
		if !ok { // host:port, or a part of a password with a comma
			continue
		}
		switch scheme {
		case "nats", "tls", "ws", "wss":
			if host := rest[strings.LastIndexByte(rest, '@')+1:]; host == "" || host[0] == ':' || host[0] == '/' {
				faults = append(faults, fmt.Errorf("nats: %s names no host; want nats://HOST:4222", shown[i]))
			}
		default:
			faults = append(faults,
				fmt.Errorf(
					"nats: %s is not the address of a NATS server; want nats://HOST:4222, or tls://, ws:// or "+
						"wss:// in front", shown[i]))
		}
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		faults = append(faults, errors.New("nats-cert and nats-key belong together; only one is set"))
	}
	return errors.Join(faults...)
}
