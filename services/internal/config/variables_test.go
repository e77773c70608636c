package config

import (
	"strings"
	"testing"
)

func TestMisspelt(t *testing.T) {
	for name, want := range map[string]string{
		"HERALD_API_KEY": "ok", "HERALD_API_KEY_FILE": "ok", "HERALD_NOFILE": "ok", "PATH": "ok", "HERALDRY": "ok",
		"HERALD_TEST_X":               "ok",
		"HERALD_GATEWAY_SERVICE_HOST": "ok", "HERALD_GATEWAY_SERVICE_PORT_HTTP": "ok", "HERALD_GATEWAY_PORT": "ok",
		"HERALD_GATEWAY_PORT_8081_TCP_ADDR": "ok",
		"HERALD_APIKEY":                     "HERALD_API_KEY", "HERALD_API_KEYS": "HERALD_API_KEY",
		"HERALD_LSITEN": "HERALD_LISTEN", "HERALD_ANONYMOUS_CHANELS": "HERALD_ANONYMOUS_CHANNELS",
		"HERALD_ORIGINS": "HERALD_ALLOWED_ORIGINS", "HERALD_LISTEN_ADDRESS": "HERALD_LISTEN",
		"HERALD_JWT_SECRET_FIL": "HERALD_JWT_SECRET_FILE", "HERALD_JWKS_FILE": "HERALD_JWKS",
		"HERALD_MAX_CONNECTIONS": "HERALD_MAX_CONNECTIONS_PER_IP", "HERALD_LOGLEVEL": "HERALD_LOG_LEVEL",
		"HERALD_XYZZY_PLUGH": "",
	} {
		got := Misspelt([]string{name + "=s3cret"})
		switch {
		case want == "ok":
			if len(got) != 0 {
				t.Errorf("%s: got %q", name, got)
			}
		case len(got) != 1 || !strings.HasPrefix(got[0], name+" is not a variable") ||
			strings.Contains(got[0], "s3cret"):
			t.Errorf("%s: got %q", name, got)
		case want == "" && strings.Contains(got[0], "did you mean"), want != "" &&
			!strings.Contains(got[0], "did you mean "+want):
			t.Errorf("%s: got %q, want %q", name, got[0], want)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"listen", "max-connections-per-ip", "drain", "socketport", "tls-cert", "jwt-secret"}
	for name, want := range map[string]string{
		"drian": "drain", "Listen": "listen", "max_connections_per_ip": "max-connections-per-ip",
		"connections": "max-connections-per-ip", "socket_port": "socketport",
		"tlscert": "tls-cert", "JWT_SECRET": "jwt-secret", "something else": "", "": "",
	} {
		if got := Nearest(name, known); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}
