package gateway

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/config/configtest"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/prometheus/client_golang/prometheus"
)

func TestDefaultsAreValid(t *testing.T) {
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		want   string
		change func(*Config)
	}{
		{`anonymous-channels: invalid channel`, func(c *Config) { c.AnonymousChannels = []string{"a..b"} }},
		{`allowed-origins: "example.com": it is not an origin such as https://example.com`,
			func(c *Config) { c.AllowedOrigins = []string{"example.com"} }},
		{`allowed-origins: "https://a.example/page": an origin has a scheme, a host and perhaps a port`,
			func(c *Config) { c.AllowedOrigins = []string{"https://a.example/page"} }},
		{`HERALD_JWT_SECRET has 5 characters`, func(c *Config) { c.JWTSecret = "short" }},
		{`HERALD_JWT_SECRET looks like a placeholder`,
			func(c *Config) { c.JWTSecret = "changeme-changeme-changeme-changeme" }},
		{`tls-cert and tls-key belong together`, func(c *Config) { c.CertFile = "cert.pem" }},
		{`max-connections-per-ip: -1 is negative`, func(c *Config) { c.MaxPerIP = -1 }},
		{`drain: 1h0m0s is not between 0s and 10m`, func(c *Config) { c.Drain = time.Hour }},
		{`heartbeat: 1.5s is not a whole number of seconds`, func(c *Config) { c.Heartbeat = 1500 * time.Millisecond }},
		{`heartbeat: 0s is not a whole number of seconds`, func(c *Config) { c.Heartbeat = 0 }},
		{`compress-above: -1 is negative`, func(c *Config) { c.CompressAbove = -1 }},
		{`max-queue-bytes: 1000 is less than 131072`, func(c *Config) { c.MaxQueueBytes = 1000 }},
		{`recent-messages: 0 is not positive`, func(c *Config) { c.RecentMessages = 0 }},
		{`recent-bytes: -1 is not positive`, func(c *Config) { c.RecentBytes = -1 }},
		{`replay-messages: 0 is not positive`, func(c *Config) { c.ReplayMessages = 0 }},
		{`replay-bytes: 0 is not positive`, func(c *Config) { c.ReplayBytes = 0 }},
	} {
		cfg := DefaultConfig()
		c.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
		if _, err := New(context.Background(), cfg, Deps{}); err == nil {
			t.Errorf("New takes a configuration with %s", c.want)
		}
	}
	wrong := DefaultConfig()
	wrong.MaxPerIP, wrong.Heartbeat = -1, 0
	if err := wrong.Validate(); strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("two faults are reported as %v", err)
	}
}

// Each setting reads from its flag and from its variable, and the help shows
// all of them and no secret.
func TestSettings(t *testing.T) {
	c := DefaultConfig()
	env := map[string]string{"HERALD_ANONYMOUS_CHANNELS": "a,b.>", "HERALD_TRUSTED_PROXIES": "10.0.0.0/8",
		"HERALD_DRAIN": "3s", "HERALD_JWT_SECRET": jwtSecret}
	args := []string{"-listen", ":1", "-drain", "4s", "-max-connections-per-ip", "7", "-allowed-origins",
		"https://a.example, https://b.example"}
	if _, err := config.Parse("gateway", args, configtest.Vars(env), nil, nil, c.Settings()); err != nil {
		t.Fatal(err)
	}
	if c.Listen != ":1" || c.Drain != 4*time.Second || c.MaxPerIP != 7 || len(c.AllowedOrigins) != 2 ||
		len(c.AnonymousChannels) != 2 || c.JWTSecret != jwtSecret {
		t.Errorf("got %+v", c)
	}
	var help bytes.Buffer
	config.PrintHelp(&help, c.Settings())
	for _, s := range c.Settings() {
		if s.Env == "" || !strings.Contains(help.String(), s.Env) {
			t.Errorf("%s%s is not in the help", s.Flag, s.Env)
		}
	}
	if strings.Contains(help.String(), jwtSecret) {
		t.Error("the secret is in the help")
	}
}

// What New cannot do it says by name, and it keeps nothing then.
func TestNewFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	b := newBroker(t)
	for want, change := range map[string]func(*Config){
		"listen on " + taken.Addr().String(): func(c *Config) { c.Listen = taken.Addr().String() },
		"HERALD_JWKS: open missing.json":     func(c *Config) { c.JWKS = "missing.json" },
		"HTTPS certificate: open missing.pem: no such": func(c *Config) {
			c.CertFile, c.KeyFile = "missing.pem",
				"missing.key"
		},
	} {
		cfg := DefaultConfig()
		cfg.Listen = "127.0.0.1:0"
		change(&cfg)
		reg := prometheus.NewRegistry()
		if _, err := New(context.Background(), cfg, Deps{NATS: b.nc, Log: natstest.Log(t), Registry: reg,
			Ops: telemetry.NewOps(reg)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
