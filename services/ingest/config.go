package ingest

import (
	"errors"
	"fmt"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/httpx"
)

// Config is how ingest runs. DefaultConfig is a laptop's.
type Config struct {
	// Listen is the HTTP address; empty inside the single binary, which serves
	// ingest's routes on its own port.
	Listen string
	// APIKey is one more valid key, named "env", for all channels. Empty: only
	// the keys of the bucket count.
	APIKey string
	// APIKeyFile is the file that APIKey came from, and that is read again when it
	// changes; empty: none.
	APIKeyFile string
	// TrustedProxies are those whose X-Forwarded-For is believed.
	TrustedProxies httpx.Proxies
	// Hosts are the names that requests may be for; empty: any.
	Hosts httpx.Hosts
	// MaxPerIP bounds the connections of one address; 0: no limit.
	MaxPerIP int
	// StreamMaxAge and StreamMaxBytes bound what the stream keeps.
	StreamMaxAge   time.Duration
	StreamMaxBytes int64
	// Replicas is how many NATS servers hold the stream and the key bucket.
	Replicas int
	// MaxMessageBytes bounds the data of one message, as JSON; MaxRequestBytes
	// one request other than an NDJSON stream. What NATS accepts (max_payload)
	// bounds a message besides.
	MaxMessageBytes int
	MaxRequestBytes int64
	// Drain is how long requests under way may take to finish at the end.
	Drain time.Duration

	recheck, patience time.Duration // of publish.Config; tests change them
}

// DefaultConfig is what holds where nothing is set.
func DefaultConfig() Config {
	return Config{
		Listen:          ":8080",
		MaxPerIP:        2000,
		StreamMaxAge:    24 * time.Hour,
		StreamMaxBytes:  1 << 30,
		Replicas:        1,
		MaxMessageBytes: proto.MaxMessageBytes,
		MaxRequestBytes: proto.MaxRequestBytes,
		Drain:           10 * time.Second,
	}
}

// Settings declares each setting of ingest.
func (c *Config) Settings() []config.Setting {
	return []config.Setting{
		{Flag: "listen", Env: "HERALD_LISTEN", Help: "address to listen on", Kind: config.Address, NotEmpty: true,
			Into: &c.Listen},
		{Env: "HERALD_API_KEY",
			Help: "one more valid API key, named env, for all channels; at least 16 random characters", Secret: true,
			Path: &c.APIKeyFile, Into: &c.APIKey},
		{Flag: "hosts", Env: "HERALD_HOSTS",
			Help: "names by which browsers reach Herald, such as push.example.com or *.example.com; requests for " +
				"other names are refused; none: any", Into: (*[]string)(&c.Hosts)},
		{Flag: "trusted-proxies", Env: "HERALD_TRUSTED_PROXIES",
			Help: "addresses and prefixes, comma-separated, whose X-Forwarded-For is believed",
			Into: &c.TrustedProxies},
		{Flag: "max-connections-per-ip", Env: "HERALD_MAX_CONNECTIONS_PER_IP",
			Help: "connections one IPv4 address or IPv6 /64 may have: clients on all gateways together, " +
				"sockets with each service; 0: no limit", Into: &c.MaxPerIP},
		{Flag: "stream-max-age", Env: "HERALD_STREAM_MAX_AGE",
			Help: "how long messages are kept for clients that come back", Into: &c.StreamMaxAge},
		{Flag: "stream-max-bytes", Env: "HERALD_STREAM_MAX_BYTES",
			Help: "how many bytes of messages are kept; the oldest go first", Kind: config.Bytes,
			Into: &c.StreamMaxBytes},
		{Flag: "replicas", Env: "HERALD_REPLICAS", Help: "NATS servers that hold each message: 1, or 3 in a cluster",
			Into: &c.Replicas},
		{Flag: "max-message-bytes", Env: "HERALD_MAX_MESSAGE_BYTES",
			Help: "largest data of one message in bytes; never above what NATS takes", Kind: config.Bytes,
			Into: &c.MaxMessageBytes},
		{Flag: "max-request-bytes", Env: "HERALD_MAX_REQUEST_BYTES",
			Help: "largest request in bytes, NDJSON streams excepted", Kind: config.Bytes, Into: &c.MaxRequestBytes},
		{Flag: "drain", Env: "HERALD_DRAIN",
			Help: "how long requests under way may take to finish when the service stops", Into: &c.Drain},
	}
}

// minMessageBytes and minRequestBytes are the smallest limits that leave room
// for a message at all.
const (
	minMessageBytes = 64
	minRequestBytes = 1 << 10
)

// Validate reports every fault, one sentence a line.
func (c *Config) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	if c.APIKey != "" {
		if err := auth.CheckSecret("HERALD_API_KEY", c.APIKey); err != nil {
			faults = append(faults, err)
		}
	}
	if err := c.Hosts.Validate(); err != nil {
		faults = append(faults, err)
	}
	fault(c.MaxPerIP < 0, "max-connections-per-ip: %d is negative; 0 means no limit", c.MaxPerIP)
	fault(c.StreamMaxAge < time.Second, "stream-max-age: %s; want at least 1s", c.StreamMaxAge)
	fault(c.StreamMaxBytes < 1<<20, "stream-max-bytes: %d; want at least %d (1 MiB)", c.StreamMaxBytes, 1<<20)
	fault(c.Replicas < 1 || c.Replicas > 5, "replicas: %d; NATS takes 1 to 5", c.Replicas)
	fault(c.MaxMessageBytes < minMessageBytes, "max-message-bytes: %d; want at least %d", c.MaxMessageBytes,
		minMessageBytes)
	fault(c.MaxRequestBytes < minRequestBytes, "max-request-bytes: %d; want at least %d", c.MaxRequestBytes,
		minRequestBytes)
	fault(c.MaxRequestBytes < int64(c.MaxMessageBytes),
		"max-request-bytes: %d; a request must be able to hold a message of max-message-bytes, %d", c.MaxRequestBytes,
		c.MaxMessageBytes)
	fault(c.Drain <= 0, "drain: %s; want a positive duration", c.Drain)
	return errors.Join(faults...)
}
