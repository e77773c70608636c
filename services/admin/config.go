package admin

import (
	"errors"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/httpx"
)

// Config is how the console runs. DefaultConfig is a laptop's.
type Config struct {
	// Listen is the HTTP address; empty inside the single binary, which serves
	// the console on its own port.
	Listen string
	// Console says who may open it.
	Console Mode
	// TrustedProxies are those whose X-Forwarded-For is believed.
	TrustedProxies httpx.Proxies
	// Hosts are the names that requests may be for; empty: any.
	Hosts httpx.Hosts
	// MaxPerIP bounds the connections of one address; 0: no limit.
	MaxPerIP int
	OIDC     OIDC
}

// Mode says who may open the console. As a setting it reads off, loopback or on.
type Mode string

// The modes.
const (
	Off      Mode = "off"      // nobody: all of /admin/ is 404
	Loopback Mode = "loopback" // who is on this machine, and not behind a proxy on it
	On       Mode = "on"       // everybody who reaches the port and can log in
)

// UnmarshalText reads a mode.
func (m *Mode) UnmarshalText(b []byte) error {
	switch v := Mode(b); v {
	case Off, Loopback, On:
		*m = v
		return nil
	}
	return errors.New("want off, loopback (only from this machine) or on")
}

// MarshalText writes the mode.
func (m *Mode) MarshalText() ([]byte, error) { return []byte(*m), nil }

// DefaultConfig is what holds where nothing is set.
func DefaultConfig() Config {
	return Config{Listen: ":8083", Console: Loopback, MaxPerIP: 2000, OIDC: OIDC{Name: "OpenID Connect",
		RoleClaim: "groups", Scopes: []string{"openid", "profile", "email"}}}
}

// Settings declares each setting of the console.
func (c *Config) Settings() []config.Setting {
	return append([]config.Setting{
		{Flag: "listen", Env: "HERALD_LISTEN", Help: "address to listen on", Kind: config.Address, NotEmpty: true,
			Into: &c.Listen},
		{Flag: "console", Env: "HERALD_CONSOLE",
			Help: "who may open the console below /admin/: off (nobody), loopback (who is on this machine), " +
				"on (everybody who reaches the port and can log in)",
			Choices: []string{string(Off), string(Loopback), string(On)}, Into: &c.Console},
		{Flag: "hosts", Env: "HERALD_HOSTS",
			Help: "names by which browsers reach Herald, such as push.example.com or *.example.com; requests for " +
				"other names are refused; none: any", Into: (*[]string)(&c.Hosts)},
		{Flag: "trusted-proxies", Env: "HERALD_TRUSTED_PROXIES",
			Help: "addresses and prefixes, comma-separated, whose X-Forwarded-For is believed",
			Into: &c.TrustedProxies},
	}, c.OIDC.settings()...)
}

// Validate reports every fault, one sentence a line.
func (c *Config) Validate() error { return errors.Join(c.Hosts.Validate(), c.OIDC.validate()) }
