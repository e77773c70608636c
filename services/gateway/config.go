package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/httpx"
)

// Config is what operators choose about a gateway.
type Config struct {
	// Listen is the address; empty: no listener of its own (in the single binary).
	Listen            string
	CertFile, KeyFile string
	// Tokens are checked with these keys; neither set: no token is valid.
	// JWTSecretFile is where JWTSecret comes from, if it comes from a file.
	JWTSecret, JWTSecretFile, JWKS string
	// Audience and Issuer, unless empty, are what a token must name one of.
	Audience, Issuer  []string
	AnonymousChannels []string
	AllowedOrigins    []string
	// TokenCookie is the name of a cookie that may hold a token; empty: none.
	TokenCookie string
	// EngineIO3 serves Socket.IO clients of the older protocol, too.
	EngineIO3 bool
	// MaxPerIP is counted over all gateways. LimitDryRun only reports who
	// would be refused.
	MaxPerIP       int
	LimitDryRun    bool
	Hosts          httpx.Hosts
	TrustedProxies httpx.Proxies
	// Drain is the window over which a gateway that stops closes its clients.
	Drain time.Duration
	// DrainDelay is from when the gateway is unready to when the first client is
	// told: until a balancer has seen it, clients would come back here.
	DrainDelay time.Duration
	Heartbeat  time.Duration
	// MaxQueueBytes may wait for one client before it is closed as slow.
	MaxQueueBytes int
	// CompressAbove is from how many bytes on a message is compressed for the
	// WebSocket clients that can inflate it; 0: none is.
	CompressAbove int
	// RecentMessages and RecentBytes are kept in memory for clients that come back.
	RecentMessages, RecentBytes int
	// ReplayMessages and ReplayBytes are the most that one resume is sent.
	ReplayMessages, ReplayBytes int
}

// DefaultConfig is what a gateway does unless told otherwise.
func DefaultConfig() Config {
	return Config{
		Listen:            ":8081",
		AnonymousChannels: []string{proto.Broadcast, "public.>"},
		EngineIO3:         true,
		MaxPerIP:          2000, // the predecessor's limit
		Drain:             10 * time.Second,
		DrainDelay:        time.Second,
		// below the 30 to 60 s after which proxies and mobile networks drop idle connections
		Heartbeat:      25 * time.Second,
		MaxQueueBytes:  1 << 20,
		CompressAbove:  256, // to write a shorter frame costs the same however short it is
		RecentMessages: 65536,
		RecentBytes:    64 << 20,
		ReplayMessages: 10000,
		ReplayBytes:    16 << 20,
	}
}

// Settings declares the gateway's own settings.
func (c *Config) Settings() []config.Setting {
	return []config.Setting{
		{Flag: "listen", Env: "HERALD_LISTEN", Help: "address to listen on", Kind: config.Address, NotEmpty: true,
			Into: &c.Listen},
		{Flag: "tls-cert", Env: "HERALD_TLS_CERT",
			Help: "certificate file (PEM); with -tls-key the gateway speaks HTTPS and wss", Into: &c.CertFile},
		{Flag: "tls-key", Env: "HERALD_TLS_KEY", Help: "private key file (PEM)", Into: &c.KeyFile},
		{Env: "HERALD_JWT_SECRET",
			Help: "secret of HS256 tokens, at least 32 random characters; while you change it two, with a " +
				"space or line break between them", Secret: true, Into: &c.JWTSecret, Path: &c.JWTSecretFile},
		{Flag: "jwks", Env: "HERALD_JWKS", Help: "file or URL of the public keys of RS256, ES256 and EdDSA tokens",
			Into: &c.JWKS},
		{Flag: "jwt-audience", Env: "HERALD_JWT_AUDIENCE",
			Help: "what the claim aud of a token must name one of; none: it is not judged", Into: &c.Audience},
		{Flag: "jwt-issuer", Env: "HERALD_JWT_ISSUER",
			Help: "what the claim iss of a token must be one of; none: it is not judged", Into: &c.Issuer},
		{Flag: "anonymous-channels", Env: "HERALD_ANONYMOUS_CHANNELS",
			Help: "patterns that clients without a token may follow", Into: &c.AnonymousChannels},
		{Flag: "allowed-origins", Env: "HERALD_ALLOWED_ORIGINS",
			Help: "origins of pages that may connect, besides the same host, such as https://app.example.com, " +
				"https://*.example.com or http://localhost:*; * for all", Into: &c.AllowedOrigins},
		{Flag: "token-cookie", Env: "HERALD_TOKEN_COOKIE",
			Help: "name of a cookie that may hold a client's token; it counts for pages of the same host and of " +
				"allowed-origins",
			Into: &c.TokenCookie},
		{Flag: "engineio-3", Env: "HERALD_ENGINEIO_3",
			Help: "serve Socket.IO clients of the older protocol (JavaScript 2.x, python-socketio 4), too",
			Into: &c.EngineIO3},
		{Flag: "max-connections-per-ip", Env: "HERALD_MAX_CONNECTIONS_PER_IP",
			Help: "connections one IPv4 address or IPv6 /64 may have: clients on all gateways together, " +
				"sockets with each service; 0: no limit", Into: &c.MaxPerIP},
		{Flag: "connection-limit-dry-run", Env: "HERALD_CONNECTION_LIMIT_DRY_RUN",
			Help: "count connections over the limit, and refuse none", Into: &c.LimitDryRun},
		{Flag: "hosts", Env: "HERALD_HOSTS",
			Help: "names by which browsers reach Herald, such as push.example.com or *.example.com; requests for " +
				"other names are refused; none: any", Into: (*[]string)(&c.Hosts)},
		{Flag: "trusted-proxies", Env: "HERALD_TRUSTED_PROXIES",
			Help: "addresses and prefixes whose X-Forwarded-For is believed", Into: &c.TrustedProxies},
		{Flag: "drain", Env: "HERALD_DRAIN", Help: "window over which clients are told to leave when the gateway stops",
			Into: &c.Drain},
		{Flag: "drain-delay", Env: "HERALD_DRAIN_DELAY",
			Help: "time from when a gateway that stops is unready to when the first client is told to leave",
			Into: &c.DrainDelay},
		{Flag: "heartbeat", Env: "HERALD_HEARTBEAT", Help: "silence after which a client is pinged, in whole seconds",
			Into: &c.Heartbeat},
		{Flag: "max-queue-bytes", Env: "HERALD_MAX_QUEUE_BYTES",
			Help: "bytes that may wait for one client before it is closed as too slow", Kind: config.Bytes,
			Into: &c.MaxQueueBytes},
		{Flag: "compress-above", Env: "HERALD_COMPRESS_ABOVE",
			Help: "bytes from which on a message is compressed for WebSocket clients that offer permessage-deflate, " +
				"and from 1024 on an answer to Socket.IO clients that poll; 0: nothing is",
			Kind: config.Bytes, Into: &c.CompressAbove},
		{Flag: "recent-messages", Env: "HERALD_RECENT_MESSAGES",
			Help: "messages kept in memory for clients that come back", Into: &c.RecentMessages},
		{Flag: "recent-bytes", Env: "HERALD_RECENT_BYTES",
			Help: "bytes of messages kept in memory for clients that come back", Kind: config.Bytes,
			Into: &c.RecentBytes},
		{Flag: "replay-messages", Env: "HERALD_REPLAY_MESSAGES",
			Help: "most messages sent to one client that comes back", Into: &c.ReplayMessages},
		{Flag: "replay-bytes", Env: "HERALD_REPLAY_BYTES", Help: "most bytes sent to one client that comes back",
			Kind: config.Bytes, Into: &c.ReplayBytes},
	}
}

// Validate reports every fault at once, by the setting's name.
func (c *Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	for _, p := range c.AnonymousChannels {
		if err := proto.CheckPattern(p); err != nil {
			fault("anonymous-channels: %w", err)
		}
	}
	if _, err := parseAllowed(c.AllowedOrigins); err != nil {
		fault("allowed-origins: %w", err)
	}
	if name := c.TokenCookie; name != "" {
		if (&http.Cookie{Name: name, Value: "x"}).Valid() != nil {
			fault("token-cookie: %q is no name of a cookie", name)
		}
		if slices.Contains(c.AllowedOrigins, "*") {
			fault("token-cookie with allowed-origins *: any page could connect with its visitors' cookies; " +
				"list the origins")
		}
	}
	if c.JWTSecret != "" {
		if _, err := auth.TokenSecrets("HERALD_JWT_SECRET", c.JWTSecret); err != nil {
			faults = append(faults, err)
		}
	}
	if err := c.Hosts.Validate(); err != nil {
		faults = append(faults, err)
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		fault("tls-cert and tls-key belong together; only one is set")
	}
	if c.MaxPerIP < 0 {
		fault("max-connections-per-ip: %d is negative; 0 means no limit", c.MaxPerIP)
	}
	if c.Drain < 0 || c.Drain > 10*time.Minute {
		fault("drain: %s is not between 0s and 10m", c.Drain)
	}
	if c.DrainDelay < 0 || c.DrainDelay > time.Minute {
		fault("drain-delay: %s is not between 0s and 1m", c.DrainDelay)
	}
	if c.Heartbeat < time.Second || c.Heartbeat%time.Second != 0 {
		fault("heartbeat: %s is not a whole number of seconds", c.Heartbeat)
	}
	if least := proto.MaxMessageBytes * 2; c.MaxQueueBytes < least {
		fault("max-queue-bytes: %d is less than %d, two of the largest messages", c.MaxQueueBytes, least)
	}
	if c.CompressAbove < 0 {
		fault("compress-above: %d is negative; 0 means that nothing is compressed", c.CompressAbove)
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"recent-messages", c.RecentMessages}, {"recent-bytes", c.RecentBytes}, {"replay-messages", c.ReplayMessages},
		{"replay-bytes", c.ReplayBytes}} {
		if n.value < 1 {
			fault("%s: %d is not positive", n.name, n.value)
		}
	}
	return errors.Join(faults...)
}

// pageBytes is how much is read from the stream at once for a client that comes
// back: no more than its queue has room for.
func (c *Config) pageBytes() int { return min(c.MaxQueueBytes/2, 512<<10) }

// PerAddress is the bound on the connections of one address that the listener
// keeps; 0: none.
func (c *Config) PerAddress() int {
	if c.LimitDryRun {
		return 0
	}
	return c.MaxPerIP
}

// shards is one per processor: a shard never waits for anything but work.
func shards() int { return runtime.GOMAXPROCS(0) }
